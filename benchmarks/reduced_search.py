"""The M-algorithm: a search of a trellis that keeps few paths, as a measure of what Viterbi's costs and gains."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

from benchmarks.measure import Row
from xorpack.code.scales import scale_values
from xorpack.encoding.quantize.trellis import quantize_trellis

PATHS = (16, 64, 256)
"""Paths that are kept after each step."""


@numba.njit(cache=False)
def least_error(x: Any, levels: Any, window: Any, new: Any, paths: Any) -> Any:
    """Squared error of the columns ``x`` (n, rows) by the best of ``paths`` paths; which it is, is not traced back."""
    branches = 1 << new
    states, costs = np.zeros(paths, np.int64), np.zeros(paths)
    found, totals = np.zeros(paths * branches, np.int64), np.zeros(paths * branches)
    seen, place = np.full(1 << window, -1, np.int64), np.zeros(1 << window, np.int64)
    error, clock = 0.0, 0
    for c in range(x.shape[0]):
        n, states[0], costs[0] = 1, 0, 0.0
        for r in range(x.shape[1]):
            clock += 1
            n_found = 0
            for i in range(n):
                for bits in range(branches):
                    state = states[i] >> new | bits << window - new
                    rest = x[c, r] - levels[r % levels.shape[0], state]
                    total = costs[i] + rest * rest
                    if seen[state] != clock:  # of two paths into one state the better one stays
                        seen[state], place[state] = clock, n_found
                        found[n_found], totals[n_found] = state, total
                        n_found += 1
                    elif total < totals[place[state]]:
                        totals[place[state]] = total
            limit = np.inf if n_found <= paths else np.partition(totals[:n_found], paths - 1)[paths - 1]
            n = 0
            for i in range(n_found):
                if totals[i] <= limit and n < paths:
                    states[n], costs[n] = found[i], totals[i]
                    n += 1
        error += costs[:n].min()
    return error


def rows(rate: int, size: int) -> Iterator[Row]:
    """Rows at ``rate`` bits on ``size`` Gaussian columns of 1024 weights: the M-algorithm in the longest window."""
    weight = np.random.default_rng(7).standard_normal((1024, size), np.float32)
    window = 12
    viterbi, viterbi_speed = _viterbi(weight, rate, window)
    long = quantize_trellis(weight[:, :32], rate=float(rate), window=16, column_gains=False)
    levels = long.network.levels(long.a) * float(scale_values(long.scales).mean())
    columns = np.ascontiguousarray(weight.T, np.float64)
    least_error(columns[:1, :8], levels, 16, rate, 4)
    for paths in PATHS:
        began = time.perf_counter()
        error = least_error(columns, levels, 16, rate, paths) / float((columns**2).sum())
        speed = weight.size / (time.perf_counter() - began)
        yield Row(
            what=f"D of the M-algorithm over Viterbi's at L {window}, R {rate}, L 16, {paths} paths",
            samples=[error / viterbi],
            digits=3,
            note=f"{speed / 1e6:.2f} M weights/s, Viterbi {viterbi_speed / 1e6:.2f}, one thread; without tracing back",
        )


def _viterbi(weight: NDArray[np.float32], rate: int, window: int) -> tuple[float, float]:
    """Relative squared error, and weights a second."""
    how: dict[str, Any] = {"rate": float(rate), "window": window, "column_gains": False}
    quantize_trellis(weight[:, :32], **how)
    began = time.perf_counter()
    found = quantize_trellis(weight, **how).dequantize()
    seconds = time.perf_counter() - began
    return float(((weight - found) ** 2).sum() / (weight**2).sum()), weight.size / seconds
