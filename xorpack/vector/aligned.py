"""Arrays that begin at a line of the cache, in Python and in numba kernels: vectors of a whole line read one line."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numba.extending import overload
from numpy.typing import NDArray

LINE = 64
"""Bytes."""


def aligned(n: int) -> NDArray[np.uint32]:
    """An empty array of ``n`` words."""
    words = np.empty(n + LINE // 4, np.uint32)
    address: int = words.__array_interface__["data"][0]
    begin = -address % LINE // 4
    return words[begin : begin + n]


def as_aligned(words: NDArray[np.uint32]) -> NDArray[np.uint32]:
    """``words``, of any shape, flat and aligned: themselves, where they are."""
    flat = np.ascontiguousarray(words).reshape(-1)
    if flat.__array_interface__["data"][0] % LINE == 0:
        return flat
    copy = aligned(flat.size)
    copy[:] = flat
    return copy


@overload(aligned)  # type: ignore[untyped-decorator]
def _aligned(n: Any) -> Callable[[Any], Any]:
    def make(n: Any) -> Any:
        words = np.empty(n + 16, np.uint32)
        begin = (64 - words.ctypes.data % 64) % 64 // 4
        return words[begin : begin + n]

    return make
