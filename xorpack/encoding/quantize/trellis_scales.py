"""Scales and gains that a trellis search begins with, and the weights that are kept as outliers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xorpack.code.words import Words, unpack
from xorpack.encoding.quantize.pruning import block_starts, float_rows
from xorpack.encoding.quantize.trellis_design import Design
from xorpack.encoding.quantize.trellis_fit import N_BINS, outlier_threshold
from xorpack.encoding.quantize.trellis_fit_kernels import moments_kernel
from xorpack.tensors import NO_POSITIONS, as_matrix
from xorpack.vector.threads import for_each

GAIN_ROUNDS = 3
"""Rounds in which rows, then columns are scaled to the same mean square."""

HEADROOM = 2.0**0.125
"""Room above the largest scale, which least squares may raise."""

OUTLIER_ROUNDS = 2
"""Rounds in which the scales without outliers are found, then what is an outlier."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scaling:
    """``w / (scales[r, g] * gains[c])`` is what the search approaches: about of variance 1.

    ``scales``: float64 (rows, n_groups), 0 where nothing is kept; ``gains``: float64 (cols,), each a float16;
    ``outliers``: int64, flat positions, rising: those of magnitude above ``threshold`` in units of scale and gain.
    """

    scales: NDArray[np.float64]
    gains: NDArray[np.float64]
    outliers: NDArray[np.int64]
    threshold: float

    @property
    def unit(self) -> float:
        """What stored scales are in units of."""
        return float(self.scales.max(initial=0)) * HEADROOM or 1.0


def find_scales(
    weight: NDArray[Any],
    kept: Words,
    group: int,
    column_gains: bool,
    plan: Design,
    rate: float,
    outliers: bool | float,
    n_groups: int,
    jobs: int,
) -> Scaling:
    """Root mean squares of the kept weights, and the outliers: none, those that pay at ``rate`` bits per kept weight,
    or those beyond ``outliers`` standard deviations.

    Raises:
        DataError: NaN or infinity in ``weight``.
    """
    finder = _Finder(weight, kept, group, n_groups, jobs)
    scales = np.zeros((len(kept), n_groups))
    gains = np.ones(as_matrix(weight.shape)[1])
    scales, _ = finder.scales(scales, gains, np.inf)
    for _ in range(GAIN_ROUNDS if column_gains else 0):
        gains = finder.gains(scales, gains)
        scales, _ = finder.scales(scales, gains, np.inf)
    positions, threshold = NO_POSITIONS, np.inf
    if outliers is not False:
        reach = float(np.abs(plan.network.levels(np.array(plan.a))).max())
        for _ in range(OUTLIER_ROUNDS):
            _, histogram = finder.scales(scales, gains, threshold)
            threshold = outliers
            if outliers is True:
                threshold = outlier_threshold(histogram, reach, rate, plan.distortion)
            scales, _ = finder.scales(scales, gains, threshold)
        positions = finder.above(scales, gains, threshold)
    return Scaling(scales=scales, gains=gains, outliers=positions, threshold=float(threshold))


class _Finder:
    """Passes over the weights, in blocks of rows."""

    def __init__(self, weight: NDArray[Any], kept: Words, group: int, n_groups: int, jobs: int) -> None:
        self.weight, self.kept, self.group, self.n_groups, self.jobs = weight, kept, group, n_groups, jobs
        self.starts, self.step = block_starts(weight.shape)
        self.cols = as_matrix(weight.shape)[1]

    def scales(
        self, scales: NDArray[np.float64], gains: NDArray[np.float64], limit: float
    ) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        """Root mean squares of the weights up to ``limit`` of these ``scales``, and the histogram in their units."""
        found = np.zeros_like(scales)
        histograms = np.zeros((max(len(self.starts), 1), N_BINS), np.int64)

        def work(index: int) -> None:
            first = self.starts[index]
            block = float_rows(self.weight, first, self.step)
            sums = np.empty((len(block), self.n_groups))
            counts = np.empty((len(block), self.n_groups), np.int64)
            part = scales[first : first + len(block)]
            moments_kernel(
                block, first, self.kept, part, gains, limit, self.group, sums, counts, histograms[index]
            )
            found[first : first + len(block)] = np.sqrt(sums / np.maximum(counts, 1))

        for_each(work, range(len(self.starts)), self.jobs)
        return found, histograms.sum(0)

    def gains(self, scales: NDArray[np.float64], before: NDArray[np.float64]) -> NDArray[np.float64]:
        """Root mean squares of the columns over the scales, about 1 on average, as float16 can hold them."""
        sums = np.zeros((max(len(self.starts), 1), 2, self.cols))

        def work(index: int) -> None:
            x, kept = self._scaled(self.starts[index], scales)
            sums[index] = (x * x * kept).sum(0), kept.sum(0)

        for_each(work, range(len(self.starts)), self.jobs)
        total, n = sums.sum(0)
        found = np.sqrt(total / np.maximum(n, 1))
        known = found > 0
        if not known.any():
            return before
        found /= np.exp(np.log(found[known]).mean())
        rounded = np.clip(found, 2.0**-10, 2.0**10).astype(np.float16).astype(np.float64)
        return np.where(known, rounded, 1)

    def above(
        self, scales: NDArray[np.float64], gains: NDArray[np.float64], threshold: float
    ) -> NDArray[np.int64]:
        """Flat positions of the kept weights beyond ``threshold``."""
        if not np.isfinite(threshold):
            return NO_POSITIONS
        found: list[NDArray[np.int64]] = [NO_POSITIONS] * len(self.starts)

        def work(index: int) -> None:
            first = self.starts[index]
            x, kept = self._scaled(first, scales)
            found[index] = np.flatnonzero((np.abs(x) > threshold * gains) & kept) + first * self.cols

        for_each(work, range(len(self.starts)), self.jobs)
        return np.concatenate([NO_POSITIONS, *found])

    def _scaled(
        self, first: int, scales: NDArray[np.float64]
    ) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
        """Weights over scales, 0 where that is 0, and which are kept, of a block of rows."""
        block = float_rows(self.weight, first, self.step)
        part = scales[first : first + len(block)]
        inverse = np.where(part > 0, 1 / np.where(part > 0, part, 1), 0)
        spread = np.repeat(inverse, self.group, axis=1)[:, : self.cols] if self.n_groups > 1 else inverse
        return block * spread, unpack(self.kept[first : first + len(block)], self.cols)
