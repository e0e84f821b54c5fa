"""What kernels of products share: tables of activations, and sums over planes as sums over weights."""

from __future__ import annotations

import numpy as np

from xorpack.vector.compiled import njit


@njit(cache=True, nogil=True)
def tables_kernel(x, chunks_of_group, tables, totals):
    """Tables for :func:`xorpack.vector.lookup.add_lookups`, and the sums of x by group of columns.

    Returns the largest magnitude in x, infinity if there is a NaN.

    ``x`` (n, cols); ``tables`` (n, chunks * 128): entry ``e`` of the table of columns 4 g .. 4 g + 3 sums those
    whose bit of e is 1; columns past the last are 0. ``totals`` (n, n_groups), of ``chunks_of_group`` words each.
    """
    n, cols = x.shape
    largest = np.float32(0)
    n_tables = tables.shape[1] // 16
    for k in range(n):
        table = tables[k]
        for g in range(totals.shape[1]):
            first, last = 32 * chunks_of_group * g, min(32 * chunks_of_group * (g + 1), cols)
            total = np.float64(0)
            for c in range(first, last):
                total += x[k, c]
                if not abs(x[k, c]) <= largest:
                    largest = abs(x[k, c])
            if np.isnan(total):
                return np.inf
            totals[k, g] = total
        for g in range(n_tables):
            at = 16 * g
            table[at] = 0
            for b in range(4):
                value = x[k, 4 * g + b] if 4 * g + b < cols else np.float32(0)
                for e in range(1 << b):
                    table[at + (1 << b) + e] = table[at + e] + value
    return float(largest)


@njit(cache=True, nogil=True)
def short_tables_kernel(x, chunks_of_group, tables, totals):
    """The same of integers: ``x`` (n, cols) int16 from -127 to 127, ``tables`` int16, ``totals`` int32.

    The tables of a word stand where :func:`xorpack.vector.lookup.place_of_table` says.
    """
    n, cols = x.shape
    n_tables = tables.shape[1] // 16
    for k in range(n):
        table = tables[k]
        for g in range(totals.shape[1]):
            total = 0
            for c in range(32 * chunks_of_group * g, min(32 * chunks_of_group * (g + 1), cols)):
                total += x[k, c]
            totals[k, g] = total
        for g in range(n_tables):
            at = 128 * (g // 8) + 16 * (2 * (g % 4) + g % 8 // 4)
            table[at] = 0
            for b in range(4):
                value = x[k, 4 * g + b] if 4 * g + b < cols else np.int16(0)
                for e in range(1 << b):
                    table[at + (1 << b) + e] = table[at + e] + value


@njit(cache=True, nogil=True, inline="always")
def kept_sums(kept, sums, at, q, masked, total):
    """``kept`` (16,): the sums of x over the kept weights of 16 rows: a plane of its own, after the q others at
    ``sums[at:]``, where ``masked``, else ``total``.
    """
    for i in range(16):
        kept[i] = sums[at + 16 * q + i] if masked else total
