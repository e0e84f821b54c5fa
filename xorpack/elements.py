"""What the planes of an encoded tensor mean: signs of a quantized weight, or bits of an element."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from xorpack.code.corrections import Corrections, packed_sizes, unpack
from xorpack.errors import FormatError
from xorpack.fields.field import Field, FieldCode
from xorpack.fields.signs import SignField
from xorpack.tensors import (
    BCQ_DTYPES,
    DTYPES,
    MAX_BITS,
    MAX_REACH,
    PACKED_DTYPES,
    as_matrix,
    n_groups,
    reach,
)

MAX_GROUP = 1 << 48
"""Limit of a group's columns (exclusive)."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Bcq:
    """Planes are signs: ``w = sum_k alpha_k * b_k`` at a kept weight.

    Attributes:
        scales: float16 or float32 (rows, n_groups, q): the alphas.
        group_size: columns that share scales; 0 = the row.
        method: how the scales were fitted; information only.
        field: the signs under a prefix code, or None. Planes, as they are coded, are then the first bits of codewords.
    """

    KIND: ClassVar[str] = "bcq"

    scales: NDArray[Any]
    group_size: int = 0
    method: str = ""
    field: SignField | None = None

    def check(self, shape: tuple[int, ...], dtype: str, bits: int, constants: tuple[int, int]) -> None:
        """Raise FormatError unless a tensor can have such elements."""
        if dtype not in BCQ_DTYPES or not 1 <= bits <= MAX_BITS:
            raise FormatError(f"bcq with dtype {dtype!r} and {bits} planes")
        if not 0 <= self.group_size < MAX_GROUP:
            raise FormatError(f"group_size {self.group_size} of kind bcq")
        rows, cols = as_matrix(shape)
        expected = (rows, n_groups(cols, self.group_size), bits)
        if self.scales.shape != expected:
            raise FormatError(f"scales of shape {self.scales.shape}, not {expected}")
        if self.scales.dtype not in (np.float16, np.float32):
            raise FormatError(f"scales of type {self.scales.dtype}, not float16 or float32")
        if self.field is not None:
            check_unused(self.field.code, bits, constants)

    def check_values(self) -> None:
        """Raise FormatError if a scale is NaN or infinite."""
        if not np.isfinite(self.scales).all():
            raise FormatError("scales that are NaN or infinite")

    def sections(self) -> Mapping[str, NDArray[Any]]:
        """The arrays that a file stores."""
        return {"scales": self.scales, **({} if self.field is None else {"field": self.field.data})}


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Lossless:
    """Planes are the bits of the elements; or of their octets, each an element of the matrix that is coded.

    Attributes:
        field: bits that are under a prefix code, or None. Planes, as they are coded, are those of the elements with the
            first bits of codewords in the field's place.
    """

    KIND: ClassVar[str] = "lossless"

    field: Field | None = None

    def check(self, shape: tuple[int, ...], dtype: str, bits: int, constants: tuple[int, int]) -> None:
        """Raise FormatError unless a tensor can have such elements."""
        n_octets = octets(self.KIND, dtype, bits)
        if dtype not in DTYPES or bits * n_octets != 8 * DTYPES[dtype].itemsize:
            raise FormatError(f"lossless with dtype {dtype!r} and {bits} planes")
        if self.field is None:
            return
        code, layout = self.field.code, self.field.layout
        check_unused(code, bits, constants)
        rows, cols = as_matrix(shape)
        if (layout.rows, layout.cols) != code.plane_shape(rows, cols * n_octets):
            raise FormatError(f"field: layout of {layout.rows} x {layout.cols} bits")

    def check_values(self) -> None:
        """All values are allowed."""

    def sections(self) -> Mapping[str, NDArray[Any]]:
        """The arrays that a file stores."""
        return {} if self.field is None else {"field": self.field.data}


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Trellis:
    """Planes are signs that one code gives together: see :class:`xorpack.tensors.TrellisTensor` for the arithmetic.

    Attributes:
        a: float32 (q,), what each sign counts.
        scales: uint8, float16 or float32 (rows, n_groups).
        group_size: columns that share a scale; 0 = the row.
        gains: float16 (cols,), or None for 1 everywhere.
        n_outliers, outliers: count and bytes of the weights that are kept apart: positions and float16 bits, packed as
            corrections of 16 planes are (:mod:`xorpack.code.corrections`).
    """

    KIND: ClassVar[str] = "trellis"

    a: NDArray[np.float32]
    scales: NDArray[Any]
    group_size: int = 0
    gains: NDArray[np.float16] | None = None
    n_outliers: int = 0
    outliers: NDArray[np.uint8]

    def check(self, shape: tuple[int, ...], dtype: str, bits: int, constants: tuple[int, int]) -> None:
        """Raise FormatError unless a tensor can have such elements."""
        rows, cols = as_matrix(shape)
        if dtype not in BCQ_DTYPES or self.a.shape != (bits,):
            raise FormatError(f"trellis with dtype {dtype!r}, {bits} planes and {self.a.size} alphas")
        if not np.isfinite(self.a).all():
            raise FormatError("alphas that are NaN or infinite")
        if not 0 <= self.group_size < MAX_GROUP:
            raise FormatError(f"group_size {self.group_size} of kind trellis")
        expected = (rows, n_groups(cols, self.group_size))
        if self.scales.shape != expected or self.scales.dtype not in (np.uint8, np.float16, np.float32):
            raise FormatError(
                f"scales of {self.scales.dtype}, {self.scales.shape}, not of octets or floats, {expected}"
            )
        if self.gains is not None and (self.gains.shape != (cols,) or self.gains.dtype != np.float16):
            raise FormatError(f"gains of {self.gains.dtype}, {self.gains.shape}, not of float16, {(cols,)}")
        if not 0 <= self.n_outliers <= rows * cols:
            raise FormatError(f"n_outliers {self.n_outliers} of {rows * cols} weights")
        expected_bytes = sum(packed_sizes(self.n_outliers, rows * cols, 16))
        if self.outliers.size != expected_bytes:
            raise FormatError(f"{self.outliers.size} bytes of outliers, not {expected_bytes}")

    def check_values(self) -> None:
        """Raise FormatError if a scale or gain is NaN or infinite, or if weights could overflow on the way."""
        for name, array in (("scales", self.scales), ("gains", self.gains)):
            if array is not None and not np.isfinite(array).all():
                raise FormatError(f"{name} that are NaN or infinite")
        if not (found := reach(self.a, self.scales, self.gains)) < MAX_REACH:
            raise FormatError(f"a, scales and gains give weights of up to {found:.3g}, not below 2**127")

    def load_outliers(self, n_weights: int) -> Corrections:
        """Positions and float16 bits of the outliers, unpacked and checked.

        Raises:
            FormatError: the bytes break a rule, or a value is NaN, infinite or 0.
        """
        try:
            found = unpack(self.outliers, self.n_outliers, n_weights, 16)
        except FormatError as error:
            raise FormatError(f"outliers: {error}") from None
        values = found.values.astype(np.uint16).view(np.float16)
        if not np.isfinite(values).all() or not values.all():
            raise FormatError("an outlier that is NaN, infinite or 0")
        return found

    def sections(self) -> Mapping[str, NDArray[Any]]:
        """The arrays that a file stores."""
        found = {"scales": self.scales, "gains": self.gains}
        own = {name: array for name, array in found.items() if array is not None}
        return own | ({"outliers": self.outliers} if self.n_outliers else {})


Elements = Bcq | Lossless | Trellis


def check_unused(code: FieldCode, bits: int, constants: tuple[int, int]) -> None:
    """Raise FormatError unless a field is of the planes that there are, and those that it leaves empty are 0."""
    if code.low + code.width > bits:
        raise FormatError(f"field of bits {code.low} to {code.low + code.width - 1} of {bits}")
    if code.unused & ~constants[0]:
        raise FormatError(f"planes {code.unused:#x} of the field are not all constantly 0: {constants[0]:#x}")


def octets(kind: str, dtype: str, bits: int) -> int:
    """Elements of the coded matrix for one of a tensor: its octets where they are coded one by one, else 1."""
    split = kind == Lossless.KIND and bits == 8 and dtype in PACKED_DTYPES
    return DTYPES[dtype].itemsize if split else 1
