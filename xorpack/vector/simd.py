"""Vector operations inside numba kernels: 8 words of 64 bits or 32 of 32 at a time, whatever the CPU has.

Each is a plain numpy function with a numba overload that emits LLVM vectors, so that a kernel does not
depend on what the compiler happens to vectorize, and its ``py_func`` runs too. Arrays are flat and
contiguous; indices are not checked.
"""

from __future__ import annotations

from functools import reduce
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

USUAL_TAPS = (6, 1)
"""Taps of a row of the default network, and of planes that are kept raw: for these there is code without a loop."""

LANES = 32
"""32-bit words that :func:`xor_taps` and :func:`and_lanes` treat at once."""


def xor8(
    target: NDArray[np.uint64], i: int, a: NDArray[np.uint64], j: int, b: NDArray[np.uint64], k: int
) -> None:
    """``target[i : i + 8] = a[j : j + 8] ^ b[k : k + 8]``."""
    target[i : i + VECTOR] = a[j : j + VECTOR] ^ b[k : k + VECTOR]


def xor_taps(
    target: NDArray[np.uint32],
    to: int,
    source: NDArray[np.uint32],
    here: int,
    stride: int,
    offsets: NDArray[np.int32],
    rotations: NDArray[np.int32],
    first: int,
    n_taps: int,
    n_planes: int,
    size: int,
) -> None:
    """One step of 32 lanes: the XOR of ``n_taps`` rotated rows of ``source``, twice into ``target[to : to + 64]``.

    ``target[to + lane] = XOR over k of rotl(source[here + stride * offsets[first + k] + lane], rotations[first + k])``,
    and the same 32 further, so that any rotation of the lanes is 32 neighbours. Of each plane: those of ``source`` are
    ``size`` words apart, those of ``target`` 64. Flat contiguous arrays, unchecked.
    """
    for plane in range(n_planes):
        total = np.zeros(LANES, np.uint32)
        for k in range(first, first + n_taps):
            at = plane * size + here + stride * int(offsets[k])
            words = source[at : at + LANES].astype(np.uint64) << np.uint64(rotations[k])
            total ^= (words | words >> np.uint64(32)).astype(np.uint32)
        target[to + 64 * plane : to + 64 * plane + LANES] = total
        target[to + 64 * plane + LANES : to + 64 * plane + 2 * LANES] = total


def and_lanes(
    target: NDArray[np.uint32], i: int, a: NDArray[np.uint32], j: int, b: NDArray[np.uint32], k: int
) -> None:
    """``target[i : i + 32] = a[j : j + 32] & b[k : k + 32]`` on flat contiguous arrays, unchecked."""
    target[i : i + LANES] = a[j : j + LANES] & b[k : k + LANES]


def copy_words(target: NDArray[np.uint32], to: int, source: NDArray[np.uint32], at: int, n: int) -> None:
    """``target[to : to + n] = source[at : at + n]`` on flat contiguous arrays that do not overlap, unchecked."""
    target[to : to + n] = source[at : at + n]


def expand_signs(
    out: NDArray[np.float32],
    at: int,
    kept: int,
    planes: NDArray[np.uint32],
    first: int,
    stride: int,
    alphas: NDArray[np.float32],
    alpha_at: int,
    n_planes: int,
) -> None:
    """One word of BCQ: ``out[at + j] = sum_k +-alphas[alpha_at + k]`` for j < 32, +0 where pruned.

    The sign of plane k is + where bit j of ``planes[first + k * stride]`` is 1; sums run from plane 0.
    """
    bits = np.arange(LANES, dtype=np.uint32)
    total = np.zeros(LANES, np.float32)
    for k in range(n_planes):
        alpha = alphas[alpha_at + k]
        total += np.where(planes[first + k * stride] >> bits & 1, alpha, -alpha)
    out[at : at + LANES] = np.where(np.uint32(kept) >> bits & 1, total, np.float32(0))


