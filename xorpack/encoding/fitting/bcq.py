"""Binary codes fitted to activations: a mask by what pruning costs the output, error feedback, descents, least squares.

A sweep over the columns as GPTQ and SparseGPT do it (arXiv 2210.17323, 2301.00774): what to prune is chosen by ``w^2 /
U_cc^2`` when the sweep reaches a block, the scales of a group are fitted when it reaches the group, and each column's
error is made up for by the columns behind. Then, on the mask that stands, coordinate descent over the codes and all
scales of a row at once by least squares, in turns (LNQ, arXiv 2505.07004).

Matrices are (cols, rows) here, in the Hessian's order.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xorpack.code.words import Words, pack, popcount, unpack
from xorpack.encoding.fitting.hessian import Hessian, checked_rows
from xorpack.encoding.quantize import bcq
from xorpack.encoding.quantize.pruning import block_starts, check_float
from xorpack.tensors import BCQTensor, as_matrix, dtype_name, n_groups

BLOCK = 128
"""Columns whose errors are collected before they are fed to all columns behind."""

RIDGE = 1e-6
"""Share of the trace that stands for planes or groups that are alike."""

Matrix = NDArray[np.float64]


def fit_bcq(
    weight: NDArray[Any],
    hessian: NDArray[Any],
    *,
    rows_hessian: NDArray[Any] | None,
    bits: int,
    sparsity: float | None,
    kept: Words,
    group_size: int | None,
    scale_dtype: str,
    descents: int,
) -> BCQTensor:
    """Quantize the kept weights to ``bits`` planes for the least error of the output.

    ``kept``: uint32 (rows, chunks); with a ``sparsity`` it only says how many, and which is chosen by the sweep.
    """
    weight = check_float(weight)
    rows, cols = as_matrix(weight.shape)
    weights = checked_rows(rows_hessian, rows)
    group_size = bcq.columns_per_scale(weight.shape, group_size, popcount(kept))
    if not weight.size:
        return bcq.quantize(weight, bits=bits, mask=kept, group_size=group_size)
    run = _Run(weight, Hessian.of(hessian, cols, group_size or cols), bits, group_size or cols, scale_dtype)
    run.sweep(unpack(kept, cols).T[run.hessian.order], weights if sparsity is not None else None)
    for _ in range(descents):
        run.refit()
        run.descend()
    return BCQTensor(
        shape=weight.shape,
        dtype=dtype_name(weight.dtype),
        mask=pack(run.straight(run.kept)),
        planes=np.stack([pack(run.straight((plane > 0) & run.kept)) for plane in run.signs]),
        scales=run.scales.astype(run.dtype),
        group_size=group_size,
        method="fitted",
    )


class _Run:
    """The state of a fit.

    ``signs``: int8 (q, cols, rows); ``values``: float64 (cols, rows), what the weights are now; ``scales``: float64
    (rows, n_groups, q), as they are stored; ``kept``: bool (cols, rows).
    """

    def __init__(
        self, weight: NDArray[Any], hessian: Hessian, bits: int, group: int, scale_dtype: str
    ) -> None:
        rows, cols = as_matrix(weight.shape)
        self.hessian, self.group, self.scale_dtype = hessian, group, scale_dtype
        self.target: Matrix = weight.reshape(rows, cols).T[hessian.order].astype(np.float64)
        self.kept = np.ones((cols, rows), np.bool_)
        self.signs = np.ones((bits, cols, rows), np.int8)
        self.values = np.zeros((cols, rows))
        self.scales = np.zeros((rows, n_groups(cols, group), bits))
        self.dtype = np.dtype(np.float16 if scale_dtype == "auto" else scale_dtype)
        index = np.arange(1 << bits)
        self.combinations = np.where(index[:, None] >> np.arange(bits) & 1, 1, -1).astype(
            np.int8
        )  # (2**q, q)

    def sweep(self, kept: NDArray[np.bool_], weights: NDArray[np.float64] | None) -> None:
        """Prune and quantize all columns in order, with feedback.

        With ``weights`` of the rows' errors ``kept`` only says how many, and which is chosen.
        """
        factor, work = self.hessian.factor, self.target.copy()
        costs = None if weights is None else weights / np.diag(factor)[:, None] ** 2
        self.kept[...] = kept if costs is None else _largest(work**2 * costs, int(kept.sum()))
        for begin, end, first in self._blocks():
            inside, group = slice(begin, end), self.hessian.order[begin] // self.group
            if costs is not None:
                cost = work[inside] ** 2 * costs[inside]
                self.kept[inside] = _largest(cost, int(self.kept[inside].sum()))
            if first:
                self._grid(work, begin, group)
            levels, order = self._levels(group)
            errors = np.empty((end - begin, len(levels)))
            for i in range(begin, end):
                self._take(i, work[i], levels, order)
                errors[i - begin] = (work[i] - self.values[i]) / factor[i, i]
                work[i + 1 : end] -= factor[i, i + 1 : end, None] * errors[i - begin]
            work[end:] -= factor[inside, end:].T @ errors

    def descend(self) -> None:
        """Every code once more, all others being what they are; the error never grows."""
        h = self.hessian.matrix
        gradient = h @ (self.target - self.values)
        for begin, end, _ in self._blocks():
            inside = slice(begin, end)
            levels, order = self._levels(self.hessian.order[begin] // self.group)
            before = self.values[inside].copy()
            for i in range(begin, end):
                old = self.values[i].copy()
                self._take(i, old + gradient[i] / h[i, i], levels, order)
                gradient[inside] -= h[inside, i, None] * (self.values[i] - old)
            moved = self.values[inside] - before
            gradient[:begin] -= h[:begin, inside] @ moved
            gradient[end:] -= h[end:, inside] @ moved

    def refit(self) -> None:
        """All scales of each row at once, by least squares of the output's error; a row that gains nothing stays."""
        h, cols = self.hessian.matrix, len(self.target)
        groups = self.hessian.order // self.group
        starts = np.flatnonzero(np.diff(groups, prepend=-1))
        rows, n, q = self.scales.shape
        found_order = groups[starts]
        step = max(1, block_starts((rows, cols * n * q))[1])
        for first in range(0, rows, step):
            part = slice(first, first + step)
            planes = self.signs[:, :, part] * self.kept[:, part]  # (q, cols, r)
            turned = h @ self.target[:, part]
            size = planes.shape[2]
            left, right = np.empty((size, n, q, n, q)), np.empty((size, n, q))
            for g, begin in zip(found_order, starts, strict=True):
                inside = slice(begin, begin + int((groups == g).sum()))
                for k in range(q):
                    product = h[:, inside] @ planes[k, inside]
                    sums = np.add.reduceat(planes * product, starts, axis=1)  # (q, n, r)
                    left[:, g, k, found_order] = sums.transpose(2, 1, 0)
                    right[:, g, k] = (planes[k, inside] * turned[inside]).sum(0)
            self._solve(part, left.reshape(size, n * q, n * q), right.reshape(size, n * q))
        self._rebuild()

    def straight(self, matrix: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """A (cols, rows) matrix of the Hessian's order as (rows, cols) in the weight's own."""
        found = np.empty((matrix.shape[1], matrix.shape[0]), np.bool_)
        found[:, self.hessian.order] = matrix.T
        return found

    def _solve(self, part: slice, left: Matrix, right: Matrix) -> None:
        before = self.scales[part].reshape(right.shape)
        ridge = RIDGE * np.trace(left, axis1=1, axis2=2) / right.shape[1]
        ridge += ridge <= 0
        system = left + ridge[:, None, None] * np.eye(right.shape[1])
        best = np.linalg.solve(system, (right + ridge[:, None] * before)[..., None])[..., 0]
        with np.errstate(over="ignore"):
            best = best.astype(self.dtype).astype(np.float64)
        forms = [np.einsum("ri,rij,rj->r", x, left, x) - 2 * (x * right).sum(1) for x in (best, before)]
        better = np.isfinite(best).all(1) & (forms[0] < forms[1])
        self.scales[part] = np.where(better[:, None], best, before).reshape(self.scales[part].shape)

    def _rebuild(self) -> None:
        """Scales not negative and falling from plane to plane, by turning and changing planes; then the values."""
        turned = np.where(self.scales < 0, -1, 1).astype(np.int8)
        order = np.argsort(-np.abs(self.scales), axis=2, kind="stable")
        self.scales = np.take_along_axis(np.abs(self.scales), order, 2)
        groups = self.hessian.order // self.group
        signs = self.signs * turned.transpose(2, 1, 0)[:, groups]
        self.signs = np.take_along_axis(signs, order.transpose(2, 1, 0)[:, groups], 0)
        self.values = (self.signs * self.scales.transpose(2, 1, 0)[:, groups]).sum(0) * self.kept

    def _grid(self, work: Matrix, begin: int, group: int) -> None:
        """Scales of a group, fitted to what its weights are by now."""
        inside = slice(begin, begin + int((self.hessian.order // self.group == group).sum()))
        found = bcq.quantize(
            np.ascontiguousarray(work[inside].T.astype(np.float32)),
            bits=len(self.signs),
            mask=np.ascontiguousarray(self.kept[inside].T),
            group_size=0,
            scale_dtype=self.scale_dtype,  # type: ignore[arg-type]
        )
        if found.scales.dtype == np.float32:
            self.dtype = np.dtype(np.float32)
        self.scales[:, group] = found.scales[:, 0]

    def _levels(self, group: int) -> tuple[Matrix, NDArray[np.int64]]:
        """Levels of each row, rising, float64 (rows, 2**q), and which combination of signs each is."""
        levels = self.scales[:, group] @ self.combinations.T.astype(np.float64)
        order = np.argsort(levels, axis=1, kind="stable")
        return np.take_along_axis(levels, order, 1), order

    def _take(self, i: int, wanted: Matrix, levels: Matrix, order: NDArray[np.int64]) -> None:
        """The nearest level for every kept weight of column ``i``."""
        at = (wanted[:, None] >= (levels[:, 1:] + levels[:, :-1]) / 2).sum(1)[:, None]
        self.values[i] = np.take_along_axis(levels, at, 1)[:, 0] * self.kept[i]
        self.signs[:, i] = self.combinations[np.take_along_axis(order, at, 1)[:, 0]].T

    def _blocks(self) -> Iterator[tuple[int, int, bool]]:
        """Begin and end of each block of columns, and whether a group begins with it; no block is of two groups."""
        groups = self.hessian.order // self.group
        starts = [*np.flatnonzero(np.diff(groups, prepend=-1)).tolist(), len(groups)]
        for start, stop in pairwise(starts):
            for begin in range(start, stop, BLOCK):
                yield begin, min(begin + BLOCK, stop), begin == start


def _largest(values: Matrix, n: int) -> NDArray[np.bool_]:
    """Where the ``n`` largest of ``values`` are, the first of equals."""
    found = np.zeros(values.size, np.bool_)
    found[np.argsort(-values, axis=None, kind="stable")[:n]] = True
    return found.reshape(values.shape)
