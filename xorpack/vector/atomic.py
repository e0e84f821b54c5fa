"""What kernels of several threads need: words of int64 arrays that they share, in an order that holds; to wait.

What a thread wrote before :func:`store`, :func:`add` or :func:`swap` is seen by one whose :func:`load`, or whose own
:func:`add` or :func:`swap`, found that value. Arrays are flat and contiguous; indices are not checked.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.core.typing.templates import Signature
from numba.extending import intrinsic

from xorpack.vector import cpu
from xorpack.vector.llvm import pointer_to

_WORD = ir.IntType(64)

yield_core = types.ExternalFunction("sched_yield", types.int32())
"""Let another thread have this one's core, if one waits for it."""


def _at(context: Any, builder: Any, signature: Any, args: Any) -> Any:
    return pointer_to(context, builder, signature.args[0], args[0], args[1], _WORD)


@intrinsic
def load(typingctx: Any, array: Any, index: Any) -> tuple[Signature, Any]:
    """``array[index]``."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.load_atomic(_at(context, builder, signature, args), "acquire", 8)

    return types.int64(array, types.int64), codegen


@intrinsic
def store(typingctx: Any, array: Any, index: Any, value: Any) -> tuple[Signature, Any]:
    """``array[index] = value``."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        builder.store_atomic(args[2], _at(context, builder, signature, args), "release", 8)
        return context.get_dummy_value()

    return types.none(array, types.int64, types.int64), codegen


@intrinsic
def add(typingctx: Any, array: Any, index: Any, value: Any) -> tuple[Signature, Any]:
    """``array[index] += value``."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        builder.atomic_rmw("add", _at(context, builder, signature, args), args[2], "acq_rel")
        return context.get_dummy_value()

    return types.none(array, types.int64, types.int64), codegen


@intrinsic
def swap(typingctx: Any, array: Any, index: Any, old: Any, new: Any) -> tuple[Signature, Any]:
    """``array[index] = new`` if it is ``old``; what was found there is returned."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        place = _at(context, builder, signature, args)
        found = builder.cmpxchg(place, args[2], args[3], "acq_rel", "acquire")
        return builder.extract_value(found, 0)

    return types.int64(array, types.int64, types.int64, types.int64), codegen


@intrinsic
def pause(typingctx: Any) -> tuple[Signature, Any]:
    """Tell the core that this thread waits for another: some ten nanoseconds."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        if cpu.has("sse2"):
            kind = ir.FunctionType(ir.VoidType(), [])
            builder.call(cgutils.get_or_insert_function(builder.module, kind, "llvm.x86.sse2.pause"), [])
        return context.get_dummy_value()

    return types.none(), codegen


@intrinsic
def nanoseconds(typingctx: Any, clock: Any) -> tuple[Signature, Any]:
    """What a ``clock`` of the system, as :func:`time.clock_gettime` takes it, shows."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        shown = cgutils.alloca_once(builder, _WORD, 2)
        kind = ir.FunctionType(ir.IntType(32), [ir.IntType(32), shown.type])
        read = cgutils.get_or_insert_function(builder.module, kind, "clock_gettime")
        builder.call(read, [builder.trunc(args[0], ir.IntType(32)), shown])
        seconds, rest = (builder.load(builder.gep(shown, [_WORD(i)])) for i in range(2))
        return builder.add(builder.mul(seconds, _WORD(10**9)), rest)

    return types.int64(types.int64), codegen
