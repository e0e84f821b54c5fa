"""How large an experiment is: what Viterbi can afford, and how many streams elimination needs."""

from __future__ import annotations

STREAMS = 4
"""Streams of 32 that elimination is measured on where streams never meet."""

MIN_STEPS, MAX_STEPS = 128, 1024
"""Steps of a trellis. The first n_s groups of stored bits are fixed: fewer steps would show that.

Without memory (n_s = 0) nothing is fixed, and half of the steps do.
"""


def step_seconds(n_in: int, n_s: int) -> float:
    """Rough time of one step of 32 streams by Viterbi, measured on one core of a shared machine."""
    return 32 * 2.0 ** ((n_s + 1) * n_in) * (3.5e-11 if n_s else 6e-10)


def fewest_steps(n_s: int) -> int:
    """Steps of a trellis at the least."""
    return MIN_STEPS if n_s else MIN_STEPS // 2


def affordable_steps(n_in: int, n_s: int, seconds: float) -> int:
    """Steps of a trellis that an estimate of ``seconds`` allows, within what is sensible."""
    affordable = int(seconds / step_seconds(n_in, n_s)) // (1 if n_s else 2)
    return max(fewest_steps(n_s), min(MAX_STEPS, affordable))
