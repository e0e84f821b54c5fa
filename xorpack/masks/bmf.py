"""Mask codec ``bmf``: the Boolean product of two binary factors, in tiles.

The mask is cut into tiles of ``tile_rows`` x ``tile_cols``. In a tile, weight (r, c) is kept if for some i of the
``rank`` patterns both row r and column c are in it::

    mask[r, c] = OR over i < rank of  left[r, c // tile_cols, i] & right[r // tile_rows, i, c]

Such a mask is chosen when pruning (:mod:`xorpack.encoding.masks.bmf`), so that it keeps as much magnitude as it can:
a mask that was chosen without it has no exact factors. The section is the bits of ``left`` (rows, tile columns, rank),
then those of ``right`` (tile rows, rank, cols), both in C order, bit ``i`` at ``byte[i // 8] >> (i % 8) & 1``, each
part padded to whole bytes: ``rank * (1 / tile_rows + 1 / tile_cols)`` bits per weight.

Config: ``{"rank": k, "tile": [tile_rows, tile_cols]}``; ``tile_cols`` is a multiple of 32.
Source: Lee et al., Network Pruning for Low-Rank Binary Indexing (arXiv 1905.05686).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from xorpack.code.planes import CodedPlanes, Expand
from xorpack.code.words import WORD_BITS, Words, n_chunks, pack
from xorpack.errors import FormatError
from xorpack.masks import bitmap
from xorpack.masks.bmf_kernels import product_kernel
from xorpack.masks.mask import Mask, shape_of

MAX_RANK = 1 << 16


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Factors:
    """A mask as factors.

    Attributes:
        tile_rows, tile_cols: of a tile; ``tile_cols`` is a multiple of 32.
        left: uint8 (rows, tile columns, rank), 0 or 1.
        right: uint32 words (tile rows, rank, chunks).
    """

    tile_rows: int
    tile_cols: int
    left: NDArray[np.uint8]
    right: Words

    @property
    def rank(self) -> int:
        """Patterns of a tile."""
        return int(self.left.shape[2])

    def mask(self) -> Words:
        """The product: uint32 (rows, chunks)."""
        return product(self.left, self.right, 0, self.tile_rows, self.tile_cols)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Bmf(Mask):
    """Packed factors; see :class:`Factors` for what they mean."""

    NAME: ClassVar[str] = "bmf"

    rank: int
    tile_rows: int
    tile_cols: int

    def __post_init__(self) -> None:
        if not 1 <= self.rank <= MAX_RANK:
            raise FormatError(f"mask codec bmf: rank {self.rank!r} is outside 1..{MAX_RANK}")
        if self.tile_cols % WORD_BITS:
            raise FormatError(
                f"mask codec bmf: tile {[self.tile_rows, self.tile_cols]} is not of whole words"
            )
        expected = sum(self._sizes())
        if self.data.size != expected:
            raise FormatError(f"mask codec bmf: section of {self.data.size} bytes, not {expected}")

    @classmethod
    def of(cls, factors: Factors, cols: int) -> Bmf:
        """Make the mask of factors of ``cols`` columns."""
        left = np.packbits(factors.left.reshape(-1), bitorder="little")
        right = bitmap.to_bytes(factors.right.reshape(-1, factors.right.shape[2]), cols)
        return cls(
            shape=(len(factors.left), cols),
            data=np.concatenate([left, right]),
            rank=factors.rank,
            tile_rows=factors.tile_rows,
            tile_cols=factors.tile_cols,
        )

    @classmethod
    def from_config(cls, config: Mapping[str, Any], data: NDArray[np.uint8], tensor: CodedPlanes) -> Bmf:
        """See :class:`Mask`."""
        if set(config) != {"rank", "tile"}:
            raise FormatError(f"mask codec bmf needs rank and tile, has {sorted(config)}")
        rank, tile = config["rank"], config["tile"]
        if type(rank) is not int:
            raise FormatError(f"mask codec bmf: rank {rank!r} is outside 1..{MAX_RANK}")
        if (
            not isinstance(tile, list)
            or len(tile) != 2
            or not all(type(x) is int and 1 <= x < 1 << 48 for x in tile)
        ):
            raise FormatError(f"mask codec bmf: tile {tile!r} is not two sizes")
        return cls(shape=shape_of(tensor), data=data, rank=rank, tile_rows=tile[0], tile_cols=tile[1])

    def get_config(self) -> dict[str, Any]:
        """See :class:`Mask`."""
        return {"rank": self.rank, "tile": [self.tile_rows, self.tile_cols]}

    @property
    def n_tiles(self) -> int:
        """Tiles beside each other."""
        return -(-self.shape[1] // self.tile_cols)

    @property
    def left(self) -> NDArray[np.uint8]:
        """Bits of the left factor, packed."""
        return self.data[: self._sizes()[0]]

    @property
    def right(self) -> NDArray[np.uint8]:
        """Bits of the right factor, packed."""
        return self.data[self._sizes()[0] :]

    def rows(self, first: int, last: int, expand: Expand, *, jobs: int = 1) -> Words:
        """See :class:`Mask`."""
        rank, tile_rows, cols = self.rank, self.tile_rows, self.shape[1]
        a, b = (row * self.n_tiles * rank for row in (first, last))
        bits = np.unpackbits(self.left[a // 8 : -(-b // 8)], bitorder="little")[a % 8 : a % 8 + b - a]
        left = bits.reshape(last - first, self.n_tiles, rank)
        begin, end = first // tile_rows, -(-last // tile_rows)
        words = bitmap.rows_of(self.right, cols, begin * rank, end * rank)
        right = words.reshape(end - begin, rank, n_chunks(cols))
        return product(left, right, first - begin * tile_rows, tile_rows, self.tile_cols)

    def _sizes(self) -> tuple[int, int]:
        return sizes(*self.shape, self.rank, self.tile_rows, self.tile_cols)


def sizes(rows: int, cols: int, rank: int, tile_rows: int, tile_cols: int) -> tuple[int, int]:
    """Bytes of the parts."""
    n_strips, n_tiles = -(-rows // tile_rows), -(-cols // tile_cols)
    return -(-rows * n_tiles * rank // 8), -(-n_strips * rank * cols // 8)


def product(left: NDArray[np.uint8], right: Words, skip: int, tile_rows: int, tile_cols: int) -> Words:
    """Mask words, uint32 (rows, chunks), of rows that begin ``skip`` rows into the first tile of ``right``."""
    mask = np.zeros((len(left), right.shape[2]), np.uint32)
    product_kernel(left, right, skip, tile_rows, tile_cols // WORD_BITS, mask)
    return mask


def words_of(bits: NDArray[np.uint8]) -> Words:
    """Words of 0 and 1 in ``bits`` (..., cols)."""
    return pack(bits.astype(np.bool_))
