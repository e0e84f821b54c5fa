"""Which bits of lossless elements are worth a prefix code, and their encoder.

All fields of the elements' upper 16 bits are tried, by the exact length of their Huffman codes; and, where a tensor
has few distinct values, all bits that differ.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from xorpack.code import corrections, depths
from xorpack.encoding.constants import exception_bits, is_constant
from xorpack.encoding.fields.field_kernels import HASH, count_distinct, count_values, field_bits
from xorpack.encoding.fields.huffman import limited_lengths, packed_lists
from xorpack.encoding.fields.huffman_kernels import code_bits
from xorpack.encoding.fields.sources import DepthSource, SymbolTable
from xorpack.encoding.rings.tensor import encode_planes
from xorpack.fields.field import MAX_LENGTH, Field, FieldCode

FieldChoice = Literal["auto", "always", "none"]
"""Whether lossless elements get a field: where it saves bytes, where there is one at all, never."""

TRIED_BITS = 16
"""Bits of an element, the upper ones, of which all fields are tried."""

MAX_SYMBOLS = 4096
"""Symbols of a field at the most."""

PLANE_COST = 1.0085
"""Stored bits per care bit of coded planes, corrections included, about."""

DEPTH_COST = 1.015
"""The same of the plane of depths."""

RATE = 1.011
"""Stored bits per care bit of the plane of depths, where it is large: within 0.2 % of the best, and no search."""

LARGE = 1 << 16
"""Care bits from which on it is."""

CONFIG_BYTES = 220
"""What a field takes in a file's header, about."""

CARE_TIME = 0.04
"""Bits that a care bit of the plane of depths may cost if it is saved, for the time that encoding it takes."""

DEPTH_TIME = 0.002
"""Bits per kept element that a depth may cost if it is saved, for the time that decoding it takes."""

N_COMPARED = 6
"""Fields, the best by the lengths of their Huffman codes, that are compared in full."""

N_LEAST = 3
"""Lengths of the shortest codeword that are tried: fewer bits are deep where it is longer."""


class _Histogram(NamedTuple):
    """Bits from ``base`` on of kept elements: distinct ``values``, rising, and their ``counts``."""

    base: int
    values: NDArray[np.int64]
    counts: NDArray[np.int64]


