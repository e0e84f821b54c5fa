"""Encoder of the mask codec ``block``: which blocks, which levels, and their code.

All choices are made by exact cost in codeword bits, counted in whole numbers, so that they are the same on every
machine. For given block columns the best level of each row follows from a histogram of its blocks' ones; a few
levels that serve all rows well are found by dynamic programming over rows sorted by their best level; then block
columns likewise, and rows once more.
"""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from math import comb
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from xorpack import corrections
from xorpack.bitops import count_ones, trailing_zeros
from xorpack.corrections import Corrections
from xorpack.encoding.gather import PlaneSource
from xorpack.encoding.rings import encode_planes
from xorpack.layout import Layout
from xorpack.masks import bitmap, block, prefix
from xorpack.masks.joining import BlockCode, decoding_tables, join, move_columns
from xorpack.words import Words, n_chunks, popcount

CANDIDATES = ((8, 8, 14), (12, 12, 19), (16, 6, 20), (24, 4, 20), (32, 3, 20))
"""Block, ones and length of the codes that are tried."""

UNIT = 64
"""Costs of blocks are counted in 1/64 bits."""

FINE_UNIT = 4096
"""Costs of weights are counted in 1/4096 bits."""

CORRECTION = 14
"""Bits of a weight that no codeword tells, about."""

NETWORK_COST = 1.012
"""Stored bits per codeword bit, corrections included, about."""

CONFIG_BYTES = 100
"""What the config of a mask takes in a file's header, about."""

MIN_LANE_CODE = 50
"""Stored words of a lane at the least: a rate is a whole number of them."""

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


def ideal_cost(density: float) -> float:
    """Bits per weight of the best candidate on an i.i.d. mask that keeps ``density`` of the weights."""
    best = float("inf")
    for block_bits, max_ones, max_length in CANDIDATES:
        j = np.arange(block_bits + 1)
        share = (
            np.array([comb(block_bits, int(n)) for n in j]) * density**j * (1 - density) ** (block_bits - j)
        )
        best = min(best, float((costs(block_bits, max_ones, max_length) @ share).min()) / UNIT / block_bits)
    return best * NETWORK_COST


class Plan:
    """How a mask is to be coded.

    Attributes:
        code: blocks and levels.
        row_classes: int64 (rows,).
        col_classes: int64, of columns or of blocks of them.
        codeword_bits: length of all codewords; 14 for each weight that none tells.
        bits: expected size, that of the config included.
    """

    def __init__(self, mask: Words, cols: int) -> None:
        """The best plan for ``mask``, uint32 (rows, chunks)."""
        found = [(*_fit_rows(mask, cols, candidate), candidate) for candidate in CANDIDATES]
        _, ones, candidate = min(found, key=lambda item: item[0])
        table = costs(*candidate)
        rows, n_blocks = ones.shape
        none, one = np.zeros(n_blocks, np.int64), np.zeros(1, np.int64)
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
        bits, self.codeword_bits, self.code, self.row_classes, self.col_classes = min(
            choices, key=lambda choice: choice[0]
        )
        self.bits = bits + 8 * CONFIG_BYTES


def _fit(
    ones: NDArray[np.uint8], classes: Levels, levels: Levels, table: NDArray[np.float64]
) -> tuple[float, Levels, Levels]:
    """:func:`_palette` of the lines of ``ones`` (lines, blocks), whose blocks have the levels of their classes."""
    return _palette(_level_costs(_histogram(ones, classes, len(levels), table), levels, table), UNIT)


def _fit_columns(mask: Words, cols: int, row_classes: Levels, row_levels: Levels) -> tuple[Levels, Levels]:
    """Levels of columns and the class of each, where rows have levels, by the entropy of their weights."""
    counts = np.zeros((cols, len(row_levels), 2), np.int64)
    count_columns(mask, row_classes, counts)
    odds = 2.0 ** (np.arange(-prefix.EMPTY, prefix.EMPTY + 1) / 4)
    table = np.round(FINE_UNIT * np.log2(np.stack([1 + 1 / odds, 1 + odds], axis=1)))
    return _palette(_level_costs(counts, row_levels, table), FINE_UNIT)[1:]


