"""The algorithm ``decode``: tiles of rows decoded to elements, then cuBLAS. For everything else."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from xorpack.code.layout import Layout
from xorpack.cuda.arrays import ArrayView
from xorpack.decoders.gpu.launches import TILE_ROWS
from xorpack.decoders.gpu.products.product import Product
from xorpack.decoders.gpu.resident import Step
from xorpack.encoded import EncodedTensor
from xorpack.tensors import DTYPES

DECODE_TILE_BYTES = 32 << 20
"""Decoded weights that are held at a time: they fit in an L2 cache."""


class Decode(Product):
    """Elements rounded to the type of the activations."""

    NAME: ClassVar[str] = "decode"
    CORRECTS: ClassVar[bool] = True

    @staticmethod
    def why_not(encoded: EncodedTensor, n: int, x_dtype: str, shared_limit: int) -> str:
        """See :class:`Product`."""
        if max(encoded.rows, encoded.cols, n) >= 1 << 31:
            return "cuBLAS takes sizes below 2^31"
        return ""

    def set_up(self, n: int, dtype: str) -> list[Step]:
        """See :class:`Product`."""
        resident, itemsize = self.resident, DTYPES[dtype].itemsize
        self._tile_rows = decode_tile_rows(resident.layout, itemsize)
        self.workspace["weights"] = self._tile_rows * resident.encoded.cols * itemsize
        return resident.decode_steps(dtype, self._tile_rows)

    def multiply(self, x: ArrayView, partial: int, mask: np.uint64, stream: Any) -> None:
        """See :class:`Product`."""
        resident, target = self.resident, self.device
        rows, cols = resident.encoded.rows, resident.encoded.cols
        weights = target.workspace(stream, "weights", self.workspace["weights"])
        for first in range(0, rows, self._tile_rows):
            last = min(first + self._tile_rows, rows)
            resident.decode(weights, x.dtype, mask, first, last, True, stream)
            target.gemm(x.dtype, weights, x, partial + 4 * first, last - first, cols, rows, stream)


def decode_tile_rows(layout: Layout, itemsize: int) -> int:
    """Row indices that are expanded at a time: a multiple of 16."""
    rows = DECODE_TILE_BYTES // max(layout.cols * itemsize, 1) // TILE_ROWS * TILE_ROWS
    return min(max(rows, 256), -(-layout.rows // TILE_ROWS) * TILE_ROWS)
