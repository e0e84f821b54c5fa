"""Kernels of :mod:`xorpack.encoding.quantize.pruning`, which see float32 as its bits."""

from __future__ import annotations

import numpy as np

from xorpack.vector.compiled import njit


@njit(cache=True, nogil=True)
def nonfinite_kernel(bits):
    """First index of a NaN or infinity among the bits of float32, uint32 (n,); -1 if there is none."""
    largest = np.uint32(0)
    for i in range(bits.size):
        magnitude = np.uint32(bits[i] & np.uint32(0x7FFFFFFF))
        largest = largest if largest > magnitude else magnitude
    if largest >= np.uint32(0x7F800000):
        for i in range(bits.size):
            if bits[i] & np.uint32(0x7F800000) == np.uint32(0x7F800000):
                return i
    return -1


@njit(cache=True, nogil=True)
def high_kernel(bits, counts):
    """Add the high 15 bits of ``|w|`` to ``counts``, int64 (65536,); return the number of zeros."""
    zeros = np.int64(0)
    for r in range(bits.shape[0]):
        for c in range(bits.shape[1]):
            magnitude = np.uint32(bits[r, c] & np.uint32(0x7FFFFFFF))
            counts[magnitude >> np.uint32(16)] += 1
            zeros += magnitude == 0
    return zeros


@njit(cache=True, nogil=True)
def low_kernel(bits, bucket, counts):
    """Add the low 16 bits of every ``|w|`` whose high bits are ``bucket`` to ``counts``."""
    for r in range(bits.shape[0]):
        for c in range(bits.shape[1]):
            magnitude = np.uint32(bits[r, c] & np.uint32(0x7FFFFFFF))
            if magnitude >> np.uint32(16) == bucket:
                counts[magnitude & np.uint32(0xFFFF)] += 1


@njit(cache=True, nogil=True)
def mask_kernel(bits, threshold, ties, mask):
    """Keep ``|w|`` above ``threshold`` and the first ``ties`` equal to it; return the ties left over."""
    rows, cols = bits.shape
    limit = np.uint32(threshold)
    for r in range(rows):
        for chunk in range(mask.shape[1]):
            first = 32 * chunk
            n = min(32, cols - first)
            above = np.uint32(0)
            equal = np.uint32(0)
            for j in range(n):
                magnitude = np.uint32(bits[r, first + j] & np.uint32(0x7FFFFFFF))
                above |= np.uint32(magnitude > limit) << np.uint32(j)
                equal |= np.uint32(magnitude == limit) << np.uint32(j)
            if ties > 0 and equal:
                for j in range(n):
                    if ties > 0 and (equal >> np.uint32(j)) & np.uint32(1):
                        above |= np.uint32(1) << np.uint32(j)
                        ties -= 1
            mask[r, chunk] = above
    return ties
