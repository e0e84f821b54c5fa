"""Outputs that appear whole or not at all.

A file or directory is written under a hidden name beside its destination, flushed to disk, and renamed at the
end. Whatever goes wrong, the hidden one is removed and what stood at the destination stays. What a killed process
left is removed by the next run to the same destination: a living one holds a lock on what it writes.

Work of many steps has a hidden directory, a workspace, which a run that resumes takes over instead.
"""

from __future__ import annotations

import logging
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path

from xorpack.errors import DestinationError
from xorpack.files import renaming
from xorpack.files.destination import check_destination

try:
    import fcntl
except ImportError:  # not on this system: what was left is named, and not removed
    fcntl = None  # type: ignore[assignment]

WRITTEN, REPLACED, WORK = ".xorpack-tmp", ".xorpack-old", ".xorpack-work"
"""Ends of hidden names: of what is being written, of what stood at the destination while it is replaced, and of
workspaces."""

OUT = "out"
"""What a workspace is for, by its name there."""

_log = logging.getLogger(__name__)


@contextmanager
def atomic_file(path: Path, *, overwrite: bool = False) -> Iterator[Path]:
    """Yield a path to write; at the end it becomes ``path``.

    Raises:
        DestinationError: ``path`` cannot be written, or it exists, or came to exist meanwhile, and is to stay.
        KeyboardInterrupt: with a message if ``path`` had been written when the interrupt came.
    """
    _check(path, directory=False, overwrite=overwrite)
    with _temporary(path, directory=False) as temporary:
        yield temporary
        _publish(temporary, path, overwrite=overwrite, aside=_aside(temporary))


@contextmanager
def atomic_directory(path: Path, *, overwrite: bool = False) -> Iterator[Path]:
    """Yield an empty directory to fill; at the end it becomes ``path``. Raises as :func:`atomic_file` does."""
    _check(path, directory=True, overwrite=overwrite)
    with _temporary(path, directory=True) as temporary:
        yield temporary
        _publish(temporary, path, overwrite=overwrite, aside=_aside(temporary))


def hidden_directory(path: Path) -> AbstractContextManager[Path]:
    """A hidden directory beside ``path``, for what is not to stay: removed at the end, or by the next run if killed.

    Raises:
        DestinationError: none can be made there.
    """
    return _temporary(path, directory=True)


@contextmanager
def workspace(
    path: Path, *, directory: bool, overwrite: bool = False, resume: bool = False
) -> Iterator[Path]:
    """Yield a directory to work in; at the end what is :data:`OUT` there becomes ``path``, the rest is removed.

    Args:
        path: the destination.
        directory: whether that is to be a directory, or a file.
        overwrite: whether it may be replaced.
        resume: take over the workspace of a run that was stopped, if there is one, with all that it holds; and leave
            it when this run is stopped by an error or an interrupt.

    Raises:
        DestinationError: as :func:`atomic_file`; or another run has the workspace.
        KeyboardInterrupt: with a message if ``path`` had been written when the interrupt came, or work is kept.
    """
    _check(path, directory=directory, overwrite=overwrite)
    with _temporary(path, directory=True, end=WORK, resume=resume) as work:
        yield work
        _publish(work / OUT, path, overwrite=overwrite, aside=_aside(work))


def _check(path: Path, *, directory: bool, overwrite: bool) -> None:
    check_destination(path, overwrite=overwrite)
    if path.exists() and path.is_dir() != directory:
        is_one, not_the_other = ("a file", "a directory") if directory else ("a directory", "a file")
        raise DestinationError(f"destination {path} is {is_one}, not {not_the_other}")


def _publish(made: Path, path: Path, *, overwrite: bool, aside: Path) -> None:
    """Flush what was made and let it become ``path``; ``aside``: a name for what stood there, meanwhile."""
    written = made.stat()
    for place, _, files in os.walk(made):
        for file in files:
            if not os.path.islink(os.path.join(place, file)):
                _sync(Path(place, file))
        _sync(Path(place))
    if not made.is_dir():
        _sync(made)
    try:
        if not overwrite:
            _place(made, path)
        elif not made.is_dir():
            os.replace(made, path)
        elif os.path.lexists(path):
            check_destination(path, overwrite=True)  # it may be another than when the work began
            renaming.exchange(made, path, aside)
        else:
            _place(made, path)
        _sync(path.absolute().parent)
    except KeyboardInterrupt:
        if path.exists() and os.path.samestat(path.stat(), written):
            raise KeyboardInterrupt(f"{path} had been written") from None
        raise


