"""The two tensor types: quantized (:class:`BCQTensor`) and encoded (:class:`EncodedTensor`)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

from xorpack import checks
from xorpack.code import dense
from xorpack.code.words import Words, n_chunks, popcount
from xorpack.errors import ParameterError

DTYPES: Mapping[str, np.dtype[Any]] = {
    "F32": np.dtype(np.float32),
    "F16": np.dtype(np.float16),
    "BF16": np.dtype(ml_dtypes.bfloat16),
    "I8": np.dtype(np.int8),
    "U8": np.dtype(np.uint8),
}
"""Element types that can be encoded, by their safetensors name."""

MAX_BITS = 8
"""Planes of a BCQ tensor at the most."""


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
        if self.dtype not in ("F32", "F16", "BF16"):
            raise ParameterError(f"BCQ dtype {self.dtype!r} is not one of F32, F16, BF16")
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
