"""Kernels of squared errors row by row."""

from __future__ import annotations

import numpy as np

from xorpack.vector.compiled import njit


@njit(cache=True, nogil=True)
def row_errors_kernel(weight, stored, sums, n_kept):
    """Kernel of :class:`Rows`: ``weight``, ``stored`` float32 (rows, cols), ``sums`` (4, rows), ``n_kept`` (rows,)."""
    rows, cols = weight.shape
    for r in range(rows):
        energy, error, largest, n = 0.0, 0.0, 0.0, 0
        for c in range(cols):
            w = np.float64(weight[r, c])
            e = w - np.float64(stored[r, c])
            square = w * w
            energy += square
            error += e * e
            largest = max(largest, square)
            n += w != 0
        rest_energy, rest_error, skipped = 0.0, 0.0, False
        for c in range(cols):
            w = np.float64(weight[r, c])
            e = w - np.float64(stored[r, c])
            if not skipped and w * w == largest:
                skipped = True
            else:
                rest_energy += w * w
                rest_error += e * e
        sums[0, r], sums[1, r], sums[2, r], sums[3, r] = energy, error, rest_energy, rest_error
        n_kept[r] = n
