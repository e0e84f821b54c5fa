"""Bits of planes made into 32 elements at a time inside numba kernels, and back."""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.core.typing.templates import Signature
from numpy.typing import NDArray

from xorpack.vector.llvm import LANES, bits_of, emits, pointer_to, prefetch, splat


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


def bring(source: NDArray[Any], at: int) -> None:
    """Have what stands at ``source[at]`` brought near, and do not wait."""


def choose_bits(
    source: NDArray[Any],
    at: int,
    bits: NDArray[np.int64],
    planes: NDArray[np.uint32],
    first: int,
    stride: int,
) -> None:
    """Bit j of ``planes[first + k * stride]`` is bit ``bits[k]`` of ``source[at + j]`` (unsigned), for j < 32."""
    elements, ones = source[at : at + LANES], np.uint32(1) << np.arange(LANES, dtype=np.uint32)
    for k, bit in enumerate(bits):
        planes[first + k * stride] = ones[elements >> elements.dtype.type(bit) & 1 != 0].sum(dtype=np.uint32)


def look_up(
    source: NDArray[Any],
    at: int,
    low: int,
    last: int,
    table: NDArray[np.uint32],
    kept: int,
    up: int,
    out: NDArray[Any],
) -> None:
    """Replace symbols: ``out[j]``, for j < 32, is ``table[x >> low & last] << up``, with x in the bits of ``kept``.

    Where x, ``source[at + j]`` (unsigned), is 0, so is ``out[j]``.
    """
    x = source[at : at + LANES].astype(np.int64)
    found = table[x >> low & last].astype(np.int64) << up
    out[:LANES] = np.where(x != 0, x & kept | found, 0).astype(out.dtype)


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


@emits(expand_signs)
def _expand_signs(
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
                bits_of(builder, plane), splat(builder, alpha), splat(builder, builder.fneg(alpha))
            )
            builder.store(builder.fadd(builder.load(total), signed), total)
        result = builder.select(bits_of(builder, args[2]), builder.load(total), zero)
        builder.store(
            result, pointer_to(context, builder, signature.args[0], args[0], args[1], vector), align=4
        )
        return context.get_dummy_value()

    integer = types.int64
    return (
        types.none(out, integer, types.uint32, planes, integer, integer, alphas, integer, integer),
        codegen,
    )


