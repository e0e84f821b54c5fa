"""Elimination as in :mod:`xorpack.encoding.rings.elimination_kernels`, eight rows and eight columns at a time.

The same codes come out, whatever the order of the work: which columns have pivots in the end, and which equations
depend on earlier ones, are facts of the equations. Pivots are kept as maps (:mod:`xorpack.vector.gf2_bytes`): for every
byte of the stored words, what is to be added to a row that has these 8 bits there, so that no bit of a pivot stays. New
pivots are added to the maps of their bytes alone: the pivots that stand there have reduced them already.
"""

from __future__ import annotations

import numpy as np

from xorpack.encoding.rings.elimination_kernels import solve_border, take_border
from xorpack.vector.bitops import count_ones, deposit, trailing_zeros
from xorpack.vector.compiled import inlined, njit, part
from xorpack.vector.gf2_bytes import N_GROUPS, free_bytes, join_tails, put_equations, reduce_rows, used_bytes
from xorpack.vector.gf2_pivots import VIEW, add_to_map, find_pivots, mix_groups, solve_pair
from xorpack.vector.llvm import apart
from xorpack.vector.symbols import bring

AHEAD = 10
"""Words whose maps are brought near before they are made: what is not there yet has to come from memory, too."""


# Without numba's runtime arrays are not counted by references, which took an eighth of the time; none is made here.
@njit(cache=True, nogil=True, _nrt=False)
def eliminate_maps(
    care,  # (lanes * n_steps,) uint32
    planes,  # (q * lanes * n_steps,) uint32
    ring,  # q, lanes, n_steps, stored words of a lane
    schedule,  # XorNetwork.schedule()
    taps,  # XorNetwork.taps()
    window,
    n_border,  # 64-bit words of the border, 0: its columns are fixed to 0
    shape,  # of rows: a tuple as long as their window, one as long as their tail, with border and right-hand side
    patterns,  # of :func:`xorpack.encoding.rings.elimination.patterns_of`
    maps,  # (bytes of all pairs' maps,) uint8, scratch
    words,  # the same as uint64
    has,  # (even, > m + 32,) uint32 of zeros: which columns of a stored word have a pivot
    pairs,  # the same as uint64
    standing,  # the same as uint8
    groups,  # (N_GROUPS of them,) uint8 of zeros, scratch
    rows,  # (8 * N_GROUPS * width,) uint64, scratch
    where,  # (2 * 8 * N_GROUPS,) int64, scratch
    tails,  # (64 * N_GROUPS,) uint64, scratch
    work,  # (64,) uint64, scratch
    numbers,  # (7,) int64 of zeros, scratch
    border,  # (64 * n_border, n_border + 1) uint64, out
    has_border,  # (n_border + 1,) uint64 of zeros, out
    most,  # corrections with which the ring is given up
    positions,  # (n_care,) int64, out
    values,  # (n_care,) uint64, out
):
    """Maps of all equations, for :func:`solve_maps`; returns the number of corrections so far.

    While pivots of some rows are found, one after another, the next rows are gathered, for which nothing is waited.
    """
    m, half, n = ring[1] * ring[3], len(shape[0]), 8 * N_GROUPS
    size, origin = 64 * (half + len(shape[1])), 8 * (window // 2)
    cursor, turn, n_next = numbers[:7], np.int64(0), np.int64(0)
    sums, mixing, tail = work[8:24], work[24:28], work[28 : 29 + n_border]
    cursor[2] = care[0] if care.size else 0
    n_wrong = np.int64(0)  # with a literal, what is called below would be compiled twice
    full, near, first_next = window, window, np.int64(0)
    while care.size > 0:
        n_rows, first, high = n_next, first_next, cursor[3] + window
        begin = first - (first & 1)
        high = min(high, begin + 2 * half, m)
        if n_rows > 0:
            reduce_rows(rows, groups, maps, pairs, first, window // 2, shape)
            full = max(full, first)
            while full < high and has[np.uint64(full)] == np.uint32(0xFFFFFFFF):
                full += 1
            while near < full + AHEAD and near < m:
                for line in range(0, 4 * size, 64):
                    bring(maps, size * (4 * near - origin) + line)
                near += 1
        left = (np.uint64(1) << np.uint64(n_rows)) - np.uint64(1)
        free, base, seen, is_first = np.uint64(0), 4 * full, full, True
        while True:
            while left != 0 and free == 0 and seen < high:
                free = free_bytes(has, seen)
                n_bytes = 4 * (high - seen)
                if n_bytes < 64:
                    free &= (np.uint64(1) << np.uint64(n_bytes)) - np.uint64(1)
                base = 4 * seen
                seen += 16
                if half <= 8:
                    free &= used_bytes(groups, shape) >> np.uint64(base - 4 * begin)
            taken = np.uint64(0)
            if free != 0:
                taken = find_pivots(
                    groups, left, free, base - 4 * begin, words, standing, base, origin, sums, mixing, shape
                )
            if is_first:
                is_first, turn = False, n - turn
                n_next, first_next = gather_equations(
                    cursor, care, planes, ring, schedule, taps, window, n_border, shape, patterns, rows,
                    where[turn : turn + n], work,
                )  # fmt: skip
            if free == 0:
                break
            free = add_pivots(groups, taken, free, base, begin, maps, standing, origin, sums, shape)
            took = left & (taken >> np.uint64(8 * VIEW))
            left ^= took
            if left == 0:
                break
            if took != 0:
                mix_groups(groups, mixing, shape)
        if left != 0:
            join_tails(groups, tails, shape)
            n_wrong = take_rest(
                tails,
                left,
                where[n - turn :],
                len(shape[1]),
                tail,
                border,
                has_border,
                positions,
                values,
                n_wrong,
            )
        if n_wrong >= most or n_next == 0:
            break
    return n_wrong


@inlined
def gather_equations(
    cursor, care, planes, ring, schedule, taps, window, n_border, shape, patterns, rows, where, four
):
    """As :func:`~xorpack.encoding.rings.elimination_kernels.gather_rows`; rows that are left over are 0.

    Their windows begin with the pair of words in which the first one's begins. The equations of a word's bits differ by
    a rotation of the stored words, those of a row of the network by where its window begins: ``patterns`` has what all
    are made from. Both ends of the ring are apart.
    ``four``: uint64, scratch, of which two words hold the first four planes, bits of two in turn each.
    ``cursor``: int64 (7,): word of the ring and step, care bits of that word that are left, start of its window, its
    row of the network, what is left of ``(t - t % hold) * num / den``, and ``t % hold``.
    """
    q, lanes, n_steps, m_lane = ring
    n_in, num, den, hold = schedule
    m, n_words, n_network = lanes * m_lane, lanes * n_steps, taps[0].shape[0]
    half = len(shape[0])
    width = (half + len(shape[1]) + 7) // 8 * 8
    lead = 2 * half - window  # words that a window may begin late
    size = lead + 2 * width
    word, t, bits, start, row, part, held = (
        cursor[0], cursor[1], np.uint32(cursor[2]), cursor[3], cursor[4], cursor[5], cursor[6],
    )  # fmt: skip
    even, odd = np.uint64(0x5555555555555555), np.uint64(0xAAAAAAAAAAAAAAAA)
    n_rows = 0
    first = -1
    while n_rows < where.size and word < n_words:
        while bits == 0:
            word += 1
            t += 1
            if t == n_steps:
                t, row, part, held = 0, 0, 0, 0
                start = word // n_steps * m_lane
                if word == n_words:
                    break
            else:
                row = row + 1 if row + 1 < n_network else 0
                held += 1
                if held == hold:
                    held = 0
                    part += hold * num
                    while part >= den:
                        part -= den
                        start += n_in
            bits = care[np.uint64(word)]
        if word == n_words:
            break
        first = first if first >= 0 else start
        base = first - (first & 1)
        if start > base + lead:
            break
        if window <= start <= m - window:
            begin = row * size + lead - (start - base)
        else:
            begin = n_network * size
            put_pattern(patterns, begin, base, start, row, m, taps, window, n_border, width)
        four[0], four[1] = np.uint64(0), np.uint64(0)
        if q > 0:
            four[0] = deposit(np.uint64(planes[np.uint64(word)]), even)
        if q > 1:
            four[0] |= deposit(np.uint64(planes[np.uint64(word + n_words)]), odd)
        if q > 2:
            four[1] = deposit(np.uint64(planes[np.uint64(word + 2 * n_words)]), even)
        if q > 3:
            four[1] |= deposit(np.uint64(planes[np.uint64(word + 3 * n_words)]), odd)
        before = count_ones(bits)
        rest = put_equations(rows, n_rows, patterns, begin, bits, four, where, 32 * word, shape)
        n_new = np.int64(before - count_ones(rest))
        if q > 4:
            for r in range(n_rows, n_rows + n_new):
                j = np.uint32(where[r] - 32 * word)
                for p in range(4, q):
                    bit = (planes[np.uint64(word + p * n_words)] >> j) & np.uint32(1)
                    rows[(r + 1) * width - 1] |= np.uint64(bit) << np.uint64(p)
        bits = rest
        n_rows += n_new
    for k in range(n_rows * width, rows.size):
        rows[np.uint64(k)] = 0
    cursor[0], cursor[1], cursor[2], cursor[3], cursor[4], cursor[5], cursor[6] = (
        word, t, np.int64(bits), start, row, part, held,
    )  # fmt: skip
    return n_rows, first


@part
def put_pattern(patterns, begin, base, start, row, m, taps, window, n_border, width):
    """The equation of bit 0 of a word whose window, from ``start`` on, is near an end of the ring: to ``begin``."""
    apart()
    offsets, rotations, counts = taps
    for k in range(2 * width):
        patterns[begin + k] = 0
    for k in range(counts[row] if m > 0 else 0):
        w = start + offsets[row, k]
        place = begin + w - base
        if w >= m or w < window:
            place = begin + 2 * (width - 1 - n_border) + w % m
        if n_border > 0 or window <= w < m:
            patterns[place] ^= np.uint32(1) << (np.uint32(32 - rotations[row, k]) & np.uint32(31))


@inlined
def add_pivots(groups, taken, free, base, begin, maps, standing, origin, sums, shape):
    """Add pivots to the maps of their bytes.

    Args:
        groups: the rows in which they were found.
        taken, sums: what :func:`~xorpack.vector.gf2_pivots.find_pivots` found.
        free, base, origin: what it was told.
        begin: the stored word that the rows' windows begin with.
        maps, standing, shape: see :func:`eliminate_maps`.

    Returns:
        Those of the free bytes that were not looked at.
    """
    size = 64 * (len(shape[0]) + len(shape[1]))
    for k in range(VIEW):
        if free != 0:
            chosen = np.uint64(base) + trailing_zeros(free)
            free &= free - np.uint64(1)
            new = np.uint8(taken >> np.uint64(8 * k))
            if new != 0:
                before, at = standing[chosen], np.int64(chosen)
                word = (at - 4 * begin) >> 3
                add_to_map(maps, size * (at - origin), groups, sums, k, word, before == 0, shape)
                standing[chosen] = before | new
    return free


@part
def take_rest(tails, left, where, n_tail, tail, border, has_border, positions, values, n_wrong):
    """Rows of ``left`` go to the border; those that depend on others and contradict them, to ``positions``.

    Returns how many those are by now.
    """
    n_border = tail.size - 1
    for r in range(8 * N_GROUPS):
        if (left >> np.uint64(r)) & np.uint64(1):
            for k in range(n_border + 1):
                tail[k] = tails[8 * r + n_tail - 1 - n_border + k]
            if not take_border(tail, border, has_border) and tail[n_border] != 0:
                positions[n_wrong] = where[r]
                values[n_wrong] = tail[n_border]
                n_wrong += 1
    return n_wrong


@njit(cache=True, nogil=True)
def solve_maps(maps, pairs, window, n_border, shape, border, has_border, solved, tails, stream, found, code):
    """The stored words of :func:`eliminate_maps`, from the last one on: ``code`` (q, m), out; free columns are 0.

    ``solved``: uint64 (q, tail) of zeros, scratch, ``tails``: the same; ``stream``: uint64 of zeros, for each
    plane as many as pairs of words have maps, and a window's, scratch; ``found``: uint64 (q,), scratch.
    """
    q, m = code.shape
    half, tail = len(shape[0]), len(shape[1])
    size, stride, origin = 64 * (half + tail), stream.size // q, window // 2
    solve_border(border, has_border, solved, code, window if window < m else m)
    for p in range(q):
        for k in range(tail - 1):
            tails[p * tail + k] = mirrored(tails[p * tail + k])
        tails[(p + 1) * tail - 1] = np.uint64(128 >> (p & 7)) << np.uint64(8 * (p >> 3))
    for pair in range((m + 1) // 2 - 1, origin - 1, -1):
        solve_pair(
            maps, 8 * size * (pair - origin), pairs[pair], stream, pair - origin, stride, tails, found, shape
        )
        for p in range(q):
            for y in range(2):
                w = 2 * pair + y
                if window <= w < m:
                    code[p, w] = np.uint32((found[p] >> np.uint64(32 * y)) & np.uint64(0xFFFFFFFF))


@part
def mirrored(word):
    """A 64-bit word with the bits of each of its bytes in reverse order."""
    word = np.uint64(word)
    for shift, chosen in ((1, 0x5555555555555555), (2, 0x3333333333333333), (4, 0x0F0F0F0F0F0F0F0F)):
        by, mask = np.uint64(shift), np.uint64(chosen)
        word = ((word >> by) & mask) | ((word & mask) << by)
    return word
