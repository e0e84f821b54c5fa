"""Viterbi against brute force, against elimination, and against its recorded efficiency."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from xorpack.code.network import XorNetwork
from xorpack.encoding.rings import elimination, viterbi
from xorpack.encoding.rings import viterbi_kernels as trellis
from xorpack.encoding.rings.elimination import RingCode
from xorpack.errors import ParameterError


def random_ring(seed: int, q: int, lanes: int, n_steps: int, density: float) -> tuple[Any, Any]:
    rng = np.random.default_rng(seed)
    bits = rng.random((lanes, n_steps, 32)) < density
    care = np.packbits(bits, axis=-1, bitorder="little").view("<u4")[..., 0].astype(np.uint32)
    return care, rng.integers(0, 1 << 32, (q, lanes, n_steps), np.uint32)


def n_wrong(ring: RingCode) -> int:
    return int(np.bitwise_count(ring.values).sum())


def least_unmatched(network: XorNetwork, care: Any, plane: Any, m_lane: int, fixed: int) -> int:
    """Sum over streams of the least unmatched bits over all codes whose ``fixed`` first words are 0."""
    lanes, n_steps = care.shape
    m = lanes * m_lane
    offsets, _, counts = network.taps()
    starts = network.start(np.arange(n_steps, dtype=np.int64), m_lane, n_steps)
    free = np.arange(1 << max(m - fixed, 0))
    codes = np.zeros((max(m, 1), free.size), bool)  # (word, candidate)
    for a in range(fixed, m):
        codes[a] = free >> (a - fixed) & 1
    unmatched = np.zeros((32, free.size), np.int64)
    for lane in range(lanes):
        for i in range(n_steps):
            out = np.zeros(free.size, bool)
            for k in range(counts[i % network.n_rows]):
                at = lane * m_lane + int(starts[i]) + int(offsets[i % network.n_rows, k])
                out ^= codes[at % m] if m else False
            for bit in range(32):
                if care[lane, i] >> bit & 1:
                    unmatched[bit] += out != bool(plane[lane, i] >> bit & 1)
    return int(unmatched.min(axis=1).sum())


@pytest.mark.parametrize(
    ("n_in", "n_out", "window", "lanes", "n_steps"),
    [
        (3, 7, 3, 1, 7),
        (8, 17, 8, 1, 17),
        (1, 2, 2, 1, 20),
        (1, 3, 4, 2, 14),
        (2, 5, 4, 2, 12),
        (2, 4, 6, 1, 22),
        (2, 4, 5, 1, 22),
        (3, 8, 6, 3, 9),
        (4, 9, 8, 1, 26),
        (4, 90, 8, 1, 260),
        (1, 1, 6, 1, 12),
        (2, 5, 6, 1, 9),
        (2, 3, 6, 2, 3),
        (1, 4, 3, 1, 1),
        (2, 70, 2, 1, 131),
    ],
)
@pytest.mark.parametrize("density", [0.1, 0.5, 1.1])
def test_no_code_leaves_fewer_bits_unmatched(
    n_in: int, n_out: int, window: int, lanes: int, n_steps: int, density: float
) -> None:
    network = XorNetwork(family="dense", window=window, n_rows=n_out, n_in=n_in, n_out=n_out, seed=3)
    m_lane = network.n_code_words(n_steps, 1)
    care, planes = random_ring(n_steps, 1, lanes, n_steps, density)
    fixed = min(n_in * (-(-window // n_in) - 1), lanes * m_lane)
    ring = viterbi.encode_ring(network, care, planes, m_lane)
    assert n_wrong(ring) == least_unmatched(network, care, planes[0], m_lane, fixed)
    assert not ring.code[:, :fixed].any()


@pytest.mark.parametrize("n_in", [1, 3, 8])
def test_exhaustive_search_is_never_worse_than_elimination(n_in: int) -> None:
    for seed in range(5):
        network = XorNetwork.dense(n_in=n_in, n_out=3 * n_in, seed=seed)
        care, planes = random_ring(seed, 2, 2, 50, 0.4)
        m_lane = network.n_code_words(50, 1)
        best = viterbi.encode_ring(network, care, planes, m_lane)
        assert n_wrong(best) <= n_wrong(elimination.encode_ring(network, care, planes, m_lane))


def test_both_ways_through_a_step_agree() -> None:
    rng = np.random.default_rng(11)
    n_in, c, n_rest = 3, 5, 4
    first, rest, last = (rng.integers(0, 1 << c, (1, n), np.uint64) for n in (8, n_rest, 8))
    target = rng.integers(0, 1 << c, 1, np.uint64)
    cost = rng.integers(0, 4, 8 * n_rest, np.uint32)
    results = []
    for step in (trellis.step_by_transform, trellis.step_by_branches):
        following, survivors = np.zeros(8 * n_rest, np.uint32), np.zeros(8 * n_rest, np.uint8)
        keys = np.zeros(2 << c, np.uint32)
        if step is trellis.step_by_transform:
            step(cost, n_in, c, first, rest, last, target, keys, 2, following, survivors)
        else:
            step(cost, n_in, 1, first, rest, last, target, keys, following, survivors)
        results.append((following, survivors))
    for r in range(n_rest):
        for z in range(8):
            sums = [
                (int(cost[8 * r + x]) + int(first[0, x] ^ rest[0, r] ^ last[0, z] ^ target[0]).bit_count(), x)
                for x in range(8)
            ]
            for following, survivors in results:
                assert (following[z * n_rest + r], survivors[z * n_rest + r]) == min(sums)


def test_ties_go_to_the_lowest_value() -> None:
    network = XorNetwork.sparse(n_in=4, n_out=4, n_taps=4)  # every output is the parity of its group
    ones = np.full((1, 1, 4), 0xFFFFFFFF, np.uint32)
    ring = viterbi.encode_ring(network, ones[0], ones, 4)
    assert ring.code.tolist() == [[0xFFFFFFFF, 0, 0, 0]]
    ones[..., 2:] = 0
    ring = viterbi.encode_ring(network, np.full((1, 4), 0xFFFFFFFF, np.uint32), ones, 4)
    assert ring.code.tolist() == [[0, 0, 0, 0]]


@pytest.mark.parametrize(("n_in", "n_s"), [(3, 0), (2, 1), (1, 3)])
def test_kernels_are_plain_python_too(n_in: int, n_s: int) -> None:
    network = XorNetwork.dense(n_in=n_in, n_out=5, n_s=n_s)
    care, planes = random_ring(1, 2, 2, 13, 0.6)
    m_lane = network.n_code_words(13, 1)
    ring = viterbi.encode_ring(network, care, planes, m_lane)
    code = np.zeros_like(ring.code)
    masks = viterbi._row_masks(network)
    if n_s == 0:
        table = np.zeros((1, 1 << n_in), np.uint64)
        trellis.search.py_func(care, planes, masks, n_in, 5, table, code)
    else:
        survivors = np.zeros((2 * m_lane // n_in, 1 << n_in * n_s), np.uint8)
        trellis.walk.py_func(care, planes, masks, n_in, 5, n_s, 1, survivors, code)
    assert (code == ring.code).all()
    positions, values = np.zeros(2000, np.int64), np.zeros(2000, np.uint64)
    n = trellis.find_wrong.py_func(care, planes, masks, n_in, 5, m_lane, code, positions, values)
    assert (positions[:n] == ring.positions).all()
    assert (values[:n] == ring.values).all()


@pytest.mark.parametrize(
    ("network", "m_lane", "message"),
    [
        (XorNetwork.quasi_cyclic(), 3, "rotations of a quasi-cyclic network"),
        (XorNetwork.turned(), 3, "rotations of a turned network"),
        (XorNetwork.dense(n_in=13, n_out=20, n_s=1), 13, "at most 24 words, not 26 in groups of 13"),
        (XorNetwork(family="dense", window=24, n_rows=9, n_in=23, n_out=9), 23, "not 24 in groups of 23"),
        (XorNetwork.dense(n_in=4, n_out=8), 3, "m_lane = 3 is not the 8 words that 9 steps take at 4 for 8"),
    ],
)
def test_refuses_what_it_cannot_search(network: XorNetwork, m_lane: int, message: str) -> None:
    care, planes = random_ring(0, 1, 1, 9, 0.5)
    with pytest.raises(ParameterError, match=message):
        viterbi.encode_ring(network, care, planes, m_lane)


@pytest.mark.parametrize(
    ("n_s", "n_steps", "least"),
    [(0, 400, 0.932), (1, 400, 0.985), pytest.param(2, 320, 0.992, marks=pytest.mark.slow)],
)
def test_efficiency_of_the_paper(n_s: int, n_steps: int, least: float) -> None:
    network = XorNetwork.dense(n_in=8, n_out=80, n_s=n_s)
    care, planes = random_ring(4, 1, 1, 80 * n_steps, 0.1)
    n_care = int(np.bitwise_count(care).sum())
    m_lane = 8 * n_steps
    assert abs(32 * m_lane / n_care - 1) < 0.01
    ring = viterbi.encode_ring(network, care, planes, m_lane)
    assert least <= 1 - n_wrong(ring) / n_care < 1
