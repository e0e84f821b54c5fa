"""Kernels of :mod:`xorpack.code.dense`: planes to elements and back, a word of 32 elements at a time."""

from __future__ import annotations

import numpy as np

from xorpack.vector.compiled import njit
from xorpack.vector.symbols import expand_signs, join_bits, split_bits


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
