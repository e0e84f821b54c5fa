"""Prefix codes by counts: optimal, complete, the same jitted and plain."""

from __future__ import annotations

import heapq
from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xorpack.encoding.fields.huffman import limited_lengths, packed_lists
from xorpack.encoding.fields.huffman_kernels import code_bits

laws = settings(max_examples=100, deadline=None, derandomize=True)
counted = st.lists(st.integers(1, 1000), min_size=2, max_size=9)


def huffman(counts: list[int]) -> int:
    """Bits of all symbols under Huffman's code, by a heap."""
    weights, total = sorted(counts), 0
    while len(weights) > 1:
        pair = heapq.heappop(weights) + heapq.heappop(weights)
        total += pair
        heapq.heappush(weights, pair)
    return total


def cheapest(counts: tuple[int, ...], least: int, most: int) -> int:
    """The same of the best code of codewords of ``least`` to ``most`` bits, by trying all."""

    @cache
    def best(i: int, room: int) -> float:
        if i == len(counts):
            return 0 if room >= 0 else float("inf")
        found = float("inf")
        for length in range(least, most + 1):
            left = room - (1 << most - length)
            if left >= len(counts) - i - 1:
                found = min(found, counts[i] * length + best(i + 1, left))
        return found

    return int(best(0, 1 << most))


@laws
@given(counted, st.integers(0, 3), st.integers(0, 4))
def test_lengths_are_the_best_within_their_limits(counts: list[int], least: int, more: int) -> None:
    counts = sorted(counts, reverse=True)
    least = min(least, len(counts).bit_length() - 1)
    most = max(least, (len(counts) - 1).bit_length()) + more
    lengths = limited_lengths(np.array(counts), least, most)
    assert least <= lengths[0]
    assert (np.diff(lengths) >= 0).all()
    assert lengths[-1] <= most
    assert (1 << most - lengths).sum() == 1 << most
    assert lengths @ counts == cheapest(tuple(counts), least, most)
    lists = packed_lists(np.array(counts), 16)
    assert (limited_lengths(np.array(counts), least, most, lists) == lengths).all()


@laws
@given(st.lists(st.integers(1, 10**6), min_size=1, max_size=300))
def test_without_limits_it_is_huffmans(counts: list[int]) -> None:
    rising = np.array(sorted(counts), np.int64)
    wanted = huffman(counts)
    assert code_bits(rising.copy()) == code_bits.py_func(rising.copy()) == wanted
    most = max(1, len(counts) - 1)
    if most <= 40:
        assert limited_lengths(rising[::-1], 0, most) @ rising[::-1] == wanted


@pytest.mark.parametrize("n", [1, 2, 4, 256])
def test_equal_counts_get_equal_lengths(n: int) -> None:
    bits = n.bit_length() - 1
    for least in range(bits + 1):
        assert (limited_lengths(np.full(n, 5), least, max(bits, 1) + 3) == bits).all()
