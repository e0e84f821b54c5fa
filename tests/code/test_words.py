"""The bit order: its equation, its inverse, its edges."""

from __future__ import annotations

import doctest

import numpy as np
import pytest

from xorpack.code import words

COLS = [0, 1, 7, 8, 31, 32, 33, 63, 64, 65, 100]


def test_doctests() -> None:
    results = doctest.testmod(words)
    assert results.attempted > 0
    assert results.failed == 0


@pytest.mark.parametrize("cols", COLS)
@pytest.mark.parametrize("lead", [(), (3,), (0,), (2, 3)])
def test_pack_is_the_equation_and_unpack_its_inverse(cols: int, lead: tuple[int, ...]) -> None:
    bits = np.random.default_rng(cols).random((*lead, cols)) < 0.4
    packed = words.pack(bits)
    assert packed.dtype == np.uint32
    assert packed.shape == (*lead, words.n_chunks(cols))
    for *at, c in np.ndindex(bits.shape):
        assert int(packed[(*at, c // 32)]) >> (c % 32) & 1 == bits[(*at, c)]
    assert words.popcount(packed) == bits.sum()  # hence nothing past the last column
    back = words.unpack(packed, cols)
    assert back.dtype == np.bool_
    assert back.shape == bits.shape
    assert (back == bits).all()


def test_strided_views_pack_and_unpack_alike() -> None:
    bits = np.random.default_rng(1).random((5, 90)) < 0.5
    assert (words.pack(bits[::2, ::-1]) == words.pack(bits[::2, ::-1].copy())).all()
    packed = words.pack(bits)
    assert (words.unpack(packed[::-2], 90) == bits[::-2]).all()


def test_the_first_weight_is_the_lowest_bit() -> None:
    bits = np.zeros((1, 70), np.bool_)
    bits[0, [0, 9, 31, 34, 69]] = True
    assert words.pack(bits).tolist() == [[0x80000201, 0x4, 0x20]]


@pytest.mark.parametrize("cols", COLS)
def test_tail_mask_is_all_ones_packed(cols: int) -> None:
    mask = words.tail_mask(cols)
    assert mask.dtype == np.uint32
    assert mask.tolist() == words.pack(np.ones((1, cols), np.bool_))[0].tolist()
