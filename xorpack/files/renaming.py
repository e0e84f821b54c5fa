"""Renames that never replace anything unseen, and exchanges that lose nothing: in one step where the system can.

Linux has both as ``renameat2``. Elsewhere, and on file systems that know no such thing, a name is taken by creating
it, which fails if somebody was faster, and an exchange moves the old one aside until the new one stands.
"""

from __future__ import annotations

import ctypes
import errno
import functools
import os
import shutil
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

_AT_FDCWD, _NOREPLACE, _EXCHANGE = -100, 1, 2
_UNSUPPORTED = (errno.ENOSYS, errno.EINVAL, errno.EOPNOTSUPP, errno.EPERM)


def rename_new(source: Path, path: Path) -> None:
    """Rename a file or directory to a name that nothing has.

    Raises:
        FileExistsError: something has it.
    """
    if _renameat2(source, path, _NOREPLACE):
        return
    if source.is_dir():
        path.mkdir()
        undo: Callable[[], None] = path.rmdir  # which spares what somebody else put into it
    else:
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY))
        undo = path.unlink
    try:
        os.rename(source, path)
    except BaseException:
        if source.exists():
            with suppress(OSError):
                undo()
        raise


def exchange(new: Path, path: Path, aside: Path) -> None:
    """Put the directory ``new`` in the place of the directory ``path``.

    Afterwards ``path`` is the new one, and the old one has the name ``new`` or is removed. Where that takes several
    steps, the old one has the name ``aside`` in between. It is not removed before the new one stands, and comes back
    if it never does.
    """
    if _renameat2(new, path, _EXCHANGE):
        return
    written = new.stat()
    try:
        os.rename(path, aside)
        os.rename(new, path)
    finally:
        if os.path.lexists(aside):
            if not os.path.lexists(path):
                os.rename(aside, path)
            elif os.path.samestat(path.stat(), written):
                shutil.rmtree(aside, ignore_errors=True)


def _renameat2(source: Path, path: Path, flags: int) -> bool:
    """Whether it was renamed; False where the system or the file system cannot."""
    function = _function()
    if function is None:
        return False
    if function(_AT_FDCWD, os.fsencode(source), _AT_FDCWD, os.fsencode(path), flags) == 0:
        return True
    number = ctypes.get_errno()
    if number in _UNSUPPORTED:
        return False
    raise OSError(number, os.strerror(number), str(source), None, str(path))


@functools.cache
def _function() -> Callable[..., int] | None:
    if not sys.platform.startswith("linux"):
        return None
    try:
        function = ctypes.CDLL(None, use_errno=True).renameat2
    except (OSError, AttributeError):
        return None
    function.argtypes = (ctypes.c_int, ctypes.c_char_p, ctypes.c_int, ctypes.c_char_p, ctypes.c_uint)
    function.restype = ctypes.c_int
    found: Callable[..., int] = function
    return found
