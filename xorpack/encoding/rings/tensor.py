"""All rings of a tensor: rate, codes, corrections by element."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from xorpack.code.corrections import NO_CORRECTIONS, Corrections
from xorpack.code.layout import Layout
from xorpack.code.network import XorNetwork
from xorpack.encoding.rings import elimination, viterbi
from xorpack.encoding.rings.elimination import RingCode
from xorpack.encoding.rings.gather import ElementSource, RingSource
from xorpack.encoding.rings.rate import choose_m_lane
from xorpack.vector.threads import for_each

if TYPE_CHECKING:
    from xorpack.encoding.rings.elimination_gpu import DeviceRings

RingEncoder = Callable[[XorNetwork, NDArray[np.uint32], NDArray[np.uint32], int], RingCode]

ENCODERS: dict[str, RingEncoder] = {
    "elimination": elimination.encode_ring,
    "viterbi": viterbi.encode_ring,
}


def encode_planes(
    network: XorNetwork,
    source: RingSource,
    layout: Layout,
    n_kept: int,
    encoder: str,
    rate: float | None,
    jobs: int,
    on_device: DeviceRings | None = None,
) -> tuple[NDArray[np.uint32], Corrections]:
    """``(code, corrections)`` of all rings; ``on_device``: the same ones, where they are to be encoded there."""
    q = source.n_planes
    rings: dict[int, RingCode] = {}
    if n_kept == 0 or q == 0:
        m_lane = 0
    elif rate is None and network.any_rate:
        m_lane, rings = choose_m_lane(network, source, layout, n_kept, jobs, on_device)
    else:
        m_lane = max(1, network.n_code_words(layout.n_steps, 1.0 if rate is None else rate))
    code = np.zeros((q, layout.n_segments, m_lane, layout.lanes), np.uint32)
    found: list[Corrections] = [NO_CORRECTIONS]

    def place(segment: int) -> Corrections:
        if segment in rings:
            ring = rings[segment]
        elif network.family == "identity" and isinstance(source, ElementSource):
            source.put(layout, segment, code)
            return NO_CORRECTIONS
        elif network.family == "identity":
            care, planes = source.ring(layout, segment)
            nothing = np.zeros(0, np.int64)
            ring = RingCode((planes & care).reshape(q, -1), nothing, nothing.astype(np.uint64))
        else:
            ring = ENCODERS[encoder](network, *source.ring(layout, segment), m_lane)
        code[:, segment] = ring.code.reshape(q, layout.lanes, m_lane).transpose(0, 2, 1)
        return _to_elements(ring, layout, segment)

    if m_lane and on_device is not None:
        others = [segment for segment in range(layout.n_segments) if segment not in rings]
        rings |= zip(others, on_device.encode(others, m_lane), strict=True)
    if m_lane:
        found += for_each(place, range(layout.n_segments), jobs)
    positions = np.concatenate([part.positions for part in found])
    values = np.concatenate([part.values for part in found])
    order = np.argsort(positions, kind="stable")
    return code, Corrections(positions[order], values[order])


def _to_elements(ring: RingCode, layout: Layout, segment: int) -> Corrections:
    """Positions in the ring to element indices."""
    if not ring.positions.size:
        return NO_CORRECTIONS
    word, bit = ring.positions >> 5, ring.positions & 31
    lane, step = word // layout.n_steps, word % layout.n_steps
    flat = layout.word_index(segment * layout.n_steps + step)[np.arange(word.size), lane]
    row, chunk = flat // max(layout.chunks, 1), flat % max(layout.chunks, 1)
    return Corrections(row * layout.cols + 32 * chunk + bit, ring.values)
