"""Squared errors of a matrix row by row, and which rows one large weight has spoilt."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xorpack.analysis.row_errors_kernels import row_errors_kernel

RUINED = 2.0
"""Times the error of the tensor's middle row from which a row is ruined: half a bit per weight."""

NEAR_ZEROS = 0.9
"""Relative squared error from which zeros would be nearly as near."""


class Rows:
    """Sums over the rows of a matrix, filled as blocks of rows that stand for it pass by.

    Attributes:
        energy, error: float64 (rows,), sums of squared weights and of squared errors.
        rest_energy, rest_error: the same without the largest weight of each row.
        n_kept: int64 (rows,), weights that are not 0.
    """

    def __init__(self, weight: NDArray[Any]) -> None:
        """``weight``: the matrix (rows, cols), of any float type."""
        self.weight = weight
        self.n_kept = np.zeros(len(weight), np.int64)
        self._sums = np.zeros((4, len(weight)))
        self.energy, self.error, self.rest_energy, self.rest_error = self._sums

    @classmethod
    def of(cls, weight: NDArray[Any], blocks: Iterable[NDArray[Any]]) -> Rows:
        """Compare ``weight`` with blocks of rows, the first rows first."""
        rows = cls(weight)
        for _ in rows.watch(blocks):
            pass
        return rows

    def watch(self, blocks: Iterable[NDArray[Any]]) -> Iterator[NDArray[Any]]:
        """Hand on blocks of rows, the first rows first, and compare each."""
        first = 0
        for block in blocks:
            last = first + len(block)
            exact = np.ascontiguousarray(self.weight[first:last], np.float32)
            stored = block.astype(np.float32, copy=False)
            row_errors_kernel(exact, stored, self._sums[:, first:last], self.n_kept[first:last])
            yield block
            first = last

    @property
    def ruined(self) -> NDArray[np.int64]:
        """Rows of which one weight is more than all others together, at the cost of these.

        Their relative squared error is over ``RUINED`` times that of the tensor's middle row, or near that of zeros.
        """
        some = self.rest_energy > 0
        relative = np.divide(self.rest_error, self.rest_energy, where=some, out=np.zeros(len(some)))
        limit = min(NEAR_ZEROS, RUINED * float(np.median(relative[some]))) if some.any() else NEAR_ZEROS
        return np.flatnonzero((self.energy > 2 * self.rest_energy) & some & (relative > limit))
