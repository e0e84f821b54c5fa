"""Encoder of the mask codec ``block``: which blocks, which levels, and their code.

All choices are made by exact cost in codeword bits, counted in whole numbers, so that they are the same on every
machine. For given block columns the best level of each row follows from a histogram of its blocks' ones; a few
levels that serve all rows well are found by dynamic programming over rows sorted by their best level; then block
columns likewise, and rows once more.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache
from math import comb
from typing import ClassVar, NamedTuple

import numpy as np
from numpy.typing import NDArray

from xorpack.code import corrections, depths
from xorpack.code.corrections import NO_CORRECTIONS, Corrections
from xorpack.code.planes import CodedPlanes
from xorpack.code.words import Words, n_chunks, popcount
from xorpack.encoding.masks.block_kernels import (
    assign_levels,
    cheapest_levels,
    count_blocks,
    count_columns,
    count_ones_by_class,
    fill_codewords,
    split_kernel,
    sum_costs,
    sum_groups,
)
from xorpack.encoding.masks.proposal import Proposal, WantedMask
from xorpack.encoding.rings.gather import PlaneSource
from xorpack.encoding.rings.tensor import encode_planes
from xorpack.masks import Block, bitmap
from xorpack.masks.block import codec as block
from xorpack.masks.block import prefix
from xorpack.masks.block.joining import BlockCode, move_columns, numbered_runs

CANDIDATES = ((8, 8, 14), (12, 12, 19), (16, 6, 20), (24, 4, 20), (32, 3, 20))
"""Block, ones and length of the codes that are tried."""

UNIT = 64
"""Costs of blocks are counted in 1/64 bits."""

SAMPLE_ROWS = 1024
"""Rows that candidates are tried on, about."""

LINES = 4096
"""Rows or columns whose costs are held at a time."""

MIN_ROWS = 32
"""Rows from which on classes of columns can pay."""

LEVEL_BITS = 24
"""What a level takes in the config."""

FINE_UNIT = 4096
"""Costs of weights are counted in 1/4096 bits."""

CORRECTION = 14
"""Bits of a weight that no codeword tells, about."""

NETWORK_COST = 1.012
"""Stored bits per codeword bit, corrections included, about."""

CONFIG_BYTES = 100
"""What the config of a mask takes in a file's header, about."""

TABLED_BITS = 16
"""Bits of a block up to which the codewords of all blocks are tabled."""

Levels = NDArray[np.int64]


@lru_cache(maxsize=16)
def costs(block: int, max_ones: int, max_length: int) -> NDArray[np.float64]:
    """Cost of a block: (2 * EMPTY + 1, block + 1), whole numbers of 1/64 bits, by level + EMPTY and ones."""
    table = np.zeros((2 * prefix.EMPTY + 1, block + 1))
    ones = np.arange(block + 1)
    for level in range(prefix.EMPTY + 1):
        if level == prefix.EMPTY:
            row = ones * CORRECTION * UNIT
        else:
            row = np.empty(block + 1, np.int64)
            for j, (length, short) in enumerate(prefix.lengths(level, block, max_ones, max_length)):
                row[j] = (length * comb(block, j) - short) * UNIT // comb(block, j)
            row[max_ones:] = row[max_ones] + (ones[max_ones:] - max_ones) * CORRECTION * UNIT
        table[prefix.EMPTY + level] = row
        table[prefix.EMPTY - level] = row[::-1]
    return table


class EncodingTables(NamedTuple):
    """How codewords are found; see :func:`xorpack.encoding.masks.block_kernels.split_kernel`."""

    of_level: NDArray[np.int64]
    codewords: NDArray[np.uint32]
    runs: NDArray[np.int64]
    binomials: NDArray[np.int64]
    first_ranks: NDArray[np.int64]


