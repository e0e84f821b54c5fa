"""THE bit order of xorpack: 32 consecutive weights of one row are one word.

For a matrix of ``rows x cols`` bits packed into ``words`` of shape ``(rows, ceil(cols / 32))``,

    bit (r, c) is words[r, c // 32] >> (c % 32) & 1

and bits past the last column are 0. Every other module goes through these functions.

>>> import numpy as np
>>> bits = np.arange(2 * 40).reshape(2, 40) % 3 == 0
>>> words = pack(bits)
>>> all(int(words[r, c // 32]) >> (c % 32) & 1 == bits[r, c] for r in range(2) for c in range(40))
True
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

WORD_BITS = 32
"""Weights in one word."""

Words = NDArray[np.uint32]


def n_chunks(cols: int) -> int:
    """Words that hold one row of ``cols`` bits."""
    return -(-cols // WORD_BITS)


def pack(bits: NDArray[np.bool_]) -> Words:
    """Pack bits of shape ``(..., cols)`` into words of shape ``(..., ceil(cols / 32))``."""
    *lead, cols = bits.shape
    chunks = n_chunks(cols)
    padded = np.zeros((*lead, chunks * 4), np.uint8)
    padded[..., : -(-cols // 8)] = np.packbits(bits, axis=-1, bitorder="little")
    return padded.view("<u4").astype(np.uint32, copy=False).reshape(*lead, chunks)


def unpack(words: Words, cols: int) -> NDArray[np.bool_]:
    """Unpack words of shape ``(..., ceil(cols / 32))`` into bits of shape ``(..., cols)``."""
    *lead, chunks = words.shape
    octets = np.ascontiguousarray(words, dtype="<u4").view(np.uint8).reshape(*lead, chunks * 4)
    return np.unpackbits(octets, axis=-1, count=cols, bitorder="little").astype(np.bool_)


def popcount(words: Words) -> int:
    """Number of ones in all words."""
    flat = np.ascontiguousarray(words).reshape(-1)
    pairs = flat[: flat.size & ~1].view(np.uint64)
    return int(np.bitwise_count(pairs).sum(dtype=np.int64)) + sum(
        int(w).bit_count() for w in flat[2 * pairs.size :]
    )


def tail_mask(cols: int) -> Words:
    """One word per chunk with ones at the columns that exist."""
    mask = np.full(n_chunks(cols), 0xFFFFFFFF, np.uint32)
    if cols % WORD_BITS:
        mask[-1] = (1 << cols % WORD_BITS) - 1
    return mask
