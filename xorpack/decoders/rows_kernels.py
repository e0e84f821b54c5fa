"""Kernel of :mod:`xorpack.decoders.rows`: planes of rows that are no neighbours."""

from __future__ import annotations

import numpy as np

from xorpack.code.trellis_kernels import row_kernel
from xorpack.vector.compiled import njit


@njit(cache=True, nogil=True)
def gather_kernel(code, n_in, n_out, ages, bounds, rows, planes):
    """Fill ``planes`` (q, n, chunks) with the rows ``rows`` (n,) int64 of a trellis's ``code`` (m, chunks)."""
    q, n, chunks = planes.shape
    row = np.empty((q, chunks), np.uint32)
    for i in range(n):
        row_kernel(code, n_in, n_out, ages, bounds, rows[i], row)
        for j in range(q):
            for c in range(chunks):
                planes[j, i, c] = row[j, c]
