"""The public fit: weights quantized for the least error of a layer's output, not of the weights."""

from __future__ import annotations

from typing import Any, Literal

from numpy.typing import NDArray

from xorpack import checks
from xorpack.encoding.fitting.trellis import DESCENTS, fit_trellis
from xorpack.encoding.quantize.methods import kept_mask
from xorpack.encoding.quantize.trellis import Job
from xorpack.tensors import TrellisTensor


def fit(
    weight: NDArray[Any],
    hessian: NDArray[Any],
    *,
    rate: float = 2.0,
    sparsity: float | None = None,
    mask: NDArray[Any] | None = None,
    group_size: int | None = None,
    window: int | None = None,
    outliers: bool = True,
    column_gains: bool = False,
    balance: float = 1.0,
    scale_dtype: Literal["auto", "uint8", "float16", "float32"] = "auto",
    descents: int = DESCENTS,
    jobs: int = 1,
) -> TrellisTensor:
    """Quantize a layer's weight by a trellis for the least squared error of its output.

    As :func:`xorpack.quantize` with ``method="trellis"``, but the error that counts is ``E H E^T`` summed over rows:
    each column's error is made up for by the columns after it, and scales and codes are fitted to the output. With the
    identity for ``hessian`` the stored bits are those of :func:`xorpack.quantize`, before any descent.

    Columns come one after another: to use all cores, fit several tensors at once.

    Args:
        weight: float32, float16 or bfloat16, (outputs, inputs), or of any shape, coded as ``as_matrix(weight.shape)``.
        hessian: float32 or float64 (cols, cols): the sum of ``x x^T`` over the inputs ``x`` of the layer, as
            ``xorpack calibrate`` collects it, of any scale. A percent of the mean of its diagonal is added, and more
            where it is singular, which the logger ``xorpack`` says.
        rate: stored bits per kept weight, see :func:`xorpack.quantize`.
        sparsity: prune this fraction of the weights by magnitude, in [0, 1).
        mask: or keep these: bool of the weight's shape, or packed uint32 (rows, chunks). With neither, the weight's own
            zeros are the pruned ones, if they are a quarter of the weights or more.
        group_size: columns that share a scale; 0, the default, for the whole row.
        window: stored bits that a weight depends on; default by rate.
        outliers: keep weights apart, in float16, where that costs less than their clipping.
        column_gains: a float16 for each column, too.
        balance: 1 for the least total error; 0 where rows count alike, whatever their magnitude; or between.
        scale_dtype: type that scales are stored in.
        descents: rounds after the first, in which each column is chosen anew beside all others: each takes about as
            long as the first, and is never for the worse.
        jobs: threads, of what does not go column by column. The result does not depend on it.

    Raises:
        ParameterError: an argument breaks its rule.
        DataError: NaN or infinity in ``weight``; a ``hessian`` that is no sum of ``x x^T``, or 0.
    """
    checks.whole("descents", descents)
    job = Job.of(
        weight,
        rate=rate,
        window=window,
        group_size=group_size or 0,
        mask=kept_mask(weight, sparsity, mask),
        importance=None,
        column_gains=column_gains,
        balance=balance,
        scale_dtype=scale_dtype,
        jobs=jobs,
    )
    return fit_trellis(job, hessian, outliers=outliers, descents=descents)
