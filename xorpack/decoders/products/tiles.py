"""Products of any tensor: a tile of rows is decoded to float32, then multiplied while it is in the cache."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from xorpack.decoders.cpu import Loaded
from xorpack.decoders.products.kept import Kept
from xorpack.elements import Lossless
from xorpack.encoded import EncodedTensor
from xorpack.tensors import DTYPES
from xorpack.vector.threads import for_each

TILE_ELEMENTS = 1 << 18
"""Weights of a tile, about."""


class Tiles:
    """An encoded tensor that is multiplied tile by tile."""

    def __init__(self, encoded: EncodedTensor, loaded: Loaded, kept: Kept) -> None:
        self._encoded = encoded
        self._kept = kept
        self._loaded = loaded
        self._step = encoded.rows_at_once(min(encoded.rows, TILE_ELEMENTS // max(encoded.cols, 1)))

    def multiply(self, x: NDArray[np.float32], out: NDArray[np.float32], jobs: int) -> None:
        """Fill ``out`` (n, rows) with ``x W^T``; x (n, cols), C-contiguous."""
        rows = self._encoded.rows

        def tile(first: int) -> None:
            last = min(first + self._step, rows)
            with np.errstate(all="ignore"):
                np.matmul(x, self._decode(first, last).T, out=out[:, first:last])

        firsts = range(0, rows, self._step)
        for_each(tile, firsts, min(jobs, len(firsts)))

    def _decode(self, first: int, last: int) -> NDArray[np.float32]:
        """Rows ``first .. last - 1`` as float32."""
        encoded = self._encoded
        lossless = isinstance(encoded.elements, Lossless)
        found = np.empty((last - first, encoded.cols), DTYPES[encoded.dtype] if lossless else np.float32)
        self._loaded.fill(first, self._kept.rows(first, last), found)
        return found.astype(np.float32, copy=False)
