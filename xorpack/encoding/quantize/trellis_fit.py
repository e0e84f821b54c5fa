"""Scales, gains and codes of a trellis tensor: where the search begins, and least squares given the bits it chose."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from xorpack.code.words import Words
from xorpack.vector.bitops import count_ones
from xorpack.vector.compiled import njit

BINS_PER_SIGMA = 32
"""Bins of the histogram of magnitudes, in which a threshold for outliers is looked for."""

N_BINS = 64 * BINS_PER_SIGMA
"""Its bins; what lies above goes into the last one."""

OUTLIER_BITS = 18
"""Bits of an outlier beside the logarithm of their spacing: float16, and 2 of its Elias-Fano position."""

EAGERNESS = 0.96
"""Factor of the threshold: the largest level is out of reach from most states. Measured: .93 to 1 is best."""


def outlier_threshold(histogram: NDArray[np.int64], reach: float, rate: float, distortion: float) -> float:
    """Magnitude from which a weight is cheaper as an outlier, in standard deviations; infinity where none is.

    A bit more or less on all weights changes the total error by ``2 ln 2 * distortion`` for each bit, so an outlier
    pays where its clipping error ``(|x| - reach)**2``, less the error of a coded weight, is above that price times its
    bits, less the ``rate`` bits of its step, which become free.

    Args:
        histogram: of the magnitudes, int64 (N_BINS,).
        reach: largest level.
        rate: stored bits per kept weight.
        distortion: mean squared error of a coded weight.
    """
    n = int(histogram.sum())
    above = np.concatenate([np.cumsum(histogram[::-1])[::-1], [0]])
    threshold = reach
    for _ in range(8):
        n_outliers = max(1, int(above[min(N_BINS - 1, int(threshold * BINS_PER_SIGMA))]))
        bits = OUTLIER_BITS + np.log2(max(n, 1) / n_outliers) - rate
        threshold = reach + float(np.sqrt(distortion * (1 + 2 * np.log(2) * max(bits, 1))))
    threshold *= EAGERNESS
    return threshold if above[min(N_BINS - 1, int(threshold * BINS_PER_SIGMA))] else float("inf")


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


def fit_scales(normal: NDArray[np.float64], a: NDArray[np.float64]) -> NDArray[np.float64]:
    """The best scales (n_rows, n_groups) for the codes ``a`` (q,), of any sign; 0 where nothing determines them."""
    product = normal[..., -1] @ a
    energy = np.einsum("rgjk,j,k->rg", normal[..., :-1], a, a)
    return np.where(energy > 0, product / np.where(energy > 0, energy, 1), 0)


def pooled(normal: NDArray[np.float64], scales: NDArray[Any]) -> NDArray[np.float64]:
    """Normal equations (q, q + 1) of ``a`` for these scales (n_rows, n_groups)."""
    s = scales.astype(np.float64)
    left = np.einsum("rgjk,rg->jk", normal[..., :-1], s * s)
    right = np.einsum("rgj,rg->j", normal[..., -1], s)
    return np.concatenate([left, right[:, None]], axis=1)


def solve(equations: NDArray[np.float64], before: NDArray[np.float64]) -> NDArray[np.float64]:
    """``a`` (q,) of the equations (q, q + 1); ``before`` where they are empty.

    A ridge of 1e-9 of the diagonal stands for planes that a short column makes alike.
    """
    left, right = equations[:, :-1], equations[:, -1]
    trace = np.trace(left)
    if not trace > 0:
        return before
    ridge = 1e-9 * trace / len(left)
    a: NDArray[np.float64] = np.linalg.solve(left + ridge * np.eye(len(left)), right + ridge * before)
    return a


def care_words(mask: Words, positions: NDArray[np.int64], cols: int) -> Words:
    """``mask`` (rows, chunks), a copy, without the weights at flat ``positions``."""
    care = mask.copy()
    r, c = np.divmod(positions, max(cols, 1))
    np.bitwise_and.at(care, (r, c >> 5), ~(np.uint32(1) << (c & 31).astype(np.uint32)))
    return care
