"""Bytes over tensors: a quantizer for each, so that what is lost by all together is least at a size.

That is the squared error of all weights; or, of tensors that are fitted to activations, what their errors cost the
model (:mod:`xorpack.checkpoint.costs`). Each tensor's error by rate is measured on a sample of its columns at a few
rates and interpolated between them, where its logarithm is nearly a line. The least total error at a number of bytes
is where all tensors gain alike by one more
byte: a Lagrange multiplier is bisected, and what is left is spent step by step.

Candidates are trellises of many rates and, for a tensor with a mask, binary codes: of dense weights a trellis has less
error at any size (docs/study, distortion), but what magnitude pruning leaves at a high sparsity are two narrow heaps,
which two or three binary codes meet better.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from xorpack.analysis.accounting import Account
from xorpack.code.corrections import packed_sizes
from xorpack.encoding.quantize.bcq import columns_per_scale
from xorpack.encoding.quantize.methods import quantize
from xorpack.encoding.quantize.trellis import count_outliers
from xorpack.errors import ParameterError
from xorpack.tensors import as_matrix, n_groups

RATES = np.arange(1, 49) / 8
"""Stored bits per kept weight to choose among."""

BITS = (1, 2, 3, 4)
"""Binary codes to choose among, of weights with a mask."""

BCQ_OVERHEAD = 1.02
"""Code and corrections over the care bits, about."""

MEASURED = (0.5, 1.0, 1.375, 1.5, 2.0, 2.375, 2.5, 3.0, 4.0, 6.0)
"""Rates at which the error of a sample is measured; on both sides of where more weights become outliers, and fewer."""

FEW = (1.0, 2.0, 3.0)
"""The same of what is fitted, where costs differ by far more than curves do: between these, and beyond, a tensor is
as Gaussian weights are."""

GAUSSIAN = (
    (0.0, 0.125, 0.25, 0.5, 0.75, 1.0, 1.5, 2.0, 2.5, 3.0, 4.0, 5.0, 6.0),
    (0.0, -0.266, -0.508, -0.989, -1.463, -1.946, -2.916, -3.895, -4.848, -5.845, -7.779, -9.664, -11.359),
)
"""Rates, and the logarithm to base 2 of a trellis's relative squared error of Gaussian weights, measured."""

_LAW: NDArray[np.float64] = np.interp(RATES, *GAUSSIAN)

SAMPLE_ROWS = 2048
SAMPLE_WEIGHTS = 1 << 16
"""Rows, and weights of these rows, that a sample has at the most."""

RECORD_BYTES = 900
"""What a record and the names of sections take in a file, about."""

OUTLIER_MARGIN = 1.1
"""Outliers of a tensor, over those that its sample would have it keep."""


class Quantizer(NamedTuple):
    """What quantizes a tensor: a trellis of ``rate`` stored bits per kept weight, or ``bits`` binary codes."""

    rate: float | None = None
    bits: int | None = None

    @property
    def per_kept(self) -> float:
        """Stored bits of a kept weight, about."""
        return self.rate or float(self.bits or 0)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Curve:
    """What one tensor takes and loses by quantizer, those left out that others beat in both.

    Attributes:
        quantizers: from the smallest on.
        n_bytes: float64 (quantizers,), everything that the tensor takes in a file, rising.
        error: float64 (quantizers,), sums of squares, or what they cost; falling.
    """

    quantizers: tuple[Quantizer, ...]
    n_bytes: NDArray[np.float64]
    error: NDArray[np.float64]

    @classmethod
    def best(cls, candidates: Iterable[tuple[Quantizer, float, float]]) -> Curve:
        """The curve of candidates with their bytes and errors."""
        kept: list[tuple[Quantizer, float, float]] = []
        for candidate in sorted(candidates, key=lambda c: (c[1], c[2])):
            if not kept or candidate[2] < kept[-1][2]:
                kept.append(candidate)
        quantizers, n_bytes, error = zip(*kept, strict=True)
        return cls(quantizers=quantizers, n_bytes=np.array(n_bytes), error=np.array(error))

    @classmethod
    def of(
        cls,
        array: NDArray[Any],
        mask: NDArray[np.bool_] | None,
        fixed: Account,
        group_size: int | None,
        outliers_at: Callable[[float], bool | float],
        cost: float | None = None,
    ) -> Curve:
        """Measure a tensor.

        Args:
            array: float32, float16 or bfloat16, of any shape.
            mask: bool of the matrix's shape, None where all weights are kept.
            fixed: the tensor's account, whose mask does not depend on the quantizer.
            group_size: columns that share a scale, as :func:`xorpack.quantize` takes it.
            outliers_at: which weights a trellis of a rate keeps apart, likewise.
            cost: what a squared error as large as the squares would cost; default: the squares.
        """
        rows, cols = as_matrix(array.shape)
        matrix = array.reshape(rows, cols)
        sample = _Sample.of(matrix, mask)
        if cost is None:
            kept = matrix if mask is None else np.where(mask, matrix, 0)
            rates: tuple[float, ...] = MEASURED
            law, feedback, cost = np.zeros(len(RATES)), 0, float((kept.astype(np.float64) ** 2).sum())
        else:
            rates, law, feedback = FEW, _LAW, 1
        held = fixed.section_bytes["mask"] + RECORD_BYTES
        shares = []
        for rate in rates:
            _, share = sample.quantized(
                method="trellis", rate=rate, group_size=group_size, outliers=outliers_at(rate)
            )
            shares.append(np.log2(share) - float(np.interp(rate, RATES, law)))
        larger = OUTLIER_MARGIN * array.size / max(sample.weight.size, 1)
        listed = [
            sum(
                packed_sizes(
                    round(larger * sample.n_outliers(rate, group_size, outliers_at(rate))), array.size, 16
                )
            )
            for rate in MEASURED
        ]
        scales = rows * n_groups(cols, group_size or 0) + fixed.section_bytes["gains"]
        n_bytes = RATES * fixed.n_kept / 8 + held + scales + np.interp(RATES, MEASURED, listed)
        share = 2 ** (law + np.interp(RATES, (0.0, *rates), (0.0, *shares)))
        error = cost * share * (1 + feedback * share)
        candidates = [
            (Quantizer(rate=float(rate)), float(size), float(wrong))
            for rate, size, wrong in zip(RATES, n_bytes, error, strict=True)
        ]
        if mask is not None:
            shared = columns_per_scale(array.shape, group_size, fixed.n_kept)
            for bits in BITS:
                _, share = sample.quantized(bits=bits, group_size=shared)
                size = BCQ_OVERHEAD * bits * fixed.n_kept / 8 + 2 * bits * rows * n_groups(cols, shared)
                candidates.append((Quantizer(bits=bits), size + held, cost * share))
        return cls.best(candidates)


