"""Planes to elements and back: numba kernels that work on rows of packed words.

The element of row r and column c takes bit ``(r, c)`` of every plane (:mod:`xorpack.words`).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from xorpack.words import Words

ROW_BLOCK_ELEMENTS = 1 << 20
"""Elements that are converted at a time where a type needs a temporary copy."""

_UNSIGNED = {1: np.uint8, 2: np.uint16, 4: np.uint32}


def expand_bcq(
    mask: Words, planes: Words, scales: NDArray[Any], group_size: int, out: NDArray[Any]
) -> None:
    """Fill ``out`` (rows, cols), C-contiguous, of a float type, with ``sum_k alpha_k * b_k``, +0 where pruned.

    ``mask`` (rows, chunks), ``planes`` (q, rows, chunks), ``scales`` (rows, n_groups, q).
    """
    rows, cols = out.shape
    if rows == 0 or cols == 0:
        return
    alphas = scales.astype(np.float32)
    group = group_size or cols
    if out.dtype == np.float32:
        bcq_kernel(mask, planes, alphas, group, out)
        return
    step = max(1, ROW_BLOCK_ELEMENTS // cols)
    for r in range(0, rows, step):
        block = np.empty((min(step, rows - r), cols), np.float32)
        bcq_kernel(mask[r : r + step], planes[:, r : r + step], alphas[r : r + step], group, block)
        with np.errstate(over="ignore"):
            out[r : r + step] = block.astype(out.dtype)


@njit(cache=True, nogil=True)
def bcq_kernel(mask, planes, alphas, group, out):
    """Kernel of :func:`expand_bcq` for float32; ``group`` >= 1 columns share scales."""
    rows, cols = out.shape
    q = planes.shape[0]
    total = np.empty(32, np.float32)
    for r in range(rows):
        for chunk in range(mask.shape[1]):
            kept = mask[r, chunk]
            first = 32 * chunk
            n = min(32, cols - first)
            begin = first
            while begin < first + n:
                g = begin // group
                end = min(first + n, (g + 1) * group)
                for j in range(begin - first, end - first):
                    total[j] = np.float32(0)
                for k in range(q):
                    plane = planes[k, r, chunk]
                    alpha = alphas[r, g, k]
                    for j in range(begin - first, end - first):
                        one = (plane >> np.uint32(j)) & np.uint32(1)
                        total[j] += alpha if one else -alpha
                begin = end
            for j in range(n):
                one = (kept >> np.uint32(j)) & np.uint32(1)
                out[r, first + j] = total[j] if one else np.float32(0)


def split_planes(elements: NDArray[Any]) -> tuple[Words, Words]:
    """Bits of ``elements`` (rows, cols) of 1, 2 or 4 bytes: ``(mask, planes)``.

    Plane k (of 8 per byte) is bit k of the element's little-endian integer; the mask is 1 where the
    element is not all-zero bits, so that -0.0 is kept.
    """
    rows, cols = elements.shape
    bits = 8 * elements.dtype.itemsize
    chunks = -(-cols // 32)
    planes = np.empty((bits, rows, chunks), np.uint32)
    mask = np.empty((rows, chunks), np.uint32)
    whole = np.ascontiguousarray(elements).view(_UNSIGNED[elements.dtype.itemsize])
    split_kernel(whole, mask, planes)
    return mask, planes


def join_planes(planes: Words, out: NDArray[Any]) -> None:
    """Inverse of :func:`split_planes`: fill ``out`` (rows, cols), C-contiguous, from its planes."""
    join_kernel(planes, out.view(_UNSIGNED[out.dtype.itemsize]))


@njit(cache=True, nogil=True)
def split_kernel(elements, mask, planes):
    """Kernel of :func:`split_planes`; ``elements`` unsigned (rows, cols)."""
    rows, cols = elements.shape
    bits = planes.shape[0]
    block = np.empty(32, np.uint32)
    for r in range(rows):
        for chunk in range(mask.shape[1]):
            n = min(32, cols - 32 * chunk)
            for j in range(32):
                block[j] = np.uint32(elements[r, 32 * chunk + j]) if j < n else np.uint32(0)
            kept = np.uint32(0)
            for j in range(32):
                if block[j] != 0:
                    kept |= np.uint32(1) << np.uint32(j)
            mask[r, chunk] = kept
            for k in range(bits):
                word = np.uint32(0)
                for j in range(32):
                    word |= ((block[j] >> np.uint32(k)) & np.uint32(1)) << np.uint32(j)
                planes[k, r, chunk] = word


@njit(cache=True, nogil=True)
def join_kernel(planes, out):
    """Kernel of :func:`join_planes`; ``out`` unsigned (rows, cols)."""
    rows, cols = out.shape
    bits = planes.shape[0]
    block = np.empty(32, np.uint32)
    for r in range(rows):
        for chunk in range(planes.shape[2]):
            for j in range(32):
                block[j] = 0
            for k in range(bits):
                word = planes[k, r, chunk]
                for j in range(32):
                    block[j] |= ((word >> np.uint32(j)) & np.uint32(1)) << np.uint32(k)
            for j in range(min(32, cols - 32 * chunk)):
                out[r, 32 * chunk + j] = block[j]
