"""Rate and distortion: the error that stored weights have, and the least that so many bits allow.

The distortion D is relative: the sum of squared errors over the sum of squared weights. Rates R are stored bits per
weight, everything counted.

=======================================  ============================================================
white Gaussian weights                   ``D(R) = 4^-R``
other weights, independent, of one       ``D(R) >= P 4^-R``, Shannon's lower bound: ``P = 2^(2 h) / (2 pi e)`` is
shape                                    the entropy power of the shape at variance 1, h its differential
                                         entropy in bits; ``P = 1`` for the Gaussian, less for all others
rows of different variance s_r^2         reverse water-filling: row r takes the error ``min(t, P s_r^2)``, and
                                         the level t is such that the rates ``log2(P s_r^2 / t) / 2`` sum to R
=======================================  ============================================================

Sources: Shannon (1959); Kolmogorov (1956) for reverse water-filling; Vasicek (1976) for entropy from spacings.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xorpack.analysis.bounds import Z95
from xorpack.analysis.inspect import sample_blocks
from xorpack.analysis.row_errors import Rows

GAUSSIAN_POWER = 1.0
LAPLACE_POWER = math.e / math.pi
"""Entropy powers at variance 1."""


def student_power(df: float) -> float:
    """Entropy power at variance 1 of Student's t of ``df`` degrees of freedom, more than 2.

    >>> round(student_power(5), 4), round(student_power(1e6), 4)
    (0.9106, 1.0)
    """

    def digamma(x: float) -> float:
        step = 1e-4 * x
        return (math.lgamma(x + step) - math.lgamma(x - step)) / (2 * step)

    log_beta = math.lgamma(df / 2) + math.lgamma(0.5) - math.lgamma((df + 1) / 2)
    nats = (df + 1) / 2 * (digamma((df + 1) / 2) - digamma(df / 2)) + math.log(df) / 2 + log_beta
    return math.exp(2 * nats) / (2 * math.pi * math.e) * (df - 2) / df


def gaussian_distortion(rate: float) -> float:
    """The least D of white Gaussian weights at ``rate`` bits: 4^-R.

    >>> gaussian_distortion(2)
    0.0625
    """
    return float(4.0**-rate)


def gaussian_rate(distortion: float) -> float:
    """The least rate of white Gaussian weights at D: ``log2(1 / D) / 2``, 0 from D = 1 on.

    >>> gaussian_rate(0.0625)
    2.0
    """
    return math.inf if distortion <= 0 else max(0.0, -math.log2(distortion) / 2)


def decibels(ratio: float) -> float:
    """``10 log10``: of D, minus the signal-to-noise ratio; of D over a bound, how far above it D is.

    >>> decibels(100.0), decibels(0.0)
    (20.0, -inf)
    """
    return 10 * math.log10(ratio) if ratio > 0 else -math.inf


@dataclass(frozen=True, slots=True, eq=False)
class Source:
    """Independent weights of one shape, of a variance for each row: what a quantizer is judged by.

    Attributes:
        variances: float64 (rows,), mean squares of the rows' weights.
        sizes: int64 (rows,), weights of each row.
        power: entropy power of the shape at variance 1.
    """

    variances: NDArray[np.float64]
    sizes: NDArray[np.int64]
    power: float

    @classmethod
    def of(cls, weight: NDArray[Any], rows: Rows, *, power: float | None = None) -> Source:
        """The source that a matrix of finite weights (rows, cols) is a sample of.

        Weights that are 0 count as known: a bound on the bits beside those that say where they are.

        Args:
            weight: the matrix.
            rows: its energies.
            power: of the shape, where it is known (closed form). None: it is estimated from the weights over the root
                mean square of their rows (:func:`entropy_power`), which takes them as independent: a quantizer that
                knew how weights depend on each other could do better.
        """
        kept = rows.n_kept > 0
        variances = rows.energy[kept] / rows.n_kept[kept]
        if power is None:
            power = entropy_power(_normalized(weight, rows))
        return cls(variances, rows.n_kept[kept], power)

    @property
    def energy(self) -> float:
        """Sum of squares."""
        return float(self.variances @ self.sizes)

    def distortion(self, rate: float) -> float:
        """Shannon's lower bound: no code of ``rate`` bits per weight has less D; 0 where nothing is known."""
        if self.energy == 0 or self.power == 0:
            return 0.0
        order = np.argsort(self.variances)[::-1]
        logs, sizes = np.log2(self.power * self.variances[order]), self.sizes[order].astype(np.float64)
        some = np.isfinite(logs)
        logs, sizes = logs[some], sizes[some]
        bits = rate * float(self.sizes.sum())
        # With rows 0 .. k above the water, log2 of its level is such that their rates sum to the bits.
        levels = (np.cumsum(sizes * logs) - 2 * bits) / np.cumsum(sizes)
        below = np.append(logs[1:], -np.inf)
        level = float(levels[int(np.argmax(levels >= below))])
        return float(sizes @ np.exp2(np.minimum(logs, level))) / self.energy

    def rate(self, distortion: float) -> float:
        """The least rate at D: the inverse of :meth:`distortion`."""
        if self.energy == 0 or self.power == 0:
            return 0.0
        if distortion <= 0:
            return math.inf
        powers = self.power * self.variances
        low, high = -1100.0, math.log2(float(powers.max()))
        for _ in range(100):
            middle = (low + high) / 2
            error = float(self.sizes @ np.minimum(powers, 2.0**middle)) / self.energy
            low, high = (middle, high) if error <= distortion else (low, middle)
        bits = np.maximum(0, np.log2(powers[powers > 0]) - low) / 2
        return float(self.sizes[powers > 0] @ bits) / float(self.sizes.sum())


