"""Kernels of :mod:`xorpack.encoding.rings.elimination`, which says what they do.

Equations are rows of ``width`` 64-bit words, one after the other in flat arrays: ``half`` words of the window, whose
32-bit slot ``w % (2 * half)`` is stored word w; ``n_border`` words of the border, the first ``window`` stored words;
the right-hand side. The pivot of bit b of stored word w is row ``32 * (w - window) + b`` of ``pivots``, and
``has[w] >> b & 1`` says whether there is one.
"""

from __future__ import annotations

import numpy as np

from xorpack.vector.bitops import count_ones, trailing_zeros
from xorpack.vector.compiled import njit, part
from xorpack.vector.xor import xor8


@part
def _xor_rows(target, i, a, j, b, k, width):
    """``target[i : i + width] = a[j : j + width] ^ b[k : k + width]``; width is a multiple of 8."""
    xor8(target, i, a, j, b, k)
    if width > 8:
        for n in range(8, width, 8):
            xor8(target, i + n, a, j + n, b, k + n)


@part
def _build_table(tables, table, pivots, column, standing, slot, base, width):
    """The 16 sums of the pivots of columns ``column .. column + 3``, indexed by a row's nibble there.

    ``standing``: which of the four have a pivot; ``base``: the nibble's bit in 64-bit word ``slot``.
    """
    _xor_rows(tables, table, tables, table, tables, table, width)
    for a in range(3, -1, -1):
        if (standing >> a) & 1:
            into = table + (1 << a) * width
            _xor_rows(tables, into, tables, table, pivots, (column + a) * width, width)
            for b in range(a + 1, 4):
                bit = np.int64(tables[into + slot] >> np.uint64(base + b)) & (standing >> b) & 1
                _xor_rows(tables, into, tables, into, tables, table + (bit << b) * width, width)
    for pattern in range(3, 16):
        lowest = pattern & -pattern
        if pattern != lowest and pattern & ~standing == 0:
            one, rest = table + lowest * width, table + (pattern ^ lowest) * width
            _xor_rows(tables, table + pattern * width, tables, one, tables, rest, width)


