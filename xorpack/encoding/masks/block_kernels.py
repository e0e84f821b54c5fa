"""Kernels of :mod:`xorpack.encoding.masks.block`: ones of blocks and columns, codewords by depth."""

from __future__ import annotations

import numpy as np

from xorpack.vector.bitops import count_ones, trailing_zeros
from xorpack.vector.compiled import njit, part
from xorpack.vector.symbols import split_bits


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
    full = np.uint64((1 << block) - 1)
    n_whole = cols // block
    for r in range(ones.shape[0]):
        pending, n_pending, chunk = np.uint64(0), 0, 0
        for b in range(n_whole):
            if n_pending < block:
                pending |= np.uint64(mask[r, chunk]) << np.uint64(n_pending)
                n_pending += 32
                chunk += 1
            ones[r, b] = count_ones(pending & full)
            pending >>= np.uint64(block)
            n_pending -= block
        if n_whole < ones.shape[1]:
            n = cols - n_whole * block
            ones[r, n_whole] = (count_ones(read_block(mask, r, n_whole * block, n)) * block + n // 2) // n


@njit(cache=True, nogil=True)
def count_ones_by_class(ones, classes, counts):
    """Add to ``counts`` (rows, classes, block + 1) the blocks of each row by class and ones."""
    for r in range(ones.shape[0]):
        for b in range(ones.shape[1]):
            counts[r, classes[b], ones[r, b]] += 1


@njit(cache=True, nogil=True)
def count_columns(mask, classes, counts):
    """Add to ``counts`` (cols, classes, 2) the pruned and the kept weights of each column by the class of their row.

    A word's 32 columns are counted at once: bit k of all their counts is a word, and a row is added with carries.
    """
    cols, n_classes, _ = counts.shape
    chunks = mask.shape[1]
    n_rows = np.zeros(n_classes, np.int64)
    for r in range(mask.shape[0]):
        n_rows[classes[r]] += 1
    depth = 1
    while 1 << depth <= mask.shape[0]:
        depth += 1
    sums = np.zeros((n_classes, chunks, depth), np.uint32)
    for r in range(mask.shape[0]):
        group = classes[r]
        for chunk in range(chunks):
            carry = mask[r, chunk]
            k = 0
            while carry != 0:
                both = sums[group, chunk, k] & carry
                sums[group, chunk, k] ^= carry
                carry = both
                k += 1
    for c in range(cols):
        for group in range(n_classes):
            kept = np.int64(0)
            for k in range(depth):
                kept |= np.int64((sums[group, c // 32, k] >> np.uint32(c % 32)) & np.uint32(1)) << k
            counts[c, group, 0] += n_rows[group] - kept
            counts[c, group, 1] += kept


@njit(cache=True, nogil=True)
def sum_costs(counts, others, weights, found):
    """Costs of lines at each level: ``found`` (n, levels), whole numbers, exact in float64.

    ``counts`` (n, classes, k) times ``weights`` (k, 2 * levels - 1), in which level 0 is the middle: of class c those
    from ``others[c]`` on, half the levels added. Most counts are 0. No BLAS: its threads would stand in the way of
    those that encode other tensors.
    """
    n, n_classes, n_each = counts.shape
    levels = found.shape[1]
    every = np.empty((n_classes * n_each, levels), np.float64)
    for c in range(n_classes):
        first = others[c] + levels // 2
        for k in range(n_each):
            for level in range(levels):  # a part of an array for another is half of numba's texts to compile
                every[c * n_each + k, level] = weights[k, first + level]
    for i in range(n):
        for level in range(levels):
            found[i, level] = 0.0
        for c in range(n_classes):
            for k in range(n_each):
                if counts[i, c, k] != 0:
                    count = np.float64(counts[i, c, k])
                    for level in range(levels):
                        found[i, level] += count * every[c * n_each + k, level]


@njit(cache=True, nogil=True)
def sum_groups(costs, groups, sums):
    """Add each line of ``costs`` (n, levels) to that of its group in ``sums`` (n_groups, levels)."""
    for i in range(costs.shape[0]):
        group = groups[i]
        for level in range(costs.shape[1]):
            sums[group, level] += costs[i, level]


@njit(cache=True, nogil=True)
def assign_levels(costs, levels, classes):
    """The class of each line of ``costs`` (n, any) among ``levels``: ``classes`` (n,), out; returns what all cost."""
    total = 0.0
    for i in range(costs.shape[0]):
        best = 0
        for k in range(1, levels.size):
            if costs[i, levels[k]] < costs[i, levels[best]]:
                best = k
        classes[i] = best
        total += costs[i, levels[best]]
    return total


@njit(cache=True, nogil=True)
def cheapest_levels(totals, n, unit, level_bits, found):
    """Levels of least cost for ``n`` lines in groups: ``found`` (most,), out, the last group's first; how many.

    ``totals`` (groups, levels): what each group costs at each level, in ``unit`` to a bit. Groups are cut into
    stretches that share a level, which takes ``level_bits``; lines say which is theirs in whole bits.
    """
    k, n_levels = totals.shape
    sums = np.empty((k + 1, n_levels), np.float64)
    for level in range(n_levels):
        sums[0, level] = 0.0
    for i in range(k):
        for level in range(n_levels):
            sums[i + 1, level] = sums[i, level] + totals[i, level]
    # The least cost, and the level that has it, of the groups i .. j - 1 for each i <= j.
    cheapest, which = np.empty((k + 1, k + 1), np.float64), np.empty((k + 1, k + 1), np.int64)
    for i in range(k + 1):
        for j in range(i, k + 1):
            best, at = sums[j, 0] - sums[i, 0], 0
            for level in range(1, n_levels):
                cost = sums[j, level] - sums[i, level]
                if cost < best:
                    best, at = cost, level
            cheapest[i, j] = best
            which[i, j] = at
    most = found.size if found.size < k else k
    came = np.empty((most, k + 1), np.int64)
    reached, before = np.empty(k + 1, np.float64), np.empty(k + 1, np.float64)
    for j in range(k + 1):
        reached[j] = cheapest[0, j]
        came[0, j] = 0
    least, n_least = 0.0, 0
    width = 0
    for m in range(1, most + 1):
        if m > 1:
            for j in range(k + 1):
                before[j] = reached[j]
            for j in range(k + 1):
                at = 0
                for i in range(1, j + 1):
                    if before[i] + cheapest[i, j] < before[at] + cheapest[at, j]:
                        at = i
                came[m - 1, j] = at
                reached[j] = before[at] + cheapest[at, j]
        while 1 << width < m:
            width += 1
        bits = reached[k] / unit + n * width + level_bits * m
        if m == 1 or bits < least:
            least, n_least = bits, m
    end = k
    for m in range(n_least):
        back = came[n_least - 1 - m, end]
        found[m] = which[back, end]
        end = back
    return n_least


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
    codewords,  # (n, 2**block) uint32: of each block, as ``codeword`` gives them; (n, 0) where that is too much
    runs,  # (n, R, 3) int64
    binomials,  # (block, max_ones + 1) int64: i over j
    first_ranks,  # (max_ones + 1,) int64: rank of the first symbol of so many ones
    raw,  # (rows * n_raw, words) uint32 of zeros, out
    care,  # (rows, padded words * n_depths) uint32, out
    plane,  # the same, out
    missed,  # (rows, chunks) uint32 of zeros, out
):
    """Codewords of all blocks, by depth. A block of too many ones gets the codeword of its first ones; ``missed`` has
    the others, and is returned to have any.
    """
    empty = of_level.size - 1
    n_blocks = col_levels.size
    n_depths = depth_places.size
    raw_words = raw.shape[1]
    heads = np.zeros(32 * raw_words, np.uint32)
    tails, cares = np.zeros(32 * n_words, np.uint32), np.zeros(32 * n_words, np.uint32)
    bits, kept = np.zeros(32, np.uint32), np.zeros(32, np.uint32)
    deep = (np.uint32(1) << np.uint32(n_depths)) - np.uint32(1)
    any_missed = False
    for r in range(row_levels.size):
        at = 0
        turn = 0
        for b in range(n_blocks):
            n = min(block, cols - b * block)
            level = row_levels[r] + col_levels[b]
            value = read_block(mask, r, b * block, n)
            if level < 0:
                value ^= np.uint64((1 << n) - 1)
            table = of_level[min(abs(level), empty)]
            limit = max_ones if abs(level) < empty else 0
            if codewords.shape[1] > 0:
                found = codewords[table, value]
            else:
                found = codeword(value, limit, runs[table], max_length, binomials, first_ranks)
            if limit < block and count_ones(value) > limit:
                for _ in range(limit):
                    value &= value - np.uint64(1)
                mark_block(missed, r, b * block, value)
                any_missed = True
            code, length = found & np.uint32(0xFFFFFF), np.int64(found >> np.uint32(24))
            heads[b] = code >> np.uint32(max_length - n_raw)
            tails[32 * at + turn] = (code >> np.uint32(max_length - n_raw - n_depths)) & deep
            cares[32 * at + turn] = deep ^ (deep >> np.uint32(length - n_raw))
            at += 1
            if at == n_words:
                at = 0
                turn += 1
        for w in range(raw_words):
            split_bits(heads, 32 * w, bits, 0, 1, n_raw)
            for d in range(n_raw):
                raw[r * n_raw + d, w] = bits[n_raw - 1 - d]
        place = row_places[r]
        for w in range(n_words):
            split_bits(tails, 32 * w, bits, 0, 1, n_depths)
            split_bits(cares, 32 * w, kept, 0, 1, n_depths)
            for d in range(n_depths):
                plane[place, w * n_depths + depth_places[d]] = bits[n_depths - 1 - d]
                care[place, w * n_depths + depth_places[d]] = kept[n_depths - 1 - d]
    return any_missed


@njit(cache=True, nogil=True)
def fill_codewords(limit, runs, max_length, binomials, first_ranks, found):
    """:func:`codeword` of every block: ``found`` (2**block,) uint32, out."""
    for value in range(found.size):
        found[value] = codeword(np.uint64(value), limit, runs, max_length, binomials, first_ranks)


@part
def codeword(value, limit, runs, max_length, binomials, first_ranks):
    """The codeword of a block's first ``limit`` ones, then zeros to ``max_length`` bits; from bit 24 on its length."""
    # The place among symbols of as many ones, in the combinatorial number system.
    rank, n = np.int64(0), 0
    while value != 0 and n < limit:
        i = np.int64(trailing_zeros(value))
        value &= value - np.uint64(1)
        n += 1
        rank += binomials[i, n]
    rank += first_ranks[n]
    k = 0
    while k + 1 < runs.shape[0] and runs[k, 2] < runs[k + 1, 2] <= rank:
        k += 1
    code = runs[k, 0] + ((rank - runs[k, 2]) << runs[k, 1])
    return np.uint32(code | (max_length - runs[k, 1]) << 24)


@part
def mark_block(words, r, first, value):
    """Set in row r of ``words`` (rows, chunks) the bits of ``value`` from bit ``first`` on."""
    while value != 0:
        c = first + np.int64(trailing_zeros(value))
        value &= value - np.uint64(1)
        words[r, c // 32] |= np.uint32(1) << np.uint32(c % 32)
