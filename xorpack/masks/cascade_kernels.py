"""Kernels of :mod:`xorpack.masks.cascade`: targets of filters, and where filters meet them."""

from __future__ import annotations

import numpy as np

from xorpack.vector.compiled import njit


@njit(cache=True, nogil=True)
def _target(row, chunk, k):
    x = np.uint32(row) * np.uint32(0x9E3779B1) + np.uint32(k + 1) * np.uint32(0xC2B2AE3D)
    x = np.uint32(x + np.uint32(chunk) * np.uint32(0x85EBCA77))
    x = np.uint32((x ^ (x >> np.uint32(16))) * np.uint32(0x7FEB352D))
    x = np.uint32((x ^ (x >> np.uint32(15))) * np.uint32(0x846CA68B))
    return np.uint32(x ^ (x >> np.uint32(16)))


@njit(cache=True, nogil=True)
def fill_targets(first, out):
    """Kernel of :func:`targets`."""
    for k in range(out.shape[0]):
        for r in range(out.shape[1]):
            for c in range(out.shape[2]):
                out[k, r, c] = _target(first + r, c, k)


@njit(cache=True, nogil=True)
def meet_targets(filters, first, found):
    """Kernel of :func:`candidates`: clear the bits of ``found`` where a filter differs from its target."""
    for k in range(filters.shape[0]):
        for r in range(filters.shape[1]):
            for c in range(filters.shape[2]):
                found[r, c] &= ~(_target(first + r, c, k) ^ filters[k, r, c])
