"""Bit operations that read the same in plain Python and inside numba kernels (there: one instruction).

Each is an ordinary function with a numba overload, so that a kernel's ``py_func`` runs too.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.core.typing.templates import Signature
from numba.extending import intrinsic, overload
from numpy.typing import NDArray

VECTOR = 8
"""64-bit words that :func:`xor8` treats at once."""


def trailing_zeros(value: int) -> int:
    """Zeros below the lowest one of a 64-bit value; 64 for 0."""
    value = int(value)
    return (value & -value).bit_length() - 1 if value else 64


def count_ones(value: int) -> int:
    """Ones in a 64-bit value."""
    return int(value).bit_count()


def xor8(target: NDArray[np.uint64], i: int, source: NDArray[np.uint64], j: int) -> None:
    """``target[i : i + 8] ^= source[j : j + 8]`` on flat contiguous uint64 arrays, unchecked."""
    target[i : i + VECTOR] ^= source[j : j + VECTOR]


@intrinsic  # type: ignore[untyped-decorator]
def _cttz(typingctx: Any, value: Any) -> tuple[Signature, Any]:
    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.cttz(args[0], ir.Constant(ir.IntType(1), 0))

    return types.uint64(types.uint64), codegen


@intrinsic  # type: ignore[untyped-decorator]
def _ctpop(typingctx: Any, value: Any) -> tuple[Signature, Any]:
    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.ctpop(args[0])

    return types.uint64(types.uint64), codegen


@intrinsic  # type: ignore[untyped-decorator]
def _xor8(typingctx: Any, target: Any, i: Any, source: Any, j: Any) -> tuple[Signature, Any]:
    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        vector = ir.VectorType(ir.IntType(64), VECTOR).as_pointer()

        def pointer(array: int, index: int) -> Any:
            data = cgutils.create_struct_proxy(signature.args[array])(
                context, builder, args[array]
            ).data
            return builder.bitcast(builder.gep(data, [args[index]]), vector)

        into = pointer(0, 1)
        mixed = builder.xor(
            builder.load(into, align=8), builder.load(pointer(2, 3), align=8)
        )
        builder.store(mixed, into, align=8)
        return context.get_dummy_value()

    return types.none(target, types.int64, source, types.int64), codegen


@overload(trailing_zeros, inline="always")
def _trailing_zeros(value):  # type: ignore[no-untyped-def]
    return lambda value: _cttz(types.uint64(value))


@overload(count_ones, inline="always")
def _count_ones(value):  # type: ignore[no-untyped-def]
    return lambda value: _ctpop(types.uint64(value))


@overload(xor8, inline="always")
def _xor8_overload(target, i, source, j):  # type: ignore[no-untyped-def]
    return lambda target, i, source, j: _xor8(target, i, source, j)
