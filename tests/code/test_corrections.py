"""Corrections: Elias-Fano there and back, and what untrusted bytes may not say."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xorpack.code.corrections import Corrections, low_bits, pack, packed_sizes, unpack
from xorpack.errors import FormatError


def _make(positions, values):
    return Corrections(np.array(positions, np.int64), np.array(values, np.uint64))


@settings(max_examples=200, deadline=None, derandomize=True)
@given(st.data(), st.integers(1, 64), st.sampled_from([1, 5, 64, 1000, 1 << 33, 1 << 47]))
def test_round_trip(data, q, universe):
    positions = sorted(data.draw(st.sets(st.integers(0, universe - 1), max_size=60)))
    values = [data.draw(st.integers(1, (1 << q) - 1)) for _ in positions]
    packed = pack(_make(positions, values), universe, q)
    assert packed.size == sum(packed_sizes(len(positions), universe, q))
    found = unpack(packed, len(positions), universe, q)
    assert found.positions.tolist() == positions
    assert found.values.tolist() == values


def test_many_corrections_cross_blocks():
    rng = np.random.default_rng(0)
    positions = np.sort(rng.choice(1 << 22, 200_000, replace=False))
    values = rng.integers(1, 8, positions.size)
    found = unpack(pack(_make(positions, values), 1 << 22, 3), positions.size, 1 << 22, 3)
    assert (found.positions == positions).all()
    assert (found.values == values).all()


def test_rows():
    all_of_them = _make([3, 10, 19, 20, 39], [1, 2, 3, 1, 2])
    part = all_of_them.in_rows(1, 2, 10)
    assert part.positions.tolist() == [0, 9]
    assert part.values.tolist() == [2, 3]
    assert len(all_of_them.in_rows(4, 4, 10)) == 0


def test_low_bits_is_the_floor_of_a_logarithm():
    assert [low_bits(n, 1024) for n in (0, 1, 3, 4, 1000, 1024, 2000)] == [0, 10, 8, 8, 0, 0, 0]


@pytest.mark.parametrize("universe", [1, 2, 31, 64, 100, 4096])
def test_the_last_position_is_below_the_universe(universe):
    for n in (1, 2):
        last = np.arange(universe - n, universe, dtype=np.int64)
        if last[0] < 0:
            continue
        for shift, fine in ((0, True), (1, False)):
            found = Corrections(last + shift, np.ones(n, np.uint64))
            data = pack(found, universe, 1)
            if fine:
                assert (unpack(data, n, universe, 1).positions == last).all()
            else:
                with pytest.raises(FormatError, match=f"do not rise below {universe}"):
                    unpack(data, n, universe, 1)


def test_untrusted_bytes():
    good = pack(_make([5, 17, 900], [1, 3, 2]), 1024, 2)
    with pytest.raises(FormatError, match="bytes of corrections"):
        unpack(good[:-1], 3, 1024, 2)
    with pytest.raises(FormatError, match="positions, not 3"):
        unpack(np.zeros_like(good), 3, 1024, 2)
    zero_value = good.copy()
    zero_value[-1] = 0
    with pytest.raises(FormatError, match="corrects nothing"):
        unpack(zero_value, 3, 1024, 2)
    with pytest.raises(FormatError, match="rise below"):
        unpack(pack(_make([7, 7], [1, 1]), 1024, 2), 2, 1024, 2)
