"""Planes to elements and back: numba kernels that work on rows of packed words.

The element of row r and column c takes bit ``(r, c)`` of every plane (:mod:`xorpack.code.words`).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from xorpack.code.words import Words
from xorpack.vector.compiled import njit
from xorpack.vector.simd import expand_signs, join_bits, split_bits

ROW_BLOCK_ELEMENTS = 1 << 20
"""Elements that are converted at a time where a type needs a temporary copy."""

UNSIGNED = {1: np.uint8, 2: np.uint16, 4: np.uint32}
"""Unsigned type of an element's bits, by its size in bytes."""


def expand_bcq(mask: Words, planes: Words, scales: NDArray[Any], group_size: int, out: NDArray[Any]) -> None:
    """Fill ``out`` (rows, cols), C-contiguous, of a float type, with ``sum_k alpha_k * b_k``, +0 where pruned.

    ``mask`` (rows, chunks), ``planes`` (q, rows, chunks), ``scales`` (rows, n_groups, q).
    """
    rows, cols = out.shape
    if rows == 0 or cols == 0:
        return
    alphas = scales.astype(np.float32)
    group = group_size or cols
    if out.dtype == np.float32:
        _expand(mask, planes, alphas, group, out)
        return
    step = max(1, ROW_BLOCK_ELEMENTS // cols)
    for r in range(0, rows, step):
        block = np.empty((min(step, rows - r), cols), np.float32)
        _expand(mask[r : r + step], planes[:, r : r + step], alphas[r : r + step], group, block)
        with np.errstate(over="ignore"):
            out[r : r + step] = block.astype(out.dtype)


def _expand(mask: Words, planes: Words, alphas: NDArray[Any], group: int, out: NDArray[Any]) -> None:
    flat = np.ascontiguousarray(planes).reshape(len(planes), -1)
    bcq_kernel(np.ascontiguousarray(mask).reshape(-1), flat, np.ascontiguousarray(alphas), group, out)


@njit(cache=True, nogil=True)
def bcq_kernel(mask, planes, alphas, group, out):
    """Kernel of :func:`expand_bcq` for float32; all arrays contiguous, ``group`` >= 1 columns share scales.

    ``mask`` (rows * chunks,), ``planes`` (q, rows * chunks), ``alphas`` (rows, n_groups, q).
    """
    rows, cols = out.shape
    q, n_words = planes.shape
    chunks = n_words // rows
    n_groups = alphas.shape[1]
    flat_planes, flat_alphas, flat_out = planes.reshape(-1), alphas.reshape(-1), out.reshape(-1)
    block = np.empty(32, np.float32)
    for r in range(rows):
        for chunk in range(chunks):
            word = r * chunks + chunk
            first = 32 * chunk
            end = min(first + 32, cols)
            begin = first
            while begin < end:
                g = begin // group
                until = min(end, (g + 1) * group)
                at = (r * n_groups + g) * q
                if until - begin == 32:
                    expand_signs(
                        flat_out, r * cols + first, mask[word], flat_planes, word, n_words, flat_alphas, at, q
                    )
                else:
                    expand_signs(block, 0, mask[word], flat_planes, word, n_words, flat_alphas, at, q)
                    for c in range(begin, until):
                        out[r, c] = block[c - first]
                begin = until


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
    whole = np.ascontiguousarray(elements).view(UNSIGNED[elements.dtype.itemsize])
    split_kernel(whole, mask, planes.reshape(bits, -1))
    return mask, planes


def join_planes(planes: Words, out: NDArray[Any]) -> None:
    """Inverse of :func:`split_planes`: fill ``out`` (rows, cols), C-contiguous, from its planes."""
    if out.size:
        flat = np.ascontiguousarray(planes).reshape(len(planes), -1)
        join_kernel(flat, out.view(UNSIGNED[out.dtype.itemsize]))


@njit(cache=True, nogil=True)
def split_kernel(elements, mask, planes):
    """Kernel of :func:`split_planes`; ``elements`` unsigned (rows, cols), ``planes`` (q, rows * chunks)."""
    rows, cols = elements.shape
    q, n_words = planes.shape
    chunks = mask.shape[1]
    flat, flat_planes = elements.reshape(-1), planes.reshape(-1)
    block = np.zeros(32, elements.dtype)
    for r in range(rows):
        for chunk in range(chunks):
            word = r * chunks + chunk
            n = cols - 32 * chunk
            if n >= 32:
                mask[r, chunk] = split_bits(flat, r * cols + 32 * chunk, flat_planes, word, n_words, q)
            else:
                for j in range(n):
                    block[j] = elements[r, 32 * chunk + j]
                mask[r, chunk] = split_bits(block, 0, flat_planes, word, n_words, q)


@njit(cache=True, nogil=True)
def join_kernel(planes, out):
    """Kernel of :func:`join_planes`; ``out`` unsigned (rows, cols), ``planes`` (q, rows * chunks)."""
    rows, cols = out.shape
    q, n_words = planes.shape
    chunks = n_words // rows
    flat, flat_planes = out.reshape(-1), planes.reshape(-1)
    block = np.zeros(32, out.dtype)
    for r in range(rows):
        for chunk in range(chunks):
            word = r * chunks + chunk
            n = cols - 32 * chunk
            if n >= 32:
                join_bits(flat, r * cols + 32 * chunk, flat_planes, word, n_words, q)
            else:
                join_bits(block, 0, flat_planes, word, n_words, q)
                for j in range(n):
                    out[r, 32 * chunk + j] = block[j]
