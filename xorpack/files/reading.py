"""Reading from a file that somebody may change meanwhile.

Nothing is mapped into memory: a mapped file that becomes shorter kills the process, with no error to catch. Every
read is a copy, made after a look at the file's size and time, so that it is all of one version or an error.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from xorpack.errors import SourceError


@dataclass(frozen=True, slots=True)
class SourceFile:
    """A file as it was when it was first looked at.

    Attributes:
        path: of the file.
        n_bytes: its size.
        stamp: inode, size and time of the last change, in nanoseconds: what all machines that share it see.
    """

    path: Path
    n_bytes: int
    stamp: tuple[int, int, int]

    @classmethod
    def of(cls, path: Path) -> SourceFile:
        """The file as it is now.

        Raises:
            OSError: it is not there.
        """
        found = path.stat()
        return cls(path, found.st_size, _stamp(found))

    def read(self, begin: int, size: int) -> NDArray[np.uint8]:
        """The bytes ``begin : begin + size``, uint8 (size,), the caller's own.

        Raises:
            SourceError: they cannot be read, or the file is no longer what it was.
        """
        data = np.empty(size, np.uint8)
        try:
            file = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
            try:
                self._compare(os.fstat(file))
                view, at = data.data, 0
                while at < size:
                    n = os.preadv(file, [view[at:]], begin + at)
                    if not n:
                        raise SourceError(f"{self.path}: became shorter while it was read")
                    at += n
            finally:
                os.close(file)
        except OSError as error:
            if isinstance(error, SourceError):
                raise
            raise SourceError(f"{self.path}: cannot be read: {error.strerror}") from None
        return data

    def check(self) -> None:
        """Raise SourceError unless the file is still what it was."""
        try:
            found = self.path.stat()
        except OSError as error:
            raise SourceError(f"{self.path}: cannot be read: {error.strerror}") from None
        self._compare(found)

    def _compare(self, found: os.stat_result) -> None:
        if _stamp(found) != self.stamp:
            what = (
                f"from {self.n_bytes} to {found.st_size} bytes"
                if found.st_size != self.n_bytes
                else "in place"
            )
            if found.st_ino != self.stamp[0]:
                what = "to another file"
            raise SourceError(f"{self.path}: changed {what} while it was read; try again when it is at rest")


def _stamp(found: os.stat_result) -> tuple[int, int, int]:
    return found.st_ino, found.st_size, found.st_mtime_ns
