"""The rate: how many stored words per lane make code + corrections smallest.

A lower rate saves code and costs corrections. Small tensors are encoded whole at every rate on the way
downhill from a guess. Of a large one, two rings are encoded at the guess; where their share of corrections
is near the one that belongs to the best rate, the guess stands, and nothing was lost. Elsewhere (real masks
are not i.i.d.) the guess is corrected by that share.

At the best rate x the code that one more correction saves is worth its bits. With the share of corrections
falling as exp(-x / SOFTNESS), that share is ``SOFTNESS * q / (bits of a correction)``.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from xorpack.code.layout import Layout
from xorpack.code.network import XorNetwork
from xorpack.encoding.rings.elimination import RingCode, encode_ring
from xorpack.encoding.rings.gather import RingSource

SOFTNESS = 0.0045
"""Measured on i.i.d. masks, 12 words of window, S .5 to .9."""

NEAR = (0.1, 3.0)
"""Share of corrections over the best one that is good enough: too high a rate costs little."""

HIGH = 1.012
"""Stored bits per care bit up to which too few corrections are no loss worth another try."""

SMALL = 4096
"""Stored words up to which a tensor is encoded at every rate on the way."""

N_PROBES = 2
"""Rings that a rate is tried on."""

MAX_TRIES = 4
"""Rates that are tried on a large tensor."""


def corrections_bits(n: float, universe: float, q: int) -> float:
    """Size of ``n`` corrections in ``universe`` elements."""
    return n * (math.log2(max(universe / n, 1)) + 2 + q) if n else 0.0


def best_share(q: int) -> float:
    """Share of care positions that are corrections at the best rate."""
    return SOFTNESS * q / (math.log2(1 / SOFTNESS) + 4 + q)


def guess(density: float, q: int) -> float:
    """Stored bits per care bit that suit an i.i.d. mask which keeps ``density`` of the weights."""
    usual = 1.0065 if density > 0.15 else 1.008
    return usual - SOFTNESS / 2 * math.log(best_share(q) / best_share(2))


def choose_m_lane(
    network: XorNetwork, source: RingSource, layout: Layout, n_kept: int, jobs: int
) -> tuple[int, dict[int, RingCode]]:
    """Stored words per lane, and the codes at that rate of those segments that were encoded on the way."""
    n_lanes = layout.n_segments * layout.lanes
    ideal = n_kept / 32 / n_lanes
    if ideal == 0:
        return 0, {}
    q, limit = source.n_planes, layout.n_steps
    m_lane = min(limit, max(1, math.ceil(ideal * guess(n_kept / (32 * n_lanes * limit), q))))
    whole = ideal * n_lanes < SMALL
    probes = range(layout.n_segments if whole else min(N_PROBES, layout.n_segments))
    rings = [source.ring(layout, segment) for segment in probes]
    n_care = sum(int(np.bitwise_count(care).sum(dtype=np.int64)) for care, _ in rings)
    tried: dict[int, dict[int, RingCode]] = {}

    def wrong(m: int) -> int:
        if m not in tried:
            with ThreadPoolExecutor(jobs) as pool:
                codes = pool.map(lambda ring: encode_ring(network, ring[0], ring[1], m), rings)
                tried[m] = dict(zip(probes, codes, strict=True))
        return sum(len(code.positions) for code in tried[m].values())

    if whole:

        def cost(m: int) -> float:
            return 32 * q * n_lanes * m + corrections_bits(wrong(m), 32 * n_lanes * limit, q)

        best = _walk(cost, m_lane, max(1, round(ideal * 0.002)), limit)
        return best, tried[best]
    for _ in range(MAX_TRIES):
        share = wrong(m_lane) / max(n_care, 1) / best_share(q)
        if share <= NEAR[1] and (share >= NEAR[0] or m_lane <= HIGH * ideal):
            break
        # A far miss is no measure of distance: go a few softnesses at a time.
        step = SOFTNESS * math.log(min(max(share, 1 / 30), 30))
        better = min(limit, max(1, round(m_lane + ideal * step)))
        if better in tried:
            break
        m_lane = better
    wrong(m_lane)
    return m_lane, tried[m_lane]


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
        if at(x - step) < at(x):
            x -= step
        elif at(x + step) < at(x):
            x += step
        else:
            return x
