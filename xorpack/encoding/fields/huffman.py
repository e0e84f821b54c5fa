"""Prefix codes of least length for counted symbols, in whole numbers: the same on every machine."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def packed_lists(counts: NDArray[np.int64], n: int) -> list[NDArray[np.bool_]]:
    """``n`` lists of :func:`limited_lengths`, one after another: which members of each are counts."""
    leaves = counts[::-1]
    lists, weights = [np.ones(len(counts), np.bool_)], leaves
    while len(lists) < n:
        even = len(weights) // 2 * 2
        merged = np.concatenate([leaves, weights[:even:2] + weights[1:even:2]])
        order = np.argsort(merged, kind="stable")
        lists.append(order < len(counts))
        weights = merged[order]
    return lists


def limited_lengths(
    counts: NDArray[np.int64], least: int, most: int, lists: list[NDArray[np.bool_]] | None = None
) -> NDArray[np.int64]:
    """Lengths of the best codewords of ``least`` to ``most`` bits, int64 (n,), for ``counts`` that fall, all above 0.

    There are at least ``2**least`` and at most ``2**most`` of them. Package-merge (Larmore and Hirschberg 1990): a list
    of weights, rising, is packed in pairs and merged with the counts, once for every bit past ``least`` but the last; a
    symbol's length is ``least``, and one more for each time that it is in what the first members of the last list hold.
    So many of these are taken that the code is complete. ``lists``: as many as these, or more, of the same counts.

    >>> limited_lengths(np.array([20, 9, 3, 2, 1]), 0, 3)
    array([1, 3, 3, 3, 3])
    >>> limited_lengths(np.array([20, 9, 3, 2, 1]), 2, 3)
    array([2, 2, 2, 3, 3])
    """
    n, n_lists = len(counts), max(most - least, 1)
    lengths = np.full(n, least, np.int64)
    lists = (packed_lists(counts, n_lists) if lists is None else lists)[:n_lists]
    take = 2 * (n - (1 << least))
    for is_leaf in reversed(lists):
        n_leaves = int(np.count_nonzero(is_leaf[:take]))
        lengths[n - n_leaves :] += 1
        take = 2 * (take - n_leaves)
    return lengths
