"""Trellis code to planes and to elements, fast: what :func:`xorpack.code.trellis.expand_reference` says."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from xorpack.code.trellis import TrellisNetwork
from xorpack.code.words import Words
from xorpack.vector.compiled import njit
from xorpack.vector.symbols import expand_signs

Ages = tuple[NDArray[np.int64], NDArray[np.int64]]


def ages_of(network: TrellisNetwork) -> Ages:
    """The taps as lists: ``ages`` (n_taps,); those of row v, plane j are between ``bounds[v * q + j]`` and the next."""
    lists = [
        [age for age in range(network.window) if mask >> age & 1] for row in network.taps for mask in row
    ]
    bounds = np.cumsum([0, *(len(ages) for ages in lists)])
    return np.array([age for ages in lists for age in ages], np.int64), bounds.astype(np.int64)


def expand_trellis(
    network: TrellisNetwork, code: Words, rows: int, first: int = 0, last: int | None = None
) -> Words:
    """Planes, uint32 (q, rows, chunks), of rows ``first .. last - 1`` of ``rows``; equal to the reference."""
    last = rows if last is None else last
    planes = np.empty((network.n_planes, last - first, code.shape[1]), np.uint32)
    ages, bounds = ages_of(network)
    planes_kernel(np.ascontiguousarray(code), network.n_in, network.n_out, ages, bounds, first, planes)
    return planes


@njit(cache=True, nogil=True)
def planes_kernel(code, n_in, n_out, ages, bounds, first, planes):
    """Fill ``planes`` (q, n_rows, chunks) with the rows from ``first`` on of ``code`` (m, chunks)."""
    q, n_rows, chunks = planes.shape
    row = np.empty((q, chunks), np.uint32)
    for i in range(n_rows):
        row_kernel(code, n_in, n_out, ages, bounds, first + i, row)
        for j in range(q):
            for c in range(chunks):
                planes[j, i, c] = row[j, c]


@njit(cache=True, nogil=True)
def row_kernel(code, n_in, n_out, ages, bounds, row, planes):
    """Fill ``planes`` (q, chunks) with row ``row``."""
    q, chunks = planes.shape
    m = code.shape[0]
    end = ((row + 1) * n_in + n_out - 1) // n_out
    for j in range(q):
        begin = bounds[row % n_out * q + j]
        until = bounds[row % n_out * q + j + 1]
        target = planes[j]
        newest = code[(end - 1 - ages[begin]) % m]
        for c in range(chunks):
            target[c] = newest[c]
        k = begin + 1
        while k + 2 < until:
            x, y, z = ((end - 1 - ages[k]) % m, (end - 1 - ages[k + 1]) % m, (end - 1 - ages[k + 2]) % m)
            for c in range(chunks):
                target[c] ^= code[x, c] ^ code[y, c] ^ code[z, c]
            k += 3
        while k < until:
            x = (end - 1 - ages[k]) % m
            for c in range(chunks):
                target[c] ^= code[x, c]
            k += 1


@njit(cache=True, nogil=True)
def dense_kernel(code, n_in, n_out, ages, bounds, alphas, gains, group, first, out):
    """Fill ``out``, float32 (n_rows, cols), with the rows from ``first`` on, before mask and outliers.

    ``code`` (m, chunks); ``alphas`` (n_rows, n_groups, q) float32 of these rows; ``gains`` (cols,) float32 or empty;
    ``group`` >= 1 columns share alphas. A sum runs from plane 0, then the gain is multiplied in.
    """
    n_rows, cols = out.shape
    chunks = code.shape[1]
    n_groups, q = alphas.shape[1], alphas.shape[2]
    planes = np.empty((q, chunks), np.uint32)
    flat_planes, flat_alphas, flat_out = planes.reshape(-1), alphas.reshape(-1), out.reshape(-1)
    block = np.empty(32, np.float32)
    for i in range(n_rows):
        row_kernel(code, n_in, n_out, ages, bounds, first + i, planes)
        for chunk in range(chunks):
            begin = 32 * chunk
            end = min(begin + 32, cols)
            while begin < end:
                g = begin // group
                until = min(end, (g + 1) * group)
                at = (i * n_groups + g) * q
                whole = np.uint32(0xFFFFFFFF)
                if until - begin == 32:
                    expand_signs(
                        flat_out, i * cols + begin, whole, flat_planes, chunk, chunks, flat_alphas, at, q
                    )
                else:
                    expand_signs(block, 0, whole, flat_planes, chunk, chunks, flat_alphas, at, q)
                    for c in range(begin, until):
                        out[i, c] = block[c - 32 * chunk]
                begin = until
        if gains.size:
            for c in range(cols):
                out[i, c] *= gains[c]


def expand_dense(
    network: TrellisNetwork,
    code: Words,
    alphas: NDArray[np.float32],
    gains: NDArray[Any] | None,
    group_size: int,
    first: int,
    out: NDArray[np.float32],
) -> None:
    """Fill ``out`` with all columns of the rows from ``first`` on: see :func:`dense_kernel`."""
    if not out.size:
        return
    ages, bounds = ages_of(network)
    gains = np.empty(0, np.float32) if gains is None else gains.astype(np.float32)
    group = group_size or out.shape[1]
    code = np.ascontiguousarray(code)
    dense_kernel(code, network.n_in, network.n_out, ages, bounds, alphas, gains, group, first, out)