class _Sample(NamedTuple):
    """Some columns, spread evenly, of the first rows; and which of their weights are kept."""

    weight: NDArray[Any]
    mask: NDArray[np.bool_] | None

    @classmethod
    def of(cls, matrix: NDArray[Any], mask: NDArray[np.bool_] | None) -> _Sample:
        rows, cols = matrix.shape
        n_rows = min(rows, SAMPLE_ROWS)
        step = max(1, -(-cols * n_rows // SAMPLE_WEIGHTS))
        part = np.ascontiguousarray(matrix[:n_rows, ::step])
        return cls(part, None if mask is None else np.ascontiguousarray(mask[:n_rows, ::step]))

    def n_outliers(self, rate: float, group_size: int | None, outliers: bool | float) -> int:
        """How many weights a trellis of this rate keeps apart."""
        return count_outliers(self.weight, self.mask, rate, group_size or 0, outliers)

    def quantized(self, **how: Any) -> tuple[Any, float]:
        """The quantized sample, and its squared error over the kept weights' squares."""
        mask = np.ones(self.weight.shape, np.bool_) if self.mask is None and "bits" in how else self.mask
        found = quantize(self.weight, mask=mask, **how)
        kept = self.weight.astype(np.float64)
        if self.mask is not None:
            kept = np.where(self.mask, kept, 0)
        wrong = float(((found.dequantize().astype(np.float64) - kept) ** 2).sum())
        return found, max(wrong / max(float((kept**2).sum()), 1e-300), 1e-12)


def choose_quantizers(curves: Mapping[str, Curve], n_bytes: float) -> dict[str, Quantizer]:
    """The quantizer of each tensor, so that all take at most ``n_bytes`` with the least total error.

    Raises:
        ParameterError: they take more at the least; says how many.
    """
    each = list(curves.values())
    check_least(sum(float(curve.n_bytes[0]) for curve in each), n_bytes)
    at = [0] * len(each)
    low, high = -60.0, 60.0
    for _ in range(100):
        middle = (low + high) / 2
        found = [int(np.argmin(curve.error + 2**middle * curve.n_bytes)) for curve in each]
        if _total(each, found) <= n_bytes:
            at, high = found, middle
        else:
            low = middle
    _spend(each, at, n_bytes - _total(each, at))
    return {name: curve.quantizers[i] for (name, curve), i in zip(curves.items(), at, strict=True)}


def check_least(least: float, n_bytes: float) -> None:
    """Raise ParameterError if ``n_bytes`` are fewer than tensors take at the least."""
    if least > n_bytes:
        raise ParameterError(
            f"{n_bytes:.0f} bytes for the encoded tensors are fewer than the least possible, {least:.0f} "
            f"({RATES[0]} bits per kept weight, masks and scales)"
        )


def least_bytes(account: Account) -> float:
    """What a tensor takes at the lowest rate, outliers aside; ``account``: without any code."""
    return account.n_bytes + float(RATES[0]) * account.n_kept / 8 + RECORD_BYTES


def _total(curves: Sequence[Curve], at: Sequence[int]) -> float:
    return sum(float(curve.n_bytes[i]) for curve, i in zip(curves, at, strict=True))


def _spend(curves: Sequence[Curve], at: list[int], left: float) -> None:
    """Take the next quantizer of a tensor in ``at``, the best bargain first, as long as one fits into ``left``."""
    while True:
        bargains = []
        for k, (curve, i) in enumerate(zip(curves, at, strict=True)):
            if i + 1 < len(curve.n_bytes) and curve.n_bytes[i + 1] - curve.n_bytes[i] <= left:
                cost = float(curve.n_bytes[i + 1] - curve.n_bytes[i])
                bargains.append((float(curve.error[i] - curve.error[i + 1]) / max(cost, 1e-9), -k, cost))
        if not bargains:
            return
        _, k, cost = max(bargains)
        at[-k] += 1
        left -= cost


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
