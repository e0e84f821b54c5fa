"""Kernels of :mod:`xorpack.encoding.rings.gather`: words and elements in the order of coding."""

from __future__ import annotations

import numpy as np

from xorpack.code.layout_kernels import chunk_of, next_place, visit
from xorpack.vector.compiled import njit
from xorpack.vector.symbols import split_bits

LINE = 16
"""Words of a line of the cache."""


@njit(cache=True, nogil=True)
def mark_nonzero(elements, mask):
    """Set the bits of ``mask`` (rows, chunks), zeros before, where ``elements`` (rows, cols) is not 0."""
    rows, cols = elements.shape
    for r in range(rows):
        for c in range(cols):
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
def gather_elements(elements, segment, rows, chunks, lanes, n_steps, row_stride, panel_chunks, n_sub, out):
    """Bit-planes of ``elements`` (rows, cols) of a segment: ``out`` (q, lanes, n_steps)."""
    cols = elements.shape[1]
    q = out.shape[0]
    flat, flat_out = elements.reshape(-1), out.reshape(-1)
    block = np.zeros(32, elements.dtype)
    for step in range(n_steps):
        p, r, k = visit(segment * n_steps + step, rows, lanes, row_stride, n_sub)
        for lane in range(lanes):
            chunk = chunk_of(p, k, chunks, panel_chunks)
            n = cols - 32 * chunk if chunk >= 0 else 0
            word = lane * n_steps + step
            if n >= 32:
                split_bits(flat, r * cols + 32 * chunk, flat_out, word, lanes * n_steps, q)
            else:
                for j in range(32):
                    block[j] = elements[r, 32 * chunk + j] if j < n else 0
                split_bits(block, 0, flat_out, word, lanes * n_steps, q)
            k = next_place(k, lanes, n_sub)
