"""Empirical entropy of the kept weights: of every plane alone, and of all planes together.

A plane's entropy is what a coder of single planes pays per kept weight, the joint entropy of the symbol (all q bits
of a weight) what a coder of whole weights pays. The upper exponent planes of trained floats are far below one bit.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from xorpack.analysis.bounds import Z95, binary_entropy
from xorpack.analysis.counting_kernels import count_symbols
from xorpack.code import dense
from xorpack.code.words import Words
from xorpack.encoding.fields.choice import FewValues

JOINT_BITS = 16
"""Planes that are taken together at the most; lower ones of wider symbols (mantissa bits) are taken one by one, unless
the symbols are so few that they can be counted whole."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """A quantity and half the width of its 95 % confidence interval."""

    value: float
    error: float


@dataclass(frozen=True, slots=True, kw_only=True)
class PlaneEntropies:
    """Entropy of the kept weights, in bits per kept weight.

    Attributes:
        ones: share of ones of every plane.
        planes: entropy of every plane, ``H(ones)``.
        symbol: entropy of the symbols that all planes form.
        n_sampled: kept weights that were looked at.
    """

    ones: tuple[float, ...]
    planes: tuple[float, ...]
    symbol: Estimate
    n_sampled: int

    @property
    def separate(self) -> float:
        """Sum of the planes' entropies: what planes cost that are coded each for itself."""
        return sum(self.planes)


class SymbolCounter:
    """Counts symbols of q planes at kept positions, block by block."""

    def __init__(self, q: int) -> None:
        """``q`` planes; the upper ``min(q, JOINT_BITS)`` are counted together, all of them where symbols are few."""
        self.q, self.n_low = q, max(0, q - JOINT_BITS)
        self._low = np.zeros(self.n_low, np.int64)
        self._high = np.zeros(1 << (q - self.n_low), np.int64)
        self._whole = FewValues() if self.n_low else None

    def add(self, mask: Words, planes: Words) -> None:
        """``mask`` uint32 (rows, chunks), ``planes`` uint32 (q, rows, chunks), 0 where the mask is 0.

        Of more than ``JOINT_BITS`` planes, the symbol 0 is not kept.
        """
        self._low += np.bitwise_count(planes[: self.n_low]).sum(axis=(1, 2), dtype=np.int64)
        flat = np.ascontiguousarray(planes[self.n_low :]).reshape(self.q - self.n_low, -1)
        count_symbols(np.ascontiguousarray(mask).reshape(-1), flat, self._high)
        if self._whole is not None:
            elements = np.empty((len(mask), 32 * mask.shape[1]), np.uint32)
            dense.join_planes(planes, elements)
            self._whole.add(elements.reshape(-1))

    def entropies(self) -> PlaneEntropies:
        """Compute the entropies of what has been counted."""
        n = int(self._high.sum())
        symbols = np.arange(self._high.size)
        high = [int(self._high[symbols >> k & 1 == 1].sum()) for k in range(self.q - self.n_low)]
        ones = tuple(count / n if n else 0.0 for count in (*self._low.tolist(), *high))
        planes = tuple(binary_entropy(p) for p in ones)
        joint = entropy_of_counts(self._high)
        symbol = Estimate(joint.value + sum(planes[: self.n_low]), joint.error)
        few = self._whole.counted() if self._whole is not None else None
        if few is not None:
            symbol = entropy_of_counts(few[1])
        return PlaneEntropies(ones=ones, planes=planes, symbol=symbol, n_sampled=n)


def entropy_of_counts(counts: NDArray[np.int64]) -> Estimate:
    """Entropy in bits of the distribution that the counts were drawn from.

    The plug-in estimate, with the first-order correction of its bias (Miller 1955); the interval is that of the mean
    of ``-log2 p``.

    >>> entropy_of_counts(np.array([4, 4]))
    Estimate(value=1.0, error=0.0)
    """
    found = counts[counts > 0].astype(np.float64)
    n = float(found.sum())
    if n == 0:
        return Estimate(0.0, 0.0)
    information = -np.log2(found / n)
    value = float(found @ information / n)
    variance = max(0.0, float(found @ information**2 / n) - value**2)
    bias = (found.size - 1) / (2 * n * np.log(2))
    most = float(np.log2(counts.size))
    return Estimate(float(min(value + bias, most)), float(Z95 * (variance / n) ** 0.5))
