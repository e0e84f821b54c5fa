"""Planes to elements and back: numba kernels that work on rows of packed words.

The element of row r and column c takes bit ``(r, c)`` of every plane (:mod:`xorpack.code.words`).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from xorpack.code.dense_kernels import bcq_kernel, join_kernel, split_kernel
from xorpack.code.words import Words

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
