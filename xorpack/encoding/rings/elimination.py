"""Elimination: the linear-time encoder.

Every care bit of a ring is one linear equation over GF(2) in the stored bits. Equations arrive in
the order of their windows; each is reduced by the pivots that stand, then becomes a pivot at its
lowest free column, or turns out to depend on earlier ones: then it holds by luck or becomes a
correction, whose value is the residual right-hand side. All q planes share the mask and the network,
hence one elimination with a q-bit right-hand side.

Rows are taken some 32 at a time, and reduced four columns at a time: the pivots of a nibble of columns
span 16 sums, kept in a table that the nibble of each row indexes (the Method of Four Russians).

The ring wraps around. In a small ring the columns of its first ``window`` words are set apart as a
*border* that every row carries along; rows left with border columns alone form a small dense system,
solved first when substituting back. In a large ring these words are fixed to 0 instead, which halves
the work and costs some 200 corrections a ring.

A row is ``width`` 64-bit words: ``half`` for its window (stored word w sits in 32-bit slot
``w % (2 * half)``, so rows of different windows need no shift), then the border, and last the right-hand
side. The same system is known as ribbon retrieval (Dillinger and Walzer, arXiv 2103.02515; BuRR,
arXiv 2109.01892).
"""

from __future__ import annotations

import threading
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from xorpack.code.network import XorNetwork
from xorpack.vector.bitops import count_ones, trailing_zeros
from xorpack.vector.compiled import njit
from xorpack.vector.simd import VECTOR, xor8

BATCH = 32
"""Rows that are reduced side by side at the most."""

LARGE_RING = 16384
"""Stored words from which on a ring's first window is fixed to 0."""


class RingCode(NamedTuple):
    """What an encoder returns for one ring.

    Attributes:
        code: stored words, uint32 (q, m).
        positions: bit positions ``32 * word + bit`` in the ring that the network gets wrong, rising.
        values: uint64, the q-bit XOR that mends each of them.
    """

    code: NDArray[np.uint32]
    positions: NDArray[np.int64]
    values: NDArray[np.uint64]


