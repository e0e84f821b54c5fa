"""Kernels of :mod:`xorpack.fields.symbols`: planes and elements of a field from its codewords."""

from __future__ import annotations

import numpy as np

from xorpack.vector.compiled import njit
from xorpack.vector.symbols import join_bits, put_symbols, split_bits


@njit(cache=True, nogil=True)
def replace_kernel(
    planes,  # (q * rows * chunks,) uint32, in and out
    mask,  # (rows, chunks) uint32
    first,
    last,
    plane,  # ((last - first) * n_words * n_depths,) uint32
    n_words,  # of a row in the plane, a few of them behind the last chunk
    order,  # (n_depths,) int64: the depth of every place in a group
    low,
    width,
    n_raw,
    table,  # (2^(n_raw + n_depths),) uint32
):
    """Kernel of :meth:`LoadedField.replace`: rows ``first .. last - 1``."""
    rows, chunks = mask.shape
    n_depths = order.size
    stride = rows * chunks
    found = np.zeros(32, np.uint32)
    heads = np.zeros(32, np.uint32)
    tails = np.zeros(32, np.uint32)
    deep = np.zeros(max(n_depths, 1), np.uint32)
    for r in range(first, last):
        for chunk in range(chunks):
            word = r * chunks + chunk
            at = low * stride + word
            kept = mask[r, chunk]
            if kept == 0:
                for k in range(width):
                    planes[at + k * stride] = 0
                continue
            group = ((r - first) * n_words + chunk) * n_depths
            for k in range(n_depths):
                deep[n_depths - 1 - order[k]] = plane[group + k]
            join_bits(heads, 0, planes, at, stride, n_raw)
            join_bits(tails, 0, deep, 0, 1, n_depths)
            for j in range(32):
                found[j] = table[np.int64(heads[j]) << n_depths | np.int64(tails[j])]
            split_bits(found, 0, planes, at, stride, width)
            for k in range(width):
                planes[at + k * stride] &= kept


@njit(cache=True, nogil=True)
def join_kernel(planes, mask, first, last, plane, n_words, order, low, width, n_raw, table, out):
    """Kernel of :meth:`LoadedField.join`: arguments as above, ``planes`` only read; ``out`` unsigned (rows, cols)."""
    rows, chunks = mask.shape
    cols = out.shape[1]
    n_depths = order.size
    stride = rows * chunks
    q = planes.size // stride
    heads, tails, above = np.zeros(32, np.uint32), np.zeros(32, np.uint32), np.zeros(32, np.uint32)
    deep = np.zeros(max(n_depths, 1), np.uint32)
    last_word = np.zeros(32, out.dtype)
    flat = out.reshape(-1)
    n_above = q - low - width
    for r in range(first, last):
        for chunk in range(chunks):
            word = r * chunks + chunk
            at = r * cols + 32 * chunk
            group = ((r - first) * n_words + chunk) * n_depths
            for k in range(n_depths):
                deep[n_depths - 1 - order[k]] = plane[group + k]
            join_bits(heads, 0, planes, word, stride, low + n_raw)
            join_bits(tails, 0, deep, 0, 1, n_depths)
            if n_above > 0:
                join_bits(above, 0, planes, (low + width) * stride + word, stride, n_above)
                for j in range(32):
                    heads[j] |= above[j] << np.uint32(low + width)
            if 32 * chunk + 32 <= cols:
                put_symbols(flat, at, mask[r, chunk], heads, tails, table, low, width, n_raw, n_depths)
            else:
                put_symbols(last_word, 0, mask[r, chunk], heads, tails, table, low, width, n_raw, n_depths)
                for j in range(cols - 32 * chunk):
                    flat[at + j] = last_word[j]
