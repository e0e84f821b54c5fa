"""Masks on the device: for every codec of :mod:`xorpack.masks` what is uploaded, and the passes that decode it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from xorpack.code.planes import CodedPlanes
from xorpack.decoders.gpu.masks.bitmap import DeviceBitmap
from xorpack.decoders.gpu.masks.block import DeviceBlock
from xorpack.decoders.gpu.masks.bmf import DeviceBmf
from xorpack.decoders.gpu.masks.cascade import DeviceCascade
from xorpack.decoders.gpu.masks.mask import DeviceMask
from xorpack.masks import Bitmap, Block, Bmf, Cascade, Mask

__all__ = ["CODECS", "DeviceMask", "on_device"]

CODECS: Mapping[type[Mask], type[DeviceMask[Any]]] = {
    Bitmap: DeviceBitmap,
    Cascade: DeviceCascade,
    Block: DeviceBlock,
    Bmf: DeviceBmf,
}
"""``Constant`` needs none: where every weight is kept, or none, no mask is read. Nor does ``Huffman``, whose codewords
have no fixed places: it is decoded to a bitmap when it is loaded."""


def on_device(mask: Mask, tensor: CodedPlanes) -> DeviceMask[Any]:
    """How ``mask``, of a tensor of that code, lies on a device."""
    return CODECS[type(mask)](mask, tensor)
