"""The public fit: weights quantized for the least error of a layer's output, not of the weights."""

from __future__ import annotations

from typing import Any, Literal, overload

import numpy as np
from numpy.typing import NDArray

from xorpack import checks
from xorpack.encoding.fitting.bcq import fit_bcq
from xorpack.encoding.fitting.trellis import DESCENTS, fit_trellis
from xorpack.encoding.quantize import bcq
from xorpack.encoding.quantize.methods import kept_mask, refuse
from xorpack.encoding.quantize.pruning import check_float
from xorpack.encoding.quantize.trellis import Job
from xorpack.tensors import MAX_BITS, BCQTensor, TrellisTensor

METHODS = ("trellis", "bcq")

WEIGHED_BALANCE = 0.5
"""Where it is known what outputs count: on text that nothing was fitted to, as good as 1, and nearer to 0's errors."""

BCQ_DESCENTS = 3
"""Rounds of binary codes, of which each is quick."""


@overload
def fit(
    weight: NDArray[Any],
    hessian: NDArray[Any],
    *,
    method: Literal["trellis"] = ...,
    rows_hessian: NDArray[Any] | None = ...,
    rate: float | None = ...,
    sparsity: float | None = ...,
    mask: NDArray[Any] | None = ...,
    group_size: int | None = ...,
    scale_dtype: Literal["auto", "uint8", "float16", "float32"] = ...,
    window: int | None = ...,
    outliers: bool | float = ...,
    column_gains: bool | None = ...,
    balance: float | None = ...,
    descents: int | None = ...,
    jobs: int = ...,
) -> TrellisTensor: ...


@overload
def fit(
    weight: NDArray[Any],
    hessian: NDArray[Any],
    *,
    method: Literal["bcq"],
    rows_hessian: NDArray[Any] | None = ...,
    bits: int | None = ...,
    sparsity: float | None = ...,
    mask: NDArray[Any] | None = ...,
    group_size: int | None = ...,
    scale_dtype: Literal["auto", "float16", "float32"] = ...,
    descents: int | None = ...,
    jobs: int = ...,
) -> BCQTensor: ...