def join_bits(
    out: NDArray[Any], at: int, planes: NDArray[np.uint32], first: int, stride: int, n_planes: int
) -> None:
    """Bit k of ``out[at + j]`` (unsigned) is bit j of ``planes[first + k * stride]``, for j < 32."""
    bits = np.arange(LANES, dtype=np.uint32)
    total = np.zeros(LANES, out.dtype)
    for k in range(n_planes):
        total |= (planes[first + k * stride] >> bits & 1).astype(out.dtype) << out.dtype.type(k)
    out[at : at + LANES] = total


def split_bits(
    source: NDArray[Any], at: int, planes: NDArray[np.uint32], first: int, stride: int, n_planes: int
) -> np.uint32:
    """Inverse of :func:`join_bits`; returns a word with bit j set where ``source[at + j]`` is not 0."""
    elements = source[at : at + LANES]
    bits = np.uint32(1) << np.arange(LANES, dtype=np.uint32)
    for k in range(n_planes):
        planes[first + k * stride] = bits[(elements >> elements.dtype.type(k) & 1) != 0].sum(dtype=np.uint32)
    return np.uint32(bits[elements != 0].sum(dtype=np.uint32))


def put_symbols(
    out: NDArray[Any],
    at: int,
    kept: int,
    heads: NDArray[np.uint32],
    tails: NDArray[np.uint32],
    table: NDArray[Any],
    low: int,
    width: int,
    n_raw: int,
    n_depths: int,
) -> None:
    """``out[at + j]``, for j < 32, is ``heads[j]`` with a symbol as its ``width`` bits from ``low`` on; 0 where pruned.

    The symbol stands in ``table``, of the type of ``out``: its index is the first ``n_raw`` of these bits, times
    ``2**n_depths``, plus ``tails[j]``.
    """
    bits = np.arange(LANES, dtype=np.uint32)
    x = heads[:LANES].astype(np.int64)
    symbols = table[(x >> low & (1 << n_raw) - 1) << n_depths | tails[:LANES]].astype(np.int64)
    x = x & ~(((1 << width) - 1) << low) | symbols << low
    out[at : at + LANES] = np.where(np.uint32(kept) >> bits & 1, x, 0).astype(out.dtype)


def pointer_to(context: Any, builder: Any, kind: Any, array: Any, index: Any, vector: Any) -> Any:
    """Pointer to a vector that begins at element ``index`` of a flat array."""
    data = cgutils.create_struct_proxy(kind)(context, builder, array).data
    return builder.bitcast(builder.gep(data, [index]), vector.as_pointer())


def _bits_of(builder: Any, word: Any) -> Any:
    """A 32-bit word as 32 booleans, bit 0 first."""
    return builder.bitcast(word, ir.VectorType(ir.IntType(1), LANES))


def _splat(builder: Any, value: Any) -> Any:
    vector = ir.VectorType(value.type, LANES)
    undefined = ir.Constant(vector, ir.Undefined)
    one = builder.insert_element(undefined, value, ir.Constant(ir.IntType(32), 0))
    zeros = ir.Constant(ir.VectorType(ir.IntType(32), LANES), [0] * LANES)
    return builder.shuffle_vector(one, undefined, zeros)