def _place(made: Path, path: Path) -> None:
    try:
        renaming.rename_new(made, path)
    except FileExistsError:
        raise DestinationError(f"destination {path} exists; it appeared meanwhile") from None


@contextmanager
def _temporary(path: Path, *, directory: bool, end: str = WRITTEN, resume: bool = False) -> Iterator[Path]:
    try:
        found = _take_over(path) if resume else None
        _remove_leftovers(path)
        temporary, lock = found or _create(path, directory=directory, end=end)
    except OSError as error:
        if isinstance(error, DestinationError):
            raise
        raise DestinationError(f"destination {path} cannot be written: {error.strerror}") from error
    kept = resume
    try:
        yield temporary
        kept = False
    except OSError as error:
        if error.strerror is None:  # one of ours
            raise
        raise DestinationError(f"destination {path} cannot be written: {error.strerror}") from error
    except KeyboardInterrupt as interrupt:
        kept = resume and not interrupt.args  # which say that it had been written
        if kept:
            raise KeyboardInterrupt(f"what is finished is kept in {temporary}, to be resumed") from None
        raise
    finally:  # whatever has the name now: the new one, or the old one if they changed places
        if not kept:
            remove(temporary)
        os.close(lock)


def _take_over(path: Path) -> tuple[Path, int] | None:
    """The workspace that a run to ``path`` left, and the descriptor that holds its lock; None if there is none.

    Raises:
        DestinationError: it is of a run that lives.
    """
    for left in _hidden(path, WORK):
        lock = os.open(left, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0))
        if _lock(lock) is not False:
            return left, lock
        os.close(lock)
        raise DestinationError(
            f"destination {path}: another run is writing it, in {left}; wait until that ends"
        )
    return None


def _create(path: Path, *, directory: bool, end: str) -> tuple[Path, int]:
    """A hidden file or directory beside ``path``, and the descriptor that holds its lock."""
    parent, prefix, mask = path.absolute().parent, f".{path.name}.", _umask()
    while True:
        if directory:
            temporary = Path(tempfile.mkdtemp(prefix=prefix, suffix=end, dir=parent))
        else:
            handle, name = tempfile.mkstemp(prefix=prefix, suffix=end, dir=parent)
            os.close(handle)
            temporary = Path(name)
        # Until it is locked, another run may take it for a leftover and remove it: then once more.
        with suppress(FileNotFoundError):
            temporary.chmod((0o777 if directory else 0o666) & ~mask)
            lock = os.open(temporary, os.O_RDONLY)
            if _lock(lock) is not False and temporary.exists():
                return temporary, lock
            os.close(lock)


def _lock(descriptor: int) -> bool | None:
    """Lock what is open; False if another process has locked it, None where there are no locks."""
    if fcntl is None:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return None
    return True


def _remove_leftovers(path: Path) -> None:
    """Remove what killed runs to the same destination left.

    Raises:
        DestinationError: a run was killed while it replaced ``path``, and what stood there has another name since.
    """
    for left in _hidden(path, WRITTEN, REPLACED, WORK):
        if left.suffix == REPLACED:
            if not os.path.lexists(path):
                raise DestinationError(
                    f"destination {path}: a run that was killed moved what stood there to {left}; "
                    "move it back or remove it"
                )
            _log.warning(
                "note: %s stood at %s before a run that was killed; remove it if it is not needed", left, path
            )
            continue
        try:
            lock = os.open(left, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0))
        except OSError:
            continue
        try:
            free = _lock(lock)
            if free:
                remove(left)
                _log.warning("note: removed %s, which a run that was killed had left", left)
            elif free is None:
                _log.warning(
                    "note: %s may be left from a run that was killed; remove it if none is running", left
                )
        finally:
            os.close(lock)


def _hidden(path: Path, *ends: str) -> list[Path]:
    """What stands beside ``path`` under a hidden name of such an end."""
    parent = path.absolute().parent
    pattern = re.compile(rf"\.{re.escape(path.name)}\.[a-z0-9_]{{8}}({'|'.join(map(re.escape, ends))})")
    return [parent / name for name in sorted(os.listdir(parent)) if pattern.fullmatch(name)]


def _aside(temporary: Path) -> Path:
    return temporary.with_suffix(REPLACED)


def remove(path: Path) -> None:
    """Remove a file, a link or a directory with all that it holds, as far as that is possible."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with suppress(OSError):
            path.unlink(missing_ok=True)


def _umask() -> int:
    current = os.umask(0o022)
    os.umask(current)
    return current


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
