"""Prefix codes for blocks of mask bits, derived from one small integer: no table is ever stored.

A block of ``block`` bits that keeps ``ones`` weights is a *symbol*; those of at most ``max_ones`` ones are coded.
Their *rank* is their place in the order of (ones, value). At *level* k >= 0 a weight is taken to be kept with
odds ``2**(-k / 4)``, so that a symbol of j ones has the weight ``2**(-j * k / 4)``: a whole group of symbols
shares it, and a code is one length per group, or two neighbouring ones::

    every symbol begins with max_length bits; room = 2**max_length - number of symbols
    while some group's symbols can be made shorter, a symbol of length l for 2**(max_length - l) of the room:
        take the group with the largest 4 * l - j * k, of equals the one with the fewest ones
        make its symbols shorter by one bit, all of them, or else as many of the first as there is room for;
        of a group that was split so, no more is made shorter

Each step is the cheapest saving that there is, and ``room`` ends at 0: the code is complete. With ``max_length`` a
few bits above what all symbols need it costs within 0.3 % of the Huffman code, without an arithmetic that could
differ between two machines. From level ``EMPTY`` on the code is one symbol, no ones, of no bits.

Codewords are canonical: symbols in rank order take consecutive numbers of ``max_length`` bits, each as many as
its length leaves free, so that a symbol is found from ``max_length`` bits whatever follows its codeword.
"""

from __future__ import annotations

from functools import lru_cache
from itertools import combinations
from math import comb
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

MAX_BLOCK = 32
MAX_LENGTH = 24
MAX_SYMBOLS = 1 << 16
EMPTY = 64
"""Level from which on nothing is kept."""


class Run(NamedTuple):
    """Symbols of one length that are neighbours in rank order.

    Attributes:
        start: the first one's codeword, followed by zeros to ``max_length`` bits.
        length: bits of the codewords.
        rank: of the first one.
        n: symbols.
    """

    start: int
    length: int
    rank: int
    n: int


def n_symbols(block: int, max_ones: int) -> int:
    """Symbols that are coded."""
    return sum(comb(block, ones) for ones in range(max_ones + 1))


@lru_cache(maxsize=64)
def symbols(block: int, max_ones: int) -> NDArray[np.uint32]:
    """All symbols in rank order, read-only: bit i is bit i of the block.

    >>> symbols(4, 2)
    array([ 0,  1,  2,  4,  8,  3,  5,  6,  9, 10, 12], dtype=uint32)
    """
    groups = (combinations([1 << i for i in range(block)], ones) for ones in range(max_ones + 1))
    found = np.array([value for group in groups for value in sorted(map(sum, group))], np.uint32)
    found.flags.writeable = False
    return found


@lru_cache(maxsize=4096)
def lengths(level: int, block: int, max_ones: int, max_length: int) -> tuple[tuple[int, int], ...]:
    """For each number of ones ``(length, n_short)``: the first ``n_short`` symbols are a bit shorter.

    >>> lengths(8, 4, 4, 8)
    ((1, 0), (4, 2), (6, 0), (8, 3), (8, 0))
    """
    counts = [comb(block, ones) for ones in range(max_ones + 1)]
    length, short = [max_length] * len(counts), [0] * len(counts)
    room = (1 << max_length) - sum(counts)
    while True:
        able = [j for j, n in enumerate(short) if n == 0 and 1 << max_length - length[j] <= room]
        if not able:
            return tuple(zip(length, short, strict=True))
        best = max(able, key=lambda j: (4 * length[j] - j * level, -j))
        cost = 1 << max_length - length[best]
        n = min(counts[best], room // cost)
        room -= n * cost
        if n == counts[best]:
            length[best] -= 1
        else:
            short[best] = n


@lru_cache(maxsize=4096)
def runs(level: int, block: int, max_ones: int, max_length: int) -> tuple[Run, ...]:
    """The code of a level >= 0, as runs in rank order."""
    if level >= EMPTY:
        return (Run(0, 0, 0, 1),)
    found: list[Run] = []
    start = rank = 0
    for ones, (length, short) in enumerate(lengths(level, block, max_ones, max_length)):
        for bits, count in ((length - 1, short), (length, comb(block, ones) - short)):
            if count:
                found.append(Run(start, bits, rank, count))
                start += count << max_length - bits
                rank += count
    return tuple(found)
