"""What the vector operations of numba kernels are written with: LLVM vectors in flat, contiguous arrays.

Each operation is a plain numpy function with a numba overload that emits LLVM vectors, so that a kernel does not
depend on what the compiler happens to vectorize, and its ``py_func`` runs too. Indices are not checked.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba.core import cgutils

VECTOR = 8
"""64-bit words that are treated at once."""

LANES = 32
"""32-bit words that are treated at once."""


def pointer_to(context: Any, builder: Any, kind: Any, array: Any, index: Any, vector: Any) -> Any:
    """Pointer to a vector that begins at element ``index`` of a flat array."""
    data = cgutils.create_struct_proxy(kind)(context, builder, array).data
    return builder.bitcast(builder.gep(data, [index]), vector.as_pointer())


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
