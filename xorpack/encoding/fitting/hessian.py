"""What the inputs of a layer say about the errors of its weights: ``H = sum of x x^T``, damped, ordered and factored.

The squared error of a layer's output is ``sum over rows r of e_r H e_r^T`` for errors ``e`` of the weights. Columns are
treated one after another, those of large activations first, and each one's error is made up for by the columns after
it: ``w_k -= e_j / U_jj * U_jk`` for k > j, where U is upper triangular and ``H^-1 = U^T U`` (OBQ, arXiv 2208.11580;
GPTQ, arXiv 2210.17323).
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.linalg import LinAlgError
from numpy.typing import NDArray

from xorpack.errors import DataError, ParameterError

DAMPING = 0.01
"""Share of the mean of the diagonal that is added to it."""

SHRINKAGE = 0.15
"""Share by which correlations of inputs are taken to be less than those seen (Schaefer and Strimmer, 2005).

A first token that all attend to, a thousand times as large as others, makes correlations that mean little, and text of
another kind has others. Of .05 to .3, all better than 0 on text that nothing was calibrated with.
"""

GROWTH = 10.0
"""Factor of the damping where the matrix is still not positive definite."""

ASYMMETRY = 1e-3
"""Largest difference of the two triangles, as a share of the largest of the diagonal: sums in float32 differ so."""

FEW, DOUBT = 2, 0.2
"""Inputs seen for each input that a layer has, below which what inputs have in common is chance in part; which part.
For two layers of SmolLM2, and Gaussian inputs like theirs, .5 and 1 times as many as they have, that lessens the true
error at 2 bits by 15 and 31, 11 and 27 %. The diagonal alone makes it 1.5 to 3 times as large, however few are seen."""

_log = logging.getLogger("xorpack")


@dataclass(frozen=True, slots=True, eq=False)
class Hessian:
    """A damped Hessian of ``cols`` inputs.

    Attributes:
        order: int64 (cols,): the inputs as they are visited, those of large activations first.
        matrix: float64 (cols, cols), shrunk and damped, in this order.
        factor: float64 (cols, cols), upper triangular: ``inverse(matrix) = factor.T @ factor``.
    """

    order: NDArray[np.int64]
    matrix: NDArray[np.float64]
    factor: NDArray[np.float64]

    @classmethod
    def of(
        cls,
        matrix: NDArray[Any],
        cols: int,
        group: int = 1,
        *,
        damping: float = DAMPING,
        shrinkage: float = SHRINKAGE,
    ) -> Hessian:
        """Check ``matrix``, (cols, cols), and factor it with as much damping as it needs, ``damping`` at least.

        All but its diagonal is less by a share of ``shrinkage``.

        Groups of ``group`` neighbouring inputs stay together: those with the largest activation first.

        Raises:
            ParameterError: its shape or type is another.
            DataError: it is no sum of ``x x^T``: NaN or infinity, not symmetric, a negative diagonal; or all 0.
        """
        h = checked(matrix, cols)
        diagonal = np.diag(h).copy()
        mean = float(diagonal.mean()) if cols else 0.0
        if cols and not mean > 0:
            raise DataError("hessian is 0 everywhere: the layer has seen no inputs")
        largest = np.maximum.reduceat(diagonal, np.arange(0, cols, group)) if cols else diagonal
        groups = np.arange(cols) // group
        order = np.lexsort((-diagonal, groups, -largest[groups])).astype(np.int64)
        h = (1 - shrinkage) * h[np.ix_(order, order)]
        diagonal = diagonal[order]
        share = damping
        while True:
            h[np.diag_indices(cols)] = diagonal + share * mean
            try:
                return cls(order, h, inverse_factor(h))
            except LinAlgError:
                share = max(share, 1e-6) * GROWTH
                _log.warning("a Hessian of %d inputs is singular: damped by %g of its mean", cols, share)


def checked(matrix: NDArray[Any], cols: int) -> NDArray[np.float64]:
    """``matrix`` as float64 of exact symmetry; see :meth:`Hessian.of` for what is refused."""
    array = np.asarray(matrix)
    if array.shape != (cols, cols) or array.dtype.kind != "f":
        raise ParameterError(
            f"hessian of shape {array.shape} and type {array.dtype}, not {(cols, cols)} of floats"
        )
    h = array.astype(np.float64)
    if not np.isfinite(h).all():
        raise DataError("hessian holds NaN or infinity")
    if (np.diag(h) < 0).any():
        raise DataError(f"hessian has {np.diag(h).min():g} on its diagonal, a sum of squares")
    off = float(np.abs(h - h.T).max(initial=0))
    if off > ASYMMETRY * float(np.diag(h).max(initial=0)):
        raise DataError(f"hessian is not symmetric: entries differ by up to {off:g}")
    return (h + h.T) / 2


def checked_rows(weights: NDArray[Any] | None, rows: int) -> NDArray[np.float64]:
    """What squared errors of each output count, float64 (rows,) of mean 1; all alike without ``weights``.

    Raises:
        ParameterError: their shape or type is another.
        DataError: NaN, infinity or a negative number; or all 0.
    """
    if weights is None:
        return np.ones(rows)
    array = np.asarray(weights)
    if array.shape != (rows,) or array.dtype.kind != "f":
        raise ParameterError(
            f"rows_hessian of shape {array.shape} and type {array.dtype}, not {(rows,)} of floats"
        )
    found = array.astype(np.float64)
    if not np.isfinite(found).all() or (found < 0).any():
        raise DataError("rows_hessian holds NaN, infinity or a negative number: it is a sum of squares")
    if rows and not found.any():
        raise DataError("rows_hessian is 0 everywhere: no output counts")
    return found / found.mean() if rows else found


def inverse_factor(h: NDArray[np.float64]) -> NDArray[np.float64]:
    """Upper triangular U with ``inverse(h) = U.T @ U``.

    With rows and columns reversed, ``h = C C^T`` for a lower C; reversed back that is ``h = V V^T`` for an upper V,
    and U is the inverse of V.

    Raises:
        LinAlgError: ``h`` is not positive definite.
    """
    from scipy.linalg import cholesky  # a third of a second, which commands without a Hessian need not wait
    from scipy.linalg.lapack import dtrtri

    if not len(h):
        return h.copy()
    v = cholesky(h[::-1, ::-1], lower=True, check_finite=False)[::-1, ::-1]
    u, info = dtrtri(v, lower=0)
    if info or not np.isfinite(u).all():
        raise LinAlgError("singular")
    return np.ascontiguousarray(np.triu(u))


def believed(matrix: NDArray[np.float32], n_seen: int) -> NDArray[np.float32]:
    """A Hessian of ``n_seen`` inputs; of few, what they have in common is taken for less."""
    if n_seen >= FEW * len(matrix):
        return matrix
    found = matrix * np.float32(1 - DOUBT)
    np.fill_diagonal(found, np.diag(matrix))
    return found


def pivots(hessian: NDArray[Any]) -> NDArray[np.float64]:
    """What is left of each column's errors when the columns behind it have made up for them, (cols,).

    A column's squared error times this is its part of the output's error after a sweep with feedback: the pivots
    ``1 / U_jj^2`` of the damped ``hessian``, not shrunk: what is foretold is the error on what was seen.
    """
    known = Hessian.of(hessian, len(hessian), shrinkage=0.0)
    found = np.empty(len(hessian))
    found[known.order] = np.diag(known.factor) ** -2
    return found


def output_error(weight: NDArray[Any], approximation: NDArray[Any], hessian: NDArray[Any]) -> float:
    """``tr(E H E^T) / tr(W H W^T)`` of the error E: squared error of the output, relative; 0 for no output."""
    w = np.asarray(weight, np.float32)
    e = w - np.asarray(approximation, np.float32).reshape(w.shape)
    energy = output_energy(w, hessian)
    return output_energy(e, hessian) / energy if energy else 0.0


def output_energy(weight: NDArray[Any], hessian: NDArray[Any]) -> float:
    """``tr(W H W^T)``: the squares of the output, summed."""
    w, h = np.asarray(weight, np.float32).reshape(-1, len(hessian)), np.asarray(hessian, np.float32)
    return float(np.vdot(w @ h, w))
