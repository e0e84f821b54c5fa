"""What a product by a matrix of weights takes and gives: x and out, their shapes and types."""

from __future__ import annotations

from abc import ABC, abstractmethod
from contextlib import nullcontext
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xorpack import checks
from xorpack.errors import ParameterError
from xorpack.tensors import DTYPES, as_matrix

TYPES = (np.dtype(np.float32), np.dtype(np.float16), DTYPES["BF16"], np.dtype(np.float64))
"""Types of x and of out."""

PRECISIONS = ("float32", "int8")
"""What activations are multiplied as."""

_NOTHING = nullcontext()

_KNOWN = "float32, float16, bfloat16 or float64"


class PreparedProduct(ABC):
    """An encoded tensor W, made ready to be multiplied by many times: ``encoded.product()``.

    What stands beside the code is unpacked and checked once: corrections, outliers, prefix codes, a compressed mask (to
    one bit per weight). Rows are decoded as they are needed; the matrix never exists whole. Calls from several threads
    are safe.
    """

    def __init__(self, shape: tuple[int, ...]) -> None:
        self.shape = shape
        self.rows, self.cols = as_matrix(shape)

    def matvec(
        self, x: Any, *, jobs: int = 1, out: NDArray[Any] | None = None, precision: str = "float32"
    ) -> NDArray[Any]:
        """``W x``: as :meth:`matmul`, for x of shape (cols,) only."""
        if np.ndim(x) != 1:
            raise ParameterError(f"x of shape {np.shape(x)} is not ({self.cols},): use matmul")
        return self.matmul(x, jobs=jobs, out=out, precision=precision)

    def matmul(
        self, x: Any, *, jobs: int = 1, out: NDArray[Any] | None = None, precision: str = "float32"
    ) -> NDArray[Any]:
        """``x W^T``: x (n, cols) to (n, rows), or (cols,) to (rows,).

        W is the tensor as a matrix, first axis by all others, in float32: a quantized one before it is rounded to its
        dtype. The result is exact within the rounding of float32 sums, whose order does not depend on ``jobs``. Where x
        is infinite or NaN, or so large that a sum might overflow on the way, it is what a dense product of float32
        gives.

        Args:
            x: float32, float16, bfloat16 or float64, which is rounded to float32; any strides.
            jobs: threads at the most: fewer for a small product, one while another thread's call has the rest.
            out: array of the result's shape and of any of these types to write to, not overlapping x; default: a new
                one, of float32.
            precision: ``float32``; or ``int8``, faster: each row of x (times a trellis tensor's gains of columns) is
                rounded to multiples of 1/127 of its largest magnitude.

        Returns:
            ``out`` or the new array.

        Raises:
            ParameterError: a wrong shape, type or name.
        """
        checks.choice("precision", precision, PRECISIONS)
        checks.whole("jobs", jobs, 1)
        rows = _as_rows(x, self.cols)
        shape = (*np.shape(x)[:-1], self.rows)
        if out is not None:
            _check_out(out, shape, x)
        result = np.empty((len(rows), self.rows), np.float32)
        if result.size:
            self._multiply(rows, result, jobs, precision == "int8")
        if out is None:
            return result.reshape(shape)
        with np.errstate(over="ignore", invalid="ignore"):
            out[...] = result.reshape(shape)
        return out

    def fill(self, x: NDArray[Any], out: NDArray[np.float32], *, jobs: int = 1) -> None:
        """Fill ``out`` (..., rows), float32 in C order, with ``x W^T``, as :meth:`matmul`, but without its checks.

        For callers that have made sure of x (..., cols), one of :data:`TYPES`, and of out, in the time of a small
        layer's product.
        """
        if out.size:
            n = out.size // self.rows
            with np.errstate(over="ignore") if x.dtype != np.float32 else _NOTHING:
                rows = np.ascontiguousarray(x.reshape(n, self.cols), np.float32)
            self._multiply(rows, out.reshape(n, self.rows), jobs, False)

    @abstractmethod
    def _multiply(self, x: NDArray[np.float32], out: NDArray[np.float32], jobs: int, rounded: bool) -> None:
        """Fill ``out`` (n, rows), not empty, with ``x W^T``; x (n, cols), C-contiguous, to be ``rounded`` or not."""


def _as_rows(x: Any, cols: int) -> NDArray[np.float32]:
    """``x``, (n, cols) or (cols,), as float32 (n, cols), C-contiguous; itself where it is that already."""
    array = np.asarray(x)
    if array.ndim not in (1, 2) or array.shape[-1] != cols:
        raise ParameterError(f"x of shape {array.shape} is not ({cols},) or (n, {cols})")
    if array.dtype not in TYPES:
        raise ParameterError(f"x of type {array.dtype} is not {_KNOWN}")
    if array.dtype == np.float32:
        return np.ascontiguousarray(array if array.ndim == 2 else array[None])
    with np.errstate(over="ignore"):
        return np.ascontiguousarray(array if array.ndim == 2 else array[None], np.float32)


def _check_out(out: Any, shape: tuple[int, ...], x: Any) -> None:
    if not isinstance(out, np.ndarray) or out.dtype not in TYPES:
        kind = out.dtype if isinstance(out, np.ndarray) else type(out).__name__
        raise ParameterError(f"out of type {kind} is not an array of {_KNOWN}")
    if out.shape != shape:
        raise ParameterError(f"out of shape {out.shape} is not {shape}")
    if not out.flags.writeable:
        raise ParameterError("out is read-only")
    if np.may_share_memory(out, np.asarray(x)):
        raise ParameterError("out overlaps x")
