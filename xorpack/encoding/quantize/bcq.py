"""Binary-coding quantization of the kept weights: ``w = sum_k alpha_k * b_k``, ``b_k`` in {-1, +1}.

Greedy: each alpha is the mean of ``|residual|``, each plane the sign of the residual. Alternating: least
squares for the alphas given the codes and nearest codes given the alphas, in turn ("Alternating Multi-bit
Quantization for Recurrent Neural Networks", arXiv 1802.00150, has both). It starts from a greedy plane, and
here it runs anew after each plane that is added. Pruned weights take no part in the fit.
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from xorpack.code.words import Words, n_chunks, pack, tail_mask
from xorpack.encoding.quantize.bcq_kernels import quantize_kernel
from xorpack.encoding.quantize.pruning import (
    block_starts,
    check_float,
    float_rows,
    magnitude_mask,
    rows_of,
    zeros_mask,
)
from xorpack.errors import DataError, ParameterError
from xorpack.tensors import MAX_BITS, BCQTensor, as_matrix, dtype_name, n_groups
from xorpack.vector.threads import for_each

N_ITERATIONS = 100
"""Steps of the alternation after each plane, at the most; it mostly stops by itself before."""

METHODS = ("alternating", "greedy")

SCALE_DTYPES = ("float16", "float32")

_LIMITS = {"F32": np.inf, "F16": 65520.0, "BF16": 2.0**128 - 2.0**119}
"""Smallest magnitude that rounds to infinity in each type."""


def quantize(
    weight: NDArray[Any],
    *,
    bits: int = 2,
    sparsity: float | None = None,
    mask: NDArray[Any] | None = None,
    group_size: int = 0,
    method: Literal["alternating", "greedy"] = "alternating",
    scale_dtype: Literal["float16", "float32"] = "float16",
    n_iterations: int = N_ITERATIONS,
    jobs: int = 1,
) -> BCQTensor:
    """Quantize the kept weights to ``bits`` sign planes.

    Codes are the nearest levels of the scales as stored. Scales are not negative and fall from plane to
    plane; a group that keeps nothing has scales 0. Sums are in float64; the result is the same, byte for
    byte, whatever ``jobs`` is. ``alternating`` is never worse than ``greedy`` in squared error.

    Args:
        weight: float32, float16 or bfloat16 of any shape and strides, coded as ``as_matrix(weight.shape)``
            = (rows, cols).
        bits: planes, 1 to 8.
        sparsity: prune this fraction of the weights by magnitude (:func:`magnitude_mask`), in [0, 1).
        mask: or keep these: bool of the weight's shape, or packed uint32 (rows, chunks). With neither,
            the weight's own zeros are the pruned ones.
        group_size: columns that share scales; 0 for the whole row.
        method: ``"alternating"`` or ``"greedy"``.
        scale_dtype: type that scales are stored in, ``"float16"`` or ``"float32"``.
        n_iterations: of the alternation after each plane, at the most.
        jobs: threads.

    Raises:
        ParameterError: an argument breaks its rule, or both ``sparsity`` and ``mask`` are given.
        DataError: NaN or infinity in ``weight``, pruned or not; scales that float16 cannot hold.
    """
    weight = check_float(weight)
    _check(bits, group_size, method, scale_dtype, n_iterations, jobs)
    rows, cols = as_matrix(weight.shape)
    kept = _kept(weight, sparsity, mask)
    planes = np.zeros((bits, rows, n_chunks(cols)), np.uint32)
    scales = np.zeros((rows, n_groups(cols, group_size), bits), scale_dtype)
    starts, step = block_starts(weight.shape)
    dtype = dtype_name(weight.dtype)
    group = min(group_size or cols, cols)

    def work(first: int) -> None:
        block = float_rows(weight, first, step)
        fitted = np.empty((len(block), *scales.shape[1:]), np.float32)
        passes = n_iterations if method == "alternating" else -1
        half = scale_dtype == "float16"
        quantize_kernel(block, first, kept, group, passes, half, _LIMITS[dtype], planes, fitted)
        _check_overflow(fitted, scales.dtype, first)
        scales[first : first + step] = fitted

    for_each(work, starts, jobs)
    if scale_dtype == "float16" and not scales.any() and (zeros_mask(weight) & kept).any():
        raise DataError('every scale is below the least float16, 2**-24; use scale_dtype="float32"')
    return BCQTensor(
        shape=weight.shape,
        dtype=dtype,
        mask=kept,
        planes=planes,
        scales=scales,
        group_size=group_size,
        method=method,
    )


def _check(bits: int, group_size: int, method: str, scale_dtype: str, n_iterations: int, jobs: int) -> None:
    if not 1 <= bits <= MAX_BITS:
        raise ParameterError(f"bits {bits} is outside 1..{MAX_BITS}")
    if group_size < 0:
        raise ParameterError(f"group_size {group_size} is negative")
    if method not in METHODS:
        raise ParameterError(f"method {method!r} is not one of {', '.join(METHODS)}")
    if scale_dtype not in SCALE_DTYPES:
        raise ParameterError(f"scale_dtype {scale_dtype!r} is not one of {', '.join(SCALE_DTYPES)}")
    if n_iterations < 0:
        raise ParameterError(f"n_iterations {n_iterations} is negative")
    if jobs < 1:
        raise ParameterError(f"jobs {jobs} is less than 1")


def _kept(weight: NDArray[Any], sparsity: float | None, mask: NDArray[Any] | None) -> Words:
    """The packed mask that the arguments of :func:`quantize` ask for, as an array of its own."""
    if mask is None:
        return zeros_mask(weight) if sparsity is None else magnitude_mask(weight, sparsity)
    if sparsity is not None:
        raise ParameterError(f"sparsity {sparsity} and a mask were given; they exclude one another")
    return packed_mask(weight, mask)


def packed_mask(weight: NDArray[Any], mask: NDArray[Any]) -> Words:
    """A mask that was given, packed, uint32 (rows, chunks), as an array of its own.

    Raises:
        ParameterError: it is neither bool of the weight's shape nor packed uint32 (rows, chunks).
    """
    rows, cols = as_matrix(weight.shape)
    packed = np.empty((rows, n_chunks(cols)), np.uint32)
    mask = np.asarray(mask)
    if mask.dtype == np.bool_ and mask.shape == weight.shape:
        starts, step = block_starts(weight.shape)
        for first in starts:
            packed[first : first + step] = pack(rows_of(mask, first, step))
        return packed
    if mask.dtype != np.uint32 or mask.shape != packed.shape:
        raise ParameterError(
            f"mask of shape {mask.shape} and dtype {mask.dtype}, neither bool of the weight's shape "
            f"{weight.shape} nor packed uint32 {packed.shape}"
        )
    if (mask & ~tail_mask(cols)).any():
        raise ParameterError(f"packed mask has ones past the last column, {cols - 1}")
    packed[...] = mask
    return packed


def _check_overflow(scales: NDArray[np.float32], dtype: np.dtype[Any], first_row: int) -> None:
    largest = float(np.finfo(dtype).max)
    over = np.argwhere(scales > largest)
    if len(over):
        row, group, _ = (int(i) for i in over[0])
        hint = '; use scale_dtype="float32"' if dtype == np.float16 else ""
        raise DataError(
            f"scale {scales[tuple(over[0])]} of row {first_row + row}, group {group} "
            f"is above the largest {dtype}, {largest:g}{hint}"
        )