def entropy_power(sample: NDArray[Any]) -> float:
    """Entropy power over mean square of what ``sample`` (n,) was drawn from, rather too low than too high.

    Vasicek's estimator, the mean of ``log2(n / 2m (x[i + m] - x[i - m]))`` of the sorted sample with m = n^(1/3),
    which is biased downwards, less 1.96 of its standard errors. 0 where values repeat so often that no density is
    seen.
    """
    x = np.sort(np.asarray(sample, np.float64).reshape(-1))
    n = len(x)
    mean_square = float(np.mean(x * x)) if n else 0.0
    if n < 8 or mean_square == 0:
        return 0.0
    m = round(n ** (1 / 3))
    at = np.arange(n)
    spacings = x[np.minimum(at + m, n - 1)] - x[np.maximum(at - m, 0)]
    if not spacings.all():
        return 0.0
    bits = np.log2(spacings * (n / (2 * m)))
    h = float(bits.mean()) - Z95 * float(bits.std()) / math.sqrt(n)
    return min(1.0, float(4.0**h) / (2 * math.pi * math.e) / mean_square)


def _normalized(weight: NDArray[Any], rows: Rows) -> NDArray[np.float64]:
    """A sample of the weights that are not 0, over the root mean square of their rows."""
    parts = []
    with np.errstate(divide="ignore", invalid="ignore"):
        scale = np.sqrt(rows.energy / rows.n_kept)
    for first, last in sample_blocks(*weight.shape):
        block = weight[first:last].astype(np.float64)
        with np.errstate(divide="ignore", invalid="ignore"):
            parts.append((block / scale[first:last, None])[block != 0])
    return np.concatenate(parts) if parts else np.zeros(0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Distortion:
    """The error of a stored tensor, or of several, beside what its bits allow.

    Attributes:
        error: sum of squared errors.
        energy: sum of squared weights.
        rate: stored bits per weight, everything counted.
        bound: Shannon's lower bound of D of the weights' own source; None where it was not asked for.
        n_ruined: rows whose largest weight spoils the others (:attr:`xorpack.analysis.row_errors.Rows.ruined`).
    """

    error: float
    energy: float
    rate: float
    bound: float | None = None
    n_ruined: int = 0

    @classmethod
    def of(cls, rows: Rows, rate: float, bound: float | None = None) -> Distortion:
        """The error of a tensor whose rows have been compared."""
        energy, error = float(rows.energy.sum()), float(rows.error.sum())
        return cls(error=error, energy=energy, rate=rate, bound=bound, n_ruined=len(rows.ruined))

    @classmethod
    def total(cls, parts: Iterable[Distortion], rate: float) -> Distortion:
        """Several tensors together, of ``rate`` bits per weight; bounded by their own bounds, each at its own rate."""
        found = list(parts)
        energy = sum(part.energy for part in found)
        limits = [part.bound * part.energy for part in found if part.bound is not None]
        return cls(
            error=sum(part.error for part in found),
            energy=energy,
            rate=rate,
            bound=sum(limits) / energy if energy and len(limits) == len(found) else None,
            n_ruined=sum(part.n_ruined for part in found),
        )

    @property
    def relative(self) -> float:
        """D; 0 where there are no weights but zeros."""
        return self.error / self.energy if self.energy else 0.0

    @property
    def snr(self) -> float:
        """The signal-to-noise ratio in dB; infinite where the weights are exact."""
        return -decibels(self.relative)

    @property
    def above_gaussian(self) -> float:
        """How many dB D is above ``4^-R``; below 0 where weights are easier than white Gaussian ones."""
        return decibels(self.relative) - decibels(gaussian_distortion(self.rate))

    @property
    def above_bound(self) -> float | None:
        """How many dB D is above the bound of its own source: not below 0, were weights independent."""
        return decibels(self.relative / self.bound) if self.bound else None

    def as_dict(self) -> dict[str, Any]:
        """All of it; what is not finite as None."""
        found = {
            "relative_squared_error": self.relative,
            "rate": self.rate,
            "gaussian_bound": gaussian_distortion(self.rate),
            "bound": self.bound,
            "snr_db": self.snr,
            "above_gaussian_db": self.above_gaussian,
            "above_bound_db": self.above_bound,
            "n_ruined_rows": self.n_ruined,
        }
        return {name: None if x is None or not math.isfinite(x) else x for name, x in found.items()}
