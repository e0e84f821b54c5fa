"""Code to weights: :mod:`reference <xorpack.decoders.reference>` (numpy), :mod:`cpu <xorpack.decoders.cpu>` and gpu."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from xorpack import checks
from xorpack.decoders import cpu
from xorpack.encoded import EncodedTensor
from xorpack.tensors import BCQTensor

__all__ = ["decode"]


def decode(encoded: EncodedTensor, *, jobs: int = 1) -> BCQTensor | NDArray[Any]:
    """Give back what was encoded, bit for bit: a BCQTensor, or the array of the lossless mode.

    Args:
        encoded: the tensor.
        jobs: threads.

    Raises:
        ParameterError: it is no EncodedTensor, or ``jobs`` no number of threads.
        FormatError: the tensor contradicts itself.
    """
    cpu.check_encoded(encoded)
    checks.whole("jobs", jobs, 1)
    if encoded.scales is None:
        return cpu.decode_dense(encoded, jobs=jobs)
    mask, planes = cpu.decode_planes(encoded, jobs=jobs)
    return BCQTensor(
        shape=encoded.shape,
        dtype=encoded.dtype,
        mask=mask,
        planes=planes,
        scales=np.ascontiguousarray(encoded.scales),
        group_size=encoded.group_size,
        method=encoded.method,
    )
