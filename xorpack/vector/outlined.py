"""Calls of a kernel as two addresses, that another thread can make: code, and where its arguments lie."""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.core.callconv import RETCODE_USEREXC, Status, excinfo_ptr_t
from numba.core.typing.templates import Signature
from numba.extending import intrinsic

_WORD = ir.IntType(64)
_CODE = ir.FunctionType(_WORD, [_WORD, _WORD, _WORD])
"""Of the arguments' address, ``begin`` and ``end``."""


@intrinsic
def itself(typingctx: Any) -> tuple[Signature, Any]:
    """Addresses of the kernel that this stands in, as :func:`call` takes them: of its code and of its arguments.

    The kernel's first arguments are ``begin``, ``end`` and ``helpers``, which :func:`call` gives, 0 for the last. The
    addresses are good until it returns.
    """

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        kernel = builder.function
        own = context.call_conv.get_arguments(kernel)
        block = cgutils.alloca_once(builder, ir.LiteralStructType([each.type for each in own]))
        for i, each in enumerate(own):
            builder.store(each, cgutils.gep_inbounds(builder, block, 0, i))
        code = ir.Function(builder.module, _CODE, builder.module.get_unique_name("outlined"))
        code.linkage = "internal"
        within = ir.IRBuilder(code.append_basic_block())
        found = within.inttoptr(code.args[0], block.type)
        rest = [within.load(cgutils.gep_inbounds(within, found, 0, i)) for i in range(3, len(own))]
        result, error = (within.alloca(pointer.type.pointee) for pointer in kernel.args[:2])
        status = within.call(kernel, [result, error, *code.args[1:], _WORD(0), *rest])
        raised = within.icmp_signed("==", status, RETCODE_USEREXC)
        within.ret(within.select(raised, within.ptrtoint(within.load(error), _WORD), _WORD(0)))
        return context.make_tuple(
            builder, signature.return_type, [builder.ptrtoint(code, _WORD), builder.ptrtoint(block, _WORD)]
        )

    return types.UniTuple(types.int64, 2)(), codegen


@intrinsic
def call(typingctx: Any, code: Any, block: Any, begin: Any, end: Any) -> tuple[Signature, Any]:
    """Make the call; 0 is returned, or what :func:`fail` takes if the kernel raised."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.call(builder.inttoptr(args[0], _CODE.as_pointer()), args[1:])

    return types.int64(types.int64, types.int64, types.int64, types.int64), codegen


@intrinsic
def fail(typingctx: Any, error: Any) -> tuple[Signature, Any]:
    """Raise what :func:`call` caught, if it is anything."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        with builder.if_then(builder.icmp_unsigned("!=", args[0], _WORD(0)), likely=False):
            nothing = dict.fromkeys(Status._fields)
            raised = {"code": RETCODE_USEREXC, "excinfoptr": builder.inttoptr(args[0], excinfo_ptr_t)}
            context.call_conv.return_status_propagate(builder, Status(**{**nothing, **raised}))
        return context.get_dummy_value()

    return types.none(types.int64), codegen
