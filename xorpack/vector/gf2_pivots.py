"""Pivots of groups, and the maps that they are added to, inside numba kernels: see :mod:`xorpack.vector.gf2_bytes`.

Pivots of all rows of the groups are found at once, from 6 bytes of each: what became of a row there, and which rows it
is the sum of, are one 64-bit word. The rows themselves are not touched: maps are multiplied by those sums.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core.typing.templates import Signature
from numba.extending import intrinsic, overload
from numpy.typing import NDArray

from xorpack.vector.gf2_bytes import Bytes, Shape, Words, joined, n_groups, sliced
from xorpack.vector.gf2_llvm import (
    BYTE,
    BYTES_TURNED,
    INDEX,
    SLICE,
    WORD,
    WORDS,
    affine,
    lanes,
    number,
    spread,
    turn_bits,
)
from xorpack.vector.llvm import pointer_to

VIEW = 6
"""Bytes of a row in which its pivot is sought."""

SEEN = (1 << 8 * VIEW) - 1


def find_pivots(groups: Bytes, places: NDArray[np.int64], views: Words, shape: Shape) -> None:
    """Let each row have a column of its own, in the bytes ``places`` (VIEW,), of which some may be the same.

    Rows take the lowest bit that they have there, one row after another, and leave all other rows. Of what then is row
    ``8 * g + r``, the bytes seen are the low ones of its word in ``views``; it is the sum of those rows ``8 * h + s``
    for which bit ``7 - s`` of byte ``VIEW + h`` is set.
    """
    width = len(shape)
    rows = joined(groups[: n_groups(width) * 64 * width], width)
    seen = [int.from_bytes(bytes(row[places[:VIEW]]), "little") for row in rows]
    found = [x | 1 << 8 * (VIEW + r // 8) + 7 - r % 8 for r, x in enumerate(seen)]
    for r in range(len(found)):
        mine = found[r]
        lowest = mine & SEEN & -(mine & SEEN)
        for other in range(len(found)):
            if other != r and found[other] & lowest:
                found[other] ^= mine
    views[: len(found)] = np.array(found, np.uint64)


def outer(bits: int, row: int) -> int:
    """Byte ``7 - b`` is the 8 bits of ``row`` where bit b of ``bits`` is set, else 0."""
    return sum((int(row) & 255) << 8 * (7 - b) for b in range(8) if int(bits) >> b & 1)


def add_to_map(maps: Bytes, at: int, groups: Bytes, sums: Words, first: int, fresh: bool, shape: Shape) -> None:
    """Let a map at ``at`` add, for bit b, those rows s of group h for which bit ``7 - s`` of byte ``7 - b`` is set.

    Of ``sums[first + h]``, that is. ``fresh``: whether the map was nothing before.
    """
    size = 64 * len(shape)
    if fresh:
        maps[at : at + size] = 0
    for h in range(n_groups(len(shape))):
        octets = groups[h * size : (h + 1) * size, None] & sums[first + h : first + h + 1].view(np.uint8)[::-1]
        maps[at : at + size] ^= np.packbits(np.bitwise_count(octets) & 1, axis=1, bitorder="little")[:, 0]


def mix_groups(groups: Bytes, mixing: Words, shape: Shape) -> None:
    """Row r of group g becomes the sum of those rows s of groups h for which bit ``7 - s`` is set in its byte.

    That is byte r of ``mixing[n_groups * g + h]``.
    """
    n, size = n_groups(len(shape)), 64 * len(shape)
    rows = joined(groups[: n * size], len(shape))
    chosen = np.unpackbits(mixing[: n * n].view(np.uint8).reshape(n, n, 8, 1), axis=3)  # (g, h, r, s)
    chosen = chosen.transpose(0, 2, 1, 3).reshape(8 * n, 8 * n)
    mixed = [np.bitwise_xor.reduce(rows[each != 0], axis=0, initial=np.uint8(0)) for each in chosen]
    groups[: n * size] = sliced(np.array(mixed))


def solve_byte(maps: Bytes, at: int, solved: Words, row: int, shape: Shape) -> np.uint8:
    """Bit b: the parity of what the map at ``at`` makes of bit b, where ``solved`` is set.

    The bits of each byte of ``solved[row : row + width]`` stand in reverse order.
    """
    chosen = np.unpackbits(solved[row : row + len(shape)].view(np.uint8), bitorder="little")
    return np.uint8(np.bitwise_xor.reduce(maps[at : at + chosen.size][chosen != 0], initial=np.uint8(0)))


@intrinsic
def _find_pivots(
    typingctx: Any, groups: Any, places: Any, views: Any, shape: Any
) -> tuple[Signature, Any]:
    width = shape.count

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        kinds = signature.args
        nothing = ir.Constant(WORDS, [0] * 8)
        places = []
        for k in range(VIEW):
            place = builder.load(pointer_to(context, builder, kinds[1], args[1], number(k), INDEX))
            places.append(builder.mul(place, number(8)))
        found = []
        for g in range(n_groups(width)):
            words = nothing
            for k, place in enumerate(places):
                where = builder.add(place, number(64 * width * g))
                word = builder.load(pointer_to(context, builder, kinds[0], args[0], where, INDEX), align=8)
                words = builder.insert_element(words, word, ir.Constant(WORD, k))
            seen = builder.bitcast(turn_bits(builder, words), SLICE)
            seen = builder.bitcast(builder.shuffle_vector(seen, seen, lanes(BYTES_TURNED)), WORDS)
            own = ir.Constant(WORDS, [1 << 8 * (VIEW + g) + 7 - r for r in range(8)])
            found.append(builder.or_(seen, own))
        for r in range(8 * len(found)):
            mine = builder.shuffle_vector(found[r // 8], found[r // 8], lanes([r % 8] * 8))
            seen = builder.and_(mine, ir.Constant(WORDS, [SEEN] * 8))
            lowest = builder.and_(seen, builder.sub(nothing, seen))
            for g, others in enumerate(found):
                hit = builder.icmp_unsigned("!=", builder.and_(others, lowest), nothing)
                if g == r // 8:
                    rest = ir.Constant(ir.VectorType(ir.IntType(1), 8), [int(k != r % 8) for k in range(8)])
                    hit = builder.and_(hit, rest)
                found[g] = builder.xor(others, builder.select(hit, mine, nothing))
        for g, words in enumerate(found):
            into = pointer_to(context, builder, kinds[2], args[2], number(8 * g), WORDS)
            builder.store(words, into, align=8)
        return context.get_dummy_value()

    return types.none(groups, places, views, shape), codegen


@intrinsic
def _outer(typingctx: Any, bits: Any, row: Any) -> tuple[Signature, Any]:
    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        chosen = builder.bitcast(builder.trunc(args[0], BYTE), ir.VectorType(ir.IntType(1), 8))
        chosen = builder.shuffle_vector(chosen, chosen, lanes(range(7, -1, -1)))
        vector = ir.VectorType(BYTE, 8)
        rows = spread(builder, builder.trunc(args[1], BYTE), 8)
        return builder.bitcast(builder.select(chosen, rows, ir.Constant(vector, [0] * 8)), INDEX)

    return types.uint64(types.uint64, types.uint64), codegen


@intrinsic
def _add_to_map(
    typingctx: Any, maps: Any, at: Any, groups: Any, sums: Any, first: Any, fresh: Any, shape: Any
) -> tuple[Signature, Any]:
    width = shape.count

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        kinds = signature.args
        matrices = []
        for h in range(n_groups(width)):
            place = builder.add(args[4], number(h))
            word = builder.load(pointer_to(context, builder, kinds[3], args[3], place, INDEX))
            matrices.append(builder.bitcast(spread(builder, word, 8), SLICE))

        def add(is_fresh: bool) -> None:
            for k in range(width):
                into = pointer_to(context, builder, kinds[0], args[0], builder.add(args[1], number(64 * k)), SLICE)
                total = None if is_fresh else builder.load(into, align=64)
                for h, matrix in enumerate(matrices):
                    place = number(64 * (h * width + k))
                    rows = builder.load(pointer_to(context, builder, kinds[2], args[2], place, SLICE), align=1)
                    part = affine(builder, rows, matrix)
                    total = part if total is None else builder.xor(total, part)
                builder.store(total, into, align=64)

        with builder.if_else(builder.icmp_unsigned("!=", args[5], ir.Constant(args[5].type, 0))) as (yes, no):
            with yes:
                add(True)
            with no:
                add(False)
        return context.get_dummy_value()

    index = types.int64
    return types.none(maps, index, groups, sums, index, types.boolean, shape), codegen


@intrinsic
def _mix_groups(typingctx: Any, groups: Any, mixing: Any, shape: Any) -> tuple[Signature, Any]:
    width = shape.count

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        kinds, n = signature.args, n_groups(width)
        matrices = []
        for k in range(n * n):
            word = builder.load(pointer_to(context, builder, kinds[1], args[1], number(k), INDEX))
            matrices.append(builder.bitcast(spread(builder, word, 8), SLICE))
        for k in range(width):
            places = [
                pointer_to(context, builder, kinds[0], args[0], number(64 * (h * width + k)), SLICE)
                for h in range(n)
            ]
            rows = [builder.load(place, align=1) for place in places]
            for g, place in enumerate(places):
                total = affine(builder, rows[0], matrices[n * g])
                for h in range(1, n):
                    total = builder.xor(total, affine(builder, rows[h], matrices[n * g + h]))
                builder.store(total, place, align=1)
        return context.get_dummy_value()

    return types.none(groups, mixing, shape), codegen


@intrinsic
def _solve_byte(
    typingctx: Any, maps: Any, at: Any, solved: Any, row: Any, shape: Any
) -> tuple[Signature, Any]:
    width = shape.count

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        kinds = signature.args
        nothing = ir.Constant(SLICE, [0] * 64)
        total = nothing
        for k in range(width):
            word = builder.load(
                pointer_to(context, builder, kinds[2], args[2], builder.add(args[3], number(k)), INDEX)
            )
            chosen = builder.bitcast(word, ir.VectorType(ir.IntType(1), 64))
            place = builder.add(args[1], number(64 * k))
            octets = builder.load(pointer_to(context, builder, kinds[0], args[0], place, SLICE), align=64)
            total = builder.xor(total, builder.select(chosen, octets, nothing))
        words = builder.bitcast(total, WORDS)
        for step in (4, 2, 1):
            moved = builder.shuffle_vector(words, words, lanes([(i + step) % 8 for i in range(8)]))
            words = builder.xor(words, moved)
        folded = builder.extract_element(words, ir.Constant(WORD, 0))
        for shift in (32, 16, 8):
            folded = builder.xor(folded, builder.lshr(folded, number(shift)))
        return builder.trunc(folded, BYTE)

    n = types.int64
    return types.uint8(maps, n, solved, n, shape), codegen


@overload(find_pivots, inline="always")
def _find_pivots_overload(groups, places, views, shape):
    return lambda groups, places, views, shape: _find_pivots(groups, places, views, shape)


@overload(outer, inline="always")
def _outer_overload(bits, row):
    return lambda bits, row: _outer(bits, row)


@overload(add_to_map, inline="always")
def _add_to_map_overload(maps, at, groups, sums, first, fresh, shape):
    return lambda maps, at, groups, sums, first, fresh, shape: _add_to_map(
        maps, at, groups, sums, first, fresh, shape
    )


@overload(mix_groups, inline="always")
def _mix_groups_overload(groups, mixing, shape):
    return lambda groups, mixing, shape: _mix_groups(groups, mixing, shape)


@overload(solve_byte, inline="always")
def _solve_byte_overload(maps, at, solved, row, shape):
    return lambda maps, at, solved, row, shape: _solve_byte(maps, at, solved, row, shape)