def _fit_rows(mask: Words, cols: int, candidate: tuple[int, int, int]) -> tuple[float, NDArray[np.uint8]]:
    """Bits where rows have levels and columns have none, and the ones of each block, uint8 (rows, n_blocks)."""
    ones = np.empty((len(mask), -(-cols // candidate[0])), np.uint8)
    count_blocks(mask, cols, candidate[0], ones)
    table = costs(*candidate)
    none = np.zeros(ones.shape[1], np.int64)
    return _fit(ones, none, np.zeros(1, np.int64), table)[0], ones


def _histogram(ones: NDArray[np.uint8], classes: Levels, n: int, table: NDArray[Any]) -> NDArray[np.int64]:
    counts = np.zeros((len(ones), n, table.shape[1]), np.int64)
    count_ones_by_class(ones, classes, counts)
    return counts


def _level_costs(
    counts: NDArray[np.int64], others: Levels, table: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Cost of each line (rows, say) at each level, (n, 2 * EMPTY + 1): whole numbers, exact in float64."""
    at = np.arange(-prefix.EMPTY, prefix.EMPTY + 1)[:, None] + others
    weights = table[np.clip(at, -prefix.EMPTY, prefix.EMPTY) + prefix.EMPTY]  # (levels, classes, ones)
    flat: NDArray[np.float64] = counts.reshape(len(counts), weights[0].size).astype(np.float64)
    found: NDArray[np.float64] = flat @ weights.reshape(len(weights), -1).T
    return found


def _palette(by_level: NDArray[np.float64], unit: int) -> tuple[float, Levels, Levels]:
    """``(bits, levels, classes)``: a few levels for lines whose cost at each level is given, and each line's class."""
    n = len(by_level)
    if not n:
        return 0.0, np.zeros(1, np.int64), np.zeros(0, np.int64)
    best = by_level.argmin(axis=1)
    present = np.unique(best)
    totals = np.zeros((len(present) + 1, by_level.shape[1]))
    for i, level in enumerate(present):
        totals[i + 1] = by_level[best == level].sum(axis=0)
    sums = totals.cumsum(axis=0)
    segment = sums[None, :, :] - sums[:, None, :]  # lines whose best level is present[i : j]
    cheapest, which = segment.min(axis=2), segment.argmin(axis=2)
    k = len(present)
    cheapest[np.tril_indices(k + 1, -1)] = np.inf
    reached, came = cheapest[0].copy(), [np.zeros(k + 1, np.int64)]
    choices: list[tuple[float, list[int]]] = []
    for n_levels in range(1, min(block.MAX_LEVELS, k) + 1):
        if n_levels > 1:
            through = reached[:, None] + cheapest
            came.append(through.argmin(axis=0))
            reached = through.min(axis=0)
        ends, end = [], k
        for back in reversed(came):
            ends.append(int(which[back[end], end]))
            end = int(back[end])
        bits = reached[k] / unit + n * (n_levels - 1).bit_length() + 24 * n_levels
        choices.append((bits, ends[::-1]))
    _, chosen = min(choices, key=lambda choice: choice[0])
    levels = np.unique(np.array(chosen))
    classes = by_level[:, levels].argmin(axis=1)
    used, classes = np.unique(classes, return_inverse=True)
    levels = levels[used]
    bits = float(by_level[np.arange(n), levels[classes]].sum()) / unit + n * (len(levels) - 1).bit_length()
    return bits, levels - prefix.EMPTY, classes.astype(np.int64)


def encode_block(
    mask: Words, cols: int, plan: Plan, jobs: int
) -> tuple[str, dict[str, Any], NDArray[np.uint8]]:
    """``(name, config, section)`` of ``mask``, uint32 (rows, chunks), by a plan for it."""
    code = plan.code
    rows = code.rows
    row_levels = np.array(code.row_levels, np.int64)[plan.row_classes]
    order, col_classes = code.col_order(plan.col_classes)
    col_levels = np.array(code.col_levels, np.int64)[col_classes]
    sorted_mask = move_columns(mask, np.argsort(order)) if code.by_column else mask
    n_raw, n_depths = code.depths()
    n_parts, n_groups = code.parts()
    raw = np.zeros((rows * n_raw, n_chunks(code.n_blocks)), np.uint32)
    care = np.zeros((rows, n_parts * n_groups * n_depths), np.uint32)
    plane = np.zeros_like(care)
    places = block.places_of(plan.row_classes)
    tables = decoding_tables(code)
    binomials = np.array(
        [[comb(i, j) for j in range(code.max_ones + 1)] for i in range(code.block)], np.int64
    )
    first_ranks = np.array([prefix.n_symbols(code.block, j - 1) for j in range(code.max_ones + 1)], np.int64)
    split_kernel(
        sorted_mask, cols, code.block, code.max_ones, code.max_length, n_raw, n_parts * n_groups,
        np.argsort(code.depth_order()), places, row_levels, col_levels, tables.of_level, tables.runs,
        binomials, first_ranks, raw, care, plane,
    )  # fmt: skip
    plane_rows, plane_cols = code.plane_shape()
    n_care = popcount(care)
    layout = Layout.choose(plane_rows, plane_cols, n_care, lanes=_lanes(n_groups * n_depths, n_care))
    shape = (plane_rows, n_groups * n_depths)
    source = PlaneSource(care.reshape(shape), plane.reshape(1, *shape))
    stored, wrong = encode_planes(block.NETWORK, source, layout, n_care, "elimination", None, jobs)
    joined = join(code, tables, plan.row_classes, col_classes, raw, plane.reshape(shape), places)
    if code.by_column:
        joined = move_columns(joined, order)
    missed = _ones(joined ^ mask, cols)
    config = {
        "code": [code.block, code.max_ones, code.max_length, int(code.by_column)],
        "row_levels": list(code.row_levels),
        "col_levels": list(code.col_levels),
        "layout": [layout.lanes, layout.n_steps, layout.row_stride, stored.shape[2]],
        "n_corrections": [len(wrong), len(missed)],
    }
    parts = [
        corrections.pack_fields(plan.row_classes.astype(np.uint64), block.width(code.row_levels)),
        corrections.pack_fields(plan.col_classes.astype(np.uint64), block.width(code.col_levels)),
        bitmap.encode(raw, code.n_blocks),
        np.ascontiguousarray(stored, "<u4").reshape(-1).view(np.uint8),
        corrections.pack(wrong, plane_rows * plane_cols, 1),
        corrections.pack(missed, rows * cols, 1),
    ]
    return block.NAME, config, np.concatenate(parts)


def _lanes(chunks: int, n_care: int) -> int:
    """As many lanes as a row of the plane has chunks, or a part of them: none of them is ever absent, or few."""
    turns = 1
    while -(-chunks // turns) > 1 and n_care < 32 * MIN_LANE_CODE * -(-chunks // turns):
        turns += 1
    return max(1, -(-chunks // turns))


def _ones(words: Words, cols: int) -> Corrections:
    """Positions of the ones of ``words`` (rows, chunks), as corrections."""
    row, chunk = np.nonzero(words)
    bits = (words[row, chunk, None] >> np.arange(32, dtype=np.uint32)) & np.uint32(1)
    at, j = np.nonzero(bits)
    return Corrections(row[at] * cols + 32 * chunk[at] + j, np.ones(at.size, np.uint64))


@njit(cache=True, nogil=True)
def read_block(mask, r, first, n):
    """Bits ``first .. first + n - 1`` of row r of ``mask`` (rows, chunks), n <= 32."""
    chunk = first // 32
    value = np.uint64(mask[r, chunk]) >> np.uint64(first % 32)
    if first % 32 + n > 32:
        value |= np.uint64(mask[r, chunk + 1]) << np.uint64(32 - first % 32)
    return value & np.uint64((1 << n) - 1)


@njit(cache=True, nogil=True)
def count_blocks(mask, cols, block, ones):
    """Ones of every block of ``mask`` (rows, chunks): ``ones`` (rows, n_blocks), uint8; of a last, short one the
    number that a whole one would have.
    """
    for r in range(ones.shape[0]):
        for b in range(ones.shape[1]):
            n = min(block, cols - b * block)
            found = count_ones(read_block(mask, r, b * block, n))
            ones[r, b] = found if n == block else (found * block + n // 2) // n


@njit(cache=True, nogil=True)
def count_ones_by_class(ones, classes, counts):
    """Add to ``counts`` (rows, classes, block + 1) the blocks of each row by class and ones."""
    for r in range(ones.shape[0]):
        for b in range(ones.shape[1]):
            counts[r, classes[b], ones[r, b]] += 1


@njit(cache=True, nogil=True)
def count_columns(mask, classes, counts):
    """Add to ``counts`` (cols, classes, 2) the pruned and the kept weights of each column by the class of their row."""
    cols = counts.shape[0]
    for r in range(mask.shape[0]):
        for c in range(cols):
            counts[c, classes[r], (mask[r, c // 32] >> np.uint32(c % 32)) & np.uint32(1)] += 1


@njit(cache=True, nogil=True)
def split_kernel(
    mask,  # (rows, chunks) uint32
    cols,
    block,
    max_ones,
    max_length,
    n_raw,
    n_words,
    depth_places,  # (n_depths,) int64: of every depth in its group
    row_places,  # (rows,) int64: of every row in ``care`` and ``plane``
    row_levels,  # (rows,) int64
    col_levels,  # (n_blocks,) int64
    of_level,  # (EMPTY + 1,) int64
    runs,  # (n, R, 3) int64
    binomials,  # (block, max_ones + 1) int64: i over j
    first_ranks,  # (max_ones + 1,) int64: rank of the first symbol of so many ones
    raw,  # (rows * n_raw, words) uint32 of zeros, out
    care,  # (rows, padded words * n_depths) uint32 of zeros, out
    plane,  # the same, out
):
    """Codewords of all blocks, by depth. A block of too many ones gets the codeword of its first ones."""
    empty = of_level.size - 1
    for r in range(row_levels.size):
        for b in range(col_levels.size):
            n = min(block, cols - b * block)
            level = row_levels[r] + col_levels[b]
            value = read_block(mask, r, b * block, n)
            if level < 0:
                value ^= np.uint64((1 << n) - 1)
            table = of_level[min(abs(level), empty)]
            rank = np.int64(0)
            if abs(level) < empty:
                # The place among symbols of as many ones, in the combinatorial number system.
                found = 0
                while value != 0 and found < max_ones:
                    i = np.int64(trailing_zeros(value))
                    value &= value - np.uint64(1)
                    found += 1
                    rank += binomials[i, found]
                rank += first_ranks[found]
            k = 0
            while k + 1 < runs.shape[1] and runs[table, k, 2] < runs[table, k + 1, 2] <= rank:
                k += 1
            code = runs[table, k, 0] + ((rank - runs[table, k, 2]) << runs[table, k, 1])
            length = max_length - runs[table, k, 1]
            w, j = b % n_words, np.uint32(b // n_words)
            for d in range(length):
                bit = np.uint32(code >> (max_length - 1 - d)) & np.uint32(1)
                if d < n_raw:
                    raw[r * n_raw + d, b // 32] |= bit << np.uint32(b % 32)
                else:
                    at = w * depth_places.size + depth_places[d - n_raw]
                    care[row_places[r], at] |= np.uint32(1) << j
                    plane[row_places[r], at] |= bit << j
