"""Elimination against the rank of the equations, found by plain Gaussian elimination."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from xorpack.code.network import XorNetwork
from xorpack.encoding.rings import elimination
from xorpack.vector import gf2_bytes

NETWORKS = [
    XorNetwork.quasi_cyclic(window=1, n_taps=3, n_rows=3),
    XorNetwork.quasi_cyclic(window=2, n_taps=4, n_rows=7),
    XorNetwork.quasi_cyclic(window=3),
    XorNetwork.quasi_cyclic(window=8),
    XorNetwork.quasi_cyclic(),
    XorNetwork.quasi_cyclic(window=17, n_taps=2),
    XorNetwork.quasi_cyclic(window=33, n_rows=3),
    XorNetwork.turned(),
    XorNetwork.turned(window=6, n_rows=16, hold=2),
    XorNetwork.turned(window=16, n_rows=32, hold=16),
    XorNetwork.dense(n_in=4, n_out=11),
    XorNetwork.dense(n_in=3, n_out=8, n_s=2),
    XorNetwork.sparse(n_in=5, n_out=13, n_s=1),
    XorNetwork.identity(),
]


def name(network: XorNetwork) -> str:
    return f"{network.family}{network.window}-{network.n_taps}"


def random_ring(seed: int, q: int, lanes: int, n_steps: int, density: float) -> tuple[Any, Any]:
    rng = np.random.default_rng(seed)
    bits = rng.random((lanes, n_steps, 32)) < density
    care = np.packbits(bits, axis=-1, bitorder="little").view("<u4")[..., 0].astype(np.uint32)
    return care, rng.integers(0, 1 << 32, (q, lanes, n_steps), np.uint32)


def equations(network: XorNetwork, care: Any, m_lane: int, *, fixed: bool) -> list[int]:
    """Care rows of the GF(2) matrix, one integer each; ``fixed``: without the first window's columns."""
    lanes, n_steps = care.shape
    m = lanes * m_lane
    offsets, rotations, counts = network.taps()
    starts = network.start(np.arange(n_steps, dtype=np.int64), m_lane, n_steps)
    rows = []
    for lane in range(lanes):
        for i in range(n_steps):
            r = i % network.n_rows
            for bit in range(32):
                if not care[lane, i] >> bit & 1:
                    continue
                row = 0
                for k in range(counts[r] if m else 0):
                    word = (lane * m_lane + int(starts[i]) + int(offsets[r, k])) % m
                    if not (fixed and word < network.window):
                        row ^= 1 << (32 * word + (bit - int(rotations[r, k])) % 32)
                rows.append(row)
    return rows


def rank(rows: list[int]) -> int:
    by_top: dict[int, int] = {}
    for equation in rows:
        row = equation
        while row and row.bit_length() in by_top:
            row ^= by_top[row.bit_length()]
        if row:
            by_top[row.bit_length()] = row
    return len(by_top)


@pytest.mark.parametrize("network", NETWORKS, ids=name)
@pytest.mark.parametrize("fixed", [False, True], ids=["border", "fixed"])
@pytest.mark.parametrize(
    ("lanes", "n_steps", "m_lane"), [(1, 50, 12), (3, 30, 7), (2, 9, 2), (1, 70, 40), (4, 3, 1)]
)
def test_every_independent_equation_holds(
    network: XorNetwork, fixed: bool, lanes: int, n_steps: int, m_lane: int
) -> None:
    if not network.any_rate:
        m_lane = network.n_code_words(n_steps, 1)
    care, planes = random_ring(n_steps, 32, lanes, n_steps, 0.25)
    rows = equations(network, care, m_lane, fixed=fixed)
    dependent = len(rows) - rank(rows)
    large = 0 if fixed else 1 << 62
    # 32 random planes cannot agree by luck on a dependent equation.
    ring = elimination.encode_ring(network, care, planes, m_lane, large=large)
    assert ring.positions.size == dependent
    # One plane can, about half of the time.
    ring = elimination.encode_ring(network, care, planes[:1], m_lane, large=large)
    assert ring.positions.size <= dependent
    if dependent > 100:
        assert abs(ring.positions.size / dependent - 0.5) < 0.2


@pytest.mark.parametrize("network", NETWORKS, ids=name)
def test_later_equations_never_break_earlier_ones(network: XorNetwork) -> None:
    """The corrections are the equations that depend on earlier ones, in the order of the windows."""
    care, planes = random_ring(9, 32, 1, 40, 0.3)
    m_lane = network.n_code_words(40, 0.25)
    rows = equations(network, care, m_lane, fixed=True)
    ring = elimination.encode_ring(network, care, planes, m_lane, large=0)
    wrong = set(ring.positions.tolist())
    places = [32 * t + bit for t in range(40) for bit in range(32) if care[0, t] >> bit & 1]
    kept = [row for row, place in zip(rows, places, strict=True) if place not in wrong]
    assert rank(kept) == len(kept)
    assert rank(rows) == len(kept)


@pytest.mark.parametrize("network", [NETWORKS[1], NETWORKS[5], NETWORKS[8]], ids=name)
@pytest.mark.parametrize("large", [0, 1 << 62], ids=["fixed", "border"])
def test_kernel_is_plain_python_too(network: XorNetwork, large: int, monkeypatch: pytest.MonkeyPatch) -> None:
    care, planes = random_ring(2, 3, 2, 20, 0.25)
    m_lane = network.n_code_words(20, 0.25)
    ring = elimination.encode_ring(network, care, planes, m_lane, large=large, maps=False)
    monkeypatch.setattr(elimination, "eliminate", elimination.eliminate.py_func)
    for compiled, plain in zip(
        ring, elimination.encode_ring(network, care, planes, m_lane, large=large, maps=False), strict=True
    ):
        assert (compiled == plain).all()


