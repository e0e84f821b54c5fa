"""Kernels of :mod:`xorpack.encoding.masks.block`: ones of blocks and columns, codewords by depth."""

from __future__ import annotations

import numpy as np

from xorpack.vector.bitops import count_ones, trailing_zeros
from xorpack.vector.compiled import njit, part


@part
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
def sum_costs(counts, weights, found):
    """``counts`` (n, k) times ``weights`` (k, levels) to ``found`` (n, levels): whole numbers, exact in float64.

    Most counts are 0. No BLAS: its threads would stand in the way of those that encode other tensors.
    """
    for i in range(counts.shape[0]):
        for level in range(found.shape[1]):
            found[i, level] = 0.0
        for k in range(counts.shape[1]):
            if counts[i, k] != 0:
                count = np.float64(counts[i, k])
                for level in range(found.shape[1]):
                    found[i, level] += count * weights[k, level]


@njit(cache=True, nogil=True)
def sum_groups(costs, groups, sums):
    """Add each line of ``costs`` (n, levels) to that of its group in ``sums`` (n_groups, levels)."""
    for i in range(costs.shape[0]):
        group = groups[i]
        for level in range(costs.shape[1]):
            sums[group, level] += costs[i, level]


@njit(cache=True, nogil=True)
def cheapest_levels(sums, cheapest, which):
    """The least cost, and the level that has it, of the groups ``i .. j - 1`` for each ``i <= j``.

    ``sums`` (n + 1, levels): running sums of the groups' costs; ``cheapest`` and ``which``: (n + 1, n + 1).
    """
    for i in range(sums.shape[0]):
        for j in range(i, sums.shape[0]):
            best, at = sums[j, 0] - sums[i, 0], 0
            for level in range(1, sums.shape[1]):
                cost = sums[j, level] - sums[i, level]
                if cost < best:
                    best, at = cost, level
            cheapest[i, j] = best
            which[i, j] = at


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
