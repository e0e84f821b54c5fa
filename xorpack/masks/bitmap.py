"""Mask codec ``bitmap``: one bit per weight, row-major, without padding between rows.

Bit ``i`` of the section, ``data[i // 8] >> (i % 8) & 1``, is the weight ``(i // cols, i % cols)``. The fastest
codec: where rows are whole words, its bytes are the mask words themselves.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from xorpack.code.planes import CodedPlanes, Expand
from xorpack.code.words import WORD_BITS, Words, n_chunks, pack, unpack
from xorpack.errors import FormatError
from xorpack.masks.mask import Mask, shape_of


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Bitmap(Mask):
    """The mask's bits."""

    NAME: ClassVar[str] = "bitmap"

    def __post_init__(self) -> None:
        rows, cols = self.shape
        expected = -(-rows * cols // 8)
        if self.data.size != expected:
            raise FormatError(f"a bitmap of {rows} x {cols} takes {expected} bytes, not {self.data.size}")

    @classmethod
    def of(cls, mask: Words, cols: int) -> Bitmap:
        """Make the mask of words, uint32 (rows, chunks)."""
        return cls(shape=(len(mask), cols), data=to_bytes(mask, cols))

    @classmethod
    def from_config(cls, config: Mapping[str, Any], data: NDArray[np.uint8], tensor: CodedPlanes) -> Bitmap:
        """See :class:`Mask`."""
        if config:
            raise FormatError(f"mask codec bitmap has no parameters, but {sorted(config)} are given")
        return cls(shape=shape_of(tensor), data=data)

    def get_config(self) -> dict[str, Any]:
        """See :class:`Mask`."""
        return {}

    def rows(self, first: int, last: int, expand: Expand, *, jobs: int = 1) -> Words:
        """See :class:`Mask`."""
        return self.words(first, last)

    def words(self, first: int, last: int) -> Words:
        """:meth:`rows`, which takes no gates."""
        return rows_of(self.data, self.shape[1], first, last)


def to_bytes(mask: Words, cols: int) -> NDArray[np.uint8]:
    """The bits of ``mask``, uint32 (rows, chunks), row after row without padding."""
    if cols % WORD_BITS == 0:
        return np.ascontiguousarray(mask, dtype="<u4").reshape(-1).view(np.uint8)
    return np.packbits(unpack(mask, cols), bitorder="little")


def rows_of(data: NDArray[np.uint8], cols: int, first: int, last: int) -> Words:
    """Words of rows ``first .. last - 1`` of the bytes of :func:`to_bytes`: uint32 (rows, chunks)."""
    a, b = first * cols, last * cols
    octets = data[a // 8 : -(-b // 8)]
    if cols % WORD_BITS == 0:
        words = np.ascontiguousarray(octets).view("<u4").astype(np.uint32, copy=False)
        return words.reshape(last - first, n_chunks(cols))
    bits = np.unpackbits(octets, bitorder="little")[a % 8 : a % 8 + b - a]
    return pack(bits.reshape(last - first, cols).astype(np.bool_))
