"""Scales and codes of a trellis tensor by least squares of the output's error, given its bits; never for the worse."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from xorpack.code.scales import scale_values
from xorpack.code.trellis_kernels import expand_trellis
from xorpack.code.words import unpack
from xorpack.encoding.quantize.pruning import block_starts
from xorpack.encoding.quantize.trellis import stored_scales
from xorpack.tensors import TrellisTensor, as_matrix, n_groups

RIDGE = 1e-7
"""Share of the trace that stands for planes or groups that are alike."""


class Refit:
    """The error of a tensor's output as a quadratic form of its scales and codes, found once for its bits.

    Args:
        tensor: with its outliers.
        weight: what it stands for, float32 (rows, cols).
        hessian: float32 (cols, cols).
        weights: float64 (rows,), what squared errors of each row count.
    """

    def __init__(
        self,
        tensor: TrellisTensor,
        weight: NDArray[np.float32],
        hessian: NDArray[np.float32],
        weights: NDArray[np.float64],
    ) -> None:
        self.tensor, self.weight, self.weights = tensor, weight, weights
        self.rows, self.cols = as_matrix(tensor.shape)
        group, n, q = tensor.group_size or self.cols, n_groups(self.cols, tensor.group_size), tensor.bits
        bounds = np.arange(0, self.cols, group)
        self.left = np.empty((self.rows, n, q, n, q), np.float32)
        self.right = np.empty((self.rows, n, q), np.float32)
        starts, step = block_starts(tensor.shape)
        for first in starts:
            last = min(first + step, self.rows)
            signs, turned = self._signs(first, last), self._target(first, last) @ hessian
            for g, begin in enumerate(bounds):
                inside = slice(begin, begin + group)
                for k in range(q):
                    product = signs[k, :, inside] @ hessian[inside]
                    sums = np.add.reduceat(signs * product, bounds, axis=2)  # (q, rows, n)
                    self.left[first:last, g, k] = sums.transpose(1, 2, 0)
                    self.right[first:last, g, k] = (signs[k, :, inside] * turned[:, inside]).sum(1)

    def scales(self, a: NDArray[np.float64], scales: NDArray[Any]) -> NDArray[Any]:
        """Scales as they are stored, each row's the best for ``a``, or what they were where that is no worse."""
        left = np.einsum("rgjhk,j,k->rgh", self.left, a, a)
        right = np.einsum("rgj,j->rg", self.right, a)
        n = right.shape[1]
        before = scale_values(scales).astype(np.float64)
        trace = np.trace(left, axis1=1, axis2=2)
        ridge = RIDGE * trace / n + (trace <= 0)
        system = left + ridge[:, None, None] * np.eye(n)
        best = np.linalg.solve(system, (right + ridge[:, None] * before)[..., None])[..., 0]
        found = stored_scales(np.where(best > 0, best, before), scales.dtype)
        better = _form(left, right, scale_values(found)) < _form(left, right, before)
        return np.where(better[:, None], found, scales)

    def codes(self, a: NDArray[np.float64], scales: NDArray[Any]) -> NDArray[np.float64]:
        """Codes (q,), the best for ``scales``, or ``a`` where that is no worse."""
        s = scale_values(scales).astype(np.float64)
        weighted = s * self.weights[:, None]
        left = np.einsum("rgjhk,rg,rh->jk", self.left, weighted, s, optimize=True)
        right = np.einsum("rgj,rg->j", self.right, weighted)
        if not np.trace(left) > 0:
            return a
        ridge = RIDGE * np.trace(left) / len(a)
        best: NDArray[np.float64] = np.linalg.solve(left + ridge * np.eye(len(a)), right + ridge * a)
        better = _form(left[None], right[None], best[None]) < _form(left[None], right[None], a[None])
        return best if better else a

    def _signs(self, first: int, last: int) -> NDArray[np.float32]:
        """Planes as gains with a sign, float32 (q, n, cols), 0 where a weight is pruned or an outlier."""
        tensor, cols = self.tensor, self.cols
        planes = expand_trellis(tensor.network, tensor.code, self.rows, first, last)
        signs = np.where(unpack(planes.reshape(-1, planes.shape[2]), cols), np.float32(1), np.float32(-1))
        signs = signs.reshape(len(planes), last - first, cols)
        if tensor.gains is not None:
            signs *= tensor.gains.astype(np.float32)
        if tensor.mask is not None:
            signs *= unpack(tensor.mask[first:last], cols)
        i, j = np.searchsorted(tensor.positions, (first * cols, last * cols))
        signs.reshape(len(planes), -1)[:, tensor.positions[i:j] - first * cols] = 0
        return signs

    def _target(self, first: int, last: int) -> NDArray[np.float32]:
        """The weights less the outliers."""
        target = self.weight[first:last].copy()
        i, j = np.searchsorted(self.tensor.positions, (first * self.cols, last * self.cols))
        values = self.tensor.values[i:j].astype(np.float32) * np.float32(self.tensor.outlier_unit)
        target.reshape(-1)[self.tensor.positions[i:j] - first * self.cols] -= values
        return target


def _form(left: NDArray[np.float64], right: NDArray[np.float64], x: NDArray[Any]) -> NDArray[np.float64]:
    """``x left x - 2 x right`` of every row."""
    found: NDArray[np.float64] = np.einsum("rg,rgk,rk->r", x, left, x) - 2 * (x * right).sum(1)
    return found