def encoding_tables(code: BlockCode) -> EncodingTables:
    """Tables of all codes of a mask."""
    shape, levels = (code.block, code.max_ones, code.max_length), code.levels()
    if code.block > TABLED_BITS:
        of_level, runs = numbered_runs(code)
        codewords = np.zeros((len(levels), 0), np.uint32)
    else:
        of_level, runs = np.zeros(prefix.EMPTY + 1, np.int64), np.zeros((len(levels), 0, 3), np.int64)
        of_level[levels] = np.arange(len(levels))
        codewords = np.stack([codewords_of(level, *shape) for level in levels])
    return EncodingTables(of_level, codewords, runs, *_ranks(*shape[:2]))


@lru_cache(maxsize=2 * prefix.EMPTY)
def codewords_of(level: int, block: int, max_ones: int, max_length: int) -> NDArray[np.uint32]:
    """The codeword of every block at a level >= 0: uint32 (2**block,)."""
    runs = np.array(
        [
            (run.start, max_length - run.length, run.rank)
            for run in prefix.runs(level, block, max_ones, max_length)
        ]
    )
    found = np.empty(1 << block, np.uint32)
    fill_codewords(max_ones if level < prefix.EMPTY else 0, runs, max_length, *_ranks(block, max_ones), found)
    return found