@intrinsic
def _xor_taps(
    typingctx: Any,
    target: Any,
    to: Any,
    source: Any,
    here: Any,
    stride: Any,
    offsets: Any,
    rotations: Any,
    first: Any,
    n_taps: Any,
    n_planes: Any,
    size: Any,
) -> tuple[Signature, Any]:
    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        word, index = ir.IntType(32), ir.IntType(64)
        vector = ir.VectorType(word, LANES)
        zero = ir.Constant(vector, [0] * LANES)
        rotate = cgutils.get_or_insert_function(
            builder.module, ir.FunctionType(vector, [vector] * 3), f"llvm.fshl.v{LANES}i32"
        )

        def at(n: int, where: Any, kind: Any) -> Any:
            return pointer_to(context, builder, signature.args[n], args[n], where, kind)

        def tap(k: Any) -> tuple[Any, Any]:
            offset = builder.zext(builder.load(at(5, k, word)), index)
            begin = builder.add(args[3], builder.mul(offset, args[4]))
            return begin, _splat(builder, builder.load(at(6, k, word)))

        def turned(found: tuple[Any, Any], plane: Any) -> Any:
            begin, amount = found
            words = builder.load(at(2, builder.add(begin, plane), vector), align=4)
            return builder.call(rotate, [words, words, amount])

        def store(total: Any, plane: Any) -> None:
            for half in (0, LANES):
                where = builder.add(args[1], builder.mul(plane, ir.Constant(index, 2 * LANES)))
                where = builder.add(where, ir.Constant(index, half))
                builder.store(total, at(0, where, vector), align=4)

        def straight(n: int) -> None:
            known = [tap(builder.add(args[7], ir.Constant(index, k))) for k in range(n)]
            with cgutils.for_range(builder, args[9]) as planes:
                begin = builder.mul(planes.index, args[10])
                store(reduce(builder.xor, [turned(each, begin) for each in known]), planes.index)

        def any_number(usual: tuple[int, ...]) -> None:
            if usual:
                known = builder.icmp_signed("==", args[8], ir.Constant(index, usual[0]))
                with builder.if_else(known) as (yes, no):
                    with yes:
                        straight(usual[0])
                    with no:
                        any_number(usual[1:])
                return
            with cgutils.for_range(builder, args[9]) as planes:
                total = cgutils.alloca_once_value(builder, zero)
                builder.store(zero, total)
                begin = builder.mul(planes.index, args[10])
                with cgutils.for_range(builder, args[8]) as loop:
                    found = turned(tap(builder.add(args[7], loop.index)), begin)
                    builder.store(builder.xor(builder.load(total), found), total)
                store(builder.load(total), planes.index)

        any_number(USUAL_TAPS)
        return context.get_dummy_value()

    integer = types.int64
    return types.none(
        target, integer, source, integer, integer, offsets, rotations, integer, integer, integer, integer
    ), codegen


