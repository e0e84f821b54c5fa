"""Bytes over tensors: a rate for each trellis, so that the squared error of all weights together is least at a size.

Each tensor's error by rate is measured on a sample of its columns at a few rates and interpolated between them, where
its logarithm is nearly a line. The least total error at a number of bytes is where all tensors gain alike by one more
byte: a Lagrange multiplier is bisected, and what is left is spent step by step. Other quantizers take no part: at equal
bytes their error was larger at every rate (docs/study, distortion).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xorpack.analysis.accounting import Account
from xorpack.code.corrections import packed_sizes
from xorpack.encoding.quantize.methods import quantize
from xorpack.errors import ParameterError
from xorpack.tensors import as_matrix

RATES = np.arange(1, 49) / 8
"""Stored bits per kept weight to choose among."""

MEASURED = (0.5, 1.0, 2.0, 3.0, 4.0, 6.0)
"""Rates at which the error of a sample is measured."""

SAMPLE_ROWS = 2048
SAMPLE_WEIGHTS = 1 << 16
"""Rows, and weights of these rows, that a sample has at the most."""

RECORD_BYTES = 900
"""What a record and the names of sections take in a file, about."""

OUTLIER_MARGIN = 1.1
"""Outliers of a tensor, over those that its sample would have it keep."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Curve:
    """Bytes and squared error of one tensor at each of :data:`RATES`.

    Attributes:
        n_bytes: float64 (rates,), everything that the tensor takes in a file.
        error: float64 (rates,), sum of squares.
    """

    n_bytes: NDArray[np.float64]
    error: NDArray[np.float64]

    @classmethod
    def of(
        cls, array: NDArray[Any], mask: NDArray[np.bool_] | None, fixed: Account, group_size: int
    ) -> Curve:
        """Measure a tensor.

        Args:
            array: float32, float16 or bfloat16, of any shape.
            mask: bool of the matrix's shape, None where all weights are kept.
            fixed: the tensor's account, whose mask, scales and gains do not depend on the rate.
            group_size: columns that share a scale; 0 for the row.
        """
        rows, cols = as_matrix(array.shape)
        matrix = array.reshape(rows, cols)
        sample, kept = _sample(matrix, mask)
        energy = float((np.asarray(matrix, np.float64) ** 2).sum()) if matrix.size else 0.0
        shares, listed = [], []
        for rate in MEASURED:
            coded = quantize(sample, method="trellis", rate=rate, mask=kept, group_size=group_size)
            at_kept = (
                sample.astype(np.float64) if kept is None else np.where(kept, sample.astype(np.float64), 0)
            )
            wrong = ((coded.dequantize().astype(np.float64) - at_kept) ** 2).sum()
            shares.append(max(float(wrong) / max(float((at_kept**2).sum()), 1e-300), 1e-12))
            n_listed = round(OUTLIER_MARGIN * len(coded.positions) * array.size / max(sample.size, 1))
            listed.append(sum(packed_sizes(n_listed, array.size, 16)))
        share = 2 ** np.interp(RATES, (0.0, *MEASURED), (0.0, *np.log2(shares)))
        held = sum(fixed.section_bytes[part] for part in ("mask", "scales", "gains")) + RECORD_BYTES
        n_bytes = RATES * fixed.n_kept / 8 + held + np.interp(RATES, MEASURED, listed)
        return cls(n_bytes=np.maximum.accumulate(n_bytes), error=np.minimum.accumulate(share * energy))


def _sample(
    matrix: NDArray[Any], mask: NDArray[np.bool_] | None
) -> tuple[NDArray[Any], NDArray[np.bool_] | None]:
    """Some columns, spread evenly, of the first rows."""
    rows, cols = matrix.shape
    n_rows = min(rows, SAMPLE_ROWS)
    step = max(1, -(-cols * n_rows // SAMPLE_WEIGHTS))
    part = np.ascontiguousarray(matrix[:n_rows, ::step])
    return part, None if mask is None else np.ascontiguousarray(mask[:n_rows, ::step])


def choose_rates(curves: Mapping[str, Curve], n_bytes: float) -> dict[str, float]:
    """The rate of each tensor, so that all take at most ``n_bytes`` with the least total error.

    Raises:
        ParameterError: they take more at the lowest rates; says how many.
    """
    sizes = np.array([curve.n_bytes for curve in curves.values()])  # (tensors, rates)
    errors = np.array([curve.error for curve in curves.values()])
    least = float(sizes[:, 0].sum())
    if least > n_bytes:
        raise ParameterError(
            f"{n_bytes:.0f} bytes for the encoded tensors are fewer than the least possible, {least:.0f} "
            f"({RATES[0]} bits per kept weight, masks and scales)"
        )
    every = np.arange(len(sizes))
    at = np.zeros(len(sizes), np.int64)
    low, high = -60.0, 60.0
    for _ in range(100):
        middle = (low + high) / 2
        found = np.argmin(errors + 2**middle * sizes, axis=1)
        if sizes[every, found].sum() <= n_bytes:
            at, high = found, middle
        else:
            low = middle
    at = _spend(sizes, errors, at, n_bytes)
    return {name: float(RATES[i]) for name, i in zip(curves, at, strict=True)}


def _spend(
    sizes: NDArray[np.float64], errors: NDArray[np.float64], at: NDArray[np.int64], n_bytes: float
) -> NDArray[np.int64]:
    """Raise rates one step at a time, the best bargain first, as long as one fits."""
    at, every, last = at.copy(), np.arange(len(at)), sizes.shape[1] - 1
    left = n_bytes - float(sizes[every, at].sum())
    while True:
        above = np.minimum(at + 1, last)
        cost, gain = sizes[every, above] - sizes[every, at], errors[every, at] - errors[every, above]
        fits = (cost > 0) & (cost <= left)
        if not fits.any():
            return at
        best = int(np.argmax(np.where(fits, gain / np.maximum(cost, 1e-300), -np.inf)))
        left -= float(cost[best])
        at[best] += 1


def budget_bytes(
    *,
    target_bits: float | None,
    max_size: int | None,
    n_weights: int,
    carried_bytes: int,
    names: Sequence[str],
) -> float:
    """Bytes that the encoded tensors may take: ``target_bits`` per weight, or what ``max_size`` leaves of all files.

    ``carried_bytes``: of the carried tensors; ``names``: of all tensors, which stand in headers.
    """
    if target_bits is not None:
        return target_bits * n_weights / 8
    header = sum(2 * len(name) + 200 for name in names) + 1024
    return (max_size or 0) - carried_bytes - header
