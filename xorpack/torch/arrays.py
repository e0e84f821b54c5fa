"""Tensors of PyTorch as arrays of numpy and back, bit for bit, bfloat16 too."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from xorpack.tensors import DTYPES

TORCH: Mapping[str, torch.dtype] = {
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "U32": torch.uint32,
}
"""Types by their safetensors name."""


def to_torch(array: NDArray[Any]) -> torch.Tensor:
    """A tensor of the array's elements; it shares memory unless the array is read-only, not in C order, or empty.

    An empty one would begin where another does, of another type maybe, which ``torch.save`` refuses.
    """
    if not (array.size and array.flags.writeable and array.flags.c_contiguous):
        array = np.array(array, order="C")
    if array.dtype == DTYPES["BF16"]:
        return torch.from_numpy(array.view(np.uint16)).view(torch.bfloat16)
    return torch.from_numpy(array)


def to_numpy(tensor: torch.Tensor) -> NDArray[Any]:
    """An array of the tensor's elements, which shares memory if the tensor is on the CPU and contiguous."""
    plain = tensor.detach().cpu().contiguous()
    if plain.dtype == torch.bfloat16:
        return plain.view(torch.uint16).numpy().view(DTYPES["BF16"])
    return plain.numpy()
