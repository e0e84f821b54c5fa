"""Tensors of PyTorch as arrays of numpy and back, bit for bit, bfloat16 too."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from xorpack.code.dense import UNSIGNED
from xorpack.tensors import DTYPES

TORCH: Mapping[str, torch.dtype] = {
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E5M2": torch.float8_e5m2,
    "F8_E8M0": torch.float8_e8m0fnu,
    "I16": torch.int16,
    "U16": torch.uint16,
    "I32": torch.int32,
    "U32": torch.uint32,
}
"""Types by their safetensors name."""


_FOREIGN = {DTYPES[name]: TORCH[name] for name in ("BF16", "F8_E4M3", "F8_E5M2", "F8_E8M0")}
"""Types that numpy has from ml_dtypes, of which PyTorch knows nothing: bits are handed over."""

_BITS = {1: torch.uint8, 2: torch.uint16}


def to_torch(array: NDArray[Any]) -> torch.Tensor:
    """A tensor of the array's elements; it shares memory unless the array is read-only, not in C order, or empty.

    An empty one would begin where another does, of another type maybe, which ``torch.save`` refuses.
    """
    if not (array.size and array.flags.writeable and array.flags.c_contiguous):
        array = np.array(array, order="C")
    if array.dtype in _FOREIGN:
        return torch.from_numpy(array.view(UNSIGNED[array.itemsize])).view(_FOREIGN[array.dtype])
    return torch.from_numpy(array)


def to_numpy(tensor: torch.Tensor) -> NDArray[Any]:
    """An array of the tensor's elements, which shares memory if the tensor is on the CPU and contiguous."""
    plain = tensor.detach().cpu().contiguous()
    for own, theirs in _FOREIGN.items():
        if plain.dtype == theirs:
            return plain.view(_BITS[own.itemsize]).numpy().view(own)
    return plain.numpy()
