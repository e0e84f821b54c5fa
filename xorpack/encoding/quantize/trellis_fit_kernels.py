"""Kernels of :mod:`xorpack.encoding.quantize.trellis_fit`: sums over weights, of squares and for least squares."""

from __future__ import annotations

import numpy as np

from xorpack.vector.bitops import count_ones
from xorpack.vector.compiled import njit


@njit(cache=True, nogil=True)
def moments_kernel(block, first, care, scales, gains, limit, group, sums, counts, histogram):
    """Sums of squares of the rows of ``block``, float32 (n_rows, cols), per row and group of columns.

    Args:
        first: of ``care``, uint32 (rows, chunks): weights that count.
        scales: float64 (n_rows, n_groups); a weight above ``limit`` times scale and gain does not count.
        gains: float64 (cols,); weights are divided by them.
        sums, counts: float64 and int64 (n_rows, n_groups), written.
        histogram: int64 (n_bins,), of the magnitudes in units of scale and gain, added to.
    """
    n_rows, cols = block.shape
    for r in range(n_rows):
        for g in range(sums.shape[1]):
            total, n = 0.0, 0
            scale = scales[r, g]
            inverse = 32.0 / scale if scale > 0.0 else 0.0
            for c in range(g * group, min(cols, (g + 1) * group)):
                if care[first + r, c >> 5] >> np.uint32(c & 31) & np.uint32(1):
                    x = abs(np.float64(block[r, c])) / gains[c]
                    if x <= limit * scale or scale == 0.0:
                        total += x * x
                        n += 1
                    at = min(x * inverse, histogram.size - 1.0)
                    histogram[np.int64(at)] += 1
            sums[r, g] = total
            counts[r, g] = n


@njit(cache=True, nogil=True)
def normal_kernel(block, first, care, planes, gains, importance, plain, group, normal):
    """Normal equations of ``w = s * sum_j a_j b_j`` per row and group: what every refit needs to know.

    Args:
        block: float32 (n_rows, cols).
        first: of ``care``, uint32 (rows, chunks): weights that count.
        planes: uint32 (q, n_rows, chunks) of these rows.
        gains: float64 (cols,).
        importance: float32 (n_rows or 1, cols) of a squared error.
        plain: whether all gains and importances are 1.
        normal: float64 (n_rows, n_groups, q, q + 1), written: ``sum b_j b_k`` and ``sum b_j w`` at ``[..., j, q]``.
    """
    n_rows, cols = block.shape
    q = planes.shape[0]
    signs = np.empty(q, np.float64)
    for r in range(n_rows):
        weights = importance[r % importance.shape[0]]
        for g in range(normal.shape[1]):
            sums = normal[r, g]
            for j in range(q):
                for k in range(q + 1):
                    sums[j, k] = 0.0
            begin, end = g * group, min(cols, (g + 1) * group)
            for chunk in range(begin // 32, (end + 31) // 32):
                word = care[first + r, chunk]
                low, high = max(begin - 32 * chunk, 0), min(end - 32 * chunk, 32)
                word &= np.uint32(((1 << high) - 1) ^ ((1 << low) - 1))
                if word == 0:
                    continue
                if plain:
                    n = np.int64(count_ones(np.uint64(word)))
                    for j in range(q):
                        for k in range(j + 1):
                            sums[j, k] += n - 2 * np.int64(
                                count_ones(np.uint64((planes[j, r, chunk] ^ planes[k, r, chunk]) & word))
                            )
                for i in range(low, high):
                    if not word >> np.uint32(i) & np.uint32(1):
                        continue
                    c = 32 * chunk + i
                    weight = np.float64(weights[c]) * gains[c]
                    value = weight * np.float64(block[r, c])
                    for j in range(q):
                        signs[j] = 1.0 if planes[j, r, chunk] >> np.uint32(i) & np.uint32(1) else -1.0
                        sums[j, q] += signs[j] * value
                    if not plain:
                        weight *= gains[c]
                        for j in range(q):
                            for k in range(j + 1):
                                sums[j, k] += weight * signs[j] * signs[k]
            for j in range(q):
                for k in range(j):
                    sums[k, j] = sums[j, k]
