"""Mask codecs: how the kept/pruned bit of every weight is read back. One module or folder each.

A codec is a class of :class:`Mask <xorpack.masks.mask.Mask>`, a mask that a file holds is a value of it, made by
:func:`parse`. Its config is JSON that stands in the file beside its bytes. Encoders are in
:mod:`xorpack.encoding.masks`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xorpack.code.planes import CodedPlanes
from xorpack.errors import FormatError
from xorpack.masks.bitmap import Bitmap
from xorpack.masks.block.codec import Block
from xorpack.masks.bmf import Bmf
from xorpack.masks.cascade import Cascade
from xorpack.masks.constant import Constant
from xorpack.masks.huffman import Huffman
from xorpack.masks.mask import Mask

__all__ = ["CODECS", "Bitmap", "Block", "Bmf", "Cascade", "Constant", "Huffman", "Mask", "parse"]

CODECS: Mapping[str, type[Mask]] = {
    codec.NAME: codec for codec in (Constant, Bitmap, Cascade, Block, Bmf, Huffman)
}
"""By the name in the file. ``xorpack.encoding.masks.choice`` and ``xorpack.decoders.gpu.masks`` have a table each,
which a test compares with this one."""


def parse(name: object, config: Mapping[str, Any], data: NDArray[np.uint8], tensor: CodedPlanes) -> Mask:
    """The mask of a tensor, from what a file says of it.

    Args:
        name: the codec's.
        config: JSON.
        data: uint8, the section.
        tensor: the code of the tensor's planes.

    Raises:
        FormatError: there is no such codec; the config or the size of the section breaks a rule.
    """
    if not isinstance(name, str) or name not in CODECS:
        raise FormatError(f"unknown mask codec {name!r}; known: {', '.join(CODECS)}")
    return CODECS[name].from_config(config, data, tensor)
