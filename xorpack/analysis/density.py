"""Density maps: where in a tensor the kept weights are."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from xorpack.code.words import Words, unpack

SIZE = (96, 96)
"""Tiles of a map down and across at the most."""


def density_map(
    blocks: Iterable[Words], rows: int, cols: int, size: tuple[int, int] = SIZE
) -> NDArray[np.float64]:
    """Share of kept weights in each tile, tiles as equal as can be.

    Args:
        blocks: the mask, uint32 (n, chunks), from the first row to the last.
        rows, cols: of the tensor.
        size: tiles down and across at the most.
    """
    n_down, n_across = min(rows, size[0]), min(cols, size[1])
    if not n_down or not n_across:
        return np.zeros((n_down, n_across))
    left = np.arange(n_across) * cols // n_across
    counts = np.zeros((n_down, n_across))
    first = 0
    for block in blocks:
        kept = np.add.reduceat(unpack(block, cols), left, axis=1, dtype=np.int64)
        tile = (np.arange(first, first + len(block)) * n_down) // rows
        np.add.at(counts, tile, kept)
        first += len(block)
    height = np.bincount(np.arange(rows) * n_down // rows, minlength=n_down)
    width = np.diff(np.append(left, cols))
    return counts / (height[:, None] * width)
