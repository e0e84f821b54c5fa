"""Elements under a prefix code as planes that are to be encoded: with heads of codewords, and the plane of depths."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xorpack.code import depths
from xorpack.code.corrections import Corrections
from xorpack.code.layout import Layout
from xorpack.code.words import Words
from xorpack.encoding.fields.field_kernels import HASH, fill_slots, gather_depths
from xorpack.encoding.rings.gather import ElementSource
from xorpack.encoding.rings.gather_kernels import rewrite
from xorpack.fields.field import FieldCode

DIRECT_BITS = 16
"""Width up to which a symbol is its own slot; wider ones are hashed."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SymbolTable:
    """Codewords by symbol, for kernels: found at the slot ``(symbol * multiplier mod 2^32) >> shift`` or behind it.

    Attributes:
        keys: int64 (2^k,), the symbol of every slot, -1 where it is free.
        multiplier, shift: of the hash.
        heads: uint32 (2^k,), the first ``n_raw`` bits of the codeword.
        tails: uint32 (2^k,), the other bits, the first of them highest of ``n_depths``; zeros past the last.
        cares: uint32 (2^k,), ones where tails has bits of the codeword.
    """

    keys: NDArray[np.int64]
    multiplier: int
    shift: int
    heads: NDArray[np.uint32]
    tails: NDArray[np.uint32]
    cares: NDArray[np.uint32]

    @classmethod
    def of(cls, code: FieldCode, symbols: NDArray[np.uint32]) -> SymbolTable:
        """Make the table of the canonical code of ``symbols``, in the order of their codewords."""
        if code.width <= DIRECT_BITS:
            keys = np.arange(1 << code.width, dtype=np.int64)
            multiplier, shift, slots = 1, 0, symbols.astype(np.int64)
        else:
            k = (4 * len(symbols)).bit_length()
            keys = np.full(1 << k, -1, np.int64)
            multiplier, shift, slots = HASH, 32 - k, np.empty(len(symbols), np.int64)
            fill_slots(keys, multiplier, shift, symbols, slots)
        free = code.max_length - code.lengths()  # bits of max_length that a codeword leaves
        words = np.concatenate([[0], np.cumsum(1 << free)[:-1]])
        mask = (1 << code.n_depths) - 1
        columns = (words >> code.n_depths, words & mask, mask >> free << free)
        heads, tails, cares = (np.zeros(len(keys), np.uint32) for _ in columns)
        for table, column in zip((heads, tails, cares), columns, strict=True):
            table[slots] = column
        return cls(keys=keys, multiplier=multiplier, shift=shift, heads=heads, tails=tails, cares=cares)

    def hashing(self) -> tuple[NDArray[np.int64], int, int]:
        """``(keys, multiplier, shift)``."""
        return self.keys, self.multiplier, self.shift


class FieldSource(ElementSource):
    """Elements whose symbols are replaced by the first bits of their codewords."""

    def __init__(self, source: ElementSource, code: FieldCode, table: SymbolTable) -> None:
        """The elements and the mask of ``source``."""
        self.elements, self.mask = source.elements, source.mask
        self.n_bits, self.coded = source.n_bits, source.coded
        self.codewords = (code.low, (1 << code.width) - 1, *table.hashing(), table.heads)
        self._field, self._unused = set(code.planes), code.unused

    def exceptions(self, zeros: int, ones: int, cols: int) -> Corrections:
        """See :class:`ElementSource`. Planes that hold nothing have none."""
        return super().exceptions(zeros & ~self._unused, ones, cols)

    def coded_form(self, elements: NDArray[Any], planes: int) -> NDArray[Any]:
        """See :class:`ElementSource`."""
        if not any(planes >> k & 1 for k in self._field):
            return elements
        out = np.empty_like(elements)
        rewrite(elements, *self.codewords, out)
        return out


class DepthSource:
    """The plane of depths of elements under a prefix code, made ring by ring."""

    def __init__(self, elements: NDArray[Any], code: FieldCode, table: SymbolTable) -> None:
        """``elements``: unsigned (rows, cols)."""
        self.elements, self.code, self.table = elements, code, table
        self.codewords = table.cares << np.uint32(16) | table.tails

    @property
    def n_planes(self) -> int:
        """See :class:`~xorpack.encoding.rings.gather.RingSource`."""
        return 1

    def ring(self, layout: Layout, segment: int) -> tuple[Words, Words]:
        """See :class:`~xorpack.encoding.rings.gather.RingSource`."""
        code, table = self.code, self.table
        care = np.empty((layout.lanes, layout.n_steps), np.uint32)
        planes = np.empty((1, layout.lanes, layout.n_steps), np.uint32)
        _, n_groups = code.parts(self.elements.shape[1])
        gather_depths(
            self.elements, segment, *layout.params(), n_groups, depths.order(code.n_depths), code.low,
            (1 << code.width) - 1, *table.hashing(), self.codewords, care, planes,
        )  # fmt: skip
        return care, planes