@lru_cache(maxsize=16)
def _ranks(block: int, max_ones: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """What ranks are summed of: (block, max_ones + 1) i over j; the first rank of every number of ones."""
    binomials = [[comb(i, j) for j in range(max_ones + 1)] for i in range(block)]
    return np.array(binomials), np.array([prefix.n_symbols(block, j - 1) for j in range(max_ones + 1)])


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class BlockProposal(Proposal):
    """Blocks, levels and the classes of rows and columns.

    Attributes:
        code: blocks and levels.
        row_classes: int64 (rows,).
        col_classes: int64, of columns or of blocks of them.
        codeword_bits: length of all codewords; 14 for each weight that none tells.
    """

    NAME: ClassVar[str] = Block.NAME
    CONFIG_BYTES: ClassVar[int] = CONFIG_BYTES

    code: BlockCode
    row_classes: Levels
    col_classes: Levels
    codeword_bits: float

    @classmethod
    def of(cls, wanted: WantedMask) -> BlockProposal:
        """See :class:`Proposal`."""
        mask, cols = wanted.words, wanted.cols
        sample = mask[:: max(1, len(mask) // SAMPLE_ROWS)]
        none, one = np.zeros(cols, np.int64), np.zeros(1, np.int64)
        candidate = min(
            CANDIDATES, key=lambda c: _fit(_ones_of(sample, cols, c[0]), none, one, _block_costs(*c))[0]
        )
        ones, table = _ones_of(mask, cols, candidate[0]), _block_costs(*candidate)
        rows = len(mask)
        _, row_levels, row_classes = _fit(ones, none, one, table)
        by_block = _fit(np.ascontiguousarray(ones.T), row_classes, row_levels, table)[1:]
        by_column = _fit_columns(mask, cols, row_classes, row_levels)
        choices = []
        for columns, (col_levels, col_classes) in ((False, by_block), (True, by_column)):
            code = BlockCode(
                rows=rows,
                cols=cols,
                block=candidate[0],
                max_ones=candidate[1],
                max_length=candidate[2],
                by_column=columns,
                row_levels=(0,),
                col_levels=tuple(map(int, col_levels)),
            )
            if columns and len(col_levels) == 1:
                continue
            order, classes = code.col_order(col_classes)
            if columns:
                count_blocks(move_columns(mask, np.argsort(order)), cols, code.block, ones)
            bits, row_levels, row_classes = _fit(ones, classes, col_levels, table)
            code = replace(code, row_levels=tuple(map(int, row_levels)))
            codewords = bits - rows * block.width(code.row_levels)
            bits = bits * NETWORK_COST + code.n_col_classes * block.width(code.col_levels)
            choices.append((bits, codewords, code, row_classes, col_classes))
        bits, codewords, code, row_classes, col_classes = min(choices, key=lambda choice: choice[0])
        return cls(
            wanted=wanted,
            bits=bits + 8 * CONFIG_BYTES,
            code=code,
            row_classes=row_classes,
            col_classes=col_classes,
            codeword_bits=codewords,
        )

    @classmethod
    def typical_bits(cls, density: float) -> float:
        """See :class:`Proposal`."""
        best = float("inf")
        for block_bits, max_ones, max_length in CANDIDATES:
            j = np.arange(block_bits + 1)
            share = (
                np.array([comb(block_bits, int(n)) for n in j])
                * density**j
                * (1 - density) ** (block_bits - j)
            )
            table = costs(block_bits, max_ones, max_length)
            best = min(best, float((table @ share).min()) / UNIT / block_bits)
        return best * NETWORK_COST

    def encode(self, riders: CodedPlanes, missing: NDArray[np.int64], jobs: int) -> Block:
        """See :class:`Proposal`."""
        code, mask, cols = self.code, self.wanted.words, self.wanted.cols
        rows = code.rows
        row_levels = np.array(code.row_levels, np.int64)[self.row_classes]
        order, col_classes = code.col_order(self.col_classes)
        col_levels = np.array(code.col_levels, np.int64)[col_classes]
        sorted_mask = move_columns(mask, np.argsort(order)) if code.by_column else mask
        n_raw, n_depths = code.depths()
        n_parts, n_groups = code.parts()
        raw = np.zeros((rows * n_raw, n_chunks(code.n_blocks)), np.uint32)
        care = np.empty((rows, n_parts * n_groups * n_depths), np.uint32)
        plane, missed = np.empty_like(care), np.zeros_like(mask)
        places = block.places_of(self.row_classes)
        tables = encoding_tables(code)
        some_missed = split_kernel(
            sorted_mask, cols, code.block, code.max_ones, code.max_length, n_raw, n_parts * n_groups,
            np.argsort(code.depth_order()), places, row_levels, col_levels, *tables, raw, care, plane, missed,
        )  # fmt: skip
        plane_rows, plane_cols = code.plane_shape()
        n_care = popcount(care)
        layout = depths.choose_layout(plane_rows, plane_cols, n_care)
        shape = (plane_rows, n_groups * n_depths)
        source = PlaneSource(care.reshape(shape), plane.reshape(1, *shape))
        stored, wrong = encode_planes(depths.NETWORK, source, layout, n_care, "elimination", None, jobs)
        if some_missed and code.by_column:
            missed = move_columns(missed, order)
        untold = _ones(missed, cols) if some_missed else NO_CORRECTIONS
        parts = [
            corrections.pack_fields(self.row_classes.astype(np.uint64), block.width(code.row_levels)),
            corrections.pack_fields(self.col_classes.astype(np.uint64), block.width(code.col_levels)),
            bitmap.to_bytes(raw, code.n_blocks),
            np.ascontiguousarray(stored, "<u4").reshape(-1).view(np.uint8),
            corrections.pack(wrong, plane_rows * plane_cols, 1),
            corrections.pack(untold, rows * cols, 1),
        ]
        return Block(
            shape=(rows, cols),
            data=np.concatenate(parts),
            code=code,
            layout=layout,
            m_lane=stored.shape[2],
            n_wrong=len(wrong),
            n_corrections=len(untold),
        )


def _fit(
    ones: NDArray[np.uint8], classes: Levels, levels: Levels, table: NDArray[np.float64]
) -> tuple[float, Levels, Levels]:
    """:func:`_palette` of the lines of ``ones`` (lines, blocks), whose blocks have the levels of their classes."""

    def by_level(begin: int, end: int) -> NDArray[np.float64]:
        counts = np.zeros((end - begin, len(levels), len(table)), np.int64)
        count_ones_by_class(ones[begin:end], classes, counts)
        return _level_costs(counts, levels, table)

    return _palette(by_level, len(ones), UNIT)


def _fit_columns(mask: Words, cols: int, row_classes: Levels, row_levels: Levels) -> tuple[Levels, Levels]:
    """Levels of columns and the class of each, where rows have levels, by the entropy of their weights."""
    if len(mask) < MIN_ROWS:
        return np.zeros(1, np.int64), np.zeros(cols, np.int64)
    counts = np.zeros((cols, len(row_levels), 2), np.int64)
    count_columns(mask, row_classes, counts)

    def by_level(begin: int, end: int) -> NDArray[np.float64]:
        return _level_costs(counts[begin:end], row_levels, _weight_costs())

    return _palette(by_level, cols, FINE_UNIT)[1:]


def _ones_of(mask: Words, cols: int, block_bits: int) -> NDArray[np.uint8]:
    """Ones of each block, uint8 (rows, n_blocks)."""
    ones = np.empty((len(mask), -(-cols // block_bits)), np.uint8)
    count_blocks(mask, cols, block_bits, ones)
    return ones


def _level_costs(
    counts: NDArray[np.int64], others: Levels, table: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Cost of each line (rows, say) at each level, (n, 2 * EMPTY + 1); ``table`` is of :func:`_extended`."""
    found = np.empty((len(counts), 2 * prefix.EMPTY + 1))
    sum_costs(counts, others, table, found)
    return found


def _extended(costs: NDArray[np.float64]) -> NDArray[np.float64]:
    """Costs (2 * EMPTY + 1, k) for sums of two levels, which count as +-EMPTY beyond: (k, 4 * EMPTY + 1)."""
    return np.pad(costs.T, ((0, 0), (prefix.EMPTY, prefix.EMPTY)), mode="edge")


@lru_cache(maxsize=16)
def _block_costs(block: int, max_ones: int, max_length: int) -> NDArray[np.float64]:
    """:func:`costs`, extended."""
    return _extended(costs(block, max_ones, max_length))


@lru_cache(maxsize=1)
def _weight_costs() -> NDArray[np.float64]:
    """Cost of a pruned and a kept weight by its level, in 1/4096 bits, extended."""
    odds = 2.0 ** (np.arange(-prefix.EMPTY, prefix.EMPTY + 1) / 4)
    return _extended(np.round(FINE_UNIT * np.log2(np.stack([1 + 1 / odds, 1 + odds], axis=1))))


def _palette(
    by_level: Callable[[int, int], NDArray[np.float64]], n: int, unit: int
) -> tuple[float, Levels, Levels]:
    """A few levels that serve ``n`` lines.

    Args:
        by_level: costs of lines begin .. end - 1 at each level, (end - begin, 2 * EMPTY + 1), in whole numbers.
        n: lines.
        unit: of the costs, in a bit.

    Returns:
        ``(bits, levels, classes)``: cost of the lines with their classes, levels rising, class of each line.
    """
    if not n:
        return 0.0, np.zeros(1, np.int64), np.zeros(0, np.int64)
    n_all = 2 * prefix.EMPTY + 1
    starts = range(0, n, LINES)
    whole = np.zeros((n_all, n_all))  # cost at each level of the lines whose best level is each
    is_best = np.zeros(n_all, np.bool_)
    held = by_level(0, n) if n <= LINES else None
    for begin in starts:
        costs = by_level(begin, min(begin + LINES, n)) if held is None else held
        groups = costs.argmin(axis=1)
        sum_groups(costs, groups, whole)
        is_best[groups] = True
    found, classes = np.empty(block.MAX_LEVELS, np.int64), np.empty(n, np.int64)
    n_levels = cheapest_levels(whole[is_best], n, unit, LEVEL_BITS, found)
    levels = np.array(sorted(set(found[:n_levels].tolist())))
    total = 0.0
    for begin in starts:
        costs = by_level(begin, min(begin + LINES, n)) if held is None else held
        total += assign_levels(costs, levels, classes[begin : begin + LINES])
    is_used = np.bincount(classes, minlength=len(levels)) > 0
    bits = total / unit + n * (int(is_used.sum()) - 1).bit_length()
    return bits, levels[is_used] - prefix.EMPTY, (is_used.cumsum() - 1)[classes]


def _ones(words: Words, cols: int) -> Corrections:
    """Positions of the ones of ``words`` (rows, chunks), as corrections."""
    row, chunk = np.nonzero(words)
    bits = (words[row, chunk, None] >> np.arange(32, dtype=np.uint32)) & np.uint32(1)
    at, j = np.nonzero(bits)
    return Corrections(row[at] * cols + 32 * chunk[at] + j, np.ones(at.size, np.uint64))
