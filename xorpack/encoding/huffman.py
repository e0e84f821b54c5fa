"""Prefix codes of least length for counted symbols, in whole numbers: the same on every machine."""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray


def limited_lengths(counts: NDArray[np.int64], limit: int) -> NDArray[np.int64]:
    """Lengths of the best codewords of at most ``limit`` bits, int64 (n,), for ``counts`` that fall, all above 0.

    Package-merge (Larmore and Hirschberg 1990): ``limit`` times over, neighbours of a rising list of weights are
    packed in pairs and merged with the counts; a symbol's length is how often it is in what the first ``2 n - 2``
    members of the last list hold.

    >>> limited_lengths(np.array([20, 9, 3, 2, 1]), 3)
    array([1, 3, 3, 3, 3])
    """
    n = len(counts)
    lengths = np.zeros(n, np.int64)
    if n == 1:
        return lengths
    leaves = counts[::-1]
    lists = [np.ones(n, np.bool_)]  # which members of each list are leaves
    weights = leaves
    for _ in range(limit - 1):
        even = len(weights) // 2 * 2
        merged = np.concatenate([leaves, weights[:even:2] + weights[1:even:2]])
        order = np.argsort(merged, kind="stable")
        lists.append(order < n)
        weights = merged[order]
    take = 2 * n - 2
    for is_leaf in reversed(lists):
        n_leaves = int(np.count_nonzero(is_leaf[:take]))
        lengths[n - n_leaves :] += 1
        take = 2 * (take - n_leaves)
    return lengths


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
