"""A model's quality on a text or test set, and how far another draw of it could have gone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

DRAWS = 2000

SHARE = 95
"""Percent of the draws that lie within the interval."""

STRETCH = 32
"""Neighbouring tokens that a draw takes or leaves together: their losses are alike."""


@dataclass(frozen=True, slots=True)
class Score:
    """A quantity and its bootstrap interval of ``SHARE`` percent."""

    value: float
    low: float
    high: float

    @classmethod
    def of(cls, n: int, statistic: Callable[[NDArray[np.int64]], Any], seed: int = 0) -> Score:
        """``statistic`` of all of ``n`` items, given as indices, and of draws of ``n`` with repetition.

        The draws are the same for the same ``n``, so that intervals of two settings differ by the settings alone.
        """
        draws = np.random.default_rng(seed).integers(0, n, (DRAWS, n))
        found = [float(statistic(draw)) for draw in draws]
        tail = (100 - SHARE) / 2
        low, high = np.percentile(found, [tail, 100 - tail])
        return cls(float(statistic(np.arange(n))), float(low), float(high))


def perplexity(losses: NDArray[np.float32]) -> Score:
    """Of tokens with these losses, in nats; draws are of stretches of them."""
    stretches = np.array_split(losses.astype(np.float64), -(-len(losses) // STRETCH))
    sums, sizes = np.array([s.sum() for s in stretches]), np.array([len(s) for s in stretches])
    return Score.of(len(stretches), lambda i: np.exp(sums[i].sum() / sizes[i].sum()))


def agreement(found: NDArray[np.floating], given: NDArray[np.float64]) -> Score:
    """Pearson's correlation of two matrices above the diagonal; draws are of texts, a text with itself left out."""
    upper = np.triu_indices(len(given), 1)

    def of(texts: NDArray[np.int64]) -> float:
        i, j = (np.sort(texts)[side] for side in upper)
        apart = i != j
        return float(np.corrcoef(found[i, j][apart], given[i, j][apart])[0, 1])

    return Score.of(len(given), of)