@njit(cache=True, nogil=True)
def eliminate(
    care,  # (lanes, n_steps) uint32
    planes,  # (q, lanes, n_steps) uint32
    m_lane,
    schedule,  # XorNetwork.schedule()
    taps,  # XorNetwork.taps()
    window,
    n_border,  # 64-bit words of the border, 0: its columns are fixed to 0
    width,  # 64-bit words of a row: half + n_border + 1
    pivots,  # (32 * (m - window) * width,) uint64, scratch
    has,  # (m + 1,) uint32 of zeros: which columns of a stored word have a pivot
    rows,  # ((batch + 1) * width,) uint64, scratch; the last row stays 0
    tables,  # (2 * half * 8 * 16 * width,) uint64, scratch
    most,  # corrections with which the ring is given up, and nothing is solved
    code,  # (q, m) uint32 of zeros, out
    positions,  # (n_care,) int64, out
    values,  # (n_care,) uint64, out
):
    """Kernel of :func:`xorpack.encoding.rings.elimination.encode_ring`; returns the number of corrections so far."""
    lanes, n_steps = care.shape
    m = lanes * m_lane
    slots = 2 * (width - 1 - n_border)
    where = np.empty(rows.size // width - 1, np.int64)
    built = np.full(slots * 8, -1, np.int64)
    border = np.zeros((64 * n_border, n_border + 1), np.uint64)
    has_border = np.zeros(n_border + 1, np.uint64)
    cursor = np.zeros(5, np.int64)
    cursor[2] = care[0, 0] if care.size else 0
    n_wrong = np.int64(0)  # with a literal, what is called below would be compiled twice
    while cursor[0] < lanes and n_steps > 0:
        n_rows, first = gather_rows(
            cursor, care, planes, m_lane, schedule, taps, window, n_border, width, rows, where
        )
        low, high = max(first, window), min(cursor[3] + window, m)
        if n_rows > 0:
            reduce_rows(rows, n_rows, low, high, pivots, has, tables, built, window, n_border, width)
            n_wrong = take_pivots(
                rows, n_rows, where, low, high, pivots, has, window, n_border, width,
                border, has_border, positions, values, n_wrong,
            )  # fmt: skip
            if n_wrong >= most:
                return n_wrong
    solved = np.zeros((code.shape[0], width), np.uint64)
    solve_border(border, has_border, solved, code, min(window, m))
    solve_band(pivots, has, window, n_border, solved, code)
    return n_wrong


@part
def gather_rows(cursor, care, planes, m_lane, schedule, taps, window, n_border, width, rows, where):
    """``(n_rows, first)``: rows whose windows fit the slots together, into ``rows``, and where the first one begins.

    Args:
        cursor: int64 (5,): lane, step, its care bits that are left, start of its window, its row of the network; is
            moved on.
        care, planes, m_lane, schedule, taps, window, n_border, width, rows: see :func:`eliminate`.
        where: int64 (batch,), out: bit position in the ring of every row.
    """
    lanes, n_steps = care.shape
    n_in, num, den, hold = schedule
    offsets, rotations, counts = taps
    m = lanes * m_lane
    half = width - 1 - n_border
    slots = 2 * half
    one = np.uint64(1)
    zero = np.uint64(0)
    lane, t, bits, start, row = cursor[0], cursor[1], np.uint64(cursor[2]), cursor[3], cursor[4]
    start_slot = start % slots
    n_rows = 0
    first = -1
    for k in range(rows.size):
        rows[k] = zero
    while n_rows < where.size:
        if bits == 0:
            t += 1
            if t == n_steps:
                t = 0
                lane += 1
                if lane == lanes:
                    break
            bits = np.uint64(care[lane, t])
            if bits != 0:
                start = lane * m_lane + n_in * ((t - t % hold) * num // den)
                start_slot = start % slots
                row = t % offsets.shape[0]
            continue
        if first < 0:
            first = start
        elif start > first + slots - window:
            break
        j = np.int64(trailing_zeros(bits))
        bits &= bits - one
        if m > 0:
            for k in range(counts[row]):
                w = start + offsets[row, k]
                slot = start_slot + offsets[row, k]
                b = np.uint64((j - rotations[row, k]) & 31)
                if w < m and w >= window:
                    slot = slot - slots if slot >= slots else slot
                    rows[n_rows * width + slot // 2] ^= one << (b + np.uint64(32 * (slot & 1)))
                elif n_border > 0:
                    w %= m
                    rows[n_rows * width + half + w // 2] ^= one << (b + np.uint64(32 * (w & 1)))
        rhs = zero
        for p in range(planes.shape[0]):
            rhs |= ((np.uint64(planes[p, lane, t]) >> np.uint64(j)) & one) << np.uint64(p)
        rows[n_rows * width + width - 1] = rhs
        where[n_rows] = 32 * (lane * n_steps + t) + j
        n_rows += 1
    cursor[0], cursor[1], cursor[2], cursor[3], cursor[4] = lane, t, np.int64(bits), start, row
    return n_rows, first


@part
def reduce_rows(rows, n_rows, low, high, pivots, has, tables, built, window, n_border, width):
    """Reduce rows by the pivots that stand in stored words ``low .. high - 1``, a nibble of columns at a time.

    ``built``: int64, for every nibble of the slots, which sums its table holds.
    """
    slots = 2 * (width - 1 - n_border)
    low_slot = low % slots
    for w in range(low, high):
        slot32 = low_slot + w - low
        if slot32 >= slots:
            slot32 -= slots
        slot = slot32 // 2
        for nibble in range(8):
            standing = np.int64(has[w] >> np.uint32(4 * nibble)) & 15
            if standing == 0:
                continue
            base = 32 * (slot32 & 1) + 4 * nibble
            index = slot32 * 8 + nibble
            table = index * 16 * width
            key = w * 128 + nibble * 16 + standing
            if built[index] != key:
                built[index] = key
                column = 32 * (w - window) + 4 * nibble
                _build_table(tables, table, pivots, column, standing, slot, base, width)
            for r in range(n_rows):
                pattern = np.int64((rows[r * width + slot] >> np.uint64(base)) & np.uint64(15))
                # Columns without a pivot do not choose a sum.
                source = table + (pattern & standing) * width
                _xor_rows(rows, r * width, rows, r * width, tables, source, width)


@part
def take_pivots(
    rows, n_rows, where, low, high, pivots, has, window, n_border, width,
    border, has_border, positions, values, n_wrong,
):  # fmt: skip
    """Each row takes its lowest free column and leaves the rows after it; one without any goes to the border.

    Returns ``n_wrong``, with the rows added to ``positions`` and ``values`` that depend on others and contradict them.
    """
    half = width - 1 - n_border
    slots = 2 * half
    zero_row = rows.size // width - 1
    one = np.uint64(1)
    zero = np.uint64(0)
    low32 = np.uint64(0xFFFFFFFF)
    tail = np.empty(n_border + 1, np.uint64)
    low_slot = low % slots
    # No column of a full word is free.
    while low < high and has[low] == np.uint32(0xFFFFFFFF):
        low += 1
        low_slot = low_slot + 1 if low_slot + 1 < slots else 0
    for r in range(n_rows):
        w = low
        slot32 = low_slot
        found = zero
        while w < high:
            found = (rows[r * width + slot32 // 2] >> np.uint64(32 * (slot32 & 1))) & low32
            if found != 0:
                break
            w += 1
            slot32 += 1
            if slot32 == slots:
                slot32 = 0
        if found != 0:
            b = np.int64(trailing_zeros(found))
            pivot = (32 * (w - window) + b) * width
            _xor_rows(pivots, pivot, rows, r * width, rows, zero_row * width, width)
            has[w] |= np.uint32(1) << np.uint32(b)
            slot = slot32 // 2
            shift = np.uint64(32 * (slot32 & 1) + b)
            for other in range(r + 1, n_rows):
                hit = np.int64((rows[other * width + slot] >> shift) & one)
                source = (zero_row + hit * (r - zero_row)) * width
                _xor_rows(rows, other * width, rows, other * width, rows, source, width)
            continue
        for k in range(n_border + 1):
            tail[k] = rows[r * width + half + k]
        if not take_border(tail, border, has_border) and tail[n_border] != 0:
            positions[n_wrong] = where[r]
            values[n_wrong] = tail[n_border]
            n_wrong += 1
    return n_wrong


@part
def take_border(tail, border, has_border):
    """Whether the border's part of a row and its right-hand side, reduced in place, became a pivot of the border."""
    one = np.uint64(1)
    n_border = tail.size - 1
    for k in range(n_border):
        while tail[k] != 0:
            b = np.int64(trailing_zeros(tail[k]))
            if (has_border[k] >> np.uint64(b)) & one == 0:
                has_border[k] |= one << np.uint64(b)
                for j in range(n_border + 1):
                    border[64 * k + b, j] = tail[j]
                return True
            for j in range(k, n_border + 1):
                tail[j] ^= border[64 * k + b, j]
    return False


@part
def solve_border(border, has_border, solved, code, n_words):
    """The first stored words, from the border's last column on; free columns are 0. ``solved`` (q, width) holds zeros.

    ``code`` (q, m), whose first ``n_words`` are written.
    """
    q, width = solved.shape
    n_border = has_border.size - 1
    half = width - 1 - n_border
    one = np.uint64(1)
    for column in range(64 * n_border - 1, -1, -1):
        k = column // 64
        b = np.uint64(column % 64)
        if (has_border[k] >> b) & one == 0:
            continue
        for p in range(q):
            folded = np.uint64(0)
            for j in range(k, n_border):
                folded ^= border[column, j] & solved[p, half + j]
            bit = (border[column, n_border] >> np.uint64(p)) ^ np.uint64(count_ones(folded))
            solved[p, half + k] |= (bit & one) << b
    if n_border > 0:
        for w in range(n_words):
            for p in range(q):
                word = solved[p, half + w // 2] >> np.uint64(32 * (w & 1))
                code[p, w] = np.uint32(word & np.uint64(0xFFFFFFFF))


@part
def solve_band(pivots, has, window, n_border, solved, code):
    """All other stored words, from the last one on: ``code`` (q, m), out; free columns are 0."""
    q, width = solved.shape
    slots = 2 * (width - 1 - n_border)
    one = np.uint64(1)
    low32 = np.uint64(0xFFFFFFFF)
    for w in range(code.shape[1] - 1, window - 1, -1):
        k = w % slots // 2
        base = 32 * (w & 1)
        for p in range(q):
            solved[p, k] &= ~(low32 << np.uint64(base))
        for b in range(31, -1, -1):
            if (has[w] >> np.uint32(b)) & np.uint32(1) == 0:
                continue
            pivot = (32 * (w - window) + b) * width
            for p in range(q):
                folded = np.uint64(0)
                for j in range(width - 1):
                    folded ^= pivots[pivot + j] & solved[p, j]
                bit = (pivots[pivot + width - 1] >> np.uint64(p)) ^ np.uint64(count_ones(folded))
                solved[p, k] |= (bit & one) << np.uint64(base + b)
        for p in range(q):
            code[p, w] = np.uint32((solved[p, k] >> np.uint64(base)) & low32)
