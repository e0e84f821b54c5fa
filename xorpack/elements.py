"""What the planes of an encoded tensor mean: signs of a quantized weight, or bits of an element."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from xorpack.errors import FormatError
from xorpack.fields.field import Field
from xorpack.tensors import BCQ_DTYPES, DTYPES, MAX_BITS, as_matrix, n_groups

MAX_GROUP = 1 << 48
"""Limit of a group's columns (exclusive)."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Bcq:
    """Planes are signs: ``w = sum_k alpha_k * b_k`` at a kept weight.

    Attributes:
        scales: float16 or float32 (rows, n_groups, q): the alphas.
        group_size: columns that share scales; 0 = the row.
        method: how the scales were fitted; information only.
    """

    KIND: ClassVar[str] = "bcq"

    scales: NDArray[Any]
    group_size: int = 0
    method: str = ""

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

    def check_values(self) -> None:
        """Raise FormatError if a scale is NaN or infinite."""
        if not np.isfinite(self.scales).all():
            raise FormatError("scales that are NaN or infinite")

    def sections(self) -> Mapping[str, NDArray[Any]]:
        """The arrays that a file stores."""
        return {"scales": self.scales}


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Lossless:
    """Planes are the bits of the elements.

    Attributes:
        field: bits that are under a prefix code, or None. Planes, as they are coded, are those of the elements with the
            first bits of codewords in the field's place.
    """

    KIND: ClassVar[str] = "lossless"

    field: Field | None = None

    def check(self, shape: tuple[int, ...], dtype: str, bits: int, constants: tuple[int, int]) -> None:
        """Raise FormatError unless a tensor can have such elements."""
        if dtype not in DTYPES or bits != 8 * DTYPES[dtype].itemsize:
            raise FormatError(f"lossless with dtype {dtype!r} and {bits} planes")
        if self.field is None:
            return
        code, layout = self.field.code, self.field.layout
        if code.low + code.width > bits:
            raise FormatError(f"field of bits {code.low} to {code.low + code.width - 1} of {bits}")
        if code.unused & ~constants[0]:
            raise FormatError(
                f"planes {code.unused:#x} of the field are not all constantly 0: {constants[0]:#x}"
            )
        if (layout.rows, layout.cols) != code.plane_shape(*as_matrix(shape)):
            raise FormatError(f"field: layout of {layout.rows} x {layout.cols} bits")

    def check_values(self) -> None:
        """All values are allowed."""

    def sections(self) -> Mapping[str, NDArray[Any]]:
        """The arrays that a file stores."""
        return {} if self.field is None else {"field": self.field.data}


Elements = Bcq | Lossless
