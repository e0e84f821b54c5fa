"""The rate: how many stored words per lane make code + corrections smallest.

A lower rate saves code and costs corrections. The cost has one valley, so it is walked downhill from a
guess. Small tensors are encoded whole at every rate that is tried; of a large one, a few lanes are.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from xorpack.encoding.elimination import LARGE_RING, RingCode, encode_ring
from xorpack.encoding.gather import Source
from xorpack.layout import Layout
from xorpack.network import XorNetwork

GUESS = 1.008
"""Stored bits per care bit where the search begins."""

SAMPLE_CODE = 2048
"""Stored words of a sample, about."""

N_SAMPLES = 2
"""Segments that a sample is taken from."""


def corrections_bits(n: float, universe: float, q: int) -> float:
    """Size of ``n`` corrections in ``universe`` elements."""
    return n * (math.log2(max(universe / n, 1)) + 2 + q) if n else 0.0


def choose_m_lane(
    network: XorNetwork, source: Source, layout: Layout, n_kept: int
) -> tuple[int, list[RingCode] | None]:
    """Stored words per lane, and the rings' codes at that rate where they were all encoded on the way."""
    n_lanes = layout.n_segments * layout.lanes
    ideal = n_kept / 32 / n_lanes
    if ideal == 0:
        return 0, None
    q = source.n_planes
    sampled = ideal * layout.lanes >= LARGE_RING
    encoded: dict[int, list[RingCode]] = {}
    if sampled:
        lanes = max(1, min(layout.lanes, round(SAMPLE_CODE / ideal)))
        step = layout.n_segments / N_SAMPLES
        segments = sorted({int(step * (s + 0.5)) for s in range(N_SAMPLES)})
    else:
        lanes, segments = layout.lanes, list(range(layout.n_segments))
    rings: list[tuple[NDArray[np.uint32], NDArray[np.uint32]]] = []
    for segment in segments:
        care, planes = source.ring(layout, segment)
        rings.append((care[:lanes], planes[:, :lanes]))
    share = len(segments) * lanes / n_lanes
    if sampled:  # the sample may hold more or fewer care bits than its share
        care_bits = sum(int(np.bitwise_count(care).sum(dtype=np.int64)) for care, _ in rings)
        scale = n_kept * share / max(care_bits, 1)
    else:
        scale = 1.0

    def cost(m_lane: int) -> float:
        sample_m = max(1, round(m_lane / scale))
        codes = [encode_ring(network, *ring, sample_m, large=1 << 62) for ring in rings]
        if not sampled:
            encoded[m_lane] = codes
        wrong = sum(len(code.positions) for code in codes) / share
        return 32 * q * n_lanes * m_lane + corrections_bits(wrong, 32 * n_lanes * layout.n_steps, q)

    limit = layout.n_steps
    start = min(limit, max(1, math.ceil(ideal * GUESS)))
    best = _walk(cost, start, max(1, round(ideal * 0.002)), limit)
    return best, encoded.get(best)


def _walk(cost: Callable[[int], float], start: int, step: int, limit: int) -> int:
    """The lowest of ``cost`` on ``start + step * k`` within 1..limit, walking downhill from ``start``."""
    known: dict[int, float] = {}

    def at(x: int) -> float:
        if not 1 <= x <= limit:
            return math.inf
        if x not in known:
            known[x] = cost(x)
        return known[x]

    x = start
    while True:
        if at(x + step) < at(x):
            x += step
        elif at(x - step) < at(x):
            x -= step
        else:
            return x
