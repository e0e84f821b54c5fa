"""Laws of every encoder of rings: one body, an independent decoder."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xorpack.code.network import XorNetwork
from xorpack.encoding.rings import elimination, viterbi
from xorpack.encoding.rings.elimination import RingCode

ENCODERS: dict[str, Callable[..., RingCode]] = {
    "elimination": elimination.encode_ring,
    "elimination-border": partial(elimination.encode_ring, large=1 << 62),
    "elimination-fixed": partial(elimination.encode_ring, large=0),
    "viterbi": viterbi.encode_ring,
}

NETWORKS: dict[str, XorNetwork] = {
    **{f"qc{w}": XorNetwork.quasi_cyclic(window=w, n_taps=min(6, 8 * w), n_rows=5) for w in (1, 2, 3, 7)},
    **{f"qc{w}": XorNetwork.quasi_cyclic(window=w) for w in (8, 12, 17, 33)},
    "turned": XorNetwork.turned(),
    "turned6": XorNetwork.turned(window=6, n_rows=16, hold=2, seed=5),
    "turned16": XorNetwork.turned(window=16, n_rows=496, hold=16),
    "qc-taps1": XorNetwork.quasi_cyclic(window=4, n_taps=1, n_rows=3),
    "qc-taps9": XorNetwork.quasi_cyclic(window=5, n_taps=9, n_rows=1, seed=77),
    **{
        f"dense{n_in}-{n_out}-{n_s}": XorNetwork.dense(n_in=n_in, n_out=n_out, n_s=n_s)
        for n_in, n_out, n_s in (
            (8, 80, 0),
            (3, 7, 0),
            (8, 24, 1),
            (4, 9, 1),
            (2, 5, 2),
            (3, 3, 2),
            (1, 2, 5),
        )
    },
    "dense-ragged": XorNetwork(family="dense", window=7, n_rows=10, n_in=3, n_out=10),
    "dense-wide": XorNetwork.dense(n_in=2, n_out=150, n_s=1),
    "sparse": XorNetwork.sparse(n_in=6, n_out=11),
    "sparse-n_s": XorNetwork.sparse(n_in=3, n_out=6, n_s=1, n_taps=4),
    "identity": XorNetwork.identity(),
}

CASES = [
    pytest.param(encoder, name, id=f"{encoder}-{name}")
    for encoder in ENCODERS
    for name in NETWORKS
    if encoder != "viterbi" or not NETWORKS[name].any_rate
]


def decode(network: XorNetwork, code: np.ndarray[Any, Any], lanes: int, n_steps: int) -> Any:
    """The decoder's equation, word by word: uint32 (q, lanes, n_steps)."""
    q, m = code.shape
    m_lane = m // lanes
    offsets, rotations, counts = network.taps()
    starts = network.start(np.arange(n_steps, dtype=np.int64), m_lane, n_steps)
    out = np.zeros((q, lanes, n_steps), np.uint64)
    for lane in range(lanes if m else 0):
        for i in range(n_steps):
            row = i % network.n_rows
            for k in range(counts[row]):
                word = code[:, (lane * m_lane + int(starts[i]) + int(offsets[row, k])) % m].astype(np.uint64)
                rotation = int(rotations[row, k])
                out[:, lane, i] ^= (word << rotation | word >> (32 - rotation)) & 0xFFFFFFFF
    return out.astype(np.uint32)


def wanted(seed: int, q: int, lanes: int, n_steps: int, density: float) -> tuple[Any, Any]:
    """Random ``(care, planes)``; planes hold rubbish outside care, which encoders must not read."""
    rng = np.random.default_rng(seed)
    bits = rng.random((lanes, n_steps, 32)) < density
    care = np.packbits(bits, axis=-1, bitorder="little").view("<u4")[..., 0].astype(np.uint32)
    return care, rng.integers(0, 1 << 32, (q, lanes, n_steps), np.uint32)


def check(network: XorNetwork, care: Any, planes: Any, m_lane: int, encode: Callable[..., RingCode]) -> None:
    q, lanes, n_steps = planes.shape
    before = care.copy(), planes.copy()
    ring = encode(network, care, planes, m_lane)
    assert (care == before[0]).all()
    assert (planes == before[1]).all()
    assert (ring.code.dtype, ring.code.shape) == (np.uint32, (q, lanes * m_lane))
    assert (ring.positions.dtype, ring.values.dtype) == (np.int64, np.uint64)
    assert ring.positions.shape == ring.values.shape
    assert (np.diff(ring.positions) > 0).all()
    assert (ring.values != 0).all()
    wrong = (decode(network, ring.code, lanes, n_steps) ^ planes) & care
    bits = np.unpackbits(np.ascontiguousarray(wrong, "<u4").view(np.uint8), axis=-1, bitorder="little")
    expected = np.zeros(32 * lanes * n_steps, np.uint64)
    for p in range(q):
        expected |= bits[p].reshape(-1).astype(np.uint64) << p
    assert (np.flatnonzero(expected) == ring.positions).all()
    assert (expected[ring.positions] == ring.values).all()
    again = encode(network, np.asfortranarray(care), np.asfortranarray(planes), m_lane)
    for one, other in zip(ring, again, strict=True):
        assert (one == other).all()


