"""Kernel of :func:`xorpack.code.expand.expand`: one step of all lanes at a time.

Words of a stretch of rows are made first, every lane twice, and go to their places then: what was just stored could
not be read at once, and lines of many rows are on their way together.
"""

from __future__ import annotations

import numpy as np

from xorpack.code.layout_kernels import place_of, step_of
from xorpack.vector.compiled import njit
from xorpack.vector.simd import and_lanes, xor_taps


@njit(cache=True, nogil=True)
def expand_kernel(
    code,  # (q * n_segments * m_lane * lanes,) uint32
    m_lane,
    first,
    begin,
    end,
    whole,
    order,  # Layout.params()
    schedule,  # XorNetwork.schedule()
    taps,  # XorNetwork.taps()
    inverse,  # of row_stride modulo rows
    mask,  # (n * chunks,) uint32
    out,  # (q * n * chunks,) uint32
):
    """Rows ``first + begin .. first + end - 1`` into the same rows of ``out``.

    Where ``whole`` (and first = 0), row indices ``begin .. end - 1`` instead, in the order of coding,
    which reads the code from end to end.
    """
    rows, chunks, row_stride, n_sub = order[0], order[1], order[4], order[6]
    q = out.size // mask.size
    reach = reach_of(taps)
    stretch = max(1, min(32, 256 // max(q * n_sub, 1)))
    word = np.empty(stretch * n_sub * q * 64, np.uint32)
    indices = np.empty(stretch, np.int64)
    starts = np.empty(stretch, np.int64)
    row_step, index_step = (row_stride, 1) if whole else (1, inverse)
    i = begin if whole else (first + begin) * inverse % rows
    r = begin * row_stride % rows if whole else first + begin
    for x in range(begin, end, stretch):
        n = min(stretch, end - x)
        for y in range(n):
            indices[y], starts[y] = i, (r - first) * chunks
            i += index_step
            if i >= rows:
                i -= rows
            r += row_step
            if r >= rows:
                r -= rows
        stretch_kernel(code, m_lane, n, indices, starts, order, schedule, taps, reach, mask, word, out)


@njit(cache=True, nogil=True)
def reach_of(taps):
    """The furthest offset of each distinct row's taps."""
    offsets, _, counts = taps
    reach = np.zeros(len(offsets), np.int64)
    for row in range(len(offsets)):
        for k in range(counts[row]):
            reach[row] = max(reach[row], offsets[row, k])
    return reach


@njit(cache=True, nogil=True)
def stretch_kernel(
    code,
    m_lane,
    n,
    indices,  # (n,) row indices, in the order of coding or any other
    starts,  # (n,) where each of these rows begins in a plane of ``out``, and in ``mask``
    order,
    schedule,
    taps,
    reach,  # reach_of(taps)
    mask,  # (size of a plane of ``out``,) uint32
    word,  # (n * n_sub * q * 64,) uint32, scratch
    out,
):
    """The rows of ``n`` row indices, each to its place of every plane of ``out``; arguments as above."""
    rows, chunks, lanes, n_steps, _, panel_chunks, n_sub = order
    n_in, num, den = schedule
    offsets, rotations, counts = taps
    q = out.size // mask.size
    size = code.size // q
    flat_offsets, flat_rotations = offsets.reshape(-1), rotations.reshape(-1)
    n_distinct = offsets.shape[0]
    for p in range(-(-chunks // panel_chunks)):
        base = p * panel_chunks
        limit = min(panel_chunks, chunks - base)
        made = 0
        for y in range(n):
            for c in range(n_sub):
                t = step_of(p, indices[y], c, rows, n_sub)
                segment = t // n_steps
                step = t - segment * n_steps
                start = n_in * (step * num // den)
                row = step % n_distinct
                # All taps before the ring's end, and 32 words to read at each of them.
                furthest = (segment * m_lane + start + reach[row]) * lanes + 32
                inside = start + reach[row] < m_lane and furthest <= size
                tap = row * offsets.shape[1]
                for plane in range(q):
                    here = plane * size + (segment * m_lane + start) * lanes
                    if inside:
                        xor_taps(
                            word, made, code, here, lanes, flat_offsets, flat_rotations, tap, counts[row]
                        )
                    else:
                        wrap_taps(
                            word, made, code, here, lanes, flat_offsets, flat_rotations, tap, counts[row],
                            start, m_lane,
                        )  # fmt: skip
                    made += 64
        made = 0
        for y in range(n):
            at = starts[y] + base
            for c in range(n_sub):
                slot = place_of(c, indices[y], lanes, n_sub)
                for plane in range(q):
                    to = plane * mask.size + at
                    place_word(out, to, word, made, mask, at, slot, lanes, n_sub * lanes, limit)
                    made += 64


@njit(cache=True, nogil=True)
def wrap_taps(target, to, source, here, lanes, offsets, rotations, first, n_taps, start, m_lane):
    """:func:`xorpack.vector.simd.xor_taps` near the end of a ring: past the last word of a lane the next one begins."""
    for lane in range(lanes):
        target[to + lane] = 0
    for k in range(first, first + n_taps):
        left = np.uint32(rotations[k])
        right = np.uint32((32 - rotations[k]) & 31)
        turns = (start + offsets[k]) // m_lane
        there = here + (offsets[k] - turns * m_lane) * lanes
        for lane in range(lanes):
            v = source[there + (lane + turns) % lanes]
            target[to + lane] ^= (v << left) | (v >> right)
    for lane in range(32):
        target[to + 32 + lane] = target[to + lane]


@njit(cache=True, nogil=True, inline="always")
def place_word(out, to, word, made, mask, at, slot, lanes, turn, limit):
    """The lanes at ``word[made:]``, of which lane 0 goes to place ``slot`` of a turn, to a panel of ``limit`` chunks
    that begins at ``out[to]`` and ``mask[at]``.
    """
    if turn == 32 and lanes == 32 and limit == 32:
        and_lanes(out, to, word, made + 32 - slot, mask, at)
    elif turn == 32 and lanes == 32:
        # The skew is a rotation of the lanes: read them from the doubled copy.
        for j in range(limit):
            out[to + j] = word[made + 32 - slot + j] & mask[at + j]
    else:
        # The lanes up to the turn's end, then those from its beginning on.
        for j in range(slot, min(slot + lanes, turn, limit)):
            out[to + j] = word[made + j - slot] & mask[at + j]
        for j in range(min(slot + lanes - turn, limit)):
            out[to + j] = word[made + turn - slot + j] & mask[at + j]
