"""Kernels of :mod:`xorpack.encoding.rings.gather`: words and elements in the order of coding."""

from __future__ import annotations

import numpy as np

from xorpack.code.layout_kernels import chunk_of, next_place, visit
from xorpack.vector.compiled import njit, part
from xorpack.vector.symbols import bring, choose_bits, look_up, split_bits

LINE = 16
"""Words of a line of the cache."""

AHEAD = 4
"""Rows, of those that are visited next, whose elements are on their way while one is gathered."""


@njit(cache=True, nogil=True)
def mark_nonzero(elements, mask):
    """Set the bits of ``mask`` (rows, chunks), zeros before, where ``elements`` (rows, cols) is not 0."""
    rows, cols = elements.shape
    whole = cols // 32
    flat = elements.reshape(-1)
    for r in range(rows):
        for chunk in range(whole):
            mask[r, chunk] = split_bits(flat, r * cols + 32 * chunk, mask.reshape(-1), 0, 0, 0)
        for c in range(32 * whole, cols):
            if elements[r, c] != 0:
                mask[r, c // 32] |= np.uint32(1) << np.uint32(c % 32)


@njit(cache=True, nogil=True)
def count_bits(elements, counts):
    """Add to ``counts`` (q,) how many of ``elements`` (n,) have each bit set."""
    for k in range(counts.size):
        total = 0
        for x in elements:
            total += (x >> k) & 1
        counts[k] += total


@njit(cache=True, nogil=True)
def gather_words(words, segment, rows, chunks, lanes, n_steps, row_stride, panel_chunks, n_sub, out):
    """Words (rows, chunks) of a segment in coding order: ``out`` (lanes, n_steps), 0 where absent.

    Steps of a line of the cache at a time: lanes may lie where all would want the same place in it. Indices are
    unsigned, which spares the kernel to look for negative ones.
    """
    flat, found = words.reshape(-1), out.reshape(-1)
    line = np.empty(LINE * lanes, np.uint32)
    places = n_sub * lanes
    for first in range(0, n_steps, LINE):
        n = min(LINE, n_steps - first)
        for s in range(n):
            p, r, k = visit(segment * n_steps + first + s, rows, lanes, row_stride, n_sub)
            begin = r * chunks + p * panel_chunks
            there = min(panel_chunks, chunks - p * panel_chunks)
            if there == places:
                until = min(lanes, places - k)
                for lane in range(until):
                    line[np.uint64(LINE * lane + s)] = flat[np.uint64(begin + k + lane)]
                for lane in range(until, lanes):
                    line[np.uint64(LINE * lane + s)] = flat[np.uint64(begin + k + lane - places)]
            else:
                for lane in range(lanes):
                    line[np.uint64(LINE * lane + s)] = (
                        flat[np.uint64(begin + k)] if k < there else np.uint32(0)
                    )
                    k = next_place(k, lanes, n_sub)
        for lane in range(lanes):
            for s in range(n):
                found[np.uint64(lane * n_steps + first + s)] = line[np.uint64(LINE * lane + s)]


@njit(cache=True, nogil=True)
def gather_elements(
    elements,  # (rows, cols) unsigned
    segment,
    rows,
    chunks,
    lanes,
    n_steps,
    row_stride,
    panel_chunks,
    n_sub,
    bits,  # (q,) int64: those that are planes
    codewords,  # low, last, keys, multiplier, shift, heads: as of :func:`rewrite`, where symbols are to be replaced
    out,  # uint32
    strides,  # of out: where the segment begins, then from one plane, lane and step to the next
):
    """Bit-planes of elements of a segment: ``out`` (q, lanes, n_steps), in whatever order that lies.

    Elements are rewritten first, unless there are no heads.
    """
    cols = elements.shape[1]
    low, last, keys, multiplier, shift, heads = codewords
    first, plane_stride, lane_stride, step_stride = strides
    flat, flat_out = elements.reshape(-1), out.reshape(-1)
    block, tail = np.zeros(32, elements.dtype), np.zeros(32, elements.dtype)
    kept = ~(last << low)
    further = AHEAD * row_stride % max(rows, 1)
    for step in range(n_steps):
        p, r, k = visit(segment * n_steps + step, rows, lanes, row_stride, n_sub)
        for lane in range(lanes):
            chunk = chunk_of(p, k, chunks, panel_chunks)
            n = min(32, cols - 32 * chunk) if chunk >= 0 else 0
            at = r * cols + 32 * chunk
            word = first + lane * lane_stride + step * step_stride
            bring(flat, at + cols * (further if r + further < rows else further - rows))
            if n == 32 and heads.size == 0:
                choose_bits(flat, at, bits, flat_out, word, plane_stride)
            else:
                if n == 32 and multiplier == 1:
                    look_up(flat, at, low, last, heads, kept, low, block)
                else:
                    for j in range(n):
                        tail[j] = flat[at + j]
                    for j in range(n, 32):
                        tail[j] = 0
                    rewrite(tail, low, last, keys, multiplier, shift, heads, block)
                choose_bits(block, 0, bits, flat_out, word, plane_stride)
            k = next_place(k, lanes, n_sub)


@njit(cache=True, nogil=True)
def rewrite(elements, low, last, keys, multiplier, shift, heads, out):
    """Elements (n,) whose symbols are replaced by the first bits of codewords: ``out`` (n,), 0 where they are 0.

    ``last``: the largest symbol, all ones. ``heads`` (2^k,) uint32, by slot in ``keys``; if there are none, elements
    stay what they are.
    """
    for i in range(elements.size):
        x = np.int64(elements[i])
        if x != 0 and heads.size > 0:
            slot = find_slot(keys, multiplier, shift, x >> low & last)
            x = x & ~(last << low) | np.int64(heads[slot]) << low
        out[i] = x


@part
def find_slot(keys, multiplier, shift, symbol):
    """Find where ``symbol`` stands in ``keys`` (2^k,) int64, or the free slot, -1, where it would."""
    slot = (symbol * multiplier & 0xFFFFFFFF) >> shift
    while keys[slot] != symbol and keys[slot] >= 0:
        slot = (slot + 1) & (keys.size - 1)
    return slot
