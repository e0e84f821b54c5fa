"""Rows of an encoded tensor by their numbers, many times over: what an embedding looks up."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xorpack.code import dense
from xorpack.code.scales import scale_values
from xorpack.code.trellis_kernels import ages_of
from xorpack.code.words import Words, n_chunks, unpack
from xorpack.decoders import cpu
from xorpack.decoders.rows_kernels import gather_kernel
from xorpack.elements import Trellis
from xorpack.encoded import EncodedTensor
from xorpack.masks import Constant
from xorpack.tensors import DTYPES, TrellisTensor

GAP_ELEMENTS = 1 << 16
"""Weights that decode in about the time that it takes to begin anew."""

STRETCH_ELEMENTS = 1 << 20
"""Weights that are decoded at once at the most, or a row."""


class RowReader:
    """An encoded tensor of which everything is unpacked that is needed whatever rows are asked for, but its mask."""

    def __init__(self, encoded: EncodedTensor) -> None:
        self.encoded = encoded

    def read(self, rows: NDArray[np.int64]) -> NDArray[Any]:
        """Elements of rows of the tensor's matrix, (n, cols), of its dtype: those that decoding it whole gives.

        Args:
            rows: their numbers, strictly rising; neighbours are decoded together.
        """
        encoded = self.encoded
        out = np.empty((len(rows), encoded.cols // encoded.octets), DTYPES[encoded.dtype])
        if isinstance(encoded.elements, Trellis):
            with np.errstate(over="ignore"):
                out[...] = self._of_trellis(rows)
            return out
        for here, first, last in stretches(rows, self.encoded.cols):
            found = cpu.filled(encoded, self._loaded, first, cpu.load_mask(encoded, first, last))
            out[here] = found[rows[here] - first]
        return out

    @cached_property
    def _loaded(self) -> cpu.Loaded:
        return cpu.load(self.encoded)

    @cached_property
    def _trellis(self) -> TrellisTensor:
        return self.encoded.trellis(None)

    @cached_property
    def _ages(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        return ages_of(self._trellis.network)

    def _of_trellis(self, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        tensor, cols = self._trellis, self.encoded.cols
        out = np.empty((len(rows), cols), np.float32)
        if not out.size:
            return out
        planes = np.empty((tensor.bits, len(rows), n_chunks(cols)), np.uint32)
        code, network = np.ascontiguousarray(tensor.code), tensor.network
        gather_kernel(code, network.n_in, network.n_out, *self._ages, rows, planes)
        whole = np.full(planes.shape[1:], 0xFFFFFFFF, np.uint32)
        alphas = scale_values(tensor.scales[rows])[:, :, None] * tensor.a
        dense.expand_bcq(whole, planes, alphas, tensor.group_size, out)
        if tensor.gains is not None:
            out *= tensor.gains.astype(np.float32)
        if (mask := self._mask(rows)) is not None:
            out[~unpack(mask, cols)] = 0
        begin, end = np.searchsorted(tensor.positions, (rows * cols, (rows + 1) * cols))
        n = end - begin
        i = np.repeat(np.arange(len(rows)), n)
        found = np.arange(len(i)) - np.repeat(np.cumsum(n) - n, n) + begin[i]
        values = tensor.values[found].astype(np.float32) * np.float32(tensor.outlier_unit)
        out[i, tensor.positions[found] - rows[i] * cols] = values
        return out

    def _mask(self, rows: NDArray[np.int64]) -> Words | None:
        """The mask of rows; None where it keeps all."""
        if isinstance(self.encoded.mask, Constant) and self.encoded.mask.value:
            return None
        parts = [
            cpu.load_mask(self.encoded, first, last)[rows[here] - first]
            for here, first, last in stretches(rows, self.encoded.cols)
        ]
        return np.concatenate(parts)


def stretches(rows: NDArray[Any], cols: int) -> Iterator[tuple[slice, int, int]]:
    """What is decoded at once: a part of ``rows``, strictly rising, its first row and the one past its last.

    A gap of few weights is decoded, too: that is faster than to begin anew.

    >>> list(stretches(np.array([2, 3, 5, 900]), 100))
    [(slice(0, 3, None), 2, 6), (slice(3, 4, None), 900, 901)]
    """
    gaps = np.diff(rows) * max(cols, 1) > GAP_ELEMENTS
    longest = max(1, STRETCH_ELEMENTS // max(cols, 1))
    begin = 0
    for end in [*(np.flatnonzero(gaps) + 1).tolist(), len(rows)]:
        while begin < end:
            stop = min(end, int(np.searchsorted(rows, rows[begin] + longest)))
            yield slice(begin, stop), int(rows[begin]), int(rows[stop - 1]) + 1
            begin = stop