def encode_ring(
    network: XorNetwork,
    care: NDArray[np.uint32],
    planes: NDArray[np.uint32],
    m_lane: int,
    *,
    large: int = LARGE_RING,
) -> RingCode:
    """Choose the stored words of one ring so that as many care bits as possible come out right.

    Args:
        network: any network.
        care: uint32 (lanes, n_steps), 1 where the bit matters.
        planes: uint32 (q, lanes, n_steps), the wanted bits; ignored where care is 0. q <= 64.
        m_lane: stored words per lane.
        large: stored words from which on the border is fixed to 0.
    """
    q = planes.shape[0]
    lanes, n_steps = care.shape
    m = lanes * m_lane
    window = network.window
    n_border = 0 if m >= large else -(-window // 2)
    width = VECTOR * -(-(-(-window // 2) + 2 + n_border) // VECTOR)
    half = width - 1 - n_border
    code = np.zeros((q, m), np.uint32)
    n_care = int(np.bitwise_count(care).sum(dtype=np.int64))
    positions = np.empty(n_care, np.int64)
    values = np.empty(n_care, np.uint64)
    pivots = scratch.take(max(m - window, 0) * 32 * width)
    n_wrong = eliminate(
        np.ascontiguousarray(care),
        np.ascontiguousarray(planes),
        m_lane,
        *network.schedule(m_lane, n_steps),
        *network.taps(),
        window,
        n_border,
        width,
        pivots,
        np.zeros(m + 1, np.uint32),
        _aligned((BATCH + 1) * width),
        _aligned(2 * half * 8 * 16 * width),
        code,
        positions,
        values,
    )
    scratch.give(pivots)
    order = np.argsort(positions[:n_wrong], kind="stable")
    return RingCode(code, positions[:n_wrong][order], values[:n_wrong][order])


class Scratch:
    """Buffers of pivots that rings use one after another: a fresh one costs the kernel as much as half of its use.

    Inside ``with scratch:``, on any thread, buffers are kept for the next ring; the last to leave frees them.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._users = 0
        self._free: list[NDArray[np.uint64]] = []

    def __enter__(self) -> None:
        with self._lock:
            self._users += 1

    def __exit__(self, *exception: object) -> None:
        with self._lock:
            self._users -= 1
            if not self._users:
                self._free.clear()

    def take(self, n: int) -> NDArray[np.uint64]:
        """A buffer of at least ``n`` words."""
        with self._lock:
            fitting = [i for i, buffer in enumerate(self._free) if buffer.size >= n]
            if fitting:
                return self._free.pop(min(fitting, key=lambda i: self._free[i].size))
            if self._free:
                self._free.pop()  # a larger one takes its place
        return _aligned(n)

    def give(self, buffer: NDArray[np.uint64]) -> None:
        """Leave a buffer for the next ring."""
        with self._lock:
            if self._users:
                self._free.append(buffer)


scratch = Scratch()


def _aligned(n: int) -> NDArray[np.uint64]:
    """``n`` uninitialised words on a cache line's boundary."""
    words = np.empty(n + VECTOR, np.uint64)
    skip = -words.ctypes.data % 64 // 8
    return words[skip : skip + n]


@njit(cache=True, nogil=True)
def _xor_rows(target, i, a, j, b, k, width):
    """``target[i : i + width] = a[j : j + width] ^ b[k : k + width]``; width is a multiple of 8."""
    xor8(target, i, a, j, b, k)
    if width > 8:
        for n in range(8, width, 8):
            xor8(target, i + n, a, j + n, b, k + n)


@njit(cache=True, nogil=True)
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
    n_in,
    num,
    den,
    offsets,  # (R, K) int32
    rotations,  # (R, K) int32
    counts,  # (R,) int32
    window,
    n_border,  # 64-bit words of the border, 0: its columns are fixed to 0
    width,  # 64-bit words of a row: half + n_border + 1
    pivots,  # (32 * (m - window) * width,) uint64, scratch
    has,  # (m + 1,) uint32 of zeros: which columns of a stored word have a pivot
    rows,  # (batch * width,) uint64, scratch
    tables,  # (2 * half * 8 * 16 * width,) uint64, scratch
    code,  # (q, m) uint32 of zeros, out
    positions,  # (n_care,) int64, out
    values,  # (n_care,) uint64, out
):
    """Kernel of :func:`encode_ring`; returns the number of corrections."""
    lanes, n_steps = care.shape
    q = planes.shape[0]
    n_distinct = offsets.shape[0]
    m = lanes * m_lane
    batch = rows.size // width - 1
    zero_row = batch
    half = width - 1 - n_border
    slots = 2 * half
    one = np.uint64(1)
    zero = np.uint64(0)
    low32 = np.uint64(0xFFFFFFFF)
    where = np.empty(batch, np.int64)
    built = np.full(slots * 8, -1, np.int64)
    border = np.zeros((64 * n_border, n_border + 1), np.uint64)
    has_border = np.zeros(n_border + 1, np.uint64)
    tail = np.empty(n_border + 1, np.uint64)
    n_wrong = 0

    lane = 0
    t = 0
    bits = np.uint64(care[0, 0]) if lanes * n_steps > 0 else zero
    start = 0
    start_slot = 0
    row = 0
    while lane < lanes and n_steps > 0:
        # Gather rows whose windows fit the slots together.
        n_rows = 0
        first = -1
        for k in range(rows.size):
            rows[k] = zero
        while n_rows < batch:
            if bits == 0:
                t += 1
                if t == n_steps:
                    t = 0
                    lane += 1
                    if lane == lanes:
                        break
                bits = np.uint64(care[lane, t])
                if bits != 0:
                    start = lane * m_lane + n_in * (t * num // den)
                    start_slot = start % slots
                    row = t % n_distinct
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
            for p in range(q):
                rhs |= ((np.uint64(planes[p, lane, t]) >> np.uint64(j)) & one) << np.uint64(p)
            rows[n_rows * width + width - 1] = rhs
            where[n_rows] = 32 * (lane * n_steps + t) + j
            n_rows += 1
        if n_rows == 0:
            continue

        # Reduce them by the pivots that stand, a nibble of columns at a time.
        low = max(first, window)
        high = min(start + window, m)
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

        # Each takes its lowest free column and leaves the rows after it. No column of a full word is free.
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
            placed = False
            for k in range(n_border):
                while tail[k] != 0:
                    b = np.int64(trailing_zeros(tail[k]))
                    if (has_border[k] >> np.uint64(b)) & one == 0:
                        has_border[k] |= one << np.uint64(b)
                        for j in range(n_border + 1):
                            border[64 * k + b, j] = tail[j]
                        placed = True
                        break
                    for j in range(k, n_border + 1):
                        tail[j] ^= border[64 * k + b, j]
                if placed:
                    break
            if not placed and tail[n_border] != 0:
                positions[n_wrong] = where[r]
                values[n_wrong] = tail[n_border]
                n_wrong += 1

    # Substitute back: the border first, then the band from its end. Free columns are 0.
    solved = np.zeros((q, width), np.uint64)
    for column in range(64 * n_border - 1, -1, -1):
        k = column // 64
        b = np.uint64(column % 64)
        if (has_border[k] >> b) & one == 0:
            continue
        for p in range(q):
            folded = zero
            for j in range(k, n_border):
                folded ^= border[column, j] & solved[p, half + j]
            bit = (border[column, n_border] >> np.uint64(p)) ^ np.uint64(count_ones(folded))
            solved[p, half + k] |= (bit & one) << b
    for w in range(min(window, m)):
        if n_border > 0:
            for p in range(q):
                code[p, w] = np.uint32((solved[p, half + w // 2] >> np.uint64(32 * (w & 1))) & low32)
    for w in range(m - 1, window - 1, -1):
        k = w % slots // 2
        base = 32 * (w & 1)
        for p in range(q):
            solved[p, k] &= ~(low32 << np.uint64(base))
        for b in range(31, -1, -1):
            if (has[w] >> np.uint32(b)) & np.uint32(1) == 0:
                continue
            pivot = (32 * (w - window) + b) * width
            for p in range(q):
                folded = zero
                for j in range(width - 1):
                    folded ^= pivots[pivot + j] & solved[p, j]
                bit = (pivots[pivot + width - 1] >> np.uint64(p)) ^ np.uint64(count_ones(folded))
                solved[p, k] |= (bit & one) << np.uint64(base + b)
        for p in range(q):
            code[p, w] = np.uint32((solved[p, k] >> np.uint64(base)) & low32)
    return n_wrong
