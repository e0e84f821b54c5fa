"""Kernels of :mod:`xorpack.masks.block.joining`: mask bits from codewords."""

from __future__ import annotations

import numpy as np

from xorpack.vector.bitops import trailing_zeros
from xorpack.vector.compiled import njit
from xorpack.vector.symbols import join_bits


@njit(cache=True, nogil=True)
def move_kernel(words, to, moved):
    """Kernel of :func:`move_columns`; ``moved`` holds zeros before."""
    one = np.uint64(1)
    for r in range(words.shape[0]):
        for chunk in range(words.shape[1]):
            left = np.uint64(words[r, chunk])
            while left != 0:
                c = to[32 * chunk + np.int64(trailing_zeros(left))]
                left &= left - one
                moved[r, c // 32] |= np.uint32(1) << np.uint32(c % 32)


@njit(cache=True, nogil=True)
def join_kernel(
    plane,  # flat uint32
    raw,  # (rows * n_raw * n_words,) uint32
    begins,  # (rows,) int64: first word in ``plane`` of every row
    n_raw,
    n_words,
    order,  # (n_depths,) int64
    block,
    max_length,
    row_levels,  # (rows,) int64
    col_levels,  # (n_blocks,) int64
    of_level,  # (EMPTY + 1,) int64
    runs,  # (n, R, 3) int64
    fast,  # (n, 2**FAST_BITS) uint32
    hints,  # (n, 2**FAST_BITS) uint8
    symbols,  # (n_symbols,) uint32
    mask,  # (rows, chunks) uint32, out
):
    """Kernel of :func:`join`; bits of the mask past the last column are arbitrary."""
    n_blocks = col_levels.size
    raw_words = -(-n_blocks // 32)
    chunks = mask.shape[1]
    n_runs = runs.shape[1]
    empty = of_level.size - 1
    n_depths = order.size
    fast_bits = 0
    while 1 << fast_bits < fast.shape[1]:
        fast_bits += 1
    shift = max_length - n_raw - n_depths
    full = np.uint64((1 << block) - 1)
    planes = np.zeros(32, np.uint32)
    heads = np.zeros(32 * raw_words, np.uint32)
    tails = np.zeros(32 * n_words, np.uint32)
    for r in range(row_levels.size):
        for w in range(raw_words):
            for d in range(n_raw):
                planes[n_raw - 1 - d] = raw[(r * n_raw + d) * raw_words + w]
            join_bits(heads, 32 * w, planes, 0, 1, n_raw)
        for w in range(n_words):
            for k in range(n_depths):
                planes[n_depths - 1 - order[k]] = plane[begins[r] + w * n_depths + k]
            join_bits(tails, 32 * w, planes, 0, 1, n_depths)
        filled = np.int64(0)
        pending = np.uint64(0)
        chunk = 0
        w = 0
        j = 0
        for b in range(n_blocks):
            level = row_levels[r] + col_levels[b]
            value = (np.int64(heads[b]) << n_depths | np.int64(tails[32 * w + j])) << shift
            w += 1
            if w == n_words:
                w = 0
                j += 1
            table = of_level[min(abs(level), empty)]
            top = (value << fast_bits) >> max_length
            symbol = np.uint64(fast[table, top])
            if symbol == np.uint64(0xFFFFFFFF):
                n = np.int64(hints[table, top])
                while n + 1 < n_runs and runs[table, n + 1, 0] <= value:
                    n += 1
                rank = runs[table, n, 2] + ((value - runs[table, n, 0]) >> runs[table, n, 1])
                symbol = np.uint64(symbols[rank])
            if level < 0:
                symbol ^= full
            pending |= symbol << np.uint64(filled)
            filled += block
            if filled >= 32:
                if chunk < chunks:
                    mask[r, chunk] = np.uint32(pending & np.uint64(0xFFFFFFFF))
                chunk += 1
                pending >>= np.uint64(32)
                filled -= 32
        if chunk < chunks:
            mask[r, chunk] = np.uint32(pending & np.uint64(0xFFFFFFFF))
