"""Binary-coding quantization of the kept weights: ``w = sum_k alpha_k * b_k``, ``b_k`` in {-1, +1}.

Greedy: each alpha is the mean of ``|residual|``, each plane the sign of the residual. Alternating: least
squares for the alphas given the codes and nearest codes given the alphas, in turn ("Alternating Multi-bit
Quantization for Recurrent Neural Networks", arXiv 1802.00150, has both). It starts from a greedy plane, and
here it runs anew after each plane that is added. Pruned weights take no part in the fit.
"""

from __future__ import annotations

import math
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from xorpack import checks
from xorpack.code.words import Words, n_chunks, pack, popcount, tail_mask, unpack
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

SCALE_DTYPES = ("auto", "float16", "float32")

GROUP = 64
"""Kept weights that share scales, about, unless asked for, where less than ``ROWS_FROM`` are pruned."""

ROWS_FROM = 0.8
"""Sparsity from which on a row shares its scales, unless asked for."""

LONG_ROW = 64
"""Size of the last of three or more axes from which on it is taken as a row of weights, not of a filter."""

LEAST_HALF = 2.0**-18
"""Largest scale of a group below which float16 rounds by more than 2^-7 of it."""

_LIMITS = {"F32": np.inf, "F16": 65520.0, "BF16": 2.0**128 - 2.0**119}
"""Smallest magnitude that rounds to infinity in each type."""


def quantize(
    weight: NDArray[Any],
    *,
    bits: int = 2,
    sparsity: float | None = None,
    mask: NDArray[Any] | None = None,
    group_size: int | None = None,
    method: Literal["alternating", "greedy"] = "alternating",
    scale_dtype: Literal["auto", "float16", "float32"] = "auto",
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
        group_size: columns that share scales; 0 for the whole row. None: as many as keep about 64 weights, and the row
            from a sparsity of .8 on. See :func:`columns_per_scale`.
        method: ``"alternating"`` or ``"greedy"``.
        scale_dtype: type that scales are stored in, ``"float16"`` or ``"float32"``; ``"auto"``: float32 where
            float16 cannot hold those of every group.
        n_iterations: of the alternation after each plane, at the most.
        jobs: threads.

    Raises:
        ParameterError: an argument breaks its rule, or both ``sparsity`` and ``mask`` are given.
        DataError: NaN or infinity in ``weight``, pruned or not; scales that the type asked for cannot hold.
    """
    weight = check_float(weight)
    _check(bits, group_size, method, scale_dtype, n_iterations, jobs)
    kept = kept_words(weight, sparsity, mask)
    group_size = columns_per_scale(weight.shape, group_size, popcount(kept))
    passes = n_iterations if method == "alternating" else -1
    try:
        half = scale_dtype != "float32"
        planes, scales = _fit(weight, kept, bits, group_size, passes, "float16" if half else "float32", jobs)
    except ScaleError:
        if scale_dtype != "auto":
            raise
        planes, scales = _fit(weight, kept, bits, group_size, passes, "float32", jobs)
    return BCQTensor(
        shape=weight.shape,
        dtype=dtype_name(weight.dtype),
        mask=kept,
        planes=planes,
        scales=scales,
        group_size=group_size,
        method=method,
    )


def columns_per_scale(shape: tuple[int, ...], group_size: int | None, n_kept: int) -> int:
    """Columns of a tensor's matrix that share scales, 0 for all of a row.

    The matrix has the first axis as its rows. Of a tensor of three or more axes whose last is long, such as the
    weights of many experts, (experts, out, in), a row of scales is a row of the last axis. With no ``group_size``, it
    is 64, doubled as often as keeps about 64 weights in a group: 128 at a sparsity of .5. From .8 on it is the row, for
    there scales would cost more than they gain.
    """
    cols = as_matrix(shape)[1]
    row = shape[-1] if len(shape) > 2 and shape[-1] >= LONG_ROW else cols
    if group_size is None:
        n = math.prod(shape)
        sparse = n_kept <= (1 - ROWS_FROM) * n + 1  # a sparsity asked for is rounded
        group_size = 0 if sparse else GROUP << round(math.log2(n / n_kept))
        if row <= group_size:
            group_size = 0
    elif row == cols:
        return group_size
    group_size = min(group_size or row, row)
    return 0 if group_size >= cols else group_size


def _fit(
    weight: NDArray[Any], kept: Words, bits: int, group_size: int, passes: int, scale_dtype: str, jobs: int
) -> tuple[Words, NDArray[Any]]:
    """Planes and scales; ``passes`` of the alternation, -1 for the greedy method.

    Raises:
        DataError: NaN or infinity in ``weight``.
        ScaleError: scales that the type cannot hold.
    """
    rows, cols = as_matrix(weight.shape)
    planes = np.zeros((bits, rows, n_chunks(cols)), np.uint32)
    scales = np.zeros((rows, n_groups(cols, group_size), bits), scale_dtype)
    starts, step = block_starts(weight.shape)
    dtype = dtype_name(weight.dtype)
    group = min(group_size or cols, cols)

    def work(first: int) -> None:
        block = float_rows(weight, first, step)
        fitted = np.empty((len(block), *scales.shape[1:]), np.float32)
        half = scale_dtype == "float16"
        quantize_kernel(block, first, kept, group, passes, half, _LIMITS[dtype], planes, fitted)
        _check_overflow(fitted, scales.dtype, first)
        if half:
            _check_underflow(fitted, block, kept[first : first + step], group, first)
        scales[first : first + step] = fitted

    for_each(work, starts, jobs)
    return planes, scales


def _check(
    bits: int, group_size: int | None, method: str, scale_dtype: str, n_iterations: int, jobs: int
) -> None:
    checks.whole("bits", bits, 1, MAX_BITS)
    if group_size is not None:
        checks.whole("group_size", group_size)
    checks.whole("n_iterations", n_iterations)
    checks.whole("jobs", jobs, 1)
    checks.choice("method", method, METHODS)
    checks.choice("scale_dtype", scale_dtype, SCALE_DTYPES)


def kept_words(weight: NDArray[Any], sparsity: float | None, mask: NDArray[Any] | None) -> Words:
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


class ScaleError(DataError):
    """A type cannot hold a scale."""


def _check_underflow(
    scales: NDArray[np.float32], block: NDArray[np.float32], kept: Words, group: int, first_row: int
) -> None:
    low = scales[:, :, 0] < LEAST_HALF
    if not low.any():
        return
    cols = block.shape[1]
    alive = unpack(kept, cols) & (block != 0)
    lost = np.argwhere(low & np.logical_or.reduceat(alive, np.arange(0, cols, group), axis=1))
    if len(lost):
        row, column_group = (int(i) for i in lost[0])
        raise ScaleError(
            f"the largest scale of row {first_row + row}, group {column_group} is "
            f"{scales[row, column_group, 0]:g}, too small for float16, below {LEAST_HALF:g}; "
            'use scale_dtype="float32"'
        )


def _check_overflow(scales: NDArray[np.float32], dtype: np.dtype[Any], first_row: int) -> None:
    largest = float(np.finfo(dtype).max)
    over = np.argwhere(scales > largest)
    if len(over):
        row, group, _ = (int(i) for i in over[0])
        hint = '; use scale_dtype="float32"' if dtype == np.float16 else ""
        raise ScaleError(
            f"scale {scales[tuple(over[0])]} of row {first_row + row}, group {group} "
            f"is above the largest {dtype}, {largest:g}{hint}"
        )
