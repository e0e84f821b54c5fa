"""Kernel of :mod:`xorpack.decoders.cpu`: corrections of planes that are coded one by one."""

from __future__ import annotations

import numpy as np

from xorpack.vector.compiled import njit


@njit(cache=True, nogil=True)
def correct(planes, positions, values, cols):
    """XOR the bits of ``values`` into planes (q, rows, chunks) at element indices ``positions``."""
    for n in range(positions.size):
        r = positions[n] // cols
        c = positions[n] - r * cols
        for k in range(planes.shape[0]):
            bit = np.uint32((values[n] >> np.uint64(k)) & np.uint64(1))
            planes[k, r, c // 32] ^= bit << np.uint32(c % 32)
