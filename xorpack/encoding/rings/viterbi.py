"""Viterbi: the least number of unmatched care bits, exactly, in time exponential in the window.

Without rotations the 32 bits of a word are 32 streams that never meet. Lanes follow one another around
the ring, so a stream is ``n_groups`` groups ``x[g]`` of ``n_in`` stored bits (bit a of ``x[g]`` is in word
``n_in * g + a``), and the ``n_out`` outputs of step g are linear in

    window[g] = x[g] | x[g + 1] << n_in | ... | x[g + n_s] << n_in * n_s

Before step g the state is the window's low ``n_in * n_s`` bits, after it the high ones. The first n_s
groups of the ring are fixed to 0, which costs ``n_in * n_s`` of its m words: then the walk begins and ends
at state 0, and dynamic programming over 2^(n_in * n_s) states finds the best one. With n_s = 0 there is no
state, and each step is searched exhaustively.

Source: arXiv 2105.01869 (fixed-to-fixed encoding), whose windows reach back where these reach ahead: the
same up to relabelling.

Ties go to the lowest value: of equally good ways into a state, the lowest x[g].
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from xorpack.code.network import XorNetwork
from xorpack.encoding.rings.elimination import RingCode
from xorpack.encoding.rings.viterbi_kernels import compress, span, step_by_branches, step_by_transform
from xorpack.errors import ParameterError
from xorpack.vector.bitops import count_ones
from xorpack.vector.compiled import njit

MAX_WINDOW_BITS = 24
"""Widest window, in stored bits of one stream, rounded up to whole groups of n_in."""


def encode_ring(
    network: XorNetwork, care: NDArray[np.uint32], planes: NDArray[np.uint32], m_lane: int
) -> RingCode:
    """Choose the stored words of one ring so that the fewest care bits of each plane come out wrong.

    Memory: one byte (n_in <= 8, else two) per state and step.

    Args:
        network: ``dense``, ``sparse`` or ``identity``, of a window of at most 24 words.
        care: uint32 (lanes, n_steps), 1 where the bit matters.
        planes: uint32 (q, lanes, n_steps), the wanted bits; ignored where care is 0. q <= 64.
        m_lane: stored words per lane: ``network.n_code_words(n_steps, 1.0)``, or 0 to store nothing.

    Raises:
        ParameterError: the network has rotations, or its window is too wide; another m_lane.
    """
    q = planes.shape[0]
    lanes, n_steps = care.shape
    n_in, n_out = network.n_in, network.n_out
    n_s = -(-network.window // n_in) - 1
    if network.family == "quasi-cyclic":
        raise ParameterError(
            "viterbi needs 32 independent bit streams, and the rotations of a quasi-cyclic network tie them"
        )
    if n_in * (n_s + 1) > MAX_WINDOW_BITS:
        raise ParameterError(
            f"viterbi searches windows of at most {MAX_WINDOW_BITS} words, "
            f"not {network.window} in groups of {n_in}"
        )
    if m_lane not in (0, network.n_code_words(n_steps, 1.0)):
        raise ParameterError(
            f"m_lane = {m_lane} is not the {network.n_code_words(n_steps, 1.0)} words "
            f"that {n_steps} steps take at {n_in} for {n_out}"
        )
    masks = _row_masks(network)
    care = np.ascontiguousarray(care)
    planes = np.ascontiguousarray(planes)
    code = np.zeros((q, lanes * m_lane), np.uint32)
    n_words = -(-min(n_out, max(n_steps, 1)) // 64)
    if m_lane and n_s == 0:
        search(care, planes, masks, n_in, n_out, np.empty((n_words, 1 << n_in), np.uint64), code)
    elif m_lane:
        shape = (lanes * m_lane // n_in, 1 << n_in * n_s)
        survivors = np.empty(shape, np.uint8 if n_in <= 8 else np.uint16)
        walk(care, planes, masks, n_in, n_out, n_s, n_words, survivors, code)
    n_care = int(np.bitwise_count(care).sum(dtype=np.int64))
    positions = np.empty(n_care, np.int64)
    values = np.empty(n_care, np.uint64)
    n_wrong = find_wrong(care, planes, masks, n_in, n_out, m_lane, code, positions, values)
    return RingCode(code, positions[:n_wrong].copy(), values[:n_wrong].copy())


def _row_masks(network: XorNetwork) -> NDArray[np.uint64]:
    """Taps of each row: bit a is set if the window's word a is one of them."""
    offsets, _, counts = network.taps()
    masks = np.zeros(len(counts), np.uint64)
    for row, count in enumerate(counts):
        for offset in offsets[row, :count]:
            masks[row] ^= np.uint64(1 << int(offset))
    return masks


