"""The public quantizer: planes of signs by BCQ, or a trellis's code, as ``method`` says."""

from __future__ import annotations

from typing import Any, Literal, overload

import numpy as np
from numpy.typing import NDArray

from xorpack import checks
from xorpack.code.words import Words, popcount
from xorpack.encoding.quantize import bcq
from xorpack.encoding.quantize.pruning import check_float, magnitude_mask, zeros_mask
from xorpack.encoding.quantize.trellis import quantize_trellis
from xorpack.errors import ParameterError
from xorpack.tensors import BCQTensor, TrellisTensor

TRELLIS = "trellis"

METHODS = (*bcq.METHODS, TRELLIS)

PRUNED_FROM = 0.25
"""Share of zeros from which on a trellis keeps them as pruned weights: fewer would not pay for a mask."""


@overload
def quantize(
    weight: NDArray[Any],
    *,
    bits: int = ...,
    sparsity: float | None = ...,
    mask: NDArray[Any] | None = ...,
    group_size: int | None = ...,
    method: Literal["alternating", "greedy"] = ...,
    scale_dtype: Literal["auto", "float16", "float32"] = ...,
    n_iterations: int = ...,
    jobs: int = ...,
) -> BCQTensor: ...


@overload
def quantize(
    weight: NDArray[Any],
    *,
    method: Literal["trellis"],
    rate: float = ...,
    sparsity: float | None = ...,
    mask: NDArray[Any] | None = ...,
    group_size: int | None = ...,
    window: int | None = ...,
    importance: NDArray[Any] | None = ...,
    outliers: bool | float = ...,
    column_gains: bool = ...,
    balance: float = ...,
    scale_dtype: Literal["auto", "uint8", "float16", "float32"] = ...,
    jobs: int = ...,
    device: str = ...,
) -> TrellisTensor: ...


def quantize(
    weight: NDArray[Any],
    *,
    bits: int | None = None,
    rate: float | None = None,
    sparsity: float | None = None,
    mask: NDArray[Any] | None = None,
    group_size: int | None = None,
    method: Literal["alternating", "greedy", "trellis"] = "alternating",
    scale_dtype: Literal["auto", "uint8", "float16", "float32"] = "auto",
    n_iterations: int | None = None,
    window: int | None = None,
    importance: NDArray[Any] | None = None,
    outliers: bool | float = True,
    column_gains: bool = False,
    balance: float = 1.0,
    jobs: int = 1,
    device: str = "cpu",
) -> BCQTensor | TrellisTensor:
    """Quantize the kept weights, to ``bits`` sign planes or to ``rate`` stored bits each.

    ``"alternating"`` and ``"greedy"`` fit binary codes (:func:`xorpack.encoding.quantize.bcq.quantize`), which
    :func:`xorpack.encode` then stores near their entropy. ``"trellis"`` chooses stored bits so that the weights which
    the XOR network makes of them have the least error (:func:`xorpack.encoding.quantize.trellis.quantize_trellis`).

    Args:
        weight: float32, float16 or bfloat16 of any shape and strides, coded as ``as_matrix(weight.shape)``
            = (rows, cols).
        bits: of BCQ: planes, 1 to 8; default: 2.
        rate: of a trellis: stored bits per kept weight, 1/32 to 6; default: 2.
        sparsity: prune this fraction of the weights by magnitude, in [0, 1).
        mask: or keep these: bool of the weight's shape, or packed uint32 (rows, chunks). With neither, the weight's own
            zeros are the pruned ones; for a trellis only if they are a quarter of the weights or more.
        group_size: columns that share scales; 0 for the whole row. Default: the row for a trellis; of BCQ as many as
            keep about 64 weights, and the row from a sparsity of .8 on.
        method: ``"alternating"``, ``"greedy"`` or ``"trellis"``.
        scale_dtype: type that scales are stored in; ``"auto"``: the smallest that holds them. ``"uint8"`` is of a
            trellis (:mod:`xorpack.code.scales`).
        n_iterations: of BCQ: of the alternation after each plane, at the most.
        window: of a trellis: stored bits that a weight depends on; default by rate.
        importance: of a trellis: of a weight's squared error, not negative: (cols,) or the weight's shape.
        outliers: of a trellis: keep weights apart, in float16: True for those of which that costs less than their
            clipping, or a number for all beyond so many standard deviations of their row or group.
        column_gains: of a trellis: a float16 for each column, too.
        balance: of a trellis: 1 for the least total error, 0 for the same relative error in every row, or between.
        jobs: threads. The result does not depend on it.
        device: of a trellis: where stored bits are searched, ``"cpu"``, ``"cuda"`` (CuPy's current GPU) or
            ``"cuda:1"``. The result does not depend on it.

    Raises:
        ParameterError: an argument breaks its rule, or is of another method.
        DataError: NaN or infinity in ``weight``; scales that the type asked for cannot hold.
        DeviceError: no such GPU, no CuPy, or too little memory.
    """
    checks.choice("method", method, METHODS)
    if method != TRELLIS:
        checks.choice("scale_dtype", scale_dtype, bcq.SCALE_DTYPES)
        given = {
            "rate": rate,
            "window": window,
            "importance": importance,
            "outliers": None if outliers is True else outliers,
            "column_gains": column_gains or None,
            "balance": None if balance == 1 else balance,
            "device": None if device == "cpu" else device,
        }
        refuse(given, method)
        return bcq.quantize(
            weight,
            bits=2 if bits is None else bits,
            sparsity=sparsity,
            mask=mask,
            group_size=group_size,
            method=method,  # type: ignore[arg-type]
            scale_dtype=scale_dtype,  # type: ignore[arg-type]
            n_iterations=bcq.N_ITERATIONS if n_iterations is None else n_iterations,
            jobs=jobs,
        )
    refuse({"bits": bits, "n_iterations": n_iterations}, method)
    return quantize_trellis(
        weight,
        rate=2.0 if rate is None else rate,
        window=window,
        group_size=0 if group_size is None else group_size,
        mask=kept_mask(weight, sparsity, mask),
        importance=importance,
        outliers=outliers,
        column_gains=column_gains,
        balance=balance,
        scale_dtype=scale_dtype,
        jobs=jobs,
        device=device,
    )


def refuse(given: dict[str, Any], method: str) -> None:
    """Raise ParameterError where one of these is not None."""
    for name, value in given.items():
        if value is not None:
            raise ParameterError(f"{name} is not of method {method}")


def kept_mask(weight: NDArray[Any], sparsity: float | None, mask: NDArray[Any] | None) -> NDArray[Any] | None:
    """The mask of a trellis, None where all weights are kept."""
    if mask is not None:
        if sparsity is not None:
            raise ParameterError(f"sparsity {sparsity} and a mask were given; they exclude one another")
        return mask
    weight = check_float(weight)
    kept: Words = zeros_mask(weight) if sparsity is None else magnitude_mask(weight, sparsity)
    share = 1 - popcount(kept) / max(weight.size, 1)
    if (sparsity is None and share < PRUNED_FROM) or sparsity == 0:
        return None
    return np.asarray(kept)
