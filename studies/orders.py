"""Orders in which a matrix's words can be coded, and how evenly each spreads the kept weights."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from xorpack.code.layout import Layout
from xorpack.code.words import Words

ORDERS: Mapping[str, str] = {
    "in rows": "row after row, one lane",
    "rows permuted": "rows a golden section apart, one lane",
    "lanes + skew": "the default: many lanes, chunks turned from row to row, rows permuted",
}
"""Names, and what they mean."""

WINDOW_WEIGHTS = 4096
"""Weights in coding order over which kept ones are counted."""


def layout(order: str, rows: int, cols: int, n_kept: int) -> Layout:
    """The order of that name for a tensor; see :mod:`xorpack.code.layout`."""
    if order == "lanes + skew":
        return Layout.choose(rows, cols, n_kept)
    one = Layout.choose(rows, cols, n_kept, lanes=1)
    return one if order == "rows permuted" else replace(one, row_stride=1)


def window_counts(mask: Words, order: Layout, n_weights: int = WINDOW_WEIGHTS) -> NDArray[np.int64]:
    """Kept weights in each stretch of ``n_weights`` as one lane codes them: what a window meets.

    Lanes follow one another; words that are absent are left out, as is the rest that fills no stretch.
    """
    index = order.word_index(np.arange(order.total_steps, dtype=np.int64))  # (steps, lanes)
    flat = index.T.reshape(-1)
    ones = np.bitwise_count(mask.reshape(-1)[flat[flat >= 0]]).astype(np.int64)
    words = n_weights // 32
    counts: NDArray[np.int64] = ones[: ones.size // words * words].reshape(-1, words).sum(axis=1)
    return counts


def spread(counts: NDArray[np.int64], n_weights: int = WINDOW_WEIGHTS) -> float:
    """Standard deviation of :func:`window_counts` over that of independent weights; NaN of fewer than 8."""
    p = float(counts.mean()) / n_weights if counts.size >= 8 else 0.0
    return float(counts.std()) / math.sqrt(n_weights * p * (1 - p)) if 0 < p < 1 else math.nan
