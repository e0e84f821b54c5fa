"""Elimination as in :mod:`xorpack.encoding.rings.elimination_kernels`, eight rows and eight columns at a time.

The same codes come out. Pivots are kept as maps (:mod:`xorpack.vector.gf2_bytes`): for every byte of the stored words,
what is to be added to a row that has these 8 bits there, so that no bit of a pivot stays. A new pivot is added to the
map of its byte alone: the pivots that stand there have reduced it already.
"""

from __future__ import annotations

import numpy as np

from xorpack.encoding.rings.elimination_kernels import solve_border, take_border
from xorpack.vector.bitops import trailing_zeros
from xorpack.vector.compiled import njit
from xorpack.vector.gf2_bytes import (
    add_to_map,
    clear_column,
    join_groups,
    put_equation,
    reduce_rows,
    solve_byte,
    used_slots,
)


@njit(cache=True, nogil=True)
def eliminate_maps(
    care,  # (lanes, n_steps) uint32
    planes,  # (q, lanes, n_steps) uint32
    m_lane,
    schedule,  # XorNetwork.schedule()
    taps,  # XorNetwork.taps()
    window,
    n_border,  # 64-bit words of the border, 0: its columns are fixed to 0
    shape,  # a tuple as long as a row's 64-bit words: half + n_border + 1
    maps,  # (64 * width * 4 * (m - window),) uint8, scratch
    has,  # (m + 1,) uint32 of zeros: which columns of a stored word have a pivot
    groups,  # (64 * width * n_groups(width),) uint8, scratch
    rows,  # (8 * n_groups(width) * width,) uint64, scratch
    code,  # (q, m) uint32 of zeros, out
    positions,  # (n_care,) int64, out
    values,  # (n_care,) uint64, out
):
    """Kernel of :func:`xorpack.encoding.rings.elimination.encode_ring`; returns the number of corrections."""
    lanes, n_steps = care.shape
    m = lanes * m_lane
    width = len(shape)
    slots = 2 * (width - 1 - n_border)
    where = np.empty(rows.size // width, np.int64)
    border = np.zeros((64 * n_border, n_border + 1), np.uint64)
    has_border = np.zeros(n_border + 1, np.uint64)
    cursor = np.zeros(5, np.int64)
    cursor[2] = care[0, 0] if care.size else 0
    n_wrong = 0
    while cursor[0] < lanes and n_steps > 0:
        n_rows, first = gather_equations(
            cursor, care, planes, m_lane, schedule, taps, window, n_border, shape, rows, where
        )
        low, high = max(first, window), min(cursor[3] + window, first + slots, m)
        if n_rows > 0:
            reduce_rows(rows, groups, maps, has, low, max(low, high), window, slots, shape)
            join_groups(groups, rows, shape)
            n_wrong = add_pivots(
                rows, n_rows, where, low, maps, has, window, n_border, shape,
                border, has_border, positions, values, n_wrong,
            )  # fmt: skip
    solved = np.zeros((code.shape[0], width), np.uint64)
    solve_border(border, has_border, solved, code[:, : min(window, m)])
    solve_maps(maps, has, window, n_border, shape, solved, code)
    return n_wrong


@njit(cache=True, nogil=True, inline="always")
def gather_equations(cursor, care, planes, m_lane, schedule, taps, window, n_border, shape, rows, where):
    """As :func:`~xorpack.encoding.rings.elimination_kernels.gather_rows`; rows that are left over are 0.

    The equations of a word's bits differ by a rotation of the stored words: all are made from that of bit 0.
    """
    lanes, n_steps = care.shape
    n_in, num, den = schedule
    offsets, rotations, counts = taps
    m = lanes * m_lane
    width = len(shape)
    slots = 2 * (width - 1 - n_border)
    lane, t, bits, start, row = cursor[0], cursor[1], np.uint32(cursor[2]), cursor[3], cursor[4]
    pattern = np.zeros(2 * width, np.uint32)
    words = np.zeros(16 * ((planes.shape[0] + 15) // 16), np.uint32)
    in_word, one = np.uint32(31), np.uint32(1)
    n_rows = 0
    first = -1
    is_new = True
    while n_rows < where.size:
        if bits == 0:
            t += 1
            if t == n_steps:
                t = 0
                lane += 1
                if lane == lanes:
                    break
            bits = care[lane, t]
            if bits != 0:
                start = lane * m_lane + n_in * (t * num // den)
                row = t % offsets.shape[0]
                is_new = True
            continue
        if is_new:
            if first < 0:
                first = start
            elif start > first + slots - window:
                break
            is_new = False
            start_slot = start % slots
            pattern[:] = 0
            for k in range(counts[row] if m > 0 else 0):
                w = start + offsets[row, k]
                if w < m and w >= window:
                    slot = start_slot + offsets[row, k]
                    slot = slot - slots if slot >= slots else slot
                elif n_border > 0:
                    slot = slots + w % m
                else:
                    continue
                pattern[slot] ^= one << (np.uint32(32 - rotations[row, k]) & in_word)
            for p in range(planes.shape[0]):
                words[p] = planes[p, lane, t]
        j = np.int64(trailing_zeros(bits))
        bits &= bits - one
        put_equation(rows, n_rows * width, pattern, j, words, shape)
        where[n_rows] = 32 * (lane * n_steps + t) + j
        n_rows += 1
    rows[n_rows * width :] = 0
    cursor[0], cursor[1], cursor[2], cursor[3], cursor[4] = lane, t, np.int64(bits), start, row
    return n_rows, first


@njit(cache=True, nogil=True, inline="always")
def add_pivots(
    rows, n_rows, where, low, maps, has, window, n_border, shape,
    border, has_border, positions, values, n_wrong,
):  # fmt: skip
    """As :func:`~xorpack.encoding.rings.elimination_kernels.take_pivots`, into maps."""
    width = len(shape)
    half = width - 1 - n_border
    slots = 2 * half
    one = np.uint64(1)
    tail = np.empty(n_border + 1, np.uint64)
    low_slot = low % slots
    band = (one << np.uint64(slots)) - one
    behind, ahead_of = np.uint64(low_slot), np.uint64(slots - low_slot)
    for r in range(n_rows):
        used = used_slots(rows, r * width, shape) & band
        if used != 0:
            ahead = np.int64(trailing_zeros((used >> behind) | (used << ahead_of)))
            w = low + ahead
            slot32 = low_slot + ahead
            slot32 = slot32 - slots if slot32 >= slots else slot32
            found = np.uint32(rows[r * width + (slot32 >> 1)] >> np.uint64(32 * (slot32 & 1)))
            b = np.int64(trailing_zeros(found))
            clear_column(rows, r, n_rows, slot32 >> 1, 32 * (slot32 & 1) + b, shape)
            byte, bit = b >> 3, b & 7
            at = 64 * width * (4 * (w - window) + byte)
            fresh = np.int64((has[w] >> np.uint32(8 * byte)) & np.uint32(255) == 0)
            mine = np.int64(0) if fresh else np.int64(maps[at + 8 * (4 * slot32 + byte) + 7 - bit])
            add_to_map(maps, at, rows, r * width, mine | (1 << bit), fresh, shape)
            has[w] |= np.uint32(1) << np.uint32(b)
            continue
        for k in range(n_border + 1):
            tail[k] = rows[r * width + half + k]
        if not take_border(tail, border, has_border) and tail[n_border] != 0:
            positions[n_wrong] = where[r]
            values[n_wrong] = tail[n_border]
            n_wrong += 1
    return n_wrong


@njit(cache=True, nogil=True)
def solve_maps(maps, has, window, n_border, shape, solved, code):
    """All other stored words, from the last one on: ``code`` (q, m), out; free columns are 0."""
    q = solved.shape[0]
    width = len(shape)
    slots = 2 * (width - 1 - n_border)
    flat = solved.reshape(-1)
    for p in range(q):
        for k in range(width):
            flat[p * width + k] = mirrored(flat[p * width + k])
        flat[(p + 1) * width - 1] = np.uint64(128 >> (p & 7)) << np.uint64(8 * (p >> 3))
    for w in range(code.shape[1] - 1, window - 1, -1):
        slot32 = w % slots
        base = 32 * (slot32 & 1)
        for p in range(q):
            flat[p * width + slot32 // 2] &= ~(np.uint64(0xFFFFFFFF) << np.uint64(base))
        for y in range(3, -1, -1):
            standing = (has[w] >> np.uint32(8 * y)) & np.uint32(255)
            if standing == 0:
                continue
            at = 64 * width * (4 * (w - window) + y)
            for p in range(q):
                found = np.uint32(solve_byte(maps, at, flat, p * width, shape)) & standing
                code[p, w] |= found << np.uint32(8 * y)
                flat[p * width + slot32 // 2] |= mirrored(np.uint64(found)) << np.uint64(base + 8 * y)


@njit(cache=True, nogil=True)
def mirrored(word):
    """A 64-bit word with the bits of each of its bytes in reverse order."""
    word = np.uint64(word)
    for shift, chosen in ((1, 0x5555555555555555), (2, 0x3333333333333333), (4, 0x0F0F0F0F0F0F0F0F)):
        by, mask = np.uint64(shift), np.uint64(chosen)
        word = ((word >> by) & mask) | ((word & mask) << by)
    return word
