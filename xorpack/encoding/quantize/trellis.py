"""Trellis BCQ: stored bits chosen so that the weights that the XOR network makes of them have the least error.

Viterbi, column by column, over the states of a :class:`xorpack.code.trellis.TrellisNetwork`; then scales and codes by
least squares, given the bits. The cost of an error is its square in the weights' own unit, so that rows of large
weights are followed more closely. Weights beyond the reach of the levels are kept exactly, and like pruned ones leave
their step free. Sources: QTIP (arXiv 2406.11235), fixed-to-fixed encoding (arXiv 2105.01869), FleXOR (arXiv
2009.04126).
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from xorpack import checks
from xorpack.code.scales import LOWEST, ROUNDING, scale_octets, scale_values
from xorpack.code.trellis_kernels import expand_trellis
from xorpack.code.words import Words, n_chunks, popcount, tail_mask
from xorpack.cuda.choice import find_device
from xorpack.encoding.quantize.bcq import packed_mask
from xorpack.encoding.quantize.pruning import block_starts, check_float, float_rows, rows_of
from xorpack.encoding.quantize.trellis_design import (
    MAX_DENOMINATOR,
    MAX_RATE,
    MIN_RATE,
    Design,
    design,
    exact_rate,
    masked_design,
)
from xorpack.encoding.quantize.trellis_fit import care_words, fit_scales, pooled, solve
from xorpack.encoding.quantize.trellis_fit_kernels import normal_kernel
from xorpack.encoding.quantize.trellis_scales import HEADROOM, Scaling, find_scales
from xorpack.encoding.quantize.trellis_search import FINE_RATE, Search
from xorpack.errors import DataError, ParameterError
from xorpack.tensors import TrellisTensor, as_matrix, dtype_name
from xorpack.vector.threads import for_each

if TYPE_CHECKING:
    from xorpack.cuda.device import Device

SAMPLE = 1 << 17
"""Weights on which codes are fitted before all columns are searched, about."""

SAMPLE_TURNS = 4
"""Searches of the sample, each followed by least squares for the codes; the best of them are taken."""

RATE_SLACK = 0.003
"""Share by which the stored bits may be above what was asked for per kept weight, for a quotient of small numbers."""

STRIDE = 4.0
"""How far a turn goes towards the best codes for its bits, and beyond: the bits follow the codes slowly."""

SCALE_DTYPES = ("auto", "uint8", "float16", "float32")

REFITS = 3
"""Rounds of least squares for scales, then codes, given the bits."""


def quantize_trellis(
    weight: NDArray[Any],
    *,
    rate: float = 2.0,
    window: int | None = None,
    group_size: int = 0,
    mask: NDArray[Any] | None = None,
    importance: NDArray[Any] | None = None,
    outliers: bool | float = True,
    column_gains: bool = False,
    balance: float = 1.0,
    scale_dtype: Literal["auto", "uint8", "float16", "float32"] = "auto",
    jobs: int = 1,
    device: str = "cpu",
) -> TrellisTensor:
    """Quantize to ``rate`` stored bits per kept weight, at nearly the least squared error that so many bits allow.

    Scales (8 or 16 bits for each row and group), gains (16 bits for each column) and outliers come on top:
    :attr:`TrellisTensor.payload_bits` counts them. The result is the same, byte for byte, whatever ``jobs`` is, and
    on every machine as far as numpy's float64 sums agree.

    Args:
        weight: float32, float16 or bfloat16 of any shape and strides, coded as ``as_matrix(weight.shape)``.
        rate: stored bits per weight, 1/32 to 6, a quotient with at most 32 weights. With a mask, bits per kept weight:
            the largest such quotient up to 1.003 ``rate`` times the kept fraction is taken, and at least 1/32.
        window: stored bits that a weight depends on: time and memory double with each, about 0.05 dB less error. None
            for a default by rate.
        group_size: columns that share a scale; 0 for the whole row.
        mask: keep these: bool of the weight's shape, or packed uint32 (rows, chunks); None for all.
        importance: of a squared error, not negative: (cols,) or the weight's shape; None for 1.
        outliers: keep weights apart, in float16: True for those of which that costs less than their clipping, or a
            number for all beyond so many standard deviations of their row or group, about. Language models want 3: they
            lose more by large weights than the squared error tells.
        column_gains: a float16 for each column, too; it can be folded into the input of a product.
        balance: 1 for the least total error: rows of small weights get little of the bits, a row far below the others
            hardly any; 0 for the same relative error in every row and group, whatever its magnitude; or between.
        scale_dtype: type that scales are stored in; uint8 is a logarithmic grid (:mod:`xorpack.code.scales`), and
            ``"auto"`` takes it where it saves more than it costs and all scales are inside its eight octaves.
        jobs: threads.
        device: where columns are searched, ``"cpu"``, ``"cuda"`` or ``"cuda:1"``: the same result. What surrounds the
            search stays on the CPU, and so do columns of fewer stored bits than four windows, or of very many.

    Raises:
        ParameterError: an argument breaks its rule; a rate that no quotient gives, with the nearest.
        DataError: NaN or infinity in ``weight``, pruned or not.
        DeviceError: no such GPU, no CuPy, or too little memory.
    """
    job = Job.of(
        weight,
        rate=rate,
        window=window,
        group_size=group_size,
        mask=mask,
        importance=importance,
        column_gains=column_gains,
        balance=balance,
        scale_dtype=scale_dtype,
        jobs=jobs,
        device=device,
    )
    scaling = job.scaling(outliers=outliers)
    tensor = job.tensor(*job.quantize(scaling), scaling.gains)
    return with_outliers(tensor, scaling.outliers, _values_at(job.weight, scaling.outliers))


def count_outliers(
    weight: NDArray[Any], mask: NDArray[Any] | None, rate: float, group_size: int, outliers: bool | float
) -> int:
    """How many weights :func:`quantize_trellis` would keep apart."""
    job = Job.of(
        weight,
        rate=rate,
        window=None,
        group_size=group_size,
        mask=mask,
        importance=None,
        column_gains=False,
        balance=1.0,
        scale_dtype="auto",
        jobs=1,
    )
    return len(job.scaling(outliers=outliers).outliers)


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """What is quantized, and how."""

    weight: NDArray[Any]
    kept: Words
    is_masked: bool
    importance: NDArray[np.float32]
    plan: Design
    kept_rate: float
    group_size: int
    column_gains: bool
    scale_dtype: str
    balance: float
    jobs: int
    device: Device | None

    @classmethod
    def of(
        cls,
        weight: NDArray[Any],
        *,
        rate: float,
        window: int | None,
        group_size: int,
        mask: NDArray[Any] | None,
        importance: NDArray[Any] | None,
        column_gains: bool,
        balance: float,
        scale_dtype: str,
        jobs: int,
        device: str = "cpu",
    ) -> Job:
        """Check the arguments of :func:`quantize_trellis`."""
        weight = check_float(weight)
        rows, cols = as_matrix(weight.shape)
        if group_size < 0:
            raise ParameterError(f"group_size {group_size} is negative")
        if scale_dtype not in SCALE_DTYPES:
            raise ParameterError(f"scale_dtype {scale_dtype!r} is not one of {', '.join(SCALE_DTYPES)}")
        if not 0 <= balance <= 1:
            raise ParameterError(f"balance {balance} is outside 0..1")
        if jobs < 1:
            raise ParameterError(f"jobs {jobs} is less than 1")
        kept = np.tile(tail_mask(cols), (rows, 1)) if mask is None else packed_mask(weight, mask)
        return cls(
            weight=weight,
            kept=kept,
            is_masked=mask is not None,
            importance=_importance(importance, weight.shape),
            plan=_design(rate, window, None if mask is None else popcount(kept) / max(weight.size, 1)),
            kept_rate=rate,
            group_size=group_size,
            column_gains=column_gains,
            scale_dtype=scale_dtype,
            balance=balance,
            jobs=jobs,
            device=find_device(device),
        )

    @property
    def group(self) -> int:
        """Columns that share a scale, 1 at least."""
        cols = as_matrix(self.weight.shape)[1]
        return min(self.group_size or cols, max(cols, 1)) or 1

    @property
    def n_groups(self) -> int:
        """Groups of columns in a row."""
        return max(1, -(-as_matrix(self.weight.shape)[1] // self.group))

    def scaling(self, *, outliers: bool | float) -> Scaling:
        """Scales, gains and outliers that the search begins with.

        Raises:
            ParameterError: ``outliers`` is no number of deviations.
        """
        if not isinstance(outliers, bool):
            outliers = checks.positive("outliers", outliers)
        return find_scales(
            self.weight, self.kept, self.group, self.column_gains, self.plan, self.kept_rate, outliers,
            self.n_groups, self.jobs,
        )  # fmt: skip

    def tensor(
        self, code: Words, a: NDArray[np.float64], scales: NDArray[Any], gains: NDArray[np.float64]
    ) -> TrellisTensor:
        """These parts as a tensor without outliers."""
        return TrellisTensor(
            shape=self.weight.shape,
            dtype=dtype_name(self.weight.dtype),
            network=self.plan.network,
            code=code,
            a=a.astype(np.float32),
            scales=scales,
            group_size=self.group_size,
            gains=gains.astype(np.float16) if self.column_gains else None,
            mask=self.kept if self.is_masked else None,
        )

    def quantize(self, scaling: Scaling) -> tuple[Words, NDArray[np.float64], NDArray[Any]]:
        """Code (m, chunks), codes a (q,) and scales (rows, n_groups)."""
        rows, cols = as_matrix(self.weight.shape)
        care = care_words(self.kept, scaling.outliers, cols)
        stored = self.scale_type(scaling.scales)
        unit = scaling.unit
        code = np.zeros((self.plan.network.n_stored(rows), n_chunks(cols)), np.uint32)
        a = np.array(self.plan.a, np.float64)
        if code.size:
            a = self.fitted_codes(scaling, care, a)
            self.search(scaling, care, a).run(code, range(code.shape[1]), self.jobs, self.device)
        return code, *self._refitted(
            scaling, care, code, a * unit, stored_scales(scaling.scales / unit, stored)
        )

    def scale_type(self, scales: NDArray[np.float64]) -> np.dtype[Any]:
        """The type of the scales, chosen where that was left open."""
        if self.scale_dtype != "auto":
            return np.dtype(self.scale_dtype)
        saved = 8 * 2 * np.log(2) * self.plan.distortion / self.group
        low = scales[scales > 0].min(initial=np.inf) / (HEADROOM**2 * scales.max(initial=0) or 1.0)
        return np.dtype(np.uint8 if saved > ROUNDING and low > LOWEST else np.float16)

    def search(self, scaling: Scaling, care: Words, a: NDArray[np.float64]) -> Search:
        """The search with codes ``a``; only weights of ``care`` (rows, chunks) count."""
        return Search(
            weight=self.weight,
            network=self.plan.network,
            a=a,
            scales=scaling.scales,
            gains=scaling.gains,
            group=self.group,
            care=care,
            importance=self.importance,
            balance=self.balance,
            fine=self.kept_rate >= FINE_RATE,
        )

    def fitted_codes(self, scaling: Scaling, care: Words, a: NDArray[np.float64]) -> NDArray[np.float64]:
        """Codes fitted to a sample of the columns."""
        rows, cols = as_matrix(self.weight.shape)
        chunks = n_chunks(cols)
        kept = max(popcount(care), 1)
        n = min(chunks, max(1, round(SAMPLE * chunks / kept)))
        sample = [(2 * i + 1) * chunks // (2 * n) for i in range(n)]
        code = np.zeros((self.plan.network.n_stored(rows), chunks), np.uint32)
        best, least = a, np.inf
        for _ in range(SAMPLE_TURNS):
            search = self.search(scaling, care, a)
            search.run(code, sample, self.jobs, self.device)
            equations = sum(
                (search.equations(code, chunk) for chunk in sample), np.zeros((len(a), len(a) + 1))
            )
            found = solve(equations, a)
            error = float(found @ equations[:, :-1] @ found - 2 * found @ equations[:, -1])
            if error < least:
                best, least = found, error
            a = a + STRIDE * (found - a)
        return best

    def _refitted(
        self, scaling: Scaling, care: Words, code: Words, a: NDArray[np.float64], scales: NDArray[Any]
    ) -> tuple[NDArray[np.float64], NDArray[Any]]:
        """Codes and scales by least squares in turns, given the bits; a scale not determined stays as it was."""
        rows, _ = as_matrix(self.weight.shape)
        gains = scaling.gains.astype(np.float64)
        plain = bool((gains == 1).all() and (self.importance == 1).all())
        starts, step = block_starts(self.weight.shape)
        q = len(a)
        for _ in range(REFITS):
            found = np.zeros((len(starts), q, q + 1))

            def work(index: int, a: NDArray[np.float64] = a, found: NDArray[np.float64] = found) -> None:
                first = starts[index]
                block = float_rows(self.weight, first, step)
                planes = expand_trellis(self.plan.network, code, rows, first, first + len(block))
                normal = np.empty((len(block), self.n_groups, q, q + 1))
                weights = (
                    self.importance[first : first + step] if len(self.importance) > 1 else self.importance
                )
                normal_kernel(block, first, care, planes, gains, weights, plain, self.group, normal)
                best = fit_scales(normal, a)
                part = scales[first : first + len(block)]
                part[...] = stored_scales(np.where(best != 0, best, scale_values(part)), scales.dtype)
                found[index] = pooled(normal, scale_values(part))

            for_each(work, range(len(starts)), self.jobs)
            a = solve(found.sum(0), a)
        return a, scales


def _design(rate: float, window: int | None, kept: float | None) -> Design:
    if kept is None:
        return design(exact_rate(rate), window)
    if not 0 < rate <= MAX_RATE:
        raise ParameterError(f"rate {rate} is outside 0..{MAX_RATE} bits per kept weight")
    wanted = rate * kept * (1 + RATE_SLACK)
    candidates = (Fraction(int(wanted * n), n) for n in range(1, MAX_DENOMINATOR + 1))
    stored = min(max(max(candidates), MIN_RATE), Fraction(MAX_RATE))
    return masked_design(stored, rate, window)


def stored_scales(scales: NDArray[np.float64], dtype: np.dtype[Any]) -> NDArray[Any]:
    """``scales`` in the type that they are stored in."""
    return scale_octets(scales) if dtype == np.uint8 else scales.astype(dtype)


def _importance(importance: NDArray[Any] | None, shape: tuple[int, ...]) -> NDArray[np.float32]:
    """``importance`` as float32 (rows or 1, cols)."""
    _, cols = as_matrix(shape)
    if importance is None:
        return np.ones((1, cols), np.float32)
    array = np.asarray(importance)
    if array.shape not in ((cols,), shape):
        raise ParameterError(f"importance of shape {array.shape}, neither {(cols,)} nor the weight's {shape}")
    found = array.astype(np.float32, copy=False).reshape(-1, cols) if cols else np.ones((1, 0), np.float32)
    if not np.isfinite(found).all() or (found < 0).any():
        raise ParameterError("importance holds a value that is negative, NaN or infinite")
    return found


def _values_at(weight: NDArray[Any], positions: NDArray[np.int64]) -> NDArray[np.float32]:
    """The weights at flat ``positions``, float32."""
    cols = as_matrix(weight.shape)[1]
    values = np.empty(len(positions), np.float32)
    for r in np.unique(positions // max(cols, 1)):
        i, j = np.searchsorted(positions, (r * cols, (r + 1) * cols))
        values[i:j] = rows_of(weight, int(r), 1)[0, positions[i:j] - r * cols].astype(np.float32)
    return values


def with_outliers(
    tensor: TrellisTensor, positions: NDArray[np.int64], values: NDArray[np.float32]
) -> TrellisTensor:
    """``tensor`` with the weights at flat ``positions`` kept, but for those that come out as 0."""
    with np.errstate(over="ignore"):
        stored = (values / np.float32(tensor.outlier_unit)).astype(np.float16)
    if not np.isfinite(stored).all():
        at = int(positions[~np.isfinite(stored)][0])
        raise DataError(f"weight at flat position {at} is above 65504 times its tensor's scale")
    kept = stored != 0
    fields = {name: getattr(tensor, name) for name in tensor.__slots__}
    return TrellisTensor(**{**fields, "positions": positions[kept], "values": stored[kept]})
