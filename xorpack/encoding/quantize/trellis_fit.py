"""Scales, gains and codes of a trellis tensor: where the search begins, and least squares given the bits it chose."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from xorpack.code.words import Words

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
