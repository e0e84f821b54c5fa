"""The CPU decoder: numba, one step of all lanes at a time, random access by rows."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from xorpack import dense
from xorpack.corrections import check_kept
from xorpack.encoded import EncodedTensor
from xorpack.errors import FormatError, ParameterError
from xorpack.simd import and_lanes, xor_taps
from xorpack.tensors import DTYPES
from xorpack.words import Words, popcount

BLOCK_WORDS = 1 << 16
"""Words of a plane that are decoded at a time on the way to elements."""


def decode_planes(
    encoded: EncodedTensor, first: int = 0, last: int | None = None, *, jobs: int = 1
) -> tuple[Words, Words]:
    """``(mask, planes)`` of rows ``first .. last - 1``: uint32 (rows, chunks), (q, rows, chunks).

    Bits of a plane where the mask is 0 are 0. Equal to :func:`xorpack.decoders.reference.decode_planes`.

    Raises:
        ParameterError: rows outside the tensor.
        FormatError: the mask does not keep as many weights as the tensor says (whole tensors only).
    """
    end = encoded.rows if last is None else last
    if not 0 <= first <= end <= encoded.rows:
        raise ParameterError(f"rows {first}..{end} are outside the tensor's {encoded.rows}")
    mask = encoded.load_mask(first, end)
    if end - first == encoded.rows and popcount(mask) != encoded.n_kept:
        raise FormatError(f"the mask keeps {popcount(mask)} weights, not {encoded.n_kept}")
    planes = np.empty((encoded.bits, end - first, encoded.layout.chunks), np.uint32)
    if not encoded.m_lane:
        planes[...] = 0
    if encoded.m_lane and planes.size:
        _run(encoded, first, end, mask, planes, jobs)
    wrong = encoded.load_corrections().in_rows(first, end, encoded.cols)
    check_kept(wrong, mask, encoded.cols)
    correct(planes, wrong.positions, wrong.values, max(encoded.cols, 1))
    return mask, planes


def decode_rows(encoded: EncodedTensor, first: int = 0, last: int | None = None) -> NDArray[Any]:
    """Elements of rows ``first .. last - 1`` of the tensor's matrix, of the tensor's dtype."""
    mask, planes = decode_planes(encoded, first, last)
    out = np.empty((mask.shape[0], encoded.cols), DTYPES[encoded.dtype])
    if encoded.scales is None:
        dense.join_planes(planes, out)
    else:
        dense.expand_bcq(mask, planes, encoded.scales[first:last], encoded.group_size, out)
    return out


def decode_blocks(encoded: EncodedTensor) -> Iterator[NDArray[Any]]:
    """All rows in order, in blocks of about ``BLOCK_WORDS`` words."""
    step = max(1, BLOCK_WORDS // max(encoded.layout.chunks, 1))
    for r in range(0, encoded.rows, step):
        yield decode_rows(encoded, r, min(r + step, encoded.rows))


def decode_dense(encoded: EncodedTensor, *, jobs: int = 1) -> NDArray[Any]:
    """The whole tensor: its shape, its dtype."""
    mask, planes = decode_planes(encoded, jobs=jobs)
    out = np.empty((encoded.rows, encoded.cols), DTYPES[encoded.dtype])
    step = max(1, -(-encoded.rows // (4 * jobs))) if jobs > 1 else max(encoded.rows, 1)

    def expand(r: int) -> None:
        if encoded.scales is None:
            dense.join_planes(planes[:, r : r + step], out[r : r + step])
        else:
            scales = encoded.scales[r : r + step]
            dense.expand_bcq(
                mask[r : r + step], planes[:, r : r + step], scales, encoded.group_size, out[r : r + step]
            )

    starts = range(0, encoded.rows, step)
    if jobs == 1:
        for r in starts:
            expand(r)
    else:
        with ThreadPoolExecutor(jobs) as pool:
            list(pool.map(expand, starts))
    return out.reshape(encoded.shape)


def _run(encoded: EncodedTensor, first: int, last: int, mask: Words, planes: Words, jobs: int) -> None:
    layout, network = encoded.layout, encoded.network
    schedule = network.schedule(encoded.m_lane, layout.n_steps)
    whole = last - first == encoded.rows
    inverse = pow(layout.row_stride, -1, layout.rows) if layout.rows > 1 else 0
    code = np.ascontiguousarray(encoded.code).reshape(-1)
    flat_mask, flat_planes = np.ascontiguousarray(mask).reshape(-1), planes.reshape(-1)

    def run(begin: int) -> None:
        decode_kernel(
            code,
            encoded.bits,
            encoded.m_lane,
            first,
            begin,
            min(begin + share, last - first),
            whole,
            *layout.params(),
            inverse,
            *schedule,
            *network.taps(),
            flat_mask,
            flat_planes,
        )

    share = -(-(last - first) // jobs)
    if jobs == 1:
        run(0)
    else:
        with ThreadPoolExecutor(jobs) as pool:
            list(pool.map(run, range(0, last - first, share)))


@njit(cache=True, nogil=True)
def decode_kernel(
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
    word = np.empty(64, np.uint32)
    reach = np.zeros(n_distinct, np.int64)
    for row in range(n_distinct):
        for k in range(counts[row]):
            reach[row] = max(reach[row], offsets[row, k])
    for p in range(panels):
        base = p * panel_chunks
        limit = min(panel_chunks, chunks - base)
        for x in range(begin, end):
            if whole:
                i = x
                r = i * row_stride % rows
            else:
                r = first + x
                i = r * inverse % rows
            r -= first
            for c in range(n_sub):
                t = (p * rows + i) * n_sub + c
                segment = t // n_steps
                step = t - segment * n_steps
                start = n_in * (step * num // den)
                row = step % n_distinct
                slot = (c * lanes + i) % turn
                inside = lanes == 32 and start + reach[row] < m_lane
                at = r * chunks + base
                for plane in range(q):
                    here = plane * size + (segment * m_lane + start) * lanes
                    if inside:
                        taps = row * offsets.shape[1]
                        xor_taps(word, code, here, flat_offsets, flat_rotations, taps, counts[row])
                    else:
                        for lane in range(lanes):
                            word[lane] = 0
                        for k in range(counts[row]):
                            left = np.uint32(rotations[row, k])
                            right = np.uint32((32 - rotations[row, k]) & 31)
                            turns = (start + offsets[row, k]) // m_lane
                            there = here + (offsets[row, k] - turns * m_lane) * lanes
                            for lane in range(lanes):
                                v = code[there + (lane + turns) % lanes]
                                word[lane] ^= (v << left) | (v >> right)
                        for lane in range(32):
                            word[32 + lane] = word[lane]
                    to = plane * mask.size + at
                    if turn == 32 and lanes == 32:
                        # The skew is a rotation of the lanes: read them from a doubled copy.
                        if limit == 32:
                            and_lanes(out, to, word, 32 - slot, mask, at)
                        else:
                            for j in range(limit):
                                out[to + j] = word[32 - slot + j] & mask[at + j]
                    else:
                        for lane in range(lanes):
                            j = slot + lane if slot + lane < turn else slot + lane - turn
                            if j < limit:
                                out[to + j] = word[lane] & mask[at + j]


@njit(cache=True, nogil=True)
def correct(planes, positions, values, cols):
    """XOR the bits of ``values`` into planes (q, rows, chunks) at element indices ``positions``."""
    for n in range(positions.size):
        r = positions[n] // cols
        c = positions[n] - r * cols
        for k in range(planes.shape[0]):
            bit = np.uint32((values[n] >> np.uint64(k)) & np.uint64(1))
            planes[k, r, c // 32] ^= bit << np.uint32(c % 32)