def fit(
    weight: NDArray[Any],
    hessian: NDArray[Any],
    *,
    method: Literal["trellis", "bcq"] = "trellis",
    rows_hessian: NDArray[Any] | None = None,
    rate: float | None = None,
    bits: int | None = None,
    sparsity: float | None = None,
    mask: NDArray[Any] | None = None,
    group_size: int | None = None,
    scale_dtype: Literal["auto", "uint8", "float16", "float32"] = "auto",
    window: int | None = None,
    outliers: bool | float = True,
    column_gains: bool | None = None,
    balance: float | None = None,
    descents: int | None = None,
    jobs: int = 1,
) -> TrellisTensor | BCQTensor:
    """Quantize a layer's weight for the least squared error of its output.

    As :func:`xorpack.quantize`, but the error that counts is ``E H E^T`` summed over rows, for errors ``E`` of the
    weights: each column's error is made up for by the columns after it, then each is chosen anew beside all others, and
    scales are fitted to the output. With the identity for ``hessian``, the codes before any descent are those of
    :func:`xorpack.quantize` of the same gains and balance.

    Columns come one after another: to use all cores, fit several tensors at once.

    Args:
        weight: float32, float16 or bfloat16, (outputs, inputs), or of any shape, coded as ``as_matrix(weight.shape)``.
        hessian: float32 or float64 (cols, cols): the sum of ``x x^T`` over the inputs ``x`` of the layer, as
            ``xorpack calibrate`` collects it, of any scale. Correlations are taken to be 15 % less than it says; a
            percent of the mean of its diagonal is added, and more where it is singular, which the logger ``xorpack``
            says.
        method: ``"trellis"``, or ``"bcq"`` for binary codes.
        rows_hessian: float32 or float64 (outputs,): what squared errors of each output count, of any scale, as
            ``xorpack calibrate --guided`` collects it; None where all count alike. Outputs share the codes of a
            trellis, a column's stored bits and its gain, and compete for a place in the mask. It is the diagonal of
            a Hessian of the outputs. What lies beside it could not be used: how columns best make up for an error
            before them is the same for any, and the rows of a column are searched at once.
        rate: of a trellis: stored bits per kept weight, 1/32 to 6; default: 2.
        bits: of binary codes: planes, 1 to 8; default: 2.
        sparsity: prune this fraction of the weights, in [0, 1): those that cost the output the least, when the sweep
            reaches them and what was pruned before has been made up for; of a trellis as many in each column, for its
            stored bits are as many as another's.
        mask: or keep these: bool of the weight's shape, or packed uint32 (rows, chunks). With neither, the weight's own
            zeros are the pruned ones; for a trellis only if they are a quarter of the weights or more.
        group_size: columns that share scales; 0 for the whole row. Default: see :func:`xorpack.quantize`.
        scale_dtype: type that scales are stored in; ``"uint8"`` is of a trellis.
        window: of a trellis: stored bits that a weight depends on; default by rate.
        outliers: of a trellis: keep weights apart, in float16: True for those of which that costs less than their
            clipping, or a number for all beyond so many standard deviations of their row or group.
        column_gains: of a trellis: a float16 for each column, too; default: True.
        balance: of a trellis: 1 for the least total error, as ``rows_hessian`` counts it; 0, where rows count alike,
            of any magnitude; or between: the power of what an error counts. Default: .5 with ``rows_hessian``, else 0:
            at 2 bits a language model's perplexity was 112 with 1 and no gains, 66 with 0 and gains.
        descents: rounds after the first, in which each column is chosen anew beside all others: never for the worse.
            Default: 1 of a trellis, each of which takes about as long as the first; 3 of binary codes.
        jobs: threads, of what does not go column by column. The result does not depend on it.

    Raises:
        ParameterError: an argument breaks its rule, or is of another method.
        DataError: NaN or infinity in ``weight``; a ``hessian`` that is no sum of ``x x^T``, or 0; a ``rows_hessian``
            that is no sum of squares, or 0.
    """
    checks.choice("method", method, METHODS)
    if descents is not None:
        checks.whole("descents", descents)
    if method == "bcq":
        refuse({"rate": rate, "window": window, "outliers": None if outliers else outliers}, method)
        refuse({"column_gains": column_gains, "balance": balance}, method)
        checks.choice("scale_dtype", scale_dtype, bcq.SCALE_DTYPES)
        checks.whole("jobs", jobs, 1)
        if group_size is not None:
            checks.whole("group_size", group_size)
        weight = check_float(weight)
        if not np.isfinite(weight.astype(np.float32)).all():
            bcq.quantize(weight)  # which says where
        return fit_bcq(
            weight,
            hessian,
            rows_hessian=rows_hessian,
            bits=checks.whole("bits", 2 if bits is None else bits, 1, MAX_BITS),
            sparsity=sparsity,
            kept=bcq.kept_words(weight, sparsity, mask),
            group_size=group_size,
            scale_dtype=scale_dtype,
            descents=BCQ_DESCENTS if descents is None else descents,
        )
    refuse({"bits": bits}, method)
    job = Job.of(
        weight,
        rate=2.0 if rate is None else rate,
        window=window,
        group_size=group_size or 0,
        mask=kept_mask(weight, sparsity, mask),
        importance=None,
        column_gains=True if column_gains is None else column_gains,
        balance=(0.0 if rows_hessian is None else WEIGHED_BALANCE) if balance is None else balance,
        scale_dtype=scale_dtype,
        jobs=jobs,
    )
    return fit_trellis(
        job,
        hessian,
        rows_hessian=rows_hessian,
        choose=bool(sparsity),
        outliers=outliers,
        descents=DESCENTS if descents is None else descents,
    )