@emits(join_bits)
def _join_bits(
    out: Any, at: Any, planes: Any, first: Any, stride: Any, n_planes: Any
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
            bit = splat(builder, builder.shl(ir.Constant(element, 1), amount))
            zero = ir.Constant(vector, [0] * LANES)
            part = builder.select(bits_of(builder, plane), bit, zero)
            builder.store(builder.or_(builder.load(total), part), total)
        into = pointer_to(context, builder, signature.args[0], args[0], args[1], vector)
        builder.store(builder.load(total), into, align=element.width // 8)
        return context.get_dummy_value()

    integer = types.int64
    return types.none(out, integer, planes, integer, integer, integer), codegen


@emits(split_bits)
def _split_bits(
    source: Any, at: Any, planes: Any, first: Any, stride: Any, n_planes: Any
) -> tuple[Signature, Any]:
    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        element = ir.IntType(signature.args[0].dtype.bitwidth)
        vector = ir.VectorType(element, LANES)
        zero = ir.Constant(vector, [0] * LANES)
        origin = pointer_to(context, builder, signature.args[0], args[0], args[1], vector)
        elements = builder.load(origin, align=element.width // 8)
        with cgutils.for_range(builder, args[5]) as loop:
            amount = builder.trunc(loop.index, element)
            bit = splat(builder, builder.shl(ir.Constant(element, 1), amount))
            is_set = builder.icmp_unsigned("!=", builder.and_(elements, bit), zero)
            where = builder.add(args[3], builder.mul(loop.index, args[4]))
            into = pointer_to(context, builder, signature.args[2], args[2], where, ir.IntType(32))
            builder.store(builder.bitcast(is_set, ir.IntType(32)), into)
        return builder.bitcast(builder.icmp_unsigned("!=", elements, zero), ir.IntType(32))

    integer = types.int64
    return types.uint32(source, integer, planes, integer, integer, integer), codegen


@emits(bring)
def _bring(source: Any, at: Any) -> tuple[Signature, Any]:
    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        prefetch(builder, pointer_to(context, builder, signature.args[0], args[0], args[1], ir.IntType(8)), 3)
        return context.get_dummy_value()

    return types.none(source, types.int64), codegen


@emits(choose_bits)
def _choose_bits(
    source: Any, at: Any, bits: Any, planes: Any, first: Any, stride: Any
) -> tuple[Signature, Any]:
    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        kinds = signature.args
        element = ir.IntType(kinds[0].dtype.bitwidth)
        vector = ir.VectorType(element, LANES)
        origin = pointer_to(context, builder, kinds[0], args[0], args[1], vector)
        elements = builder.load(origin, align=element.width // 8)
        n_bits = cgutils.create_struct_proxy(kinds[2])(context, builder, args[2]).nitems
        with cgutils.for_range(builder, n_bits) as loop:
            bit = builder.load(pointer_to(context, builder, kinds[2], args[2], loop.index, ir.IntType(64)))
            one = splat(builder, builder.shl(ir.Constant(element, 1), builder.trunc(bit, element)))
            is_set = builder.icmp_unsigned(
                "!=", builder.and_(elements, one), ir.Constant(vector, [0] * LANES)
            )
            where = builder.add(args[4], builder.mul(loop.index, args[5]))
            into = pointer_to(context, builder, kinds[3], args[3], where, ir.IntType(32))
            builder.store(builder.bitcast(is_set, ir.IntType(32)), into)
        return context.get_dummy_value()

    integer = types.int64
    return types.none(source, integer, bits, planes, integer, integer), codegen


@emits(look_up)
def _look_up(
    source: Any, at: Any, low: Any, last: Any, table: Any, kept: Any, up: Any, out: Any
) -> tuple[Signature, Any]:
    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        kinds, index = signature.args, ir.IntType(64)
        element, target = (ir.IntType(kinds[k].dtype.bitwidth) for k in (0, 7))
        wide = target if target.width > element.width else element
        wider = ir.VectorType(wide, LANES)

        def resized(value: Any, kind: Any, width: int, into: int) -> Any:
            if width == into:
                return value
            return builder.zext(value, kind) if width < into else builder.trunc(value, kind)

        def spread(value: Any) -> Any:
            return splat(builder, resized(value, wide, 64, wide.width))

        found = ir.Constant(wider, ir.Undefined)
        for j in range(LANES):
            where = builder.add(args[1], ir.Constant(index, j))
            x = builder.load(pointer_to(context, builder, kinds[0], args[0], where, element))
            symbol = builder.and_(builder.lshr(builder.zext(x, index), args[2]), args[3])
            entry = builder.load(pointer_to(context, builder, kinds[4], args[4], symbol, ir.IntType(32)))
            entry = resized(entry, wide, 32, wide.width)
            found = builder.insert_element(found, entry, ir.Constant(ir.IntType(32), j))
        vector = ir.VectorType(element, LANES)
        x = builder.load(pointer_to(context, builder, kinds[0], args[0], args[1], vector), align=1)
        some = builder.icmp_unsigned("!=", x, ir.Constant(vector, [0] * LANES))
        x = resized(x, wider, element.width, wide.width)
        whole = builder.or_(builder.and_(x, spread(args[5])), builder.shl(found, spread(args[6])))
        whole = builder.select(some, whole, ir.Constant(wider, [0] * LANES))
        targets = ir.VectorType(target, LANES)
        whole = resized(whole, targets, wide.width, target.width)
        into = pointer_to(context, builder, kinds[7], args[7], ir.Constant(index, 0), targets)
        builder.store(whole, into, align=target.width // 8)
        return context.get_dummy_value()

    n = types.int64
    return types.none(source, n, n, n, table, n, n, out), codegen


@emits(put_symbols)
def _put_symbols(
    out: Any, at: Any, kept: Any, heads: Any, tails: Any, table: Any, low: Any, width: Any,
    n_raw: Any, n_depths: Any,
) -> tuple[Signature, Any]:  # fmt: skip
    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        kinds, one = signature.args, ir.Constant(ir.IntType(64), 1)
        element, word = ir.IntType(kinds[0].dtype.bitwidth), ir.IntType(32)
        vector = ir.VectorType(word, LANES)

        def ones(n: Any) -> Any:
            return builder.sub(builder.shl(one, n), one)

        def spread(value: Any) -> Any:
            return splat(builder, builder.trunc(value, word))

        def read(k: int) -> Any:
            where = pointer_to(context, builder, kinds[k], args[k], ir.Constant(ir.IntType(64), 0), vector)
            return builder.load(where, align=4)

        up = spread(args[6])
        x = read(3)
        head = builder.and_(builder.lshr(x, up), spread(ones(args[8])))
        index = builder.or_(builder.shl(head, spread(args[9])), read(4))
        symbols = ir.Constant(vector, [0] * LANES)
        for j in range(LANES):
            lane = ir.Constant(word, j)
            place = builder.zext(builder.extract_element(index, lane), ir.IntType(64))
            found = builder.load(pointer_to(context, builder, kinds[5], args[5], place, element))
            found = found if element.width == 32 else builder.zext(found, word)
            symbols = builder.insert_element(symbols, found, lane)
        others = spread(builder.not_(builder.shl(ones(args[7]), args[6])))
        whole = builder.or_(builder.and_(x, others), builder.shl(symbols, up))
        whole = builder.select(bits_of(builder, args[2]), whole, ir.Constant(vector, [0] * LANES))
        target = ir.VectorType(element, LANES)
        whole = whole if element.width == 32 else builder.trunc(whole, target)
        into = pointer_to(context, builder, kinds[0], args[0], args[1], target)
        builder.store(whole, into, align=element.width // 8)
        return context.get_dummy_value()

    n = types.int64
    return types.none(out, n, types.uint32, heads, tails, table, n, n, n, n), codegen
