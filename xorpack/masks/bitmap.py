"""Mask codec ``bitmap``: one bit per weight, row-major, without padding between rows.

Bit ``i`` of the section, ``data[i // 8] >> (i % 8) & 1``, is the weight ``(i // cols, i % cols)``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xorpack.errors import FormatError
from xorpack.words import WORD_BITS, Words, n_chunks, pack, unpack


class Bitmap:
    """The fastest codec; where rows are whole words its bytes are the mask words themselves."""

    name = "bitmap"

    def encode(self, mask: Words, cols: int) -> tuple[dict[str, Any], NDArray[np.uint8]]:
        """See :class:`xorpack.masks.MaskCodec`."""
        if cols % WORD_BITS == 0:
            return {}, np.ascontiguousarray(mask, dtype="<u4").reshape(-1).view(np.uint8)
        return {}, np.packbits(unpack(mask, cols), bitorder="little")

    def check(self, config: Mapping[str, Any], n_bytes: int, rows: int, cols: int) -> None:
        """See :class:`xorpack.masks.MaskCodec`."""
        if config:
            raise FormatError(f"mask codec bitmap has no parameters, but {sorted(config)} are given")
        if n_bytes != -(-rows * cols // 8):
            raise FormatError(
                f"a bitmap of {rows} x {cols} takes {-(-rows * cols // 8)} bytes, not {n_bytes}"
            )

    def decode(
        self,
        config: Mapping[str, Any],
        data: NDArray[np.uint8],
        cols: int,
        first: int,
        last: int,
    ) -> Words:
        """See :class:`xorpack.masks.MaskCodec`."""
        a, b = first * cols, last * cols
        octets = data[a // 8 : -(-b // 8)]
        if cols % WORD_BITS == 0:
            words = np.ascontiguousarray(octets).view("<u4").astype(np.uint32, copy=False)
            return words.reshape(last - first, n_chunks(cols))
        bits = np.unpackbits(octets, bitorder="little")[a % 8 : a % 8 + b - a]
        return pack(bits.reshape(last - first, cols).astype(np.bool_))
