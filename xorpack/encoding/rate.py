"""The rate: how many stored words per lane make code + corrections smallest.

A lower rate saves code and costs corrections. Small tensors are encoded whole at every rate on the way
downhill from a guess. Of a large one, the first ring is encoded at the guess; where the share of
corrections is near the one that belongs to the best rate, the guess stands, and nothing was lost.
Elsewhere (real masks are not i.i.d.) the walk runs on some lanes of two rings.

At the best rate x the code that one more correction saves is worth its bits. With the share of
corrections falling as exp(-x / SOFTNESS), that share is ``SOFTNESS * q / (bits of a correction)``.
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

SOFTNESS = 0.0045
"""Measured on i.i.d. masks, 12 words of window, S .5 to .9: see benchmarks."""

NEAR = 3.0
"""Factor within which the share of corrections may miss the best one."""

SAMPLE_CODE = 4096
"""Stored words of a sample of one ring, about."""

Ring = tuple[NDArray[np.uint32], NDArray[np.uint32]]


def corrections_bits(n: float, universe: float, q: int) -> float:
    """Size of ``n`` corrections in ``universe`` elements."""
    return n * (math.log2(max(universe / n, 1)) + 2 + q) if n else 0.0


def guess(density: float) -> float:
    """Stored bits per care bit that suit an i.i.d. mask which keeps ``density`` of the weights."""
    return 1.0065 if density > 0.15 else 1.008


def choose_m_lane(
    network: XorNetwork, source: Source, layout: Layout, n_kept: int
) -> tuple[int, dict[int, RingCode]]:
    """Stored words per lane, and the codes at that rate of those segments that were encoded on the way."""
    n_lanes = layout.n_segments * layout.lanes
    ideal = n_kept / 32 / n_lanes
    if ideal == 0:
        return 0, {}
    q, limit = source.n_planes, layout.n_steps
    start = min(limit, max(1, math.ceil(ideal * guess(n_kept / (32 * n_lanes * limit)))))
    step = max(1, round(ideal * 0.002))
    if ideal * layout.lanes < LARGE_RING:
        rings = [source.ring(layout, segment) for segment in range(layout.n_segments)]
        encoded: dict[int, list[RingCode]] = {}

        def cost(m_lane: int) -> float:
            encoded[m_lane] = [encode_ring(network, *ring, m_lane) for ring in rings]
            wrong = sum(len(code.positions) for code in encoded[m_lane])
            return 32 * q * n_lanes * m_lane + corrections_bits(wrong, 32 * n_lanes * limit, q)

        best = _walk(cost, start, step, limit)
        return best, dict(enumerate(encoded[best]))
    care, planes = source.ring(layout, 0)
    first = encode_ring(network, care, planes, start)
    n_care = max(int(np.bitwise_count(care).sum(dtype=np.int64)), 1)
    share = len(first.positions) / n_care
    target = SOFTNESS * q / (math.log2(1 / SOFTNESS) + 4 + q)
    if start == limit or target / NEAR <= share <= target * NEAR:
        return start, {0: first}
    samples = [_sample(source, layout, segment, ideal) for segment in {0, layout.n_segments // 2}]
    total = sum(int(np.bitwise_count(ring[0]).sum(dtype=np.int64)) for ring, _ in samples)

    def sampled_cost(m_lane: int) -> float:
        codes = [
            encode_ring(network, *ring, max(1, round(m_lane * scale)), large=1 << 62)
            for ring, scale in samples
        ]
        wrong = sum(len(code.positions) for code in codes) * n_kept / max(total, 1)
        return 32 * q * n_lanes * m_lane + corrections_bits(wrong, 32 * n_lanes * limit, q)

    best = _walk(sampled_cost, start, step, limit)
    return best, {0: first} if best == start else {}


def _sample(source: Source, layout: Layout, segment: int, ideal: float) -> tuple[Ring, float]:
    """Some lanes of a ring, and how dense they are beside the whole ring."""
    lanes = max(1, min(layout.lanes, round(SAMPLE_CODE / ideal)))
    care, planes = source.ring(layout, segment)
    part, whole = (int(np.bitwise_count(bits).sum(dtype=np.int64)) for bits in (care[:lanes], care))
    return (care[:lanes], planes[:, :lanes]), part * layout.lanes / (lanes * whole) if whole else 1.0


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
