"""The trellis part of the CPU decoder: code words to planes and to elements, any rows on their own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from xorpack.code.corrections import Corrections, check_kept
from xorpack.code.trellis_kernels import expand_trellis
from xorpack.code.words import Words, unpack
from xorpack.encoded import EncodedTensor
from xorpack.tensors import TrellisTensor, as_matrix
from xorpack.vector.threads import for_each

BLOCK_ELEMENTS = 1 << 16
"""Elements that are made at a time."""


class LoadedTrellis(NamedTuple):
    """A trellis tensor without its mask, and where its outliers are; see :class:`xorpack.decoders.cpu.Loaded`."""

    tensor: TrellisTensor
    outliers: Corrections
    n_kept: int

    @classmethod
    def of(cls, encoded: EncodedTensor) -> LoadedTrellis:
        """Unpack the outliers."""
        tensor = encoded.trellis(None)
        nothing = np.zeros(len(tensor.positions), np.uint64)
        return cls(tensor, Corrections(tensor.positions, nothing), encoded.n_kept)

    def planes(self, first: int, mask: Words, jobs: int = 1, out: Words | None = None) -> Words:
        """See :class:`xorpack.decoders.cpu.Loaded`."""
        tensor, (rows, _) = self.tensor, as_matrix(self.tensor.shape)
        planes = np.empty((tensor.bits, *mask.shape), np.uint32) if out is None else out

        def part(r: int, end: int) -> None:
            found = expand_trellis(tensor.network, tensor.code, rows, first + r, first + end)
            np.bitwise_and(found, mask[r:end], out=planes[:, r:end])

        self._in_parts(len(mask), part, jobs)
        return planes

    def fill(self, first: int, mask: Words, out: NDArray[Any], jobs: int = 1) -> None:
        """See :class:`xorpack.decoders.cpu.Loaded`."""
        cols = as_matrix(self.tensor.shape)[1]
        check_kept(self.outliers.in_rows(first, first + len(mask), cols), mask, cols, "an outlier")
        whole = self.n_kept == self.tensor.n_weights

        def part(r: int, end: int) -> None:
            found = self.tensor.dequantize_rows(first + r, first + end)
            if not whole:
                found[~unpack(mask[r:end], cols)] = 0
            with np.errstate(over="ignore"):
                out[r:end] = found

        self._in_parts(len(mask), part, jobs)

    def _in_parts(self, rows: int, work: Callable[[int, int], None], jobs: int) -> None:
        step = max(1, BLOCK_ELEMENTS // max(as_matrix(self.tensor.shape)[1], 1))
        for_each(lambda r: work(r, min(r + step, rows)), range(0, rows, step), jobs)
