"""The rate: how many stored words per lane make code + corrections smallest.

With ``s`` stored bits more than care bits, a plane leaves about ``softness * log(1 + exp(-s / softness))`` of them
unsolved: all that are too many, and few more. So the rings of a small tensor, or two of a large one's, are encoded at
the rate which that calls best. The corrections found there say by how many bits the tensor is off (real masks are not
i.i.d.), and another rate is tried only while what it saves, by the curve so moved, is worth it; a try that has
more corrections than it may is given up.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from xorpack.code.layout import Layout
from xorpack.code.network import XorNetwork
from xorpack.encoding.rings.elimination import GivenUpError, RingCode, encode_ring
from xorpack.encoding.rings.gather import RingSource
from xorpack.vector.threads import for_each

if TYPE_CHECKING:
    from xorpack.encoding.rings.elimination_gpu import DeviceRings

SOFTNESS = 0.0045
"""In care bits; measured on i.i.d. masks, 12 words of window, S .5 to .9."""

WORTH = 0.004
"""Share of the bits that another try is to save."""

SMALL = 4096
"""Stored words up to which all rings of a tensor are tried."""

N_PROBES = 2
"""Rings that a rate is tried on."""

MAX_TRIES = 5
"""Rates that are tried at the most."""


def corrections_bits(n: float, universe: float, q: int) -> float:
    """Size of ``n`` corrections in ``universe`` elements."""
    return n * (math.log2(max(universe / n, 1)) + 2 + q) if n else 0.0


@dataclass(frozen=True, slots=True)
class CorrectionCurve:
    """Corrections by stored words per lane, and what both take.

    ``q`` planes of ``n_care`` weights, in ``n_lanes`` lanes of up to ``limit`` words; ``off``: bits that the tensor
    needs beyond an i.i.d. one.
    """

    q: int
    n_care: int
    n_lanes: int
    limit: int
    off: float = 0.0

    def corrections(self, m: int) -> float:
        """How many are foretold: no fewer than those of all bits that are too many."""
        spare = 32 * self.n_lanes * m - self.n_care
        soft = SOFTNESS * self.n_care
        x = (self.off - spare) / soft
        return self._some * max(soft * (max(x, 0.0) + math.log1p(math.exp(-abs(x)))), -spare)

    def moved(self, m: int, found: int) -> CorrectionCurve:
        """The curve through ``found`` corrections at ``m``."""
        soft = SOFTNESS * self.n_care
        y = max(found, 0.5) / self._some / soft
        off = 32.0 * self.n_lanes * m - self.n_care + soft * (y + math.log(-math.expm1(-y)))
        return replace(self, off=off)

    def bits(self, m: int, n_corrections: float) -> float:
        """Of the code and the corrections."""
        universe = 32 * self.n_lanes * self.limit
        return 32 * self.q * self.n_lanes * m + corrections_bits(n_corrections, universe, self.q)

    def best(self) -> tuple[int, float]:
        """The words per lane that take the fewest bits, and how many."""
        ideal = (self.n_care + max(self.off, 0)) / 32 / self.n_lanes
        first = min(max(1, int(ideal * 0.97) - 1), self.limit)
        near = range(first, min(self.limit, math.ceil(ideal * 1.03) + 1) + 1)
        return min(((m, self.bits(m, self.corrections(m))) for m in near), key=lambda pair: pair[::-1])

    @property
    def _some(self) -> float:
        """Share of the unsolved bits that are wrong in a plane."""
        return 1 - 2.0**-self.q


def choose_m_lane(
    network: XorNetwork,
    source: RingSource,
    layout: Layout,
    n_kept: int,
    jobs: int,
    on_device: DeviceRings | None = None,
) -> tuple[int, dict[int, RingCode]]:
    """Stored words per lane, and the codes at that rate of those segments that were encoded on the way.

    ``on_device``: the same rings, where they are to be encoded there.
    """
    n_lanes = layout.n_segments * layout.lanes
    if n_kept == 0:
        return 0, {}
    curve = CorrectionCurve(source.n_planes, n_kept, n_lanes, layout.n_steps)
    whole = n_kept < 32 * SMALL
    probes = range(layout.n_segments if whole else min(N_PROBES, layout.n_segments))
    if on_device is None:
        rings = [source.ring(layout, segment) for segment in probes]
        n_care = sum(int(np.bitwise_count(care).sum(dtype=np.int64)) for care, _ in rings)
    else:
        n_care = int(on_device.counts[list(probes)].sum())
    tried: dict[int, dict[int, RingCode]] = {}
    costs: dict[int, float] = {}
    m, _ = curve.best()
    while True:
        lost = None if not tried else _lost(curve, m, min(costs.values()), n_kept / max(n_care, 1))
        try:
            if on_device is None:
                codes = for_each(partial(_encode, network, m, lost), rings, jobs)
            else:
                codes = list(on_device.encode(probes, m, most=lost))
        except GivenUpError:
            least = min(costs, key=lambda m: (costs[m], m))
            return least, tried[least]
        tried[m] = dict(zip(probes, codes, strict=True))
        found = sum(len(code.positions) for code in tried[m].values())
        n_all = round(found * n_kept / max(n_care, 1))
        costs[m] = curve.bits(m, n_all)
        least = min(costs, key=lambda m: (costs[m], m))
        m, foretold = curve.moved(m, n_all).best()
        if not (n_all or any(code.code.any() for code in tried[least].values())):
            m, foretold = 1, 0.0  # nothing but zeros: no word is needed
        if m in tried or len(tried) == MAX_TRIES or foretold > (1 - WORTH) * costs[least]:
            return least, tried[least]


def _lost(curve: CorrectionCurve, m: int, least: float, scale: float) -> int | None:
    """Corrections of rings from which on ``m`` takes more than ``least`` bits, and no other try would be worth it.

    ``scale``: corrections of the tensor for each of the rings'. None: that cannot be said.
    """
    low, high = 0, curve.n_care
    while low < high:
        found = (low + high) // 2
        if curve.bits(m, round(found * scale)) > least:
            high = found
        else:
            low = found + 1
    for found in (low, 2 * low):
        if curve.moved(m, round(found * scale)).best()[1] > (1 - WORTH) * least:
            return found
    return None


def _encode(
    network: XorNetwork, m: int, most: int | None, ring: tuple[NDArray[np.uint32], NDArray[np.uint32]]
) -> RingCode:
    return encode_ring(network, *ring, m, most=most)
