"""Kernels of :mod:`xorpack.code.packed`: a word of the mask at a time."""

from __future__ import annotations

import numpy as np

from xorpack.vector.bitops import count_ones, deposit, extract
from xorpack.vector.compiled import njit


@njit(cache=True, nogil=True)
def pack_kernel(mask, planes, begin, code):
    """Put the bits of ``planes`` (q, n) where ``mask`` (n,) is 1 into ``code`` (q, words), from bit ``begin`` on.

    What stands there is kept, and must be 0 from that bit on. Returns the bit behind the last.
    """
    end = np.int64(begin)
    words = np.int64(code.shape[1])
    for j in range(planes.shape[0]):
        at, n = np.int64(begin >> 5), np.uint64(begin & 31)
        room = np.uint64(code[j, at]) if n else np.uint64(0)
        for i in range(mask.size):
            kept = np.uint64(mask[i])
            room |= np.uint64(extract(np.uint64(planes[j, i]), kept)) << n
            n += np.uint64(count_ones(kept))
            if at < words:  # whether the word is full or not: what a branch on that would cost is more
                code[j, at] = np.uint32(room & np.uint64(0xFFFFFFFF))
            full = n >> np.uint64(5)
            room >>= full << np.uint64(5)
            n &= np.uint64(31)
            at += np.int64(full)
        if n:
            code[j, at] = np.uint32(room)
        end = 32 * at + np.int64(n)
    return end


@njit(cache=True, nogil=True)
def unpack_kernel(code, mask, begin, first, end, out):
    """Inverse of :func:`pack_kernel`: fill words ``first .. end - 1`` of ``out`` (q, n), 0 where the mask is.

    ``code`` (q, words) has the bits that ``mask`` (n,) asks for there, from bit ``begin`` on, and at least one word.
    """
    last = np.int64(code.shape[1] - 1)
    for j in range(code.shape[0]):
        at = np.int64(begin)
        for i in range(first, end):
            kept = np.uint64(mask[i])
            word = at >> 5  # past the end, what is read is not deposited anywhere
            bits = np.uint64(code[j, min(word, last)]) | np.uint64(code[j, min(word + 1, last)]) << np.uint64(
                32
            )
            out[j, i] = np.uint32(deposit(bits >> np.uint64(at & 31), kept))
            at += np.int64(count_ones(kept))
