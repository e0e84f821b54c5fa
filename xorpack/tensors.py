"""What a tensor is before it is encoded: planes (:class:`BCQTensor`) or trellis code (:class:`TrellisTensor`)."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

from xorpack import checks
from xorpack.code import dense
from xorpack.code.corrections import packed_sizes
from xorpack.code.scales import scale_values
from xorpack.code.trellis import TrellisNetwork
from xorpack.code.trellis_kernels import expand_dense, expand_trellis
from xorpack.code.words import Words, n_chunks, popcount, tail_mask, unpack
from xorpack.errors import ParameterError

DTYPES: Mapping[str, np.dtype[Any]] = {
    "F32": np.dtype(np.float32),
    "F16": np.dtype(np.float16),
    "BF16": np.dtype(ml_dtypes.bfloat16),
    "I8": np.dtype(np.int8),
    "U8": np.dtype(np.uint8),
    "F8_E4M3": np.dtype(ml_dtypes.float8_e4m3fn),
    "F8_E5M2": np.dtype(ml_dtypes.float8_e5m2),
    "F8_E8M0": np.dtype(ml_dtypes.float8_e8m0fnu),
    "I16": np.dtype(np.int16),
    "U16": np.dtype(np.uint16),
    "I32": np.dtype(np.int32),
    "U32": np.dtype(np.uint32),
}
"""Element types that can be encoded, by their safetensors name."""

NEW_DTYPES = ("F8_E4M3", "F8_E5M2", "F8_E8M0", "I16", "U16", "I32", "U32")
"""Those that files of versions before 4 of the format do not hold, encoded."""

PACKED_DTYPES = ("I16", "U16", "I32", "U32")
"""Those whose octets may be coded one by one: quantizers pack small integers into them."""

MAX_BITS = 8
"""Planes of a BCQ tensor at the most."""

BCQ_DTYPES = ("F32", "F16", "BF16")
"""Element types that are quantized."""


def dtype_name(dtype: np.dtype[Any]) -> str:
    """Safetensors name of an element type that can be encoded.

    Raises:
        ParameterError: for any other type.
    """
    for name, known in DTYPES.items():
        if known == dtype:
            return name
    raise ParameterError(f"dtype {dtype} cannot be encoded; known: {', '.join(DTYPES)}")


def as_matrix(shape: tuple[int, ...]) -> tuple[int, int]:
    """``(rows, cols)`` that a tensor is coded as: first axis by all others, a vector as one row.

    >>> as_matrix((64, 3, 7, 7)), as_matrix((10,)), as_matrix(())
    ((64, 147), (1, 10), (1, 1))
    """
    if len(shape) < 2:
        return 1, math.prod(shape)
    return shape[0], math.prod(shape[1:])


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class BCQTensor:
    """Binary-coding quantization: ``w = sum_k alpha_k * b_k`` with ``b_k`` in {-1, +1} where kept, else 0.

    Bits are packed as :mod:`xorpack.code.words` says; bit 1 of a plane means +1; bits of a plane where
    the mask is 0 are 0.

    Attributes:
        shape: of the weight; coded as ``as_matrix(shape)`` = (rows, cols).
        dtype: safetensors name of the type that :meth:`dequantize` gives (F32, F16, BF16).
        mask: uint32 (rows, chunks), 1 = kept.
        planes: uint32 (q, rows, chunks).
        scales: float16 or float32 (rows, n_groups, q), finite.
        group_size: columns that share scales; 0 = the whole row.
        method: how the scales were fitted; information only.
    """

    shape: tuple[int, ...]
    dtype: str
    mask: Words
    planes: Words
    scales: NDArray[Any]
    group_size: int = 0
    method: str = ""

    def __post_init__(self) -> None:
        if not isinstance(self.shape, tuple):
            raise ParameterError(f"shape {self.shape!r} is not a tuple")
        rows, cols = as_matrix(tuple(checks.whole("a size of shape", size) for size in self.shape))
        if self.dtype not in BCQ_DTYPES:
            raise ParameterError(f"BCQ dtype {self.dtype!r} is not one of {', '.join(BCQ_DTYPES)}")
        checks.whole("group_size", self.group_size)
        for name in ("mask", "planes"):
            array = getattr(self, name)
            if not isinstance(array, np.ndarray) or array.dtype != np.uint32:
                raise ParameterError(f"{name} are not an array of uint32")
        if not isinstance(self.scales, np.ndarray):
            raise ParameterError("scales are not an array")
        if self.mask.shape != (rows, n_chunks(cols)):
            raise ParameterError(f"mask of shape {self.mask.shape}, not {(rows, n_chunks(cols))}")
        if self.planes.ndim != 3 or self.planes.shape[1:] != self.mask.shape:
            raise ParameterError(f"planes of shape {self.planes.shape}, not (q, *{self.mask.shape})")
        if not 1 <= self.bits <= MAX_BITS:
            raise ParameterError(f"{self.bits} planes, outside 1..{MAX_BITS}")
        expected = (rows, n_groups(cols, self.group_size), self.bits)
        if self.scales.shape != expected or self.scales.dtype not in (np.float16, np.float32):
            raise ParameterError(
                f"scales of shape {self.scales.shape} and type {self.scales.dtype}, "
                f"not {expected} of float16 or float32"
            )

    @property
    def bits(self) -> int:
        """Number of planes (q)."""
        return int(self.planes.shape[0])

    @property
    def n_weights(self) -> int:
        """Weights, pruned ones included."""
        return math.prod(self.shape)

    @property
    def n_kept(self) -> int:
        """Weights that were kept."""
        return popcount(self.mask)

    @property
    def sparsity(self) -> float:
        """Fraction of weights pruned; 0 for a tensor without weights."""
        return 1 - self.n_kept / self.n_weights if self.n_weights else 0.0

    def dequantize(self) -> NDArray[Any]:
        """The weights: ``shape`` of ``dtype``; pruned ones are +0.

        Sums in float32, plane by plane from the first, then rounds to ``dtype``.
        """
        rows, cols = as_matrix(self.shape)
        out = np.empty((rows, cols), DTYPES[self.dtype])
        dense.expand_bcq(self.mask, self.planes, self.scales, self.group_size, out)
        return out.reshape(self.shape)


def n_groups(cols: int, group_size: int) -> int:
    """Groups of scales in a row of ``cols`` weights; ``group_size`` 0 means one."""
    return -(-cols // group_size) if group_size else 1


def reach(a: NDArray[Any], scales: NDArray[Any], gains: NDArray[Any] | None) -> float:
    """What no weight of a trellis tensor exceeds, outliers aside; below :data:`MAX_REACH`, no step of it overflows."""
    largest = [float(np.abs(array).max(initial=0)) for array in (scales, *([] if gains is None else [gains]))]
    return float(np.abs(a.astype(np.float64)).sum()) * largest[0] * max([1.0, *largest[1:]])


MAX_REACH = 2.0**127
"""Limit of :func:`reach` (exclusive): infinity less infinity is a NaN, whose bits differ from machine to machine."""

NO_POSITIONS = np.zeros(0, np.int64)
NO_VALUES = np.zeros(0, np.float16)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TrellisTensor:
    """Trellis BCQ: the sign planes are the output of a network, whose stored bits were chosen for the least error.

    The weight of row r and column c, of group g of columns, is, in float32 and in this order::

        alpha_j = a[j] * scales[r, g]                 scales as xorpack.code.scales says
        w = ((+0 +- alpha_0) +- alpha_1) ...          + where plane j is 1 (xorpack.code.trellis)
        w = w * gains[c]                              if there are gains
        w = +0                                        where the mask is 0
        w = values[i] * outlier_unit                  at outlier i

    and is then rounded to ``dtype``. The sum of ``|a|``, times the largest scale, times the largest gain or 1, is
    below 2**127: no step overflows but an outlier's. Without gains and outliers that is a :class:`BCQTensor` of float32
    scales.

    Attributes:
        shape: of the weight; coded as ``as_matrix(shape)`` = (rows, cols).
        dtype: safetensors name of the type that :meth:`dequantize` gives (F32, F16, BF16).
        network: how planes come from the code.
        code: uint32 (network.n_stored(rows), chunks); bits past the last column are 0.
        a: float32 (q,), finite; carries the magnitude of the tensor.
        scales: uint8, float16 or float32 (rows, n_groups), finite.
        group_size: columns that share a scale; 0 = the whole row.
        gains: float16 (cols,), finite, or None for 1 everywhere.
        mask: uint32 (rows, chunks), 1 = kept, or None where all are.
        positions: int64, flat row-major positions of the outliers, rising.
        values: float16, of the outliers in units of :attr:`outlier_unit`; finite, not 0.
    """

    shape: tuple[int, ...]
    dtype: str
    network: TrellisNetwork
    code: Words
    a: NDArray[np.float32]
    scales: NDArray[Any]
    group_size: int = 0
    gains: NDArray[np.float16] | None = None
    mask: Words | None = None
    positions: NDArray[np.int64] = field(default_factory=lambda: NO_POSITIONS)
    values: NDArray[np.float16] = field(default_factory=lambda: NO_VALUES)

    def __post_init__(self) -> None:
        rows, cols = as_matrix(self.shape)
        if self.dtype not in BCQ_DTYPES:
            raise ParameterError(f"trellis dtype {self.dtype!r} is not one of {', '.join(BCQ_DTYPES)}")
        if self.group_size < 0:
            raise ParameterError(f"group_size {self.group_size} is negative")
        chunks = n_chunks(cols)
        _check_array("code", self.code, (self.network.n_stored(rows), chunks), np.uint32)
        if (self.code & ~tail_mask(cols)).any():
            raise ParameterError(f"code has ones past the last column, {cols - 1}")
        _check_array("a", self.a, (self.network.n_planes,), np.float32)
        expected = (rows, n_groups(cols, self.group_size))
        _check_array("scales", self.scales, expected, np.uint8, np.float16, np.float32)
        if self.gains is not None:
            _check_array("gains", self.gains, (cols,), np.float16)
        if not (found := reach(self.a, self.scales, self.gains)) < MAX_REACH:
            raise ParameterError(f"a, scales and gains give weights of up to {found:.3g}, not below 2**127")
        if self.mask is not None:
            _check_array("mask", self.mask, (rows, chunks), np.uint32)
            if (self.mask & ~tail_mask(cols)).any():
                raise ParameterError(f"mask has ones past the last column, {cols - 1}")
        self._check_outliers(rows, cols)

    def _check_outliers(self, rows: int, cols: int) -> None:
        n = len(self.positions)
        _check_array("positions", self.positions, (n,), np.int64)
        _check_array("values", self.values, (n,), np.float16)
        if n == 0:
            return
        if self.positions[0] < 0 or self.positions[-1] >= rows * cols or (np.diff(self.positions) <= 0).any():
            raise ParameterError(f"positions of outliers do not rise from 0 to below {rows * cols}")
        if not self.values.all():
            raise ParameterError("an outlier of value 0")
        if self.mask is not None:
            r, c = np.divmod(self.positions, cols)
            if not (self.mask[r, c >> 5] >> (c & 31).astype(np.uint32) & np.uint32(1)).all():
                raise ParameterError("an outlier at a pruned weight")

    @property
    def bits(self) -> int:
        """Number of planes (q)."""
        return self.network.n_planes

    @property
    def n_weights(self) -> int:
        """Weights, pruned ones included."""
        return math.prod(self.shape)

    @property
    def n_kept(self) -> int:
        """Weights that were kept."""
        return self.n_weights if self.mask is None else popcount(self.mask)

    @property
    def outlier_unit(self) -> float:
        """The power of two that is at most the largest ``|a|``; 1 where all are 0."""
        largest = float(np.abs(self.a).max(initial=0))
        return math.ldexp(1.0, math.frexp(largest)[1] - 1) if largest else 1.0

    @property
    def payload_bits(self) -> int:
        """Bits of code, scales, gains, a and outliers (Elias-Fano positions, float16 values); not of the mask."""
        rows, cols = as_matrix(self.shape)
        arrays = [self.scales, self.a] if self.gains is None else [self.scales, self.a, self.gains]
        listed = 8 * sum(packed_sizes(len(self.positions), self.n_weights, 16))
        return self.network.n_stored(rows) * cols + 8 * sum(array.nbytes for array in arrays) + listed

    def planes(self, first: int = 0, last: int | None = None) -> Words:
        """Sign planes, uint32 (q, n, chunks), of rows ``first .. last - 1``, before mask and outliers."""
        rows, cols = as_matrix(self.shape)
        return expand_trellis(self.network, self.code, rows, first, last) & tail_mask(cols)

    def alphas(self, first: int = 0, last: int | None = None) -> NDArray[np.float32]:
        """``a[j] * scales[r, g]``, float32 (n, n_groups, q), of rows ``first .. last - 1``."""
        return scale_values(self.scales[first:last])[:, :, None] * self.a

    def dequantize_rows(self, first: int, last: int) -> NDArray[np.float32]:
        """Rows ``first .. last - 1`` of the matrix, float32, before rounding to ``dtype``."""
        cols = as_matrix(self.shape)[1]
        out = np.empty((last - first, cols), np.float32)
        expand_dense(
            self.network, self.code, self.alphas(first, last), self.gains, self.group_size, first, out
        )
        if self.mask is not None:
            out[~unpack(self.mask[first:last], cols)] = 0
        i, j = np.searchsorted(self.positions, (first * cols, last * cols))
        with np.errstate(over="ignore"):
            values = self.values[i:j].astype(np.float32) * np.float32(self.outlier_unit)
        out.reshape(-1)[self.positions[i:j] - first * cols] = values
        return out

    def dequantize(self) -> NDArray[Any]:
        """The weights: ``shape`` of ``dtype``."""
        rows, cols = as_matrix(self.shape)
        out = np.empty((rows, cols), DTYPES[self.dtype])
        first = 0
        for block in self.blocks():
            out[first : first + len(block)] = block
            first += len(block)
        return out.reshape(self.shape)

    def blocks(self) -> Iterator[NDArray[Any]]:
        """The weights in blocks of rows of the matrix, of ``dtype``, the first rows first."""
        rows, cols = as_matrix(self.shape)
        step = max(1, dense.ROW_BLOCK_ELEMENTS // max(cols, 1))
        for first in range(0, rows if cols else 0, step):
            with np.errstate(over="ignore"):
                block = self.dequantize_rows(first, min(first + step, rows)).astype(DTYPES[self.dtype])
            yield block


def _check_array(name: str, array: NDArray[Any], shape: tuple[int, ...], *dtypes: type[np.generic]) -> None:
    if array.shape != shape or array.dtype not in dtypes:
        expected = " or ".join(np.dtype(dtype).name for dtype in dtypes)
        raise ParameterError(
            f"{name} of shape {array.shape} and type {array.dtype}, not {shape} of {expected}"
        )
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise ParameterError(f"{name} holds NaN or infinity")
