"""Blocks of mask bits from the planes of their codewords: the decoder of the mask codec ``block``."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from xorpack.code import depths
from xorpack.code.words import Words, n_chunks, tail_mask
from xorpack.masks.block import prefix
from xorpack.masks.block.joining_kernels import join_kernel, move_kernel

FAST_BITS = 10
"""Bits of a codeword that the decoder looks up at once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockCode:
    """How a matrix is cut into blocks, and their codes.

    Attributes:
        rows, cols: of the mask.
        block, max_ones, max_length: see :mod:`xorpack.masks.block.prefix`.
        by_column: whether columns have classes, and blocks are of columns in the order of their classes; else blocks
            of neighbouring columns have classes.
        row_levels, col_levels: levels by class.
    """

    rows: int
    cols: int
    block: int
    max_ones: int
    max_length: int
    by_column: bool = False
    row_levels: tuple[int, ...]
    col_levels: tuple[int, ...]

    @property
    def n_blocks(self) -> int:
        """Blocks of a row."""
        return -(-self.cols // self.block)

    @property
    def n_col_classes(self) -> int:
        """Classes that are stored for columns, or for blocks."""
        return self.cols if self.by_column else self.n_blocks

    def col_order(self, col_classes: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """``(order, classes)``: the column at every place of a row, and the class of every block of places."""
        if not self.by_column:
            return np.arange(self.cols, dtype=np.int64), col_classes
        order = np.argsort(col_classes, kind="stable").astype(np.int64)
        middle = np.minimum(np.arange(self.n_blocks) * self.block + self.block // 2, self.cols - 1)
        return order, col_classes[order[middle]]

    def runs(self, level: int) -> tuple[prefix.Run, ...]:
        """The code of a level of either sign."""
        return prefix.runs(abs(level), self.block, self.max_ones, self.max_length)

    def levels(self) -> list[int]:
        """The absolute levels that may occur, rising."""
        return sorted({min(abs(a + b), prefix.EMPTY) for a in self.row_levels for b in self.col_levels})

    def depths(self) -> tuple[int, int]:
        """``(n_raw, n_depths)``: length of the shortest codeword, and of the longest without these bits."""
        return _depths(self)

    def depth_order(self) -> NDArray[np.int64]:
        """The depth of every place in a group: shallow ones, which most blocks care for, are spread among the deep."""
        return depths.order(self.depths()[1])

    def parts(self) -> tuple[int, int]:
        """``(n_parts, n_groups)`` of a row: its blocks are dealt to ``n_parts * n_groups`` words, one by one."""
        return depths.parts(n_chunks(self.n_blocks), self.depths()[1])

    def plane_shape(self) -> tuple[int, int]:
        """Rows and columns of the plane."""
        n_parts, n_groups = self.parts()
        return self.rows * n_parts, 32 * n_groups * self.depths()[1]


@lru_cache(maxsize=1024)
def _depths(code: BlockCode) -> tuple[int, int]:
    codes = [code.runs(level) for level in code.levels()]
    n_raw = min(runs[0].length for runs in codes)
    return n_raw, max(runs[-1].length for runs in codes) - n_raw


class DecodingTables(NamedTuple):
    """How the codes that occur are read.

    Attributes:
        of_level: int64 (EMPTY + 1,), the table of an absolute level.
        runs: int64 (n, R, 3), start, free bits and rank of every run; fillers start past every codeword.
        fast: uint32 (n, 2**FAST_BITS), the symbol that the first bits of a codeword decide, or NOT_FAST.
        hints: uint8 of the same shape, the run in which to begin the search else.
    """

    of_level: NDArray[np.int64]
    runs: NDArray[np.int64]
    fast: NDArray[np.uint32]
    hints: NDArray[np.uint8]


@lru_cache(maxsize=64)
def decoding_tables(code: BlockCode) -> DecodingTables:
    """Tables of all codes of a mask."""
    of_level, runs = numbered_runs(code)
    fast = np.full((len(runs), 1 << FAST_BITS), NOT_FAST, np.uint32)
    hints = np.zeros(fast.shape, np.uint8)
    symbols = prefix.symbols(code.block, code.max_ones)
    firsts = np.arange(1 << FAST_BITS) << code.max_length >> FAST_BITS
    for n, level in enumerate(code.levels()):
        found = code.runs(level)
        hints[n] = np.searchsorted([run.start for run in found], firsts, side="right") - 1
        for run in found:
            if run.length <= min(FAST_BITS, code.max_length):
                begin, each = run.start << FAST_BITS >> code.max_length, 1 << FAST_BITS - run.length
                ranks = slice(run.rank, run.rank + run.n)
                fast[n, begin : begin + run.n * each] = np.repeat(symbols[ranks], each)
    return DecodingTables(of_level, runs, fast, hints)


def numbered_runs(code: BlockCode) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """``of_level`` and ``runs`` of :class:`DecodingTables`."""
    codes = [code.runs(level) for level in code.levels()]
    of_level = np.zeros(prefix.EMPTY + 1, np.int64)
    of_level[code.levels()] = np.arange(len(codes))
    n_runs = max(map(len, codes))
    runs = np.zeros((len(codes), n_runs, 3), np.int64)
    for n, found in enumerate(codes):
        padded = [*found, *[found[-1]] * (n_runs - len(found))]
        runs[n] = [(run.start, code.max_length - run.length, run.rank) for run in padded]
        runs[n, len(found) :, 0] = 1 << code.max_length
    return of_level, runs


NOT_FAST = 0xFFFFFFFF
"""No symbol: blocks of 32 bits have a few ones at the most."""


def join(
    code: BlockCode,
    tables: DecodingTables,
    row_classes: NDArray[np.int64],
    col_classes: NDArray[np.int64],
    raw: Words,
    plane: Words,
    places: NDArray[np.int64],
) -> Words:
    """Mask words, uint32 (rows, chunks), of some rows, their columns in the order of blocks.

    Args:
        code: of the whole mask.
        tables: of the code.
        row_classes, col_classes: of these rows, of all blocks of a row.
        raw: uint32 (rows * n_raw, words), row after row.
        plane: uint32 (rows * n_parts, n_groups * n_depths).
        places: place in ``plane`` of each of the rows.
    """
    mask = np.empty((len(row_classes), n_chunks(code.cols)), np.uint32)
    if not mask.size:
        return mask
    n_raw, n_depths = code.depths()
    n_words = math.prod(code.parts())
    join_kernel(
        np.ascontiguousarray(plane).reshape(-1),
        np.ascontiguousarray(raw).reshape(-1),
        places * (n_words * n_depths),
        n_raw,
        n_words,
        code.depth_order(),
        code.block,
        code.max_length,
        np.array(code.row_levels, np.int64)[row_classes],
        np.array(code.col_levels, np.int64)[col_classes],
        *tables,
        prefix.symbols(code.block, code.max_ones),
        mask,
    )
    mask &= tail_mask(code.cols)
    return mask


def move_columns(words: Words, to: NDArray[np.int64]) -> Words:
    """Words (rows, chunks) whose bit at column ``to[c]`` is bit c of ``words``; bits past the last column are 0."""
    moved = np.zeros_like(words)
    move_kernel(words, to, moved)
    return moved
