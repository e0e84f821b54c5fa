"""Outputs that appear whole or not at all.

A file or directory is written under a hidden name beside its destination, flushed to disk, and renamed
at the end. Whatever goes wrong, the hidden one is removed and what stood at the destination stays.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from xorpack.errors import DestinationError


def check_destination(path: Path, *, overwrite: bool = False) -> None:
    """Raise DestinationError unless something may be written at ``path``."""
    if path.is_symlink() or path.exists():
        if not overwrite:
            raise DestinationError(f"destination {path} exists; remove it or ask to overwrite it")
        if path.is_symlink() or not (path.is_file() or path.is_dir()):
            raise DestinationError(f"destination {path} is neither a file nor a directory")
    parent = path.absolute().parent
    if not parent.is_dir():
        raise DestinationError(f"destination {path}: {parent} is not a directory")
    if not os.access(parent, os.W_OK):
        raise DestinationError(f"destination {path}: no permission to write in {parent}")


@contextmanager
def atomic_file(path: Path, *, overwrite: bool = False) -> Iterator[Path]:
    """Yield a path to write; at the end it becomes ``path``."""
    check_destination(path, overwrite=overwrite)
    if path.is_dir():
        raise DestinationError(f"destination {path} is a directory, not a file")
    with _temporary(path, directory=False) as temporary:
        yield temporary
        _sync(temporary)
        if overwrite:
            os.replace(temporary, path)
            return
        try:
            os.link(temporary, path)  # unlike a rename, fails if somebody was faster
        except FileExistsError:
            raise DestinationError(f"destination {path} exists; it appeared meanwhile") from None
        except OSError:  # a file system without hard links
            os.rename(temporary, path)


@contextmanager
def atomic_directory(path: Path, *, overwrite: bool = False) -> Iterator[Path]:
    """Yield an empty directory to fill; at the end it becomes ``path``."""
    check_destination(path, overwrite=overwrite)
    if path.exists() and not path.is_dir():
        raise DestinationError(f"destination {path} is a file, not a directory")
    with _temporary(path, directory=True) as temporary:
        yield temporary
        for file in temporary.rglob("*"):
            if file.is_file():
                _sync(file)
        if not path.exists():
            os.rename(temporary, path)
            return
        with _temporary(path, directory=True) as old:
            aside = old / "old"
            os.rename(path, aside)
            try:
                os.rename(temporary, path)
            except BaseException:
                os.rename(aside, path)
                raise


@contextmanager
def _temporary(path: Path, *, directory: bool) -> Iterator[Path]:
    parent, prefix = path.absolute().parent, f".{path.name}."
    try:
        if directory:
            temporary = Path(tempfile.mkdtemp(prefix=prefix, suffix=".tmp", dir=parent))
            temporary.chmod(0o777 & ~_umask())
        else:
            handle, name = tempfile.mkstemp(prefix=prefix, suffix=".tmp", dir=parent)
            os.close(handle)
            temporary = Path(name)
            temporary.chmod(0o666 & ~_umask())
    except OSError as error:
        raise DestinationError(f"destination {path} cannot be written: {error.strerror}") from error
    try:
        yield temporary
    except OSError as error:
        if isinstance(error, DestinationError) or error.strerror is None:
            raise
        raise DestinationError(f"destination {path} cannot be written: {error.strerror}") from error
    finally:
        if directory:
            shutil.rmtree(temporary, ignore_errors=True)
        else:
            temporary.unlink(missing_ok=True)


def _umask() -> int:
    current = os.umask(0o022)
    os.umask(current)
    return current


def _sync(path: Path) -> None:
    with open(path, "rb") as file:
        os.fsync(file.fileno())
