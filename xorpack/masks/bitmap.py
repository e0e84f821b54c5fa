"""Mask codec ``bitmap``: one bit per weight, row-major, without padding between rows.

Bit ``i`` of the section, ``data[i // 8] >> (i % 8) & 1``, is the weight ``(i // cols, i % cols)``. The fastest
codec: where rows are whole words, its bytes are the mask words themselves.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xorpack.code.planes import CodedPlanes, Expand
from xorpack.code.words import WORD_BITS, Words, n_chunks, pack, unpack
from xorpack.errors import FormatError

NAME = "bitmap"


def encode(mask: Words, cols: int) -> NDArray[np.uint8]:
    """The section of a mask, uint32 (rows, chunks)."""
    if cols % WORD_BITS == 0:
        return np.ascontiguousarray(mask, dtype="<u4").reshape(-1).view(np.uint8)
    return np.packbits(unpack(mask, cols), bitorder="little")


def check(config: Mapping[str, Any], n_bytes: int, tensor: CodedPlanes) -> None:
    """See :class:`xorpack.masks.MaskCodec`."""
    rows, cols = tensor.layout.rows, tensor.layout.cols
    if config:
        raise FormatError(f"mask codec bitmap has no parameters, but {sorted(config)} are given")
    if n_bytes != -(-rows * cols // 8):
        raise FormatError(f"a bitmap of {rows} x {cols} takes {-(-rows * cols // 8)} bytes, not {n_bytes}")


def decode(
    config: Mapping[str, Any],
    data: NDArray[np.uint8],
    tensor: CodedPlanes,
    first: int,
    last: int,
    expand: Expand,
    *,
    jobs: int = 1,
) -> Words:
    """See :class:`xorpack.masks.MaskCodec`."""
    return rows_of(data, tensor.layout.cols, first, last)


def rows_of(data: NDArray[np.uint8], cols: int, first: int, last: int) -> Words:
    """Words of rows ``first .. last - 1`` of a section: uint32 (rows, chunks)."""
    a, b = first * cols, last * cols
    octets = data[a // 8 : -(-b // 8)]
    if cols % WORD_BITS == 0:
        words = np.ascontiguousarray(octets).view("<u4").astype(np.uint32, copy=False)
        return words.reshape(last - first, n_chunks(cols))
    bits = np.unpackbits(octets, bitorder="little")[a % 8 : a % 8 + b - a]
    return pack(bits.reshape(last - first, cols).astype(np.bool_))