@njit(cache=True, nogil=True)
def walk(
    care,  # (lanes, n_steps) uint32
    planes,  # (q, lanes, n_steps) uint32
    masks,  # (R,) uint64
    n_in,
    n_out,
    n_s,  # >= 1
    n_words,  # 64-bit words that hold the care bits of a step
    survivors,  # (n_groups, 2^(n_in * n_s)) uint8 or uint16, scratch
    code,  # (q, n_in * n_groups) uint32 of zeros, out
):
    """Kernel of :func:`encode_ring` for n_s >= 1: forward and back, stream by stream."""
    n_steps = care.shape[1]
    q = planes.shape[0]
    n_groups, n_states = survivors.shape
    per_lane = n_groups // care.shape[0]
    n_rest_bits = n_in * (n_s - 1)
    width = min(16, 1 << n_rest_bits)
    # A branch takes about as long as 4 operations of the transform, which run side by side.
    limit = 0
    while limit < 24 and (limit + 1) << (limit + 1) <= 4 << (2 * n_in):
        limit += 1
    counts = np.zeros(1, np.int64)
    columns = np.zeros((1, n_words, n_in * (n_s + 1)), np.uint64)
    targets = np.zeros((1, q, n_words), np.uint64)
    first = np.zeros((n_words, 1 << n_in), np.uint64)
    last = np.zeros((n_words, 1 << n_in), np.uint64)
    rest = np.zeros((n_words, 1 << n_rest_bits), np.uint64)
    keys = np.zeros(max(width << limit, 1 << n_in), np.uint32)
    cost = np.zeros(n_states, np.uint32)
    following = np.zeros(n_states, np.uint32)
    for bit in range(32):
        for p in range(q):
            cost[:] = 1 << (31 - n_in)  # more than any state that state 0 leads to
            cost[0] = 0
            for g in range(n_groups):
                begin = g % per_lane * n_out
                end = min(begin + n_out, n_steps)
                lane = g // per_lane
                compress(care, planes, masks, lane, begin, end, bit, counts, columns, targets)
                c = counts[0]
                used = max((c + 63) // 64, 1)
                target = targets[0, p]
                span(columns[0], 0, n_in, used, first)
                span(columns[0], n_in, n_rest_bits, used, rest)
                span(columns[0], n_in * n_s, n_in, used, last)
                arrive = survivors[g]
                if c <= limit:
                    step_by_transform(
                        cost, n_in, c, first, rest, last, target, keys, width, following, arrive
                    )
                else:
                    step_by_branches(cost, n_in, used, first, rest, last, target, keys, following, arrive)
                cost[:] = following - following.min()
            state = 0
            for g in range(n_groups - 1, -1, -1):
                x = np.int64(survivors[g, state])
                for a in range(n_in):
                    code[p, n_in * g + a] |= np.uint32((x >> a) & 1) << np.uint32(bit)
                state = ((state << n_in) & (n_states - 1)) | x


@njit(cache=True, nogil=True)
def search(
    care,  # (lanes, n_steps) uint32
    planes,  # (q, lanes, n_steps) uint32
    masks,  # (R,) uint64
    n_in,
    n_out,
    table,  # (n_words, 2^n_in) uint64, scratch
    code,  # (q, m) uint32 of zeros, out
):
    """Kernel of :func:`encode_ring` for n_s = 0: every value of every group."""
    n_steps = care.shape[1]
    q = planes.shape[0]
    n_words = table.shape[0]
    n_groups = code.shape[1] // n_in
    per_lane = n_groups // care.shape[0]
    counts = np.zeros(32, np.int64)
    columns = np.zeros((32, n_words, n_in), np.uint64)
    targets = np.zeros((32, q, n_words), np.uint64)
    unmatched = np.zeros(1 << n_in, np.int64)
    for g in range(n_groups):
        begin = g % per_lane * n_out
        end = min(begin + n_out, n_steps)
        compress(care, planes, masks, g // per_lane, begin, end, 0, counts, columns, targets)
        for bit in range(32):
            used = (counts[bit] + 63) // 64
            span(columns[bit], 0, n_in, used, table)
            for p in range(q):
                unmatched[:] = 0
                for w in range(used):
                    wanted = targets[bit, p, w]
                    row = table[w]
                    for x in range(row.size):
                        unmatched[x] += np.int64(count_ones(row[x] ^ wanted))
                best = unmatched[0] << n_in
                for x in range(unmatched.size):
                    best = min(best, (unmatched[x] << n_in) | x)
                for a in range(n_in):
                    code[p, n_in * g + a] |= np.uint32((best >> a) & 1) << np.uint32(bit)


@njit(cache=True, nogil=True)
def find_wrong(care, planes, masks, n_in, n_out, m_lane, code, positions, values):
    """Decode, compare, and write ``positions`` and ``values``; returns their number."""
    lanes, n_steps = care.shape
    q, m = code.shape
    one = np.uint64(1)
    n_wrong = 0
    wrong = np.zeros(q, np.uint32)
    for lane in range(lanes):
        for t in range(n_steps):
            word = care[lane, t]
            if word == 0:
                continue
            start = lane * m_lane + t // n_out * n_in
            anywhere = np.uint32(0)
            for p in range(q):
                out = np.uint32(0)
                mask = masks[t % masks.size] if m > 0 else np.uint64(0)
                a = 0
                while mask >> np.uint64(a) != 0:
                    if (mask >> np.uint64(a)) & one:
                        out ^= code[p, (start + a) % m]
                    a += 1
                wrong[p] = (out ^ planes[p, lane, t]) & word
                anywhere |= wrong[p]
            for bit in range(32):
                if (anywhere >> np.uint32(bit)) & np.uint32(1):
                    value = np.uint64(0)
                    for p in range(q):
                        value |= (np.uint64(wrong[p] >> np.uint32(bit)) & one) << np.uint64(p)
                    positions[n_wrong] = 32 * (lane * n_steps + t) + bit
                    values[n_wrong] = value
                    n_wrong += 1
    return n_wrong
