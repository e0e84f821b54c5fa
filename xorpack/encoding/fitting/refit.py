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
    """The error of a tensor's output as a quadratic form of its scales and codes, a block of rows at a time.

    Args:
        tensor: with its outliers.
        weight: what it stands for, float32 (rows, cols).
        hessian: float32 (cols, cols).
    """

    def __init__(
        self, tensor: TrellisTensor, weight: NDArray[np.float32], hessian: NDArray[np.float32]
    ) -> None:
        self.tensor, self.weight, self.hessian = tensor, weight, hessian
        self.rows, self.cols = as_matrix(tensor.shape)
        self.group = min(tensor.group_size or self.cols, self.cols)
        self.starts, self.step = block_starts(tensor.shape)

    def scales(self, a: NDArray[np.float64], scales: NDArray[Any]) -> NDArray[Any]:
        """Scales as they are stored, each row's the best for ``a``, or what they were where that is no worse."""
        found = scales.copy()
        for first in self.starts:
            last = min(first + self.step, self.rows)
            signs, target = self._signs(first, last), self._target(first, last)
            y = np.tensordot(a.astype(np.float32), signs, 1)  # (n, cols)
            n = n_groups(self.cols, self.tensor.group_size)
            left, right = np.empty((last - first, n, n)), np.empty((last - first, n))
            turned = target @ self.hessian
            for g in range(n):
                inside = slice(g * self.group, (g + 1) * self.group)
                product = y[:, inside] @ self.hessian[inside]
                left[:, g] = np.add.reduceat(product * y, np.arange(0, self.cols, self.group), axis=1)
                right[:, g] = (turned[:, inside] * y[:, inside]).sum(1)
            trace = np.trace(left, axis1=1, axis2=2)
            ridge = RIDGE * trace / n + (trace <= 0)
            before = scale_values(scales[first:last]).astype(np.float64)
            best = np.linalg.solve(
                left + ridge[:, None, None] * np.eye(n), (right + ridge[:, None] * before)[..., None]
            )[..., 0]
            part = stored_scales(np.where(best > 0, best, before), scales.dtype)
            better = _form(left, right, scale_values(part)) < _form(left, right, before)
            found[first:last] = np.where(better[:, None], part, scales[first:last])
        return found

    def codes(self, a: NDArray[np.float64], scales: NDArray[Any]) -> NDArray[np.float64]:
        """Codes (q,), the best for ``scales``, or ``a`` where that is no worse."""
        q = len(a)
        left, right = np.zeros((q, q)), np.zeros(q)
        for first in self.starts:
            last = min(first + self.step, self.rows)
            spread = np.repeat(scale_values(scales[first:last]), self.group, axis=1)[:, : self.cols]
            planes = self._signs(first, last) * spread
            turned = self._target(first, last) @ self.hessian
            for j in range(q):
                right[j] += np.vdot(planes[j], turned)
                product = planes[j] @ self.hessian
                for k in range(j + 1):
                    left[j, k] += np.vdot(product, planes[k])
        left += np.tril(left, -1).T
        if not np.trace(left) > 0:
            return a
        ridge = RIDGE * np.trace(left) / q
        best: NDArray[np.float64] = np.linalg.solve(left + ridge * np.eye(q), right + ridge * a)
        return (
            best
            if _form(left[None], right[None], best[None]) < _form(left[None], right[None], a[None])
            else a
        )

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