def code_words(network: XorNetwork, n_steps: int, rate: float) -> int:
    return network.n_code_words(n_steps, rate)


@pytest.mark.parametrize(("encoder", "name"), CASES)
@pytest.mark.parametrize("lanes", [1, 2, 3, 4])
def test_decoding_gives_every_care_bit_outside_the_corrections(encoder: str, name: str, lanes: int) -> None:
    network = NETWORKS[name]
    n_steps = 61
    care, planes = wanted(lanes, 3, lanes, n_steps, 0.2)
    check(network, care, planes, code_words(network, n_steps, 0.21), ENCODERS[encoder])


@pytest.mark.parametrize(("encoder", "name"), CASES)
@pytest.mark.parametrize("n_steps", [1, 2, 5])
@pytest.mark.parametrize("lanes", [1, 3])
def test_rings_smaller_than_the_window(encoder: str, name: str, n_steps: int, lanes: int) -> None:
    network = NETWORKS[name]
    care, planes = wanted(n_steps, 2, lanes, n_steps, 0.4)
    for rate in (0, 0.2, 0.5, 1):
        check(network, care, planes, code_words(network, n_steps, rate), ENCODERS[encoder])
    check(network, care, planes, 0, ENCODERS[encoder])


@pytest.mark.parametrize(("encoder", "name"), CASES)
def test_all_no_and_one_care_bits(encoder: str, name: str) -> None:
    network = NETWORKS[name]
    n_steps = 23
    m_lane = code_words(network, n_steps, 0.6)
    everything, planes = wanted(5, 2, 2, n_steps, 1.1)
    nothing = np.zeros_like(everything)
    one = nothing.copy()
    one[1, 17] = 1 << 31
    for care in (everything, nothing, one):
        check(network, care, planes, m_lane, ENCODERS[encoder])
    assert not ENCODERS[encoder](network, nothing, planes, m_lane).code.any()


@pytest.mark.parametrize("encoder", ENCODERS)
@pytest.mark.parametrize("q", [0, 1, 2, 3, 4, 5, 6, 7, 8, 32, 64])
def test_any_number_of_planes(encoder: str, q: int) -> None:
    network = NETWORKS["dense4-9-1"]
    care, planes = wanted(q, q, 2, 40, 0.4)
    check(network, care, planes, network.n_code_words(40, 1), ENCODERS[encoder])


@pytest.mark.parametrize(("encoder", "name"), CASES)
def test_nothing_to_encode(encoder: str, name: str) -> None:
    care, planes = wanted(0, 2, 3, 0, 0.5)
    check(NETWORKS[name], care, planes, 0, ENCODERS[encoder])


@pytest.mark.parametrize("encoder", [name for name in ENCODERS if name != "elimination-fixed"])
def test_identity_stores_the_care_bits(encoder: str) -> None:
    care, planes = wanted(8, 2, 2, 40, 0.5)
    ring = ENCODERS[encoder](XorNetwork.identity(), care, planes, 40)
    assert ring.positions.size == 0
    assert (ring.code.reshape(planes.shape) == planes & care).all()


@st.composite
def quasi_cyclic(draw: st.DrawFn) -> XorNetwork:
    window = draw(st.integers(1, 40))
    return XorNetwork.quasi_cyclic(
        window=window,
        n_taps=draw(st.integers(1, min(10, 32 * window))),
        n_rows=draw(st.integers(1, 20)),
        seed=draw(st.integers(0, (1 << 64) - 1)),
    )


@st.composite
def turned(draw: st.DrawFn) -> XorNetwork:
    return XorNetwork.turned(
        window=draw(st.integers(6, 16)),
        n_rows=16 * draw(st.integers(1, 31)),
        hold=draw(st.sampled_from((1, 2, 4, 8, 16))),
        seed=draw(st.integers(0, (1 << 64) - 1)),
    )


@st.composite
def blocks(draw: st.DrawFn) -> XorNetwork:
    n_in, n_s = draw(st.integers(1, 4)), draw(st.integers(0, 2))
    n_out, seed = draw(st.integers(1, 20)), draw(st.integers(0, (1 << 64) - 1))
    if draw(st.booleans()):
        return XorNetwork.dense(n_in=n_in, n_out=n_out, n_s=n_s, seed=seed)
    n_taps = draw(st.integers(1, n_in * (n_s + 1)))
    return XorNetwork.sparse(n_in=n_in, n_out=n_out, n_s=n_s, n_taps=n_taps, seed=seed)


@settings(derandomize=True, deadline=None, max_examples=150)
@given(data=st.data(), encoder=st.sampled_from(sorted(ENCODERS)))
def test_laws_hold_for_any_network_and_ring(data: st.DataObject, encoder: str) -> None:
    network = data.draw(blocks() if encoder == "viterbi" else quasi_cyclic() | turned() | blocks())
    lanes, n_steps = data.draw(st.integers(1, 4)), data.draw(st.integers(0, 40))
    q, seed = data.draw(st.integers(1, 4)), data.draw(st.integers(0, 1 << 32))
    density, rate = data.draw(st.floats(0, 1)), data.draw(st.floats(0, 1))
    care, planes = wanted(seed, q, lanes, n_steps, density)
    check(network, care, planes, network.n_code_words(n_steps, rate), ENCODERS[encoder])