def _combine(operation: str, element: Any, n: int) -> Any:
    """Code generator of ``target[i : i + n] = a[j : j + n] OPERATION b[k : k + n]``."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        vector = ir.VectorType(element, n)
        into, left, right = (
            pointer_to(context, builder, signature.args[x], args[x], args[x + 1], vector) for x in (0, 2, 4)
        )
        align = element.width // 8
        operands = builder.load(left, align=align), builder.load(right, align=align)
        builder.store(getattr(builder, operation)(*operands), into, align=align)
        return context.get_dummy_value()

    return codegen


@intrinsic
def _xor8(typingctx: Any, target: Any, i: Any, a: Any, j: Any, b: Any, k: Any) -> tuple[Signature, Any]:
    integer = types.int64
    return types.none(target, integer, a, integer, b, integer), _combine("xor", ir.IntType(64), VECTOR)


@intrinsic
def _and_lanes(typingctx: Any, target: Any, i: Any, a: Any, j: Any, b: Any, k: Any) -> tuple[Signature, Any]:
    integer = types.int64
    return types.none(target, integer, a, integer, b, integer), _combine("and_", ir.IntType(32), LANES)


@intrinsic
def _copy_words(typingctx: Any, target: Any, to: Any, source: Any, at: Any, n: Any) -> tuple[Signature, Any]:
    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        word = ir.IntType(32)
        into, origin = (
            pointer_to(context, builder, signature.args[k], args[k], args[k + 1], word) for k in (0, 2)
        )
        cgutils.raw_memcpy(builder, into, origin, args[4], 4, align=4)
        return context.get_dummy_value()

    integer = types.int64
    return types.none(target, integer, source, integer, integer), codegen


@intrinsic
def _expand_signs(
    typingctx: Any,
    out: Any,
    at: Any,
    kept: Any,
    planes: Any,
    first: Any,
    stride: Any,
    alphas: Any,
    alpha_at: Any,
    n_planes: Any,
) -> tuple[Signature, Any]:
    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        vector = ir.VectorType(ir.FloatType(), LANES)
        zero = ir.Constant(vector, [0.0] * LANES)
        total = cgutils.alloca_once_value(builder, zero)
        with cgutils.for_range(builder, args[8]) as loop:
            where = builder.add(args[4], builder.mul(loop.index, args[5]))
            plane = builder.load(
                pointer_to(context, builder, signature.args[3], args[3], where, ir.IntType(32))
            )
            where = builder.add(args[7], loop.index)
            alpha = builder.load(
                pointer_to(context, builder, signature.args[6], args[6], where, ir.FloatType())
            )
            signed = builder.select(
                _bits_of(builder, plane), _splat(builder, alpha), _splat(builder, builder.fneg(alpha))
            )
            builder.store(builder.fadd(builder.load(total), signed), total)
        result = builder.select(_bits_of(builder, args[2]), builder.load(total), zero)
        builder.store(
            result, pointer_to(context, builder, signature.args[0], args[0], args[1], vector), align=4
        )
        return context.get_dummy_value()

    integer = types.int64
    return (
        types.none(out, integer, types.uint32, planes, integer, integer, alphas, integer, integer),
        codegen,
    )


@intrinsic
def _join_bits(
    typingctx: Any, out: Any, at: Any, planes: Any, first: Any, stride: Any, n_planes: Any
) -> tuple[Signature, Any]:
    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        element = ir.IntType(signature.args[0].dtype.bitwidth)
        vector = ir.VectorType(element, LANES)
        total = cgutils.alloca_once_value(builder, ir.Constant(vector, [0] * LANES))
        with cgutils.for_range(builder, args[5]) as loop:
            where = builder.add(args[3], builder.mul(loop.index, args[4]))
            plane = builder.load(
                pointer_to(context, builder, signature.args[2], args[2], where, ir.IntType(32))
            )
            amount = loop.index if element.width == 64 else builder.trunc(loop.index, element)
            bit = _splat(builder, builder.shl(ir.Constant(element, 1), amount))
            zero = ir.Constant(vector, [0] * LANES)
            part = builder.select(_bits_of(builder, plane), bit, zero)
            builder.store(builder.or_(builder.load(total), part), total)
        into = pointer_to(context, builder, signature.args[0], args[0], args[1], vector)
        builder.store(builder.load(total), into, align=element.width // 8)
        return context.get_dummy_value()

    integer = types.int64
    return types.none(out, integer, planes, integer, integer, integer), codegen


@intrinsic
def _split_bits(
    typingctx: Any, source: Any, at: Any, planes: Any, first: Any, stride: Any, n_planes: Any
) -> tuple[Signature, Any]:
    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        element = ir.IntType(signature.args[0].dtype.bitwidth)
        vector = ir.VectorType(element, LANES)
        zero = ir.Constant(vector, [0] * LANES)
        origin = pointer_to(context, builder, signature.args[0], args[0], args[1], vector)
        elements = builder.load(origin, align=element.width // 8)
        with cgutils.for_range(builder, args[5]) as loop:
            amount = builder.trunc(loop.index, element)
            bit = _splat(builder, builder.shl(ir.Constant(element, 1), amount))
            is_set = builder.icmp_unsigned("!=", builder.and_(elements, bit), zero)
            where = builder.add(args[3], builder.mul(loop.index, args[4]))
            into = pointer_to(context, builder, signature.args[2], args[2], where, ir.IntType(32))
            builder.store(builder.bitcast(is_set, ir.IntType(32)), into)
        return builder.bitcast(builder.icmp_unsigned("!=", elements, zero), ir.IntType(32))

    integer = types.int64
    return types.uint32(source, integer, planes, integer, integer, integer), codegen


@intrinsic
def _put_symbols(
    typingctx: Any, out: Any, at: Any, kept: Any, heads: Any, tails: Any, table: Any, low: Any, width: Any,
    n_raw: Any, n_depths: Any,
) -> tuple[Signature, Any]:  # fmt: skip
    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        kinds, one = signature.args, ir.Constant(ir.IntType(64), 1)
        element, word = ir.IntType(kinds[0].dtype.bitwidth), ir.IntType(32)
        vector = ir.VectorType(word, LANES)

        def ones(n: Any) -> Any:
            return builder.sub(builder.shl(one, n), one)

        def splat(value: Any) -> Any:
            return _splat(builder, builder.trunc(value, word))

        def read(k: int) -> Any:
            where = pointer_to(context, builder, kinds[k], args[k], ir.Constant(ir.IntType(64), 0), vector)
            return builder.load(where, align=4)

        up = splat(args[6])
        x = read(3)
        head = builder.and_(builder.lshr(x, up), splat(ones(args[8])))
        index = builder.or_(builder.shl(head, splat(args[9])), read(4))
        symbols = ir.Constant(vector, [0] * LANES)
        for j in range(LANES):
            lane = ir.Constant(word, j)
            place = builder.zext(builder.extract_element(index, lane), ir.IntType(64))
            found = builder.load(pointer_to(context, builder, kinds[5], args[5], place, element))
            found = found if element.width == 32 else builder.zext(found, word)
            symbols = builder.insert_element(symbols, found, lane)
        others = splat(builder.not_(builder.shl(ones(args[7]), args[6])))
        whole = builder.or_(builder.and_(x, others), builder.shl(symbols, up))
        whole = builder.select(_bits_of(builder, args[2]), whole, ir.Constant(vector, [0] * LANES))
        target = ir.VectorType(element, LANES)
        whole = whole if element.width == 32 else builder.trunc(whole, target)
        into = pointer_to(context, builder, kinds[0], args[0], args[1], target)
        builder.store(whole, into, align=element.width // 8)
        return context.get_dummy_value()

    n = types.int64
    return types.none(out, n, types.uint32, heads, tails, table, n, n, n, n), codegen


@overload(xor8, inline="always")
def _xor8_overload(target, i, a, j, b, k):
    return lambda target, i, a, j, b, k: _xor8(target, i, a, j, b, k)


@overload(xor_taps, inline="always")
def _xor_taps_overload(target, to, source, here, stride, offsets, rotations, first, n_taps, n_planes, size):
    return lambda target, to, source, here, stride, offsets, rotations, first, n_taps, n_planes, size: (
        _xor_taps(target, to, source, here, stride, offsets, rotations, first, n_taps, n_planes, size)
    )


@overload(and_lanes, inline="always")
def _and_lanes_overload(target, i, a, j, b, k):
    return lambda target, i, a, j, b, k: _and_lanes(target, i, a, j, b, k)


@overload(copy_words, inline="always")
def _copy_words_overload(target, to, source, at, n):
    return lambda target, to, source, at, n: _copy_words(target, to, source, at, n)


@overload(expand_signs, inline="always")
def _expand_signs_overload(out, at, kept, planes, first, stride, alphas, alpha_at, n_planes):
    return lambda out, at, kept, planes, first, stride, alphas, alpha_at, n_planes: _expand_signs(
        out, at, kept, planes, first, stride, alphas, alpha_at, n_planes
    )


@overload(join_bits, inline="always")
def _join_bits_overload(out, at, planes, first, stride, n_planes):
    return lambda out, at, planes, first, stride, n_planes: _join_bits(
        out, at, planes, first, stride, n_planes
    )


@overload(split_bits, inline="always")
def _split_bits_overload(source, at, planes, first, stride, n_planes):
    return lambda source, at, planes, first, stride, n_planes: _split_bits(
        source, at, planes, first, stride, n_planes
    )


@overload(put_symbols, inline="always")
def _put_symbols_overload(out, at, kept, heads, tails, table, low, width, n_raw, n_depths):
    return lambda out, at, kept, heads, tails, table, low, width, n_raw, n_depths: _put_symbols(
        out, at, kept, heads, tails, table, low, width, n_raw, n_depths
    )
