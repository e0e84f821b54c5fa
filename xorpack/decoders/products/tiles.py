"""Products of any tensor: a tile of rows is decoded to float32, then multiplied while it is in the cache."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from xorpack.code.words import Words
from xorpack.decoders import cpu
from xorpack.elements import Lossless
from xorpack.encoded import EncodedTensor
from xorpack.errors import FormatError
from xorpack.masks import Constant
from xorpack.tensors import DTYPES
from xorpack.vector.threads import for_each

TILE_ELEMENTS = 1 << 16
"""Weights of a tile, about."""


class Kept:
    """A tensor's mask by rows: held at one bit per weight, or made when asked for where all are alike."""

    def __init__(self, encoded: EncodedTensor, jobs: int) -> None:
        self._encoded = encoded
        self._words: Words | None = None
        if not isinstance(encoded.mask, Constant):
            self._words = cpu.load_mask(encoded, jobs=jobs)
        elif encoded.n_kept != encoded.mask.value * encoded.n_weights:
            raise FormatError(
                f"the mask keeps {encoded.mask.value * encoded.n_weights} weights, not {encoded.n_kept}"
            )

    def rows(self, first: int, last: int) -> Words:
        """Words of rows ``first .. last - 1``: uint32 (rows, chunks)."""
        if self._words is None:
            return cpu.load_mask(self._encoded, first, last)
        return self._words[first:last]


class Tiles:
    """An encoded tensor that is multiplied tile by tile."""

    def __init__(self, encoded: EncodedTensor, jobs: int) -> None:
        self._encoded = encoded
        self._kept = Kept(encoded, jobs)
        self._loaded = cpu.load(encoded)
        self._step = max(1, min(encoded.rows, TILE_ELEMENTS // max(encoded.cols, 1)))

    def multiply(self, x: NDArray[np.float32], out: NDArray[np.float32], jobs: int) -> None:
        """Fill ``out`` (n, rows) with ``x W^T``; x (n, cols), C-contiguous."""
        rows = self._encoded.rows

        def tile(first: int) -> None:
            last = min(first + self._step, rows)
            np.matmul(x, self._decode(first, last).T, out=out[:, first:last])

        for_each(tile, range(0, rows, self._step), jobs)

    def _decode(self, first: int, last: int) -> NDArray[np.float32]:
        """Rows ``first .. last - 1`` as float32."""
        encoded = self._encoded
        lossless = isinstance(encoded.elements, Lossless)
        found = np.empty((last - first, encoded.cols), DTYPES[encoded.dtype] if lossless else np.float32)
        self._loaded.fill(first, self._kept.rows(first, last), found)
        return found.astype(np.float32, copy=False)
