"""Code to weights: :mod:`reference <xorpack.decoders.reference>` (numpy), :mod:`cpu <xorpack.decoders.cpu>` and gpu."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from xorpack.decoders import cpu
from xorpack.elements import Bcq
from xorpack.encoded import EncodedTensor
from xorpack.tensors import BCQTensor

__all__ = ["decode"]


def decode(encoded: EncodedTensor, *, jobs: int = 1) -> BCQTensor | NDArray[Any]:
    """Give back what was encoded, bit for bit: a BCQTensor, or the array of the lossless mode.

    Args:
        encoded: the tensor.
        jobs: threads.

    Raises:
        FormatError: the tensor contradicts itself.
    """
    elements = encoded.elements
    if not isinstance(elements, Bcq):
        return cpu.decode_dense(encoded, jobs=jobs)
    mask, planes = cpu.decode_planes(encoded, jobs=jobs)
    return BCQTensor(
        shape=encoded.shape,
        dtype=encoded.dtype,
        mask=mask,
        planes=planes,
        scales=np.ascontiguousarray(elements.scales),
        group_size=elements.group_size,
        method=elements.method,
    )
