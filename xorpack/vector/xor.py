"""XOR, AND and copies inside numba kernels: 8 words of 64 bits or 32 of 32 at a time."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import reduce
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.core.typing.templates import Signature
from numpy.typing import NDArray

from xorpack.vector.llvm import LANES, VECTOR, emits, pointer_to, splat

ALIKE = (6, 3)
"""Taps of a row of a ``turned`` network, and how many of them have its rotation: no other number is of use."""
ROW = 16
"""Words of a row that stand together where :func:`put_words` puts them."""
USUAL_TAPS = (6, 1)
"""Taps of a row of a quasi-cyclic network, and of planes that are kept raw: for these there is code without a loop."""


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
    n_alike: int,
    n_planes: int,
    size: int,
    n_steps: int,
) -> None:
    """Steps of 32 lanes: the XOR of ``n_taps`` rotated rows of ``source``, twice into ``target[to : to + 64]``.

    ``target[to + lane] = XOR over k of rotl(source[here + stride * offsets[first + k] + lane], rotations[first + k])``,
    and the same 32 further, so that any rotation of the lanes is 32 neighbours. Of each plane: those of ``source`` are
    ``size`` words apart, those of ``target`` 64. Where ``n_alike`` is not 0, the first so many taps have one rotation
    and the others none. The same of ``n_steps`` in turn, their taps and what is made of them one behind another.
    Flat contiguous arrays, unchecked.
    """
    for _ in range(n_steps):
        for plane in range(n_planes):
            total = np.zeros(LANES, np.uint32)
            for k in range(first, first + n_taps):
                at = plane * size + here + stride * int(offsets[k])
                words = source[at : at + LANES].astype(np.uint64) << np.uint64(rotations[k])
                total ^= (words | words >> np.uint64(32)).astype(np.uint32)
            target[to + 64 * plane : to + 64 * plane + LANES] = total
            target[to + 64 * plane + LANES : to + 64 * plane + 2 * LANES] = total
        first += n_taps
        to += 64 * n_planes


def and_lanes(
    target: NDArray[np.uint32], i: int, a: NDArray[np.uint32], j: int, b: NDArray[np.uint32], k: int
) -> None:
    """``target[i : i + 32] = a[j : j + 32] & b[k : k + 32]`` on flat contiguous arrays, unchecked."""
    target[i : i + LANES] = a[j : j + LANES] & b[k : k + LANES]


def choose_words(
    target: NDArray[np.uint32],
    to: int,
    a: NDArray[np.uint32],
    i: int,
    b: NDArray[np.uint32],
    j: int,
    flip: int,
    n: int,
) -> None:
    """``target[to : to + n] = a[i : i + n] & (b[j : j + n] ^ flip)`` on flat contiguous arrays, unchecked."""
    target[to : to + n] = a[i : i + n] & (b[j : j + n] ^ np.uint32(flip))


def put_words(
    target: NDArray[np.uint32],
    to: int,
    step: int,
    keep: int,
    a: NDArray[np.uint32],
    i: int,
    b: NDArray[np.uint32],
    j: int,
    flip: int,
    n: int,
) -> None:
    """``t = t & keep | a[i + x] & (b[j + x] ^ flip)``, t = ``target[to + step * (x // 16) + x % 16]``, for x < n.

    On flat contiguous arrays, unchecked.
    """
    x = np.arange(n)
    place = to + step * (x // ROW) + x % ROW
    chosen = a[i : i + n] & (b[j : j + n] ^ np.uint32(flip))
    target[place] = target[place] & np.uint32(keep) | chosen


def copy_words(target: NDArray[np.uint32], to: int, source: NDArray[np.uint32], at: int, n: int) -> None:
    """``target[to : to + n] = source[at : at + n]`` on flat contiguous arrays that do not overlap, unchecked."""
    target[to : to + n] = source[at : at + n]


@emits(xor_taps)
def _xor_taps(
    target: Any,
    to: Any,
    source: Any,
    here: Any,
    stride: Any,
    offsets: Any,
    rotations: Any,
    first: Any,
    n_taps: Any,
    n_alike: Any,
    n_planes: Any,
    size: Any,
    n_steps: Any,
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
            return begin, splat(builder, builder.load(at(6, k, word)))

        def plain(found: tuple[Any, Any], plane: Any) -> Any:
            return builder.load(at(2, builder.add(found[0], plane), vector), align=4)

        def turned(found: tuple[Any, Any], plane: Any) -> Any:
            words = plain(found, plane)
            return builder.call(rotate, [words, words, found[1]])

        def store(total: Any, step: Any, plane: Any) -> None:
            number = builder.add(builder.mul(step, args[10]), plane)
            for half in (0, LANES):
                where = builder.add(args[1], builder.mul(number, ir.Constant(index, 2 * LANES)))
                where = builder.add(where, ir.Constant(index, half))
                builder.store(total, at(0, where, vector), align=4)

        @contextmanager
        def steps() -> Iterator[tuple[Any, Any]]:
            """Loop over steps: which one it is, and its first tap."""
            with cgutils.for_range(builder, args[12]) as loop:
                yield loop.index, builder.add(args[7], builder.mul(loop.index, args[8]))

        def straight(n: int) -> None:
            with steps() as (step, first):
                known = [tap(builder.add(first, ir.Constant(index, k))) for k in range(n)]
                with cgutils.for_range(builder, args[10]) as planes:
                    begin = builder.mul(planes.index, args[11])
                    store(reduce(builder.xor, [turned(each, begin) for each in known]), step, planes.index)

        def alike(n: int, n_turned: int) -> None:
            with steps() as (step, first):
                known = [tap(builder.add(first, ir.Constant(index, k))) for k in range(n)]
                with cgutils.for_range(builder, args[10]) as planes:
                    words = [plain(each, builder.mul(planes.index, args[11])) for each in known]
                    sums = [reduce(builder.xor, part) for part in (words[:n_turned], words[n_turned:])]
                    rotated = builder.call(rotate, [sums[0], sums[0], known[0][1]])
                    store(builder.xor(rotated, sums[1]), step, planes.index)

        def any_number(usual: tuple[int, ...]) -> None:
            if usual:
                known = builder.icmp_signed("==", args[8], ir.Constant(index, usual[0]))
                with builder.if_else(known) as (yes, no):
                    with yes:
                        straight(usual[0])
                    with no:
                        any_number(usual[1:])
                return
            with steps() as (step, first), cgutils.for_range(builder, args[10]) as planes:
                total = cgutils.alloca_once_value(builder, zero)
                builder.store(zero, total)
                begin = builder.mul(planes.index, args[11])
                with cgutils.for_range(builder, args[8]) as loop:
                    found = turned(tap(builder.add(first, loop.index)), begin)
                    builder.store(builder.xor(builder.load(total), found), total)
                store(builder.load(total), step, planes.index)

        with builder.if_else(builder.icmp_signed("==", args[9], ir.Constant(index, ALIKE[1]))) as (yes, no):
            with yes:
                alike(*ALIKE)
            with no:
                any_number(USUAL_TAPS)
        return context.get_dummy_value()

    integer = types.int64
    return types.none(
        *(target, integer, source, integer, integer, offsets, rotations),
        *(integer, integer, integer, integer, integer, integer),
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


@emits(xor8)
def _xor8(target: Any, i: Any, a: Any, j: Any, b: Any, k: Any) -> tuple[Signature, Any]:
    integer = types.int64
    return types.none(target, integer, a, integer, b, integer), _combine("xor", ir.IntType(64), VECTOR)


@emits(and_lanes)
def _and_lanes(target: Any, i: Any, a: Any, j: Any, b: Any, k: Any) -> tuple[Signature, Any]:
    integer = types.int64
    return types.none(target, integer, a, integer, b, integer), _combine("and_", ir.IntType(32), LANES)


def _each(builder: Any, n: Any, size: int, emit: Any) -> None:
    """Emit ``emit(at, kind)`` for ``n`` words: ``size`` of them at a time, then one by one."""
    index, word = ir.IntType(64), ir.IntType(32)
    many = ir.Constant(index, size)
    whole = builder.udiv(n, many)
    with cgutils.for_range(builder, whole) as loop:
        emit(builder.mul(loop.index, many), ir.VectorType(word, size))
    with cgutils.for_range_slice(builder, builder.mul(whole, many), n, ir.Constant(index, 1)) as (at, _):
        emit(at, word)


def _spread(builder: Any, word: Any, kind: Any) -> Any:
    """A word as ``kind``: itself, or in each lane of a vector."""
    if not isinstance(kind, ir.VectorType):
        return word
    undefined = ir.Constant(kind, ir.Undefined)
    one = builder.insert_element(undefined, word, ir.Constant(ir.IntType(32), 0))
    return builder.shuffle_vector(
        one, undefined, ir.Constant(ir.VectorType(ir.IntType(32), kind.count), [0] * kind.count)
    )


@emits(choose_words)
def _choose_words(
    target: Any, to: Any, a: Any, i: Any, b: Any, j: Any, flip: Any, n: Any
) -> tuple[Signature, Any]:
    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        def emit(at: Any, kind: Any) -> None:
            into, left, right = (
                pointer_to(context, builder, signature.args[k], args[k], builder.add(args[k + 1], at), kind)
                for k in (0, 2, 4)
            )
            chosen = builder.xor(builder.load(right, align=4), _spread(builder, args[6], kind))
            builder.store(builder.and_(builder.load(left, align=4), chosen), into, align=4)

        _each(builder, args[7], LANES, emit)
        return context.get_dummy_value()

    integer = types.int64
    return types.none(target, integer, a, integer, b, integer, types.uint32, integer), codegen


@emits(put_words)
def _put_words(
    target: Any, to: Any, step: Any, keep: Any, a: Any, i: Any, b: Any, j: Any, flip: Any, n: Any
) -> tuple[Signature, Any]:
    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        def emit(at: Any, kind: Any) -> None:
            size = ir.Constant(at.type, ROW)
            row, column = builder.udiv(at, size), builder.urem(at, size)
            place = builder.add(args[1], builder.add(builder.mul(row, args[2]), column))
            into = pointer_to(context, builder, signature.args[0], args[0], place, kind)
            left, right = (
                pointer_to(context, builder, signature.args[k], args[k], builder.add(args[k + 1], at), kind)
                for k in (4, 6)
            )
            keep, flip = (_spread(builder, args[k], kind) for k in (3, 8))
            chosen = builder.xor(builder.load(right, align=4), flip)
            chosen = builder.and_(builder.load(left, align=4), chosen)
            kept = builder.and_(builder.load(into, align=4), keep)
            builder.store(builder.or_(kept, chosen), into, align=4)

        _each(builder, args[9], ROW, emit)
        return context.get_dummy_value()

    integer, word = types.int64, types.uint32
    return types.none(target, integer, integer, word, a, integer, b, integer, word, integer), codegen


@emits(copy_words)
def _copy_words(target: Any, to: Any, source: Any, at: Any, n: Any) -> tuple[Signature, Any]:
    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        word = ir.IntType(32)
        into, origin = (
            pointer_to(context, builder, signature.args[k], args[k], args[k + 1], word) for k in (0, 2)
        )
        cgutils.raw_memcpy(builder, into, origin, args[4], 4, align=4)
        return context.get_dummy_value()

    integer = types.int64
    return types.none(target, integer, source, integer, integer), codegen
