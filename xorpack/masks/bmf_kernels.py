"""Kernel of :mod:`xorpack.masks.bmf`: the Boolean product."""

from __future__ import annotations

from xorpack.vector.compiled import njit


@njit(cache=True, nogil=True)
def product_kernel(left, right, skip, tile_rows, tile_words, mask):
    """Kernel of :func:`product`; ``mask`` (rows, chunks) holds zeros before."""
    chunks = mask.shape[1]
    for r in range(mask.shape[0]):
        t = (skip + r) // tile_rows
        for j in range(left.shape[1]):
            begin, end = j * tile_words, min((j + 1) * tile_words, chunks)
            for i in range(left.shape[2]):
                if left[r, j, i]:
                    for c in range(begin, end):
                        mask[r, c] |= right[t, i, c]
