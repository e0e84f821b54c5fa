"""Kernel of :mod:`xorpack.encoding.fields.choice`: what a Huffman code would take."""

from __future__ import annotations

import numpy as np

from xorpack.vector.compiled import njit


@njit(cache=True, nogil=True)
def code_bits(counts):
    """Bits of all symbols under a Huffman code: ``counts`` (n,) int64 rises; sums of pairs are written over it."""
    n = counts.size
    total = np.int64(0)
    leaf, first = 0, 0  # sums that are not yet used stand at first .. last - 1
    for last in range(n - 1):
        pair = np.int64(0)
        for _ in range(2):
            if leaf < n and (first == last or counts[leaf] <= counts[first]):
                pair += counts[leaf]
                leaf += 1
            else:
                pair += counts[first]
                first += 1
        counts[last] = pair
        total += pair
    return total
