"""Bit counts that read the same in plain Python and inside numba kernels (there: one instruction)."""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.core.typing.templates import Signature
from numba.extending import intrinsic, overload


def trailing_zeros(value: int) -> int:
    """Zeros below the lowest one of a 64-bit value; 64 for 0."""
    value = int(value)
    return (value & -value).bit_length() - 1 if value else 64


def count_ones(value: int) -> int:
    """Ones in a 64-bit value."""
    return int(value).bit_count()


@intrinsic
def _cttz(typingctx: Any, value: Any) -> tuple[Signature, Any]:
    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.cttz(args[0], ir.Constant(ir.IntType(1), 0))

    return types.uint64(types.uint64), codegen


@intrinsic
def _ctpop(typingctx: Any, value: Any) -> tuple[Signature, Any]:
    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.ctpop(args[0])

    return types.uint64(types.uint64), codegen


@overload(trailing_zeros, inline="always")
def _trailing_zeros(value):
    return lambda value: _cttz(types.uint64(value))


@overload(count_ones, inline="always")
def _count_ones(value):
    return lambda value: _ctpop(types.uint64(value))
