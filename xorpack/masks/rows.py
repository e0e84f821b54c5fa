"""Decoding by blocks of rows: what a block needs stays in the cache, and threads share the blocks."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from xorpack.code.words import Words
from xorpack.vector.threads import for_each


def by_rows(
    part: Callable[[int, int], Words],
    first: int,
    last: int,
    chunks: int,
    jobs: int,
    block_words: int,
) -> Words:
    """Words of rows ``first .. last - 1``: uint32 (rows, chunks); ``part(a, b)`` gives those of rows ``a .. b - 1``.

    ``block_words``: of the mask at a time, about.
    """
    share = -(-(last - first) // jobs)
    step = max(1, min(share, block_words // max(chunks, 1)))
    starts = range(first, last, step)
    if len(starts) <= 1:
        return part(first, last)
    out = np.empty((last - first, chunks), np.uint32)

    def place(begin: int) -> None:
        end = min(begin + step, last)
        out[begin - first : end - first] = part(begin, end)

    for_each(place, starts, jobs)
    return out
