"""Whether an output may be written, decided in one place, before any work begins and again before the last rename.

Three things are refused: what would replace something that is read, or something that holds it; what would be
written into a checkpoint that is read; and what would replace a directory that is no checkpoint.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from xorpack.errors import DestinationError, ParameterError
from xorpack.files import model

_LINKS = 40
"""Links that are followed from one to the next at the most, as Linux does."""


def check_destination(
    path: Path, *, overwrite: bool = False, inputs: Iterable[Path] = (), dry_run: bool = False
) -> None:
    """Raise unless something may be written at ``path``.

    Args:
        path: of the file or directory to write.
        overwrite: what stands there may be replaced; a directory only if it looks like a checkpoint, see
            :func:`xorpack.files.model.looks_like_checkpoint`.
        inputs: all files and directories that are read (:meth:`xorpack.files.model.CheckpointLayout.inputs`). They must
            not be ``path``, nor lie in it, themselves or what their links point to; nor may ``path`` lie in one.
        dry_run: only ``inputs`` count, for nothing will be written.

    Raises:
        ParameterError: ``path`` and an input overlap.
        DestinationError: ``path`` exists, or cannot be written or replaced.
    """
    stands = path.is_symlink() or path.exists()
    if not dry_run and stands and not overwrite:
        raise DestinationError(f"destination {path} exists; remove it or ask to overwrite it")
    _check_inputs(path, inputs)
    if dry_run:
        return
    if stands and (path.is_symlink() or not (path.is_file() or path.is_dir())):
        raise DestinationError(f"destination {path} is neither a file nor a directory")
    parent = path.absolute().parent
    if not parent.is_dir():
        raise DestinationError(f"destination {path}: {parent} is not a directory")
    if not os.access(parent, os.W_OK | os.X_OK):
        raise DestinationError(f"destination {path}: no permission to write in {parent}")
    if path.is_dir():
        _check_directory(path)


def _check_directory(path: Path) -> None:
    here = _identity(path)
    for place, what in ((".", "the working directory"), (os.path.expanduser("~"), "the home directory")):
        if os.path.exists(place) and here in set(_identities(Path(place))):
            raise DestinationError(f"destination {path} is or holds {what}; remove it yourself")
    reason = model.looks_like_checkpoint(path)
    if reason:
        raise DestinationError(
            f"destination {path} is a directory that does not look like a checkpoint: {reason}; remove it yourself"
        )


def _check_inputs(path: Path, inputs: Iterable[Path]) -> None:
    here = _identity(path)
    above = set(_identities(path))
    for source in inputs:
        if _identity(source) in above:
            raise ParameterError(f"destination {path} lies in the source {source}")
        if here is not None and here in set(_identities(source)):
            raise ParameterError(
                f"destination {path} holds {source}, which is read, or what its links point to"
            )


def _identity(path: Path) -> tuple[int, int] | None:
    """What tells whether two paths are of one file, whatever they are called; None where nothing stands."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _identities(path: Path) -> Iterator[tuple[int, int]]:
    """Identities of a path and all directories above it, as it is written and as its links lead on."""
    for place in (*_steps(path), path.resolve()):
        for directory in (place, *place.parents):
            found = _identity(directory)
            if found is not None:
                yield found


def _steps(path: Path) -> Iterator[Path]:
    """The path, and where each link leads to that it is, or that it leads to."""
    step = Path(os.path.abspath(path))
    for _ in range(_LINKS):
        yield step
        if not step.is_symlink():
            return
        step = Path(os.path.abspath(step.parent.resolve() / os.readlink(step)))