class _Candidate(NamedTuple):
    """A field of a histogram's values: ``size`` in bits under a Huffman code, ``rest`` all that is not codewords."""

    size: float
    rest: float
    low: int
    width: int
    n_symbols: int
    histogram: _Histogram

    def symbols(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Those that occur, the most frequent first, and their counts."""
        shift = self.low - self.histogram.base
        all_symbols = self.histogram.values >> shift & ((1 << self.width) - 1)
        symbols, inverse = np.unique(all_symbols, return_inverse=True)
        counts = np.zeros(len(symbols), np.int64)
        np.add.at(counts, inverse, self.histogram.counts)
        order = np.lexsort((symbols, -counts))
        return symbols[order], counts[order]


class FewValues:
    """Counts the distinct values of elements, so long as there are at most ``MAX_SYMBOLS`` of them."""

    def __init__(self) -> None:
        self._n = 0
        self._keys = np.full(4 * MAX_SYMBOLS, -1, np.int64)
        self._counts = np.zeros(4 * MAX_SYMBOLS, np.int64)

    def add(self, elements: NDArray[Any]) -> None:
        """Count ``elements``, unsigned (n,), but for those that are 0."""
        if self._n <= MAX_SYMBOLS:
            self._n = count_distinct(elements, self._n, MAX_SYMBOLS, HASH, self._keys, self._counts)

    def counted(self) -> tuple[NDArray[np.int64], NDArray[np.int64]] | None:
        """``(values, counts)``, values rising; None where there are too many."""
        if self._n > MAX_SYMBOLS:
            return None
        slots = np.flatnonzero(self._keys >= 0)
        slots = slots[np.argsort(self._keys[slots])]
        return self._keys[slots], self._counts[slots]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class FieldPlan:
    """A field to be encoded.

    Attributes:
        code: its code.
        symbols: uint32, in the order of their codewords.
        n_care: care bits of the plane of depths.
    """

    code: FieldCode
    symbols: NDArray[np.uint32]
    n_care: int

    def table(self) -> SymbolTable:
        """The table in which the codewords of symbols are looked up."""
        return SymbolTable.of(self.code, self.symbols)


def takes_fields(choice: FieldChoice, prefer: str) -> bool:
    """Whether a field is looked for."""
    return choice == "always" or (choice == "auto" and prefer == "size")


def choose_field(
    elements: NDArray[Any], ones: Sequence[int], n_sampled: int, choice: FieldChoice
) -> FieldPlan | None:
    """The field of ``elements`` that saves most, or None where none saves anything and ``choice`` is ``auto``.

    Args:
        elements: unsigned, (rows, cols); 0 is pruned.
        ones: of ``n_sampled`` kept elements, those whose bit is 1, for each plane.
        n_sampled: see there.
        choice: ``auto`` or ``always``.
    """
    if not n_sampled:
        return None
    limit, tried = _candidates(elements, ones, n_sampled)
    distinct = {(c.low, c.n_symbols): c for c in sorted(tried, key=lambda c: -c.size)}
    best = sorted(distinct.values(), key=lambda c: c.size)[:N_COMPARED]
    plans = [
        (cost, plan)
        for candidate in best
        if choice == "always" or candidate.size < limit
        for cost, plan in _plans(candidate)
        if plan.code.plane_shape(*elements.shape)[0] < depths.MAX_ROWS
    ]
    cost, plan = min(plans, key=lambda found: found[0], default=(0.0, None))
    return plan if choice == "always" or cost < limit else None


def least_bits(elements: NDArray[Any], ones: Sequence[int], n_sampled: int) -> float:
    """What kept elements take under the best field, or without one, about; arguments as of :func:`choose_field`."""
    if not n_sampled:
        return 0.0
    limit, tried = _candidates(elements, ones, n_sampled)
    return min([limit, *(candidate.size for candidate in tried)])


def _candidates(
    elements: NDArray[Any], ones: Sequence[int], n_sampled: int
) -> tuple[float, list[_Candidate]]:
    """Bits of kept elements without a field, and all fields that are tried."""
    n_bits = 8 * elements.dtype.itemsize
    share = [
        exception_bits(min(n, n_sampled - n), n_sampled, n_bits) / n_sampled
        if is_constant(min(n, n_sampled - n), n_sampled, n_bits)
        else PLANE_COST
        for n in ones
    ]
    tried: list[_Candidate] = []
    limit = 0.0
    for histogram in _histograms(elements.reshape(-1)):
        n_kept, base = int(histogram.counts.sum()), histogram.base
        limit = n_kept * sum(share)
        for low, width, bits, n_symbols in _fields(histogram.values, histogram.counts, n_bits - base):
            others = sum(share) - sum(share[base + low : base + low + width])
            rest = n_kept * others + n_symbols * width + 8 * CONFIG_BYTES
            size = rest + bits * PLANE_COST
            tried.append(_Candidate(size, rest, base + low, width, n_symbols, histogram))
    return limit, tried


def _histograms(elements: NDArray[Any]) -> list[_Histogram]:
    """Count whole elements, where few are distinct, and their upper ``TRIED_BITS`` bits."""
    n_bits = 8 * elements.dtype.itemsize
    base = max(0, n_bits - TRIED_BITS)
    found = []
    if base:
        few = FewValues()
        few.add(elements)
        if (held := few.counted()) is not None:
            found.append(_Histogram(0, *held))
    counts = np.zeros(1 << n_bits - base, np.int64)
    count_values(elements, base, counts)
    values = np.flatnonzero(counts)
    found.append(_Histogram(base, values, counts[values]))
    return found


def _fields(
    values: NDArray[np.int64], counts: NDArray[np.int64], bits: int
) -> list[tuple[int, int, int, int]]:
    """``(low, width, bits of all codewords, symbols)`` of the fields that have few symbols, but more than one."""
    if bits > TRIED_BITS:
        changing = int(np.bitwise_or.reduce(values) & ~np.bitwise_and.reduce(values))
        low = (changing & -changing).bit_length() - 1
        if low < 0:
            return []
        return [(low, changing.bit_length() - low, int(code_bits(np.sort(counts))), len(values))]
    n_symbols = np.empty((bits, bits + 1), np.int64)
    found = np.empty((bits, bits + 1), np.int64)
    field_bits(values, counts, bits, MAX_SYMBOLS, n_symbols, found)
    return [
        (int(low), int(width), int(found[low, width]), int(n_symbols[low, width]))
        for low, width in np.argwhere((found >= 0) & (n_symbols > 1))
    ]


def _plans(candidate: _Candidate) -> Iterator[tuple[float, FieldPlan]]:
    """Codes of a field with the shortest codewords of least length, and longer ones: expected bits, those that time is
    worth among them, and the plan.
    """
    symbols, totals = candidate.symbols()
    n, n_kept = len(symbols), int(totals.sum())
    lists = packed_lists(totals, MAX_LENGTH)
    first = int(limited_lengths(totals, 0, MAX_LENGTH, lists)[0])

    def cost(lengths: NDArray[np.int64]) -> float:
        n_raw, bits = int(lengths[0]), int(lengths @ totals)
        deep = bits - n_raw * n_kept
        depths_cost = DEPTH_TIME * n_kept * (int(lengths[-1]) - n_raw)
        return candidate.rest + n_raw * n_kept * PLANE_COST + deep * (DEPTH_COST + CARE_TIME) + depths_cost

    for least in range(first, min(first + N_LEAST, n.bit_length())):
        shortest = max(least, (n - 1).bit_length())
        codes = [limited_lengths(totals, least, most, lists) for most in range(shortest, MAX_LENGTH + 1)]
        lengths = min(codes, key=cost)
        n_raw = int(lengths[0])
        canonical = np.lexsort((symbols, lengths))
        plan = FieldPlan(
            code=FieldCode(
                low=candidate.low,
                width=candidate.width,
                n_raw=n_raw,
                counts=tuple(np.bincount(lengths - n_raw).tolist()),
            ),
            symbols=symbols[canonical].astype(np.uint32),
            n_care=int(lengths @ totals) - n_raw * n_kept,
        )
        yield cost(lengths), plan


def encode_field(plan: FieldPlan, elements: NDArray[Any], jobs: int) -> Field:
    """The section of a plan for ``elements``, unsigned, (rows, cols)."""
    rows, cols = plan.code.plane_shape(*elements.shape)
    layout = depths.choose_layout(rows, cols, plan.n_care)
    source = DepthSource(elements, plan.code, plan.table())
    rate = RATE * plan.n_care / (32 * layout.n_segments * layout.ring_words) if plan.n_care >= LARGE else None
    words, wrong = encode_planes(depths.NETWORK, source, layout, plan.n_care, "elimination", rate, jobs)
    packed = corrections.pack(wrong, rows * cols, 1)
    return Field.pack(plan.code, plan.symbols, layout, words, packed, len(wrong))
