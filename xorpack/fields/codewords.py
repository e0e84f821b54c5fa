"""Planes of codewords to planes of symbols, and back, 32 weights at a time: a prefix code as ANDs and ORs of words.

The bits of a code's words are the edges of a tree. The word of a node says at which weights its bits were read: the
parent's, AND the plane of that bit, or AND NOT. It is ORed to the planes that have a 1 in whatever the leaves below
stand for; those that have one for some of them are left to the edges further down.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from xorpack.code.words import Words
from xorpack.fields.codewords_kernels import FIRST, MORE, NODE, NOTHING, recode_kernel
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
        program: int64 (n, 5), steps: what is done (:data:`NODE`, :data:`FIRST`, :data:`MORE` or :data:`NOTHING`), to
            which node or plane, the node above, the plane of the edge and its bit. A node's number is its depth.
        longest: bits of the longest codeword.
        n_out: planes of values.
    """

    program: NDArray[np.int64]
    longest: int
    n_out: int

    @classmethod
    def of(
        cls, words: NDArray[np.int64], lengths: NDArray[np.int64], values: NDArray[np.int64], n_out: int
    ) -> Codewords:
        """Make the steps of codewords (n,), of ``lengths`` from 1 on; no one begins with another.

        The first bit of each is the highest. ``values``: the planes that are 1 where it is read, as a set of bits.
        """
        longest = int(lengths.max())
        whole = words << longest - lengths
        steps: list[tuple[int, int, int, int, int]] = []
        written = 0

        def below(leaves: NDArray[np.int64], depth: int, given: int) -> None:
            nonlocal written
            for bit in (0, 1):
                chosen = leaves[(whole[leaves] >> longest - 1 - depth & 1) == bit]
                if not chosen.size:
                    continue
                wanted = values[chosen] & ~np.int64(given)
                common = int(np.bitwise_and.reduce(wanted))
                for k in range(n_out):
                    if common >> k & 1:
                        steps.append((MORE if written >> k & 1 else FIRST, k, depth, depth, bit))
                written |= common
                if (wanted != common).any():
                    steps.append((NODE, depth + 1, depth, depth, bit))
                    below(chosen, depth + 1, given | common)

        below(np.arange(words.size), 0, 0)
        steps += [(NOTHING, k, 0, 0, 0) for k in range(n_out) if not written >> k & 1]
        return cls(program=np.array(steps, np.int64), longest=longest, n_out=n_out)

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
        whole = np.full(len(symbols), code.width, np.int64)
        return cls.of(symbols.astype(np.int64), whole, values, n_raw + 2 * n_depths)

    def recode(self, planes: Words, mask: Words, *, jobs: int = 1) -> Words:
        """What the codewords of kept weights stand for: uint32 (n_out, ...), 0 where the mask is.

        ``planes`` uint32 (longest codeword, ...): its bits, the first first; ``mask`` (...).
        """
        out = np.empty((self.n_out, mask.size), np.uint32)
        flat, kept = np.ascontiguousarray(planes).reshape(-1), np.ascontiguousarray(mask).reshape(-1)
        share = max(SHARE, -(-mask.size // jobs))

        def run(begin: int) -> None:
            nodes = np.empty(self.longest * BLOCK_WORDS, np.uint32)
            end = min(begin + share, mask.size)
            recode_kernel(self.program, self.longest, flat, kept, begin, end, nodes, out.reshape(-1))

        for_each(run, range(0, mask.size, share), jobs)
        return out.reshape(self.n_out, *mask.shape)
