"""Code to weights: :mod:`reference <xorpack.decoders.reference>` (numpy), :mod:`cpu <xorpack.decoders.cpu>` and gpu."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from xorpack import checks
from xorpack.decoders import cpu
from xorpack.elements import Bcq, Trellis
from xorpack.encoded import EncodedTensor
from xorpack.tensors import BCQTensor, TrellisTensor

__all__ = ["decode"]


def decode(encoded: EncodedTensor, *, jobs: int = 1) -> BCQTensor | TrellisTensor | NDArray[Any]:
    """Give back what was encoded, bit for bit: a quantized tensor, or the array of the lossless mode.

    Args:
        encoded: the tensor.
        jobs: threads.

    Raises:
        ParameterError: it is no EncodedTensor, or ``jobs`` no number of threads.
        FormatError: the tensor contradicts itself.
    """
    cpu.check_encoded(encoded)
    checks.whole("jobs", jobs, 1)
    elements = encoded.elements
    if isinstance(elements, Trellis):
        whole = encoded.n_kept == encoded.n_weights
        return encoded.trellis(None if whole else cpu.load_mask(encoded, jobs=jobs))
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
