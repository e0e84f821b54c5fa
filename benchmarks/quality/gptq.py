"""GPTQ as its paper and its reference code have it: what fitted trellises are compared with.

An asymmetric uniform grid for each row and group of inputs, from least to largest weight when the sweep reaches the
group; columns in order of activation, dampened by 1 % (arXiv 2210.17323).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from xorpack.encoding.fitting.hessian import Hessian

SCALE_BITS = 16
"""Of a scale; a zero point takes as many bits as a weight."""


def gptq(
    weight: NDArray[np.float32], hessian: NDArray[Any], *, bits: int, group_size: int = 128
) -> tuple[NDArray[np.float32], float]:
    """The weight as it is decoded, and the bytes that are stored for it: codes, float16 scales, zero points."""
    rows, cols = weight.shape
    known = Hessian.of(hessian, cols, shrinkage=0)
    factor, top = known.factor, (1 << bits) - 1
    work = np.ascontiguousarray(weight.T[known.order]).astype(np.float64)
    out = np.empty_like(work)
    for begin in range(0, cols, group_size):
        end = min(begin + group_size, cols)
        block = work[begin:end]
        low, high = np.minimum(block.min(0), 0), np.maximum(block.max(0), 0)
        scale = np.where(high > low, (high - low) / top, 1).astype(np.float16).astype(np.float64)
        zero = np.rint(-low / scale)
        errors = np.empty_like(block)
        for i in range(end - begin):
            j = begin + i
            out[j] = scale * (np.clip(np.rint(block[i] / scale) + zero, 0, top) - zero)
            errors[i] = (block[i] - out[j]) / factor[j, j]
            block[i + 1 :] -= np.outer(factor[j, j + 1 : end], errors[i])
        work[end:] -= factor[begin:end, end:].T @ errors
    decoded = np.empty(weight.shape, np.float32)
    decoded[:, known.order] = out.T
    n_groups = -(-cols // group_size)
    return decoded, (bits * weight.size + rows * n_groups * (SCALE_BITS + bits)) / 8
