"""A trellis fitted to activations: every column's error is made up for by the columns that come after it.

First a sweep with feedback (GPTQ's, with the Viterbi search of a whole column in the place of rounding), then descents:
each column once more, for what all others leave it to do (as QuantEase and LNQ do for scalars). After each, scales
and codes by least squares of the output's error.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xorpack.code.scales import scale_values
from xorpack.code.words import Words, n_chunks, pack, popcount, unpack
from xorpack.encoding.fitting.hessian import Hessian, checked_rows
from xorpack.encoding.fitting.refit import Refit
from xorpack.encoding.fitting.sweep_kernels import descent_kernel, feedback_kernel
from xorpack.encoding.quantize.trellis import REFITS, Job, stored_scales, with_outliers
from xorpack.encoding.quantize.trellis_fit import care_words
from xorpack.encoding.quantize.trellis_scales import Scaling
from xorpack.tensors import TrellisTensor, as_matrix

BLOCK = 128
"""Columns whose errors are collected before they are fed to all columns behind."""

DESCENTS = 1
"""Rounds of descent after the sweep."""


def fit_trellis(
    job: Job,
    hessian: NDArray[Any],
    *,
    rows_hessian: NDArray[Any] | None = None,
    choose: bool = False,
    outliers: bool | float = True,
    descents: int = DESCENTS,
) -> TrellisTensor:
    """Quantize what ``job`` says for the least error of the output.

    With ``choose`` the job's mask only says how many weights are kept: which is chosen when the sweep reaches them.

    Raises:
        ParameterError, DataError: see :class:`xorpack.encoding.fitting.hessian.Hessian`.
    """
    rows, cols = as_matrix(job.weight.shape)
    known = Hessian.of(hessian, cols)
    weights = checked_rows(rows_hessian, rows) ** job.balance
    if choose and job.weight.size:
        job = replace(job, kept=costliest(job.weight, weights, popcount(job.kept)))
    scaling = job.scaling(outliers=outliers)
    if not job.weight.size:
        return job.tensor(*job.quantize(scaling), scaling.gains)
    run = _Run(job, known, scaling, weights)
    run.sweep(choose=choose)
    run.refit()
    for _ in range(descents):
        run.descend()
        run.refit()
    return run.tensor()


def costliest(weight: NDArray[Any], weights: NDArray[np.float64], n: int) -> Words:
    """Words (rows, chunks) of the ``n`` weights that cost the output the most, as many in each column.

    A column's stored bits are as many as another's, and what its weights cost is as their squares.
    """
    rows, cols = as_matrix(weight.shape)
    matrix = weight.reshape(rows, cols).astype(np.float64)
    order = np.argsort(-(matrix**2) * weights[:, None], axis=0, kind="stable")
    each, more = divmod(n, cols)
    kept = np.zeros((rows, cols), np.bool_)
    np.put_along_axis(kept, order, np.arange(rows)[:, None] < each + (np.arange(cols) < more), axis=0)
    return pack(kept)


class _Run:
    """The state of a fit; ``values`` and all other (cols, rows) matrices in the Hessian's order."""

    def __init__(self, job: Job, hessian: Hessian, scaling: Scaling, weights: NDArray[np.float64]) -> None:
        self.job, self.hessian, self.unit, self.weights = job, hessian, scaling.unit, weights
        rows, cols = as_matrix(job.weight.shape)
        matrix = job.weight.reshape(rows, cols)
        self.target = np.ascontiguousarray(matrix.T[hessian.order]).astype(np.float32, copy=False)
        self.values = np.empty((cols, rows), np.float32)
        self.outliers = np.zeros((cols, rows), np.bool_)
        self.code = np.zeros((job.plan.network.n_stored(rows), n_chunks(cols)), np.uint32)
        self.scales, self.gains = scaling.scales, scaling.gains.astype(np.float64)
        self.stored = stored_scales(scaling.scales / self.unit, job.scale_type(scaling.scales))
        care = care_words(job.kept, scaling.outliers, cols)
        self.a = job.fitted_codes(scaling, care, np.array(job.plan.a, np.float64))
        self.scaling, self.care = scaling, care

    def sweep(self, *, choose: bool = False) -> None:
        """Quantize all columns in order, with feedback; ``choose`` anew which weights of a column are kept."""
        sizes = self._sizes() if self.job.column_gains else np.empty(0)
        work = self.target.copy()
        shared, factor = self._shared(), self.hessian.factor
        for begin, end in self._blocks():
            inside = slice(begin, end)
            block = work[inside].astype(np.float64)
            errors = np.empty_like(block)
            feedback_kernel(
                block,
                np.ascontiguousarray(factor[inside, inside]),
                self.hessian.order[inside],
                shared,
                self.gains,
                sizes,
                choose,
                self.code,
                self.values[inside],
                self.outliers[inside],
                errors,
            )
            work[end:] -= factor[inside, end:].T.astype(np.float32) @ errors.astype(np.float32)

    def descend(self) -> float:
        """Quantize all columns once more, each beside what the others are; returns by how much the error fell."""
        shared = self._shared()
        matrix = self.hessian.matrix.astype(np.float32)
        gradient = matrix @ (self.target - self.values)
        fell = 0.0
        for begin, end in self._blocks():
            inside = slice(begin, end)
            block = gradient[inside].astype(np.float64)
            steps = np.empty_like(block)
            fell += descent_kernel(
                block,
                np.ascontiguousarray(self.hessian.matrix[inside, inside]),
                self.hessian.order[inside],
                shared,
                self.gains,
                self.job.column_gains,
                self.code,
                self.values[inside],
                self.outliers[inside],
                steps,
            )
            moved = steps.astype(np.float32)
            gradient[:begin] -= matrix[:begin, inside] @ moved
            gradient[end:] -= matrix[end:, inside] @ moved
        return fell

    def refit(self) -> None:
        """Scales, then codes, by least squares, in turns; the columns become what is decoded then."""
        refit = Refit(self.tensor(), self._straight(self.target), self._plain_hessian(), self.weights)
        a = self.a * self.unit
        for _ in range(REFITS):
            self.stored = refit.scales(a, self.stored)
            a = refit.codes(a, self.stored)
        self.a = a / self.unit
        self.scales = scale_values(self.stored).astype(np.float64) * self.unit
        rows = len(self.stored)
        self.values[...] = self.tensor().dequantize_rows(0, rows).T[self.hessian.order]

    def tensor(self) -> TrellisTensor:
        """What there is by now."""
        tensor = self.job.tensor(self.code, self.a * self.unit, self.stored, self.gains)
        columns, rows = np.nonzero(self.outliers)
        positions = rows * len(self.values) + self.hessian.order[columns]
        rising = np.argsort(positions)
        return with_outliers(tensor, positions[rising], self.values[columns, rows][rising])

    def _shared(self) -> tuple[Any, ...]:
        """What the kernels take for all columns."""
        scaling = replace(self.scaling, scales=self.scales, gains=self.gains)
        search = self.job.search(scaling, self.care, self.a)
        network = self.job.plan.network
        scales = np.ascontiguousarray(self.scales.T)
        return (
            self.job.kept,
            self.job.group,
            scales,
            scales ** (2 * self.job.balance) * self.weights,
            self.weights,
            self.scaling.threshold,
            search.arguments(),
            (network.n_in, network.n_out, network.levels(self.a)),
        )

    def _sizes(self) -> NDArray[np.float64]:
        """Root mean squares of the kept weights of each column in their scales, in the weight's own order."""
        rows, cols = as_matrix(self.job.weight.shape)
        spread = np.repeat(self.scales, self.job.group, axis=1)[:, :cols]
        known = unpack(self.job.kept, cols) & (spread > 0)
        x = np.divide(self.job.weight.reshape(rows, cols), spread, out=np.zeros((rows, cols)), where=known)
        found: NDArray[np.float64] = np.sqrt((x * x).sum(0) / np.maximum(known.sum(0), 1))
        return found

    def _blocks(self) -> list[tuple[int, int]]:
        return [(begin, min(begin + BLOCK, len(self.values))) for begin in range(0, len(self.values), BLOCK)]

    def _straight(self, matrix: NDArray[np.float32]) -> NDArray[np.float32]:
        """A (cols, rows) matrix of the Hessian's order as (rows, cols) in the weight's own."""
        found = np.empty((matrix.shape[1], matrix.shape[0]), np.float32)
        found[:, self.hessian.order] = matrix.T
        return found

    def _plain_hessian(self) -> NDArray[np.float32]:
        """The damped Hessian in the weight's own order."""
        found = np.empty(self.hessian.matrix.shape, np.float32)
        found[np.ix_(self.hessian.order, self.hessian.order)] = self.hessian.matrix
        return found
