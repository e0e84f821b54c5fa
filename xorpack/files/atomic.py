"""Outputs that appear whole or not at all.

A file or directory is written under a hidden name beside its destination, flushed to disk, and renamed at the
end. Whatever goes wrong, the hidden one is removed and what stood at the destination stays. What a killed process
left is removed by the next run to the same destination: a living one holds a lock on what it writes.
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

WRITTEN, REPLACED = ".xorpack-tmp", ".xorpack-old"
"""Ends of hidden names: of what is being written, and of what stood at the destination while it is replaced."""

_log = logging.getLogger(__name__)


@contextmanager
def atomic_file(path: Path, *, overwrite: bool = False) -> Iterator[Path]:
    """Yield a path to write; at the end it becomes ``path``.

    Raises:
        DestinationError: ``path`` cannot be written, or it exists, or came to exist meanwhile, and is to stay.
        KeyboardInterrupt: with a message if ``path`` had been written when the interrupt came.
    """
    check_destination(path, overwrite=overwrite)
    if path.is_dir():
        raise DestinationError(f"destination {path} is a directory, not a file")
    with _temporary(path, directory=False) as temporary:
        yield temporary
        _sync(temporary)
        if overwrite:
            os.replace(temporary, path)
        else:
            _place(temporary, path)
        _sync(path.absolute().parent)


@contextmanager
def atomic_directory(path: Path, *, overwrite: bool = False) -> Iterator[Path]:
    """Yield an empty directory to fill; at the end it becomes ``path``. Raises as :func:`atomic_file` does."""
    check_destination(path, overwrite=overwrite)
    if path.exists() and not path.is_dir():
        raise DestinationError(f"destination {path} is a file, not a directory")
    with _temporary(path, directory=True) as temporary:
        yield temporary
        for place, _, files in os.walk(temporary):
            for file in files:
                if not os.path.islink(os.path.join(place, file)):
                    _sync(Path(place, file))
            _sync(Path(place))
        if overwrite and os.path.lexists(path):
            check_destination(path, overwrite=True)  # it may be another than when the work began
            renaming.exchange(temporary, path, _hidden(temporary, REPLACED))
        else:
            _place(temporary, path)
        _sync(path.absolute().parent)


def hidden_directory(path: Path) -> AbstractContextManager[Path]:
    """A hidden directory beside ``path``, for what is not to stay: removed at the end, or by the next run if killed.

    Raises:
        DestinationError: none can be made there.
    """
    return _temporary(path, directory=True)


def _place(temporary: Path, path: Path) -> None:
    try:
        renaming.rename_new(temporary, path)
    except FileExistsError:
        raise DestinationError(f"destination {path} exists; it appeared meanwhile") from None


@contextmanager
def _temporary(path: Path, *, directory: bool) -> Iterator[Path]:
    try:
        _remove_leftovers(path)
        temporary, lock = _create(path, directory=directory)
    except OSError as error:
        if isinstance(error, DestinationError):
            raise
        raise DestinationError(f"destination {path} cannot be written: {error.strerror}") from error
    written = os.fstat(lock)
    try:
        yield temporary
    except OSError as error:
        if error.strerror is None:  # one of ours
            raise
        raise DestinationError(f"destination {path} cannot be written: {error.strerror}") from error
    except KeyboardInterrupt:
        if path.exists() and os.path.samestat(path.stat(), written):
            raise KeyboardInterrupt(f"{path} had been written") from None
        raise
    finally:  # whatever has the name now: the new one, or the old one if they changed places
        _remove(temporary)
        os.close(lock)


def _create(path: Path, *, directory: bool) -> tuple[Path, int]:
    """A hidden file or directory beside ``path``, and the descriptor that holds its lock."""
    parent, prefix, mask = path.absolute().parent, f".{path.name}.", _umask()
    while True:
        if directory:
            temporary = Path(tempfile.mkdtemp(prefix=prefix, suffix=WRITTEN, dir=parent))
        else:
            handle, name = tempfile.mkstemp(prefix=prefix, suffix=WRITTEN, dir=parent)
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
    parent = path.absolute().parent
    pattern = re.compile(
        rf"\.{re.escape(path.name)}\.[a-z0-9_]{{8}}({re.escape(WRITTEN)}|{re.escape(REPLACED)})"
    )
    for name in sorted(os.listdir(parent)):
        found = pattern.fullmatch(name)
        if found is None:
            continue
        left = parent / name
        if found[1] == REPLACED:
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
                _remove(left)
                _log.warning("note: removed %s, which a run that was killed had left", left)
            elif free is None:
                _log.warning(
                    "note: %s may be left from a run that was killed; remove it if none is running", left
                )
        finally:
            os.close(lock)


def _hidden(temporary: Path, end: str) -> Path:
    return temporary.with_name(temporary.name.removesuffix(WRITTEN) + end)


def _remove(path: Path) -> None:
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
