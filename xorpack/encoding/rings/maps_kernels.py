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
from xorpack.vector.compiled import njit, part
from xorpack.vector.gf2_bytes import free_bytes, join_tails, put_equations, reduce_rows, used_bytes
from xorpack.vector.gf2_pivots import add_to_map, find_pivots, mix_groups, solve_pair


# Without numba's runtime arrays are not counted by references, which took an eighth of the time; none is made here.
@njit(cache=True, nogil=True, _nrt=False)
def eliminate_maps(
    care,  # (lanes, n_steps) uint32
    planes,  # (q, lanes, n_steps) uint32
    m_lane,
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
    where,  # (8 * N_GROUPS,) int64, scratch
    work,  # (64,) uint64, scratch
    numbers,  # (32,) int64 of zeros, scratch
    border,  # (64 * n_border, n_border + 1) uint64, out
    has_border,  # (n_border + 1,) uint64 of zeros, out
    most,  # corrections with which the ring is given up
    positions,  # (n_care,) int64, out
    values,  # (n_care,) uint64, out
):
    """Maps of all equations, for :func:`solve_maps`; returns the number of corrections so far."""
    lanes, n_steps = care.shape
    m = lanes * m_lane
    slots = 2 * len(shape[0])
    cursor, chosen, tail = numbers[:7], numbers[7:], work[28 : 29 + n_border]
    cursor[2] = care[0, 0] if care.size else 0
    n_wrong = np.int64(0)  # with a literal, what is called below would be compiled twice
    full = window
    while cursor[0] < lanes and n_steps > 0:
        n_rows, first = gather_equations(
            cursor, care, planes, m_lane, schedule, taps, window, n_border, shape, patterns, rows, where, work
        )
        if n_rows > 0:
            begin = first - (first & 1)
            high = cursor[3] + window if cursor[3] + window < begin + slots else begin + slots
            high = high if high < m else m
            reduce_rows(rows, groups, maps, pairs, first, window // 2, shape)
            full = full if full > first else first
            while full < high and has[full] == np.uint32(0xFFFFFFFF):
                full += 1
            left = add_pivots(
                groups, n_rows, begin, full, high, maps, words, has, standing, window, shape, work, chosen
            )
            if left != 0:
                join_tails(groups, rows, shape)
                n_wrong = take_rest(
                    rows, left, where, len(shape[1]), tail, border, has_border, positions, values, n_wrong
                )
                if n_wrong >= most:
                    break
    return n_wrong


@njit(cache=True, nogil=True, inline="always")
def gather_equations(
    cursor, care, planes, m_lane, schedule, taps, window, n_border, shape, patterns, rows, where, four
):
    """As :func:`~xorpack.encoding.rings.elimination_kernels.gather_rows`; rows that are left over are 0.

    Their windows begin with the pair of words in which the first one's begins. The equations of a word's bits differ by
    a rotation of the stored words, those of a row of the network by where its window begins: ``patterns`` has what all
    are made from. Both ends of the ring are apart.
    ``four``: uint64, scratch, of which two words hold the first four planes, bits of two in turn each.
    ``cursor``: int64 (7,), the last two what is left of ``(t - t % hold) * num / den``, and ``t % hold``.
    """
    lanes, n_steps = care.shape
    n_in, num, den, hold = schedule
    offsets, rotations, counts = taps
    m = lanes * m_lane
    half = len(shape[0])
    width = (half + len(shape[1]) + 7) // 8 * 8
    lead = 2 * half - window  # words that a window may begin late
    size = lead + 2 * width
    lane, t, bits, start, row, part, held = (
        cursor[0], cursor[1], np.uint32(cursor[2]), cursor[3], cursor[4], cursor[5], cursor[6],
    )  # fmt: skip
    begin = np.int64(0)
    q = planes.shape[0]
    even, odd = np.uint64(0x5555555555555555), np.uint64(0xAAAAAAAAAAAAAAAA)
    n_rows = 0
    first = -1
    is_new = True
    while n_rows < where.size:
        if bits == 0:
            t += 1
            row = row + 1 if row + 1 < offsets.shape[0] else 0
            held += 1
            if held == hold:
                held = 0
                part += hold * num
                while part >= den:
                    part -= den
                    start += n_in
            if t == n_steps:
                t, row, part, held = 0, 0, 0, 0
                lane += 1
                start = lane * m_lane
                if lane == lanes:
                    break
            bits = care[lane, t]
            is_new = True
            continue
        if is_new:
            if first < 0:
                first = start
            elif start > first - (first & 1) + lead:
                break
            is_new = False
            base = first - (first & 1)
            if window <= start <= m - window:
                begin = row * size + lead - (start - base)
            else:
                begin = offsets.shape[0] * size
                for k in range(2 * width):
                    patterns[begin + k] = 0
                for k in range(counts[row] if m > 0 else 0):
                    w = start + offsets[row, k]
                    place = begin + w - base
                    if w >= m or w < window:
                        place = begin + 2 * (width - 1 - n_border) + w % m
                    if n_border > 0 or window <= w < m:
                        patterns[place] ^= np.uint32(1) << (np.uint32(32 - rotations[row, k]) & np.uint32(31))
            four[0], four[1] = np.uint64(0), np.uint64(0)
            if q > 0:
                four[0] = deposit(np.uint64(planes[0, lane, t]), even)
            if q > 1:
                four[0] |= deposit(np.uint64(planes[1, lane, t]), odd)
            if q > 2:
                four[1] = deposit(np.uint64(planes[2, lane, t]), even)
            if q > 3:
                four[1] |= deposit(np.uint64(planes[3, lane, t]), odd)
        word = 32 * (lane * n_steps + t)
        before = count_ones(bits)
        rest = put_equations(rows, n_rows, patterns, begin, bits, four, where, word, shape)
        n_new = np.int64(before - count_ones(rest))
        for r in range(n_rows, n_rows + n_new if q > 4 else n_rows):
            j = np.uint32(where[r] - word)
            for p in range(4, q):
                bit = (planes[p, lane, t] >> j) & np.uint32(1)
                rows[(r + 1) * width - 1] |= np.uint64(bit) << np.uint64(p)
        bits = rest
        n_rows += n_new
    for k in range(n_rows * width, rows.size):
        rows[k] = 0
    cursor[0], cursor[1], cursor[2], cursor[3], cursor[4], cursor[5], cursor[6] = (
        lane, t, np.int64(bits), start, row, part, held,
    )  # fmt: skip
    return n_rows, first


@njit(cache=True, nogil=True, inline="always")
def add_pivots(groups, n_rows, begin, full, high, maps, words, has, standing, window, shape, work, chosen):
    """Each row takes a column of its own, in stored words ``full .. high - 1``, where it has any; all go into maps.

    Six bytes at a time, of those that have free columns: most rows find theirs in the first ones.

    Args:
        groups: the rows, reduced; afterwards those that found none, reduced by the others.
        n_rows: how many they are.
        begin: the stored word that their windows begin with.
        full: the first stored word that has a free column.
        high, maps, words, has, standing, window, shape: see :func:`eliminate_maps`.
        work: uint64 (64,), scratch.
        chosen: int64 (20,), scratch.

    Returns:
        A word with bit r set where row r found none.
    """
    half = len(shape[0])
    size, view = 64 * (half + len(shape[1])), 6
    octets, sums, mixing = work[:8], work[8:24], work[24:28]
    places, origin = chosen[10:], 8 * (window // 2)
    left = (np.uint64(1) << np.uint64(n_rows)) - np.uint64(1)
    free = np.uint64(0)
    while left != 0:
        while free == 0 and full < high:
            free = free_bytes(has, full)
            n_bytes = 4 * (high - full)
            if n_bytes < 64:
                free &= (np.uint64(1) << np.uint64(n_bytes)) - np.uint64(1)
            base = 4 * full
            full += 16
            if half <= 8:
                free &= used_bytes(groups, shape) >> np.uint64(base - 4 * begin)
        if free == 0:
            break
        n_chosen = 0
        for k in range(view):
            if free != 0:
                chosen[k] = base + np.int64(trailing_zeros(free))
                free &= free - np.uint64(1)
                n_chosen += 1
            else:
                chosen[k] = chosen[0]
            places[k] = chosen[k] - 4 * begin
            mine = words[size // 8 * (chosen[k] - origin) + (chosen[k] & 7)]
            octets[k] = mine if standing[chosen[k]] != 0 else np.uint64(0)
        taken = find_pivots(groups, places, octets, sums, mixing, shape)
        took = left & (taken >> np.uint64(8 * view))
        for k in range(n_chosen):
            new = np.uint8(taken >> np.uint64(8 * k))
            if new != 0:
                at = size * (chosen[k] - origin)
                add_to_map(maps, at, groups, sums, k, places[k] >> 3, standing[chosen[k]] == 0, shape)
                standing[chosen[k]] |= new
        left ^= took
        if left != 0 and took != 0:
            mix_groups(groups, mixing, shape)
    return left


@part
def take_rest(tails, left, where, n_tail, tail, border, has_border, positions, values, n_wrong):
    """Rows of ``left`` go to the border; those that depend on others and contradict them, to ``positions``.

    Returns how many those are by now.
    """
    n_border = tail.size - 1
    for r in range(where.size):
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
