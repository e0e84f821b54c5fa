"""How kernels are compiled, and where what was compiled is kept.

numba takes a compiled kernel as long as the file of that kernel stays the same; that a function it calls has changed,
in another file, goes unseen. Here the directory of compiled kernels is named after the sources of all of them, so that
any change of any kernel begins with an empty one. It lies where numba was told to keep things (``NUMBA_CACHE_DIR``),
else in the package, else, where that cannot be written, among the user's caches; with no such place, kernels are
compiled anew in every process.
"""

from __future__ import annotations

import hashlib
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numba
import platformdirs

PREFIX = "kernels-"
PACKAGE = Path(__file__).parents[1]
STALE_DAYS = 30
"""Age from which on compiled kernels of other sources are removed when a new directory is made."""


def njit(**options: Any) -> Callable[[Callable[..., Any]], Any]:
    """:func:`numba.njit` whose cache, if ``options`` ask for one, is kept in :func:`directory`."""

    def decorate(function: Callable[..., Any]) -> Any:
        place = directory() if options.get("cache") else None
        if place is None:
            return numba.njit(**{**options, "cache": False})(function)
        before, numba.config.CACHE_DIR = numba.config.CACHE_DIR, str(place)
        try:
            return numba.njit(**options)(function)
        except RuntimeError:  # a directory within it cannot be written
            return numba.njit(**{**options, "cache": False})(function)
        finally:
            numba.config.CACHE_DIR = before

    return decorate


@cache
def directory() -> Path | None:
    """Where compiled kernels are kept: a directory that can be written; None if there is none."""
    name = PREFIX + source_hash(PACKAGE)
    for parent in _places():
        place = parent / name
        try:
            if not place.is_dir():
                place.mkdir(parents=True, exist_ok=True)
                _remove_stale(parent)
            tempfile.TemporaryFile(dir=place).close()
        except OSError:
            continue
        return place
    return None


def source_hash(package: Path) -> str:
    """Hash of all modules that hold kernels, or what kernels are made of, and of whether indices are checked."""
    digest = hashlib.sha256(f"{numba.__version__} {numba.config.BOUNDSCHECK}".encode())
    for path in sorted(package.rglob("*.py")):
        text = path.read_bytes()
        if b"njit" in text or b"numba" in text:
            digest.update(f"\0{path.relative_to(package).as_posix()}\0".encode() + text)
    return digest.hexdigest()[:16]


def _places() -> Iterator[Path]:
    if numba.config.CACHE_DIR:
        yield Path(numba.config.CACHE_DIR)
        return
    if PACKAGE.is_dir():
        yield PACKAGE / "__pycache__"
    try:
        yield Path(platformdirs.user_cache_dir("xorpack"))
    except (OSError, RuntimeError):  # nobody's home
        return


def _remove_stale(parent: Path) -> None:
    for other in parent.glob(f"{PREFIX}*"):
        if time.time() - other.stat().st_mtime > STALE_DAYS * 86400:
            shutil.rmtree(other, ignore_errors=True)
