"""Kernels of :mod:`xorpack.encoding.rings.viterbi`: walks through the trellis, and one step of it.

A step, of one stream of bits, goes from state ``x | rest << n_in`` to state ``rest | last << n_in * (n_s - 1)``: x is
the group of n_in stored bits that leaves the window, ``last`` the one that enters, ``rest`` what both states share.
Its outputs are ``first[x] ^ rest[rest] ^ last[last]``, three tables of sums, of the step's c care bits alone.

Going through all 4^n_in pairs (x, last) of every rest is one way. But what a branch costs is a Hamming
distance, so where c is small, the best x is found for every c-bit output at once: a distance transform of
the hypercube, one axis at a time, in c * 2^c operations.
"""

from __future__ import annotations

import numpy as np

from xorpack.vector.bitops import count_ones, trailing_zeros
from xorpack.vector.compiled import njit, part


@part
def compress(care, planes, masks, lane, first, last, bit, counts, columns, targets):
    """Care bits of streams ``bit + s``, s < S, in steps ``first .. last - 1``, packed without gaps.

    Of stream ``bit + s``, which has ``counts[s]`` of them, care bit k is bit ``k % 64`` of
    ``columns[s, k // 64, a]``, where stored bit a of the window has a say in it, and of
    ``targets[s, p, k // 64]``, where plane p wants a 1.
    """
    n_streams, _, n_bits = columns.shape
    one = np.uint64(1)
    streams = (one << np.uint64(n_streams)) - one
    counts[:] = 0
    columns[:] = 0
    targets[:] = 0
    for i in range(first, last):
        mask = masks[i % masks.size]
        left = np.uint64(care[lane, i] >> np.uint32(bit)) & streams
        while left != 0:
            s = np.int64(trailing_zeros(left))
            left &= left - one
            word = counts[s] >> 6
            shift = np.uint64(counts[s] & 63)
            column = columns[s, word]
            for a in range(n_bits):
                column[a] |= ((mask >> np.uint64(a)) & one) << shift
            for p in range(planes.shape[0]):
                wanted = np.uint64(planes[p, lane, i] >> np.uint32(bit + s)) & one
                targets[s, p, word] |= wanted << shift
            counts[s] += 1


@njit(cache=True, nogil=True)
def span(columns, first, n_bits, n_words, table):
    """``table[w, x]`` for w < n_words = XOR of ``columns[w, first + a]`` over the ones a of x."""
    for w in range(n_words):
        table[w, 0] = 0
        for a in range(n_bits):
            low = table[w, : 1 << a]
            high = table[w, 1 << a : 2 << a]
            column = columns[w, first + a]
            for x in range(low.size):
                high[x] = low[x] ^ column


@njit(cache=True, nogil=True)
def transform(keys, n_bits, width, unit):
    """``keys[v, r] = min over u of keys[u, r] + unit * popcount(u ^ v)``, in place.

    ``keys``: flat uint32, of shape (2^n_bits, width).
    """
    stride = width
    for _ in range(n_bits):
        for base in range(0, width << n_bits, 2 * stride):
            low = keys[base : base + stride]
            high = keys[base + stride : base + 2 * stride]
            for j in range(stride):
                a = low[j]
                b = high[j]
                low[j] = min(a, np.uint32(b + unit))
                high[j] = min(b, np.uint32(a + unit))
        stride *= 2


@njit(cache=True, nogil=True)
def step_by_transform(cost, n_in, c, first, rest, last, target, keys, width, following, survivors):
    """One step of the trellis for few care bits; like :func:`step_by_branches`."""
    n_rest = cost.size >> n_in
    n_last = 1 << n_in
    shift = np.uint32(n_in)
    low = np.uint32(n_last - 1)
    unreached = np.uint32(3) << np.uint32(30)  # above the cost of any state, below overflow
    for block in range(0, n_rest, width):
        keys[: width << c] = unreached
        for r in range(width):
            for x in range(n_last):
                key = np.uint32((cost[((block + r) << n_in) + x] << shift) | np.uint32(x))
                at = np.int64(first[0, x]) * width + r
                keys[at] = min(keys[at], key)
        transform(keys, c, width, np.uint32(n_last))
        for x in range(n_last):
            wanted = last[0, x] ^ target[0]
            to = x * n_rest + block
            for r in range(width):
                key = keys[np.int64(rest[0, block + r] ^ wanted) * width + r]
                following[to + r] = key >> shift
                survivors[to + r] = key & low


@njit(cache=True, nogil=True)
def step_by_branches(cost, n_in, n_words, first, rest, last, target, keys, following, survivors):
    """One step of the trellis: the best x[g] for every pair of a rest and a last group.

    ``following[last * n_rest + rest] = min over x of cost[rest * 2^n_in + x] + unmatched bits``, and
    ``survivors`` at the same index is the lowest such x. Sums are ``cost << n_in | x``, in one uint32.
    """
    n_rest = cost.size >> n_in
    n_last = 1 << n_in
    shift = np.uint32(n_in)
    sums = keys[:n_last]
    for r in range(n_rest):
        come = cost[r << n_in : (r + 1) << n_in]
        for x in range(n_last):
            for w in range(n_words):
                wanted = rest[w, r] ^ last[w, x] ^ target[w]
                row = first[w]
                if w == 0:
                    for y in range(n_last):
                        unmatched = np.uint32(count_ones(row[y] ^ wanted))
                        sums[y] = ((come[y] + unmatched) << shift) | np.uint32(y)
                else:
                    for y in range(n_last):
                        sums[y] += np.uint32(count_ones(row[y] ^ wanted)) << shift
            best = sums[0]
            for y in range(n_last):
                best = min(best, sums[y])
            following[x * n_rest + r] = best >> shift
            survivors[x * n_rest + r] = best & np.uint32(n_last - 1)


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
