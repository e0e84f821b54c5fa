"""Code to plane words in numba: one step of all lanes at a time, any rows."""

from __future__ import annotations

import numpy as np

from xorpack.code.planes import CodedPlanes
from xorpack.code.words import Words
from xorpack.errors import ParameterError
from xorpack.vector.compiled import njit
from xorpack.vector.simd import and_lanes, xor_taps
from xorpack.vector.threads import for_each


def expand(
    coded: CodedPlanes,
    first: int,
    last: int,
    mask: Words | None = None,
    *,
    jobs: int = 1,
    out: Words | None = None,
) -> Words:
    """Rows ``first .. last - 1`` of the planes: uint32 (q, rows, chunks), ANDed with ``mask`` if given.

    ``out``: a C-contiguous array of that shape to write to.
    """
    layout, network = coded.layout, coded.network
    q, m_lane = coded.code.shape[0], coded.m_lane
    shape = (q, last - first, layout.chunks)
    if out is None:
        out = np.empty(shape, np.uint32)
    elif out.shape != shape or out.dtype != np.uint32 or not out.flags.c_contiguous:
        raise ParameterError(
            f"out of shape {out.shape} and type {out.dtype}, not C-contiguous {shape} uint32"
        )
    if not m_lane or not out.size:
        out[...] = 0
        return out
    if mask is None:
        mask = np.full(out.shape[1:], 0xFFFFFFFF, np.uint32)
    code = np.ascontiguousarray(coded.code).reshape(-1)
    flat_mask, flat_out = np.ascontiguousarray(mask).reshape(-1), out.reshape(-1)
    inverse = pow(layout.row_stride, -1, layout.rows) if layout.rows > 1 else 0
    whole = last - first == layout.rows
    share = -(-(last - first) // jobs)

    def run(begin: int) -> None:
        expand_kernel(
            code,
            q,
            m_lane,
            first,
            begin,
            min(begin + share, last - first),
            whole,
            *layout.params(),
            inverse,
            *network.schedule(m_lane, layout.n_steps),
            *network.taps(),
            flat_mask,
            flat_out,
        )

    for_each(run, range(0, last - first, share), jobs)
    return out


@njit(cache=True, nogil=True)
def expand_kernel(
    code,  # (q * n_segments * m_lane * lanes,) uint32
    q,
    m_lane,
    first,
    begin,
    end,
    whole,
    rows,
    chunks,
    lanes,
    n_steps,
    row_stride,
    panel_chunks,
    n_sub,
    inverse,  # of row_stride modulo rows
    n_in,
    num,
    den,
    offsets,  # (R, K) int32
    rotations,  # (R, K) int32
    counts,  # (R,) int32
    mask,  # (n * chunks,) uint32
    out,  # (q * n * chunks,) uint32
):
    """Rows ``first + begin .. first + end - 1`` into the same rows of ``out``.

    Where ``whole`` (and first = 0), row indices ``begin .. end - 1`` instead, in the order of coding,
    which reads the code from end to end.
    """
    size = code.size // q
    flat_offsets, flat_rotations = offsets.reshape(-1), rotations.reshape(-1)
    n_distinct = offsets.shape[0]
    panels = -(-chunks // panel_chunks)
    turn = n_sub * lanes
    # Words of a stretch of rows, every lane twice, and where they go: what was just stored could not be read at once,
    # and lines of many rows are on their way together.
    stretch = max(1, min(32, 256 // max(q * n_sub, 1)))
    word = np.empty(stretch * n_sub * q * 64, np.uint32)
    indices = np.empty(stretch, np.int64)
    starts = np.empty(stretch, np.int64)
    reach = np.zeros(n_distinct, np.int64)
    for row in range(n_distinct):
        for k in range(counts[row]):
            reach[row] = max(reach[row], offsets[row, k])
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
        for p in range(panels):
            base = p * panel_chunks
            limit = min(panel_chunks, chunks - base)
            made = 0
            for y in range(n):
                for c in range(n_sub):
                    t = (p * rows + indices[y]) * n_sub + c
                    segment = t // n_steps
                    step = t - segment * n_steps
                    start = n_in * (step * num // den)
                    row = step % n_distinct
                    # All taps before the ring's end, and 32 words to read at each of them.
                    furthest = (segment * m_lane + start + reach[row]) * lanes + 32
                    inside = start + reach[row] < m_lane and furthest <= size
                    for plane in range(q):
                        here = plane * size + (segment * m_lane + start) * lanes
                        taps = row * offsets.shape[1]
                        if inside:
                            xor_taps(
                                word, made, code, here, lanes, flat_offsets, flat_rotations, taps, counts[row]
                            )
                        else:
                            for lane in range(lanes):
                                word[made + lane] = 0
                            for k in range(counts[row]):
                                left = np.uint32(rotations[row, k])
                                right = np.uint32((32 - rotations[row, k]) & 31)
                                turns = (start + offsets[row, k]) // m_lane
                                there = here + (offsets[row, k] - turns * m_lane) * lanes
                                for lane in range(lanes):
                                    v = code[there + (lane + turns) % lanes]
                                    word[made + lane] ^= (v << left) | (v >> right)
                            for lane in range(32):
                                word[made + 32 + lane] = word[made + lane]
                        made += 64
            made = 0
            for y in range(n):
                at = starts[y] + base
                for c in range(n_sub):
                    slot = (c * lanes + indices[y]) % turn
                    for plane in range(q):
                        to = plane * mask.size + at
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
                        made += 64
