"""Planes of codewords to planes of symbols, and back, 32 weights at a time: a prefix code as ANDs and ORs of words.

The bits of a code's words are the edges of a tree. The word of a node says at which weights its bits were read: the
parent's, AND the plane of that bit, or AND NOT. The word of a leaf is ORed to the planes that have a 1 in what the leaf
stands for. Leaves are taken in the order of their codewords, so that only the end of the way to one is new.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from xorpack.code.words import Words
from xorpack.fields.codewords_kernels import recode_kernel
from xorpack.fields.field import FieldCode
from xorpack.vector.threads import for_each

BLOCK_WORDS = 512
"""Words that are treated at once: so that all nodes of a way stay in the nearest cache."""

SHARE = 1 << 16
"""Words that a thread takes at the least."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Codewords:
    """A prefix code, and what each of its words stands for.

    Attributes:
        words: int64 (n,): the codewords in rising order, the first bit of each the highest of ``lengths``.
        lengths: int64 (n,): their bits.
        shared: int64 (n,): how many first bits each has in common with the one before.
        values: int64 (n,): the planes that are 1 where one is read, as a set of bits.
        n_out: planes of values.
    """

    words: NDArray[np.int64]
    lengths: NDArray[np.int64]
    shared: NDArray[np.int64]
    values: NDArray[np.int64]
    n_out: int

    @classmethod
    def of(
        cls, words: NDArray[np.int64], lengths: NDArray[np.int64], values: NDArray[np.int64], n_out: int
    ) -> Codewords:
        """``words`` (n,) of ``lengths`` in rising order; no one begins with another."""
        longest = int(lengths.max(initial=0))
        whole = (words << longest - lengths).tolist()
        shared = [0] + [longest - (a ^ b).bit_length() for a, b in itertools.pairwise(whole)]
        return cls(
            words=words, lengths=lengths, shared=np.array(shared, np.int64), values=values, n_out=n_out
        )

    @classmethod
    def decoding(cls, code: FieldCode, symbols: NDArray[np.uint32]) -> Codewords:
        """From bits of codewords to symbols, which are given in the order of their codewords."""
        lengths = code.lengths()
        return cls.of(code.codewords(), lengths, symbols.astype(np.int64), code.width)

    @classmethod
    def encoding(cls, code: FieldCode, symbols: NDArray[np.uint32]) -> Codewords:
        """From symbols, their highest bit first, to what is coded of them: ``n_raw`` planes of heads, the codeword's
        first bit the highest; ``n_depths`` planes of its other bits; and as many that say where there are any.
        """
        lengths, n_raw, n_depths = code.lengths(), code.n_raw, code.n_depths
        tails = lengths - n_raw
        words = code.codewords()
        values = words >> tails
        for e in range(n_depths):
            there = tails > e
            bit = words >> np.maximum(tails - 1 - e, 0) & 1
            values = values | (there & (bit == 1)).astype(np.int64) << n_raw + e
            values = values | there.astype(np.int64) << n_raw + n_depths + e
        order = np.argsort(symbols)
        whole = np.full(len(symbols), code.width, np.int64)
        return cls.of(symbols[order].astype(np.int64), whole, values[order], n_raw + 2 * n_depths)

    def program(self) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
        """Arguments of kernels: words, lengths, shared, values."""
        return self.words, self.lengths, self.shared, self.values

    def recode(self, planes: Words, mask: Words, *, jobs: int = 1) -> Words:
        """What the codewords of kept weights stand for: uint32 (n_out, ...), 0 where the mask is.

        ``planes`` uint32 (longest codeword, ...): its bits, the first first; ``mask`` (...).
        """
        out = np.empty((self.n_out, mask.size), np.uint32)
        flat, kept = np.ascontiguousarray(planes).reshape(-1), np.ascontiguousarray(mask).reshape(-1)
        share = max(SHARE, -(-mask.size // jobs))
        most = int(self.lengths.max(initial=0))

        def run(begin: int) -> None:
            nodes = np.empty((most + 1) * BLOCK_WORDS, np.uint32)
            end = min(begin + share, mask.size)
            recode_kernel(*self.program(), flat, kept, begin, end, nodes, out.reshape(-1))

        for_each(run, range(0, mask.size, share), jobs)
        return out.reshape(self.n_out, *mask.shape)