def same(a: elimination.RingCode, b: elimination.RingCode) -> bool:
    return all(np.array_equal(x, y) for x, y in zip(a, b, strict=True))


needs_gfni = pytest.mark.skipif(not gf2_bytes.is_fast(), reason="a CPU without GFNI")


@needs_gfni
@pytest.mark.parametrize("network", NETWORKS, ids=name)
@pytest.mark.parametrize("large", [0, 1 << 62], ids=["fixed", "border"])
def test_maps_give_the_codes_of_tables(network: XorNetwork, large: int) -> None:
    for seed, (q, lanes, n_steps, density) in enumerate(
        [(3, 1, 50, 0.25), (64, 3, 30, 0.4), (2, 32, 60, 0.1), (9, 4, 90, 0.9), (1, 1, 1, 0.5), (1, 2, 9, 0)]
    ):
        care, planes = random_ring(seed, q, lanes, n_steps, density)
        for rate in (1.01, 0.5):
            words = rate * int(np.bitwise_count(care).sum()) / 32 / lanes
            m_lane = max(1, round(words))
            if not network.any_rate:
                m_lane = network.n_code_words(n_steps, 1)
            by_maps, by_tables = (
                elimination.encode_ring(network, care, planes, m_lane, large=large, maps=maps)
                for maps in (True, False)
            )
            assert same(by_maps, by_tables)


@pytest.mark.parametrize("network", [XorNetwork.quasi_cyclic(), XorNetwork.turned()], ids=name)
def test_maps_are_made_of_numpy_too(network: XorNetwork, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the CPU: plain Python makes of maps what tables give."""
    for large in (0, 1 << 62):
        care, planes = random_ring(2, 3, 2, 20, 0.25)
        m_lane = network.n_code_words(20, 0.25)
        ring = elimination.encode_ring(network, care, planes, m_lane, large=large, maps=False)
        with monkeypatch.context() as plain:
            for kernel in ("eliminate_maps", "solve_maps"):
                plain.setattr(elimination, kernel, getattr(elimination, kernel).py_func)
            assert same(ring, elimination.encode_ring(network, care, planes, m_lane, large=large, maps=True))


@needs_gfni
def test_a_cpu_that_is_fast_takes_maps(monkeypatch: pytest.MonkeyPatch) -> None:
    network = XorNetwork.quasi_cyclic()
    care, planes = random_ring(2, 3, 2, 20, 0.25)
    taken = []
    for kernel in ("eliminate", "eliminate_maps"):
        called = getattr(elimination, kernel)
        monkeypatch.setattr(
            elimination, kernel, lambda *a, kernel=kernel, called=called: taken.append(kernel) or called(*a)
        )
    elimination.encode_ring(network, care, planes, 12)
    elimination.encode_ring(XorNetwork.quasi_cyclic(window=33), care, planes, 12)
    assert taken == ["eliminate_maps", "eliminate"]


def test_efficiency_of_the_default_network() -> None:
    """Recorded: 99.95 % at 8 words, all at 16, from 1.01 stored bits per care bit on."""
    care, planes = random_ring(3, 2, 1, 10000, 0.1)
    n_care = int(np.bitwise_count(care).sum())
    m = round(n_care * 1.01 / 32)
    for window, most in ((8, 0.002), (16, 0.0002)):
        network = XorNetwork.quasi_cyclic(window=window)
        ring = elimination.encode_ring(network, care, planes, m)
        assert ring.positions.size <= most * n_care


@pytest.mark.parametrize("maps", [False, True])
def test_a_ring_of_too_many_corrections_is_given_up(maps: bool) -> None:
    care, planes = random_ring(5, 2, 2, 300, 0.3)
    network = XorNetwork.quasi_cyclic()
    m = int(np.bitwise_count(care).sum()) // 70
    ring = elimination.encode_ring(network, care, planes, m, maps=maps)
    n = ring.positions.size
    assert n > 40
    assert same(ring, elimination.encode_ring(network, care, planes, m, maps=maps, most=n + 1))
    for most in (0, 1, n // 2, n):
        with pytest.raises(elimination.GivenUpError):
            elimination.encode_ring(network, care, planes, m, maps=maps, most=most)


def test_scratch_is_reused_and_freed() -> None:
    scratch = elimination.Scratch()
    alone = scratch.take(100)
    scratch.give(alone)
    assert scratch.take(100) is not alone  # nobody had asked to keep it
    with scratch:
        with scratch:
            small, large = scratch.take(100), scratch.take(5000)
            scratch.give(small)
            scratch.give(large)
            assert scratch.take(90) is small
            assert scratch.take(90) is large
            scratch.give(large)
        assert scratch.take(5000) is large
        scratch.give(large)
        assert scratch.take(8000) is large  # rooms are rounded up
        scratch.give(large)
        assert scratch.take(9000) is not large
    assert not scratch._free


def test_scratch_does_not_show_in_the_code() -> None:
    network = XorNetwork.quasi_cyclic()
    rings = [random_ring(seed, 2, 3, 200, density) for seed, density in ((1, 0.3), (2, 0.6), (3, 0.1))]
    fresh = [elimination.encode_ring(network, care, planes, 80) for care, planes in rings]
    with elimination.scratch:
        for _ in range(2):
            for (care, planes), expected in zip(rings, fresh, strict=True):
                found = elimination.encode_ring(network, care, planes, 80)
                assert (found.code == expected.code).all()
                assert (found.positions == expected.positions).all()
                assert (found.values == expected.values).all()
