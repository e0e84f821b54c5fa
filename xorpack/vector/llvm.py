"""What the vector operations of numba kernels are written with: LLVM vectors in flat, contiguous arrays.

Each operation is a plain numpy function for which kernels emit LLVM vectors (:func:`emits`), so that a kernel does not
depend on what the compiler happens to vectorize, and its ``py_func`` runs too. Indices are not checked.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.core.typing.templates import Signature
from numba.extending import lower_builtin, type_callable

Definition = TypeVar("Definition", bound=Callable[..., tuple[Signature, Any]])

VECTOR = 8
"""64-bit words that are treated at once."""

LANES = 32
"""32-bit words that are treated at once."""


def emits(operation: Callable[..., Any]) -> Callable[[Definition], Definition]:
    """Decorator of a function that says what kernels make of ``operation``, a plain one.

    It takes the arguments' types and returns a signature, to whose types arguments are cast, and what emits the code,
    like one of numba's ``intrinsic``. A numba overload of ``operation`` would be compiled by itself as well, for every
    set of types, where it is not used.
    """

    def decorate(definition: Definition) -> Definition:
        @type_callable(operation)  # type: ignore[untyped-decorator]
        def typing(context: Any) -> Any:
            @wraps(definition)
            def signature(*kinds: Any) -> Signature:
                return definition(*kinds)[0]

            return signature

        @lower_builtin(operation, types.VarArg(types.Any))  # type: ignore[untyped-decorator]
        def lower(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            return definition(*signature.args)[1](context, builder, signature, args)

        return definition

    return decorate


def pointer_to(context: Any, builder: Any, kind: Any, array: Any, index: Any, vector: Any) -> Any:
    """Pointer to a vector that begins at element ``index`` of a flat array."""
    data = cgutils.create_struct_proxy(kind)(context, builder, array).data
    return builder.bitcast(builder.gep(data, [index]), vector.as_pointer())


def apart() -> None:
    """Keep the function that says this a function of its own, not part of what calls it.

    For what is seldom called: else what it begins with would be worked out ahead, in the loop that it is in.
    """


@emits(apart)
def _apart() -> tuple[Signature, Any]:
    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        builder.function.attributes.discard(
            "alwaysinline"
        )  # what calls it may be inlined, whose options it has
        builder.function.attributes.add("noinline")
        return context.get_dummy_value()

    return types.none(), codegen


def prefetch(builder: Any, pointer: Any, level: int) -> None:
    """Have what stands at a pointer, even past an array's end, brought near (3: nearest), and do not wait."""
    byte, number = ir.IntType(8).as_pointer(), ir.IntType(32)
    kind = ir.FunctionType(ir.VoidType(), [byte, number, number, number])
    fetch = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0i8")
    reads, data = 0, 1
    how = [ir.Constant(number, value) for value in (reads, level, data)]
    builder.call(fetch, [builder.bitcast(pointer, byte), *how])


def bits_of(builder: Any, word: Any) -> Any:
    """A 32-bit word as 32 booleans, bit 0 first."""
    return builder.bitcast(word, ir.VectorType(ir.IntType(1), LANES))


def splat(builder: Any, value: Any) -> Any:
    """A value in each lane."""
    vector = ir.VectorType(value.type, LANES)
    undefined = ir.Constant(vector, ir.Undefined)
    one = builder.insert_element(undefined, value, ir.Constant(ir.IntType(32), 0))
    zeros = ir.Constant(ir.VectorType(ir.IntType(32), LANES), [0] * LANES)
    return builder.shuffle_vector(one, undefined, zeros)
