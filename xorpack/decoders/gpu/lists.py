"""Positions in lists of 16-bit entries, which a thread can find its item in: Elias-Fano codes have no random access."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from xorpack.code.corrections import Corrections
from xorpack.code.layout import Layout
from xorpack.decoders.gpu.order import is_skewed, visited_rows
from xorpack.errors import ParameterError

TILE_ROWS, TILE_COLS = 32, 2048
"""Row indices and columns of a list of corrections of weights."""
LIST_BITS = 1 << 16
"""Bits of words that share a list of those to invert."""


def starts(which: NDArray[np.int64], n_lists: int) -> NDArray[np.uint32]:
    """uint32 (n_lists + 1,): where each list begins among items whose lists ``which`` rise.

    Raises:
        ParameterError: there are 2^32 items or more.
    """
    if len(which) >> 32:
        raise ParameterError(f"{len(which)} corrections of a tensor: the GPU decoder takes fewer than 2^32")
    return np.searchsorted(which, np.arange(n_lists + 1)).astype(np.uint32)


def bit_lists(bits: NDArray[np.int64], n_bits: int) -> tuple[NDArray[np.uint32], NDArray[np.uint16]]:
    """``(starts, entries)`` of places of bits in words of ``n_bits``: see ``kernels/flip.cu``."""
    rising = np.sort(bits)
    n_lists = -(-n_bits // LIST_BITS)
    return starts(rising // LIST_BITS, n_lists), (rising % LIST_BITS).astype(np.uint16)


def visit_lists(
    layout: Layout, positions: NDArray[np.int64]
) -> tuple[NDArray[np.uint32], NDArray[np.uint16]]:
    """:func:`bit_lists` of elements ``row * cols + col`` in the mask as words in order of visits."""
    n_bits = 32 * layout.n_panels * layout.rows * layout.panel_chunks
    return bit_lists(visit_bits(layout, positions), n_bits)


def visit_bits(layout: Layout, positions: NDArray[np.int64]) -> NDArray[np.int64]:
    """Places of elements ``row * cols + col`` in the mask as words in order of visits."""
    row, col = np.divmod(positions, max(layout.cols, 1))
    panel, k = np.divmod(col // 32, max(layout.panel_chunks, 1))
    i = row_index(layout, row)
    if is_skewed(layout):
        k = (k - i) % layout.panel_chunks
    bits: NDArray[np.int64] = ((panel * layout.rows + i) * layout.panel_chunks + k) * 32 + col % 32
    return bits


def row_index(layout: Layout, rows: NDArray[np.int64]) -> NDArray[np.int64]:
    """Row indices of rows."""
    inverse = np.empty(layout.rows, np.int64)
    inverse[visited_rows(layout)] = np.arange(layout.rows)
    return inverse[rows]


def tiled(
    layout: Layout, wrong: Corrections
) -> tuple[NDArray[np.uint32], NDArray[np.uint16], NDArray[np.int64]]:
    """``(starts, entries, order)`` of corrections of weights, in tiles: see ``kernels/common.cu``.

    ``order``: which correction is the n-th.
    """
    row, col = np.divmod(wrong.positions, max(layout.cols, 1))
    index = row_index(layout, row)
    col_tiles = -(-layout.cols // TILE_COLS)
    tile = index // TILE_ROWS * col_tiles + col // TILE_COLS
    entry = col % TILE_COLS << 5 | index % TILE_ROWS
    order = np.lexsort((entry, tile))
    n_tiles = -(-layout.rows // TILE_ROWS) * col_tiles
    return starts(tile[order], n_tiles), entry[order].astype(np.uint16), order


def tiled_rows(
    positions: NDArray[np.int64], rows: int, cols: int
) -> tuple[NDArray[np.uint32], NDArray[np.uint16], NDArray[np.int64]]:
    """``(starts, entries, order)`` of elements ``row * cols + col`` in tiles, by rows: see ``kernels/trellis.cu``.

    ``order``: which position is the n-th.
    """
    row, col = np.divmod(positions, max(cols, 1))
    col_tiles = -(-cols // TILE_COLS)
    tile = row // TILE_ROWS * col_tiles + col // TILE_COLS
    entry = row % TILE_ROWS * TILE_COLS + col % TILE_COLS
    order = np.lexsort((entry, tile))
    return starts(tile[order], -(-rows // TILE_ROWS) * col_tiles), entry[order].astype(np.uint16), order


def as_words(data: NDArray[np.uint8]) -> NDArray[np.uint32]:
    """Bytes as words, padded to whole ones and one more that a kernel may read, for nothing."""
    return np.pad(data, (0, -data.size % 4 + 4)).view(np.uint32)
