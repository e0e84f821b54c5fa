"""Kernels that count over packed masks: symbols of kept weights, ones of columns."""

from __future__ import annotations

import numpy as np

from xorpack.vector.compiled import njit


@njit(cache=True, nogil=True)
def count_symbols(mask, planes, counts):
    """Add the symbols at the ones of ``mask`` (n,) to ``counts`` (2^q,); ``planes`` uint32 (q, n)."""
    q = planes.shape[0]
    for i in range(mask.size):
        kept = mask[i]
        j = np.uint32(0)
        while kept:
            if kept & np.uint32(1):
                symbol = np.int64(0)
                for k in range(q):
                    symbol |= np.int64((planes[k, i] >> j) & np.uint32(1)) << k
                counts[symbol] += 1
            kept >>= np.uint32(1)
            j += np.uint32(1)


@njit(cache=True, nogil=True)
def count_columns(mask, counts):
    """Add the ones of every column of ``mask``, uint32 (n, chunks), to ``counts``, int64 (32 * chunks,)."""
    for r in range(mask.shape[0]):
        for c in range(mask.shape[1]):
            word = mask[r, c]
            while word:
                low = word & (~word + np.uint32(1))
                j = 0
                for shift in (16, 8, 4, 2, 1):
                    if low >> np.uint32(j + shift):
                        j += shift
                counts[32 * c + j] += 1
                word ^= low
