"""Bit counts and moves that read the same in plain Python and inside numba kernels (there: one instruction)."""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.core.typing.templates import Signature

from xorpack.vector import cpu
from xorpack.vector.llvm import emits


def trailing_zeros(value: int) -> int:
    """Zeros below the lowest one of a 64-bit value; 64 for 0."""
    value = int(value)
    return (value & -value).bit_length() - 1 if value else 64


def count_ones(value: int) -> int:
    """Ones in a 64-bit value."""
    return int(value).bit_count()


def extract(value: int, mask: int) -> int:
    """The bits of ``value`` where ``mask`` is 1, moved together at the low end (``pext``)."""
    value, mask, found, n = int(value), int(mask), 0, 0
    while mask:
        low = mask & -mask
        found |= bool(value & low) << n
        mask ^= low
        n += 1
    return found


def deposit(value: int, mask: int) -> int:
    """Inverse of :func:`extract`: the lowest bits of ``value``, moved to where ``mask`` is 1 (``pdep``)."""
    value, mask, found = int(value), int(mask), 0
    while mask:
        low = mask & -mask
        found |= low if value & 1 else 0
        value >>= 1
        mask ^= low
    return found


@emits(trailing_zeros)
def _trailing_zeros(value: Any) -> tuple[Signature, Any]:
    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.cttz(args[0], ir.Constant(ir.IntType(1), 0))

    return types.uint64(types.uint64), codegen


@emits(count_ones)
def _count_ones(value: Any) -> tuple[Signature, Any]:
    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.ctpop(args[0])

    return types.uint64(types.uint64), codegen


def _extract_loop(value: Any, mask: Any) -> Any:
    one = types.uint64(1)
    found, bit = types.uint64(0), one
    while mask:
        rest = mask & (mask - one)
        if value & (mask ^ rest):
            found |= bit
        bit <<= one
        mask = rest
    return found


def _deposit_loop(value: Any, mask: Any) -> Any:
    one, found = types.uint64(1), types.uint64(0)
    while mask:
        rest = mask & (mask - one)
        if value & one:
            found |= mask ^ rest
        value >>= one
        mask = rest
    return found


def _move_bits(name: str, loop: Any) -> tuple[Signature, Any]:
    """Of 64 bits: the instruction ``name`` where the CPU does it in hardware, else ``loop``, compiled."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        if not cpu.moves_bits():
            return context.compile_internal(builder, loop, signature, args)
        kind = ir.FunctionType(ir.IntType(64), [ir.IntType(64)] * 2)
        function = cgutils.get_or_insert_function(builder.module, kind, f"llvm.x86.bmi.{name}.64")
        return builder.call(function, args)

    return types.uint64(types.uint64, types.uint64), codegen


@emits(extract)
def _extract(value: Any, mask: Any) -> tuple[Signature, Any]:
    return _move_bits("pext", _extract_loop)


@emits(deposit)
def _deposit(value: Any, mask: Any) -> tuple[Signature, Any]:
    return _move_bits("pdep", _deposit_loop)
