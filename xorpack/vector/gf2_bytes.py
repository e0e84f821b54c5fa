"""GF(2) algebra of rows in slices of a byte, inside numba kernels: ``vgf2p8affineqb`` where the CPU has it.

A row is a *window* of a stream of 32-bit words, which begins at an even one, and a *tail*: of so many 64-bit words
each as the two tuples of ``shape`` are long, so that this is known where code is made. Rows that lie one after another
have ``width`` words, a multiple of 8: the window first, the tail (8 words at the most) last, zeros between them.

A *group* is 8 rows, sliced: bit ``7 - r`` of byte ``8 * c + 7 - i`` is bit i of byte c of row r, where bytes are those
of the window, as many zeros, and the tail. So what begins later in the window has the window's length, too.

A *map* takes the 8 bits that a row has in one byte of the stream to what is to be added to the row: for each byte of a
window that begins with the pair of words of that byte, and of the tail, 8 octets, of which octet ``7 - i`` says which
of the 8 bits bit i is the sum of. To multiply one byte of 8 rows by a map, and to add what comes to the rows, is one
instruction for 64 columns.

Functions are plain numpy, for which kernels emit LLVM, as in :mod:`xorpack.vector.llvm`. Arrays are flat and
contiguous; indices are not checked. Pivots are found and maps are made by :mod:`xorpack.vector.gf2_pivots`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.core.typing.templates import Signature
from numpy.typing import NDArray

from xorpack.vector import cpu
from xorpack.vector.gf2_llvm import (
    INDEX,
    SLICE,
    WORD,
    WORDS,
    affine,
    number,
    spread,
    spread_lane,
    turn_bits,
    turn_bytes,
    turn_words,
)
from xorpack.vector.llvm import emits, pointer_to

Bytes = NDArray[np.uint8]
Words = NDArray[np.uint64]
Shape = tuple[tuple[int, ...], tuple[int, ...]]

N_GROUPS = 2
"""Groups that are treated together."""

REGISTERS = 28
"""Vectors of groups that are reduced side by side at the most."""


def is_fast() -> bool:
    """Whether this CPU multiplies bytes by maps in an instruction."""
    return cpu.has("gfni", "avx2")


def sizes(shape: Shape) -> tuple[int, int, int, int]:
    """Words of the window, of the tail, of a row, bytes of a map."""
    half, tail = len(shape[0]), len(shape[1])
    return half, tail, 8 * -(-(half + tail) // 8), 64 * (half + tail)


def put_equations(
    rows: Words,
    row: int,
    patterns: NDArray[np.uint32],
    begin: int,
    bits: int,
    pairs: Words,
    where: NDArray[np.int64],
    place: int,
    shape: Shape,
) -> np.uint32:
    """Rows from the one numbered ``row`` on, for each bit j of ``bits`` while there is room, the lowest first.

    Each is words of ``patterns`` from ``begin`` on, all turned left by j; last, bits ``2 * j`` and ``2 * j + 1`` of
    the first two of ``pairs``. Their places, ``place + j``, go into ``where``, which says how much room there is.

    Returns:
        The bits that are left.
    """
    _, _, width, _ = sizes(shape)
    left = int(bits)
    while left and row < where.size:
        j = (left & -left).bit_length() - 1
        left &= left - 1
        pattern = patterns[begin : begin + 2 * width].astype(np.uint64) << np.uint64(j)
        rows[row * width : (row + 1) * width] = (
            (pattern | pattern >> np.uint64(32)).astype(np.uint32).view(np.uint64)
        )
        first, second = (int(word) >> 2 * j & 3 for word in pairs[:2])
        rows[(row + 1) * width - 1] = first | second << 2
        where[row] = place + j
        row += 1
    return np.uint32(left)


def sliced(rows: Bytes) -> Bytes:
    """Groups of ``rows`` (n, bytes), all of whose bytes there are."""
    bits = np.unpackbits(rows.reshape(-1, 8, rows.shape[1], 1), axis=3, bitorder="little")  # (g, r, c, i)
    return np.packbits(bits[..., ::-1].transpose(0, 2, 3, 1), axis=3).reshape(-1)


def joined(groups: Bytes, shape: Shape) -> Bytes:
    """Inverse of :func:`sliced`: uint8 (n, bytes of a row in a group)."""
    bits = np.unpackbits(groups[: N_GROUPS * group_size(shape)].reshape(N_GROUPS, -1, 8, 1), axis=3)
    rows = np.packbits(
        bits[:, :, ::-1].transpose(0, 3, 1, 2), axis=3, bitorder="little"
    )  # (g, c, 7 - i, r) before
    return rows.reshape(8 * N_GROUPS, -1)


def map_size(shape: Shape) -> int:
    """Bytes of a map."""
    return 64 * (len(shape[0]) + len(shape[1]))


def group_size(shape: Shape) -> int:
    """Bytes of a group."""
    return 64 * (2 * len(shape[0]) + len(shape[1]))


def reduce_rows(
    rows: Words, groups: Bytes, maps: Bytes, has: Words, first: int, base: int, shape: Shape
) -> None:
    """Add to every row the maps of its bytes from word ``first`` of the stream on, one byte after another.

    ``rows``, one after another, become ``groups``. Windows begin with the pair of words of ``first``. Byte b of pair p
    of the stream has a map, the one numbered ``8 * (p - base) + b``, where byte b of ``has[p]`` is not 0.
    """
    half, tail, width, size = sizes(shape)
    table = rows[: 8 * N_GROUPS * width].view(np.uint8).reshape(-1, 8 * width)
    ends = table[:, 8 * (width - tail) :]
    table = np.concatenate([table[:, : 8 * half], np.zeros((len(table), 8 * half), np.uint8), ends], axis=1)
    for k in range(8 * half):
        p, b = first // 2 + k // 8, k % 8
        if has[p] >> np.uint64(8 * b) & np.uint64(255) and (k >= 4 or first % 2 == 0):
            at = size * (8 * (p - base) + b)
            octets, x = maps[at : at + size].reshape(-1, 8)[:, ::-1], table[:, k, None, None]
            added = np.packbits(np.bitwise_count(octets & x) & 1, axis=2, bitorder="little")[..., 0]
            table[:, k - b : k - b + 8 * half] ^= added[:, : 8 * half]
            table[:, 16 * half :] ^= added[:, 8 * half :]
            table[:, 8 * half : 16 * half] = 0
    groups[: N_GROUPS * group_size(shape)] = sliced(table)


def free_bytes(has: NDArray[np.uint32], first: int) -> np.uint64:
    """A word with bit k set where byte k of the 16 words of ``has`` from ``first`` on is not full."""
    full = has[first : first + 16].view(np.uint8) == 255
    return np.uint64(np.packbits(~full, bitorder="little").view(np.uint64)[0])


def used_bytes(groups: Bytes, shape: Shape) -> np.uint64:
    """A word with bit k set where a row has a 1 in byte k < 64 of its window."""
    parts = groups[: N_GROUPS * group_size(shape)].reshape(N_GROUPS, -1, 8)
    used = np.zeros(64, np.bool_)
    n = min(64, 8 * len(shape[0]))
    used[:n] = parts[:, :n].any(axis=(0, 2))
    return np.uint64(np.packbits(used, bitorder="little").view(np.uint64)[0])


def join_tails(groups: Bytes, tails: Words, shape: Shape) -> None:
    """The tail of each row of the groups: 8 words, those that it does not have are 0."""
    found = joined(groups, shape)[:, 16 * len(shape[0]) :]
    spread_out = np.zeros((8 * N_GROUPS, 64), np.uint8)
    spread_out[:, : found.shape[1]] = found
    tails[: 64 * N_GROUPS] = spread_out.reshape(-1).view(np.uint64)


def parts_of(shape: Any) -> tuple[int, int, int, list[int]]:
    """Words of the window, of the tail, of a row; where the vectors of a map stand in a group."""
    half, tail = (part.count for part in shape.types)
    return half, tail, 8 * -(-(half + tail) // 8), [*range(half), *range(2 * half, 2 * half + tail)]


@emits(put_equations)
def _put_equations(
    rows: Any, row: Any, patterns: Any, begin: Any, bits: Any, pairs: Any, where: Any, place: Any, shape: Any
) -> tuple[Signature, Any]:
    _, _, width, _ = parts_of(shape)

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        def at(k: int, index: Any, kind: Any) -> Any:
            return pointer_to(context, builder, signature.args[k], args[k], index, kind)

        vector = ir.VectorType(WORD, 16)
        rotate = cgutils.get_or_insert_function(
            builder.module, ir.FunctionType(vector, [vector] * 3), "llvm.fshl.v16i32"
        )
        starts = [builder.add(args[3], number(2 * block)) for block in range(0, width, 8)]
        pattern = [builder.load(at(2, start, vector), align=4) for start in starts]
        first, second = (builder.load(at(5, number(k), INDEX)) for k in range(2))
        room = cgutils.create_struct_proxy(signature.args[6])(context, builder, args[6]).nitems
        n, left = (cgutils.alloca_once_value(builder, value) for value in (args[1], args[4]))
        test, body, after = (builder.append_basic_block(name) for name in ("test", "body", "after"))
        builder.branch(test)
        builder.position_at_end(test)
        rest, r = builder.load(left), builder.load(n)
        some = builder.icmp_unsigned("!=", rest, ir.Constant(WORD, 0))
        builder.cbranch(builder.and_(some, builder.icmp_signed("<", r, room)), body, after)
        builder.position_at_end(body)
        j = builder.cttz(rest, ir.Constant(ir.IntType(1), 1))
        wide, amount = builder.zext(j, INDEX), spread(builder, j, 16)
        by = builder.shl(wide, number(1))
        low = builder.and_(builder.lshr(first, by), number(3))
        high = builder.and_(builder.lshr(second, by), number(3))
        rhs = builder.or_(low, builder.shl(high, number(2)))
        for block, words in enumerate(pattern):
            turned = builder.bitcast(builder.call(rotate, [words, words, amount]), WORDS)
            if block == len(pattern) - 1:
                turned = builder.insert_element(turned, rhs, ir.Constant(WORD, 7))
            start = builder.add(builder.mul(r, number(width)), number(8 * block))
            builder.store(turned, at(0, start, WORDS), align=8)
        builder.store(builder.add(args[7], wide), at(6, r, INDEX))
        builder.store(builder.add(r, number(1)), n)
        builder.store(builder.and_(rest, builder.sub(rest, ir.Constant(WORD, 1))), left)
        builder.branch(test)
        builder.position_at_end(after)
        return builder.load(left)

    index = types.int64
    return types.uint32(rows, index, patterns, index, types.uint32, pairs, where, index, shape), codegen


@emits(reduce_rows)
def _reduce_rows(
    rows: Any, groups: Any, maps: Any, has: Any, first: Any, base: Any, shape: Any
) -> tuple[Signature, Any]:
    half, tail, width, in_group = parts_of(shape)
    n_all = half + tail

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        kinds = signature.args

        def at(k: int, where: Any, kind: Any) -> Any:
            return pointer_to(context, builder, kinds[k], args[k], where, kind)

        beside = N_GROUPS if N_GROUPS * n_all <= REGISTERS else 1
        state = [[cgutils.alloca_once(builder, SLICE) for _ in range(n_all)] for _ in range(beside)]
        rest = cgutils.alloca_once(builder, INDEX)
        pair = builder.lshr(args[4], number(1))
        block = builder.mul(builder.sub(pair, args[5]), number(8 * 64 * n_all))
        passed = builder.shl(builder.and_(args[4], number(1)), number(5))
        with cgutils.for_range(builder, number(N_GROUPS // beside), intp=INDEX) as turn:
            first_row = builder.mul(turn.index, number(8 * beside * width))
            first_byte = builder.mul(turn.index, number(64 * beside * (2 * half + tail)))
            for g, vectors in enumerate(state):
                for begin in range(0, width, 8):
                    places = [builder.add(first_row, number((8 * g + r) * width + begin)) for r in range(8)]
                    found = [builder.load(at(0, place, WORDS), align=8) for place in places]
                    for k, words in enumerate(turn_words(builder, found), begin):
                        if k < half or k >= width - tail:
                            into = vectors[k if k < half else k - width + n_all]
                            builder.store(turn_bytes(builder, words), into)
            for z in range(half):
                standing = builder.load(at(3, builder.add(pair, number(z)), INDEX))
                if z == 0:
                    standing = builder.shl(builder.lshr(standing, passed), passed)
                builder.store(standing, rest)
                test, body, after = (
                    builder.append_basic_block(f"{name}{z}") for name in ("test", "body", "after")
                )
                builder.branch(test)
                builder.position_at_end(test)
                left = builder.load(rest)
                builder.cbranch(builder.icmp_unsigned("!=", left, number(0)), body, after)
                builder.position_at_end(body)
                bit = builder.and_(builder.cttz(left, ir.Constant(ir.IntType(1), 1)), number(56))
                builder.store(builder.and_(left, builder.not_(builder.shl(number(255), bit))), rest)
                lane = builder.lshr(bit, number(3))
                xs = [
                    spread_lane(builder, builder.bitcast(builder.load(vectors[z]), WORDS), lane)
                    for vectors in state
                ]
                where = builder.add(builder.mul(builder.add(lane, number(8 * z)), number(64 * n_all)), block)
                for k in [*range(half - z), *range(half, n_all)]:
                    matrix = builder.load(at(2, builder.add(where, number(64 * k)), SLICE), align=64)
                    for x, vectors in zip(xs, state, strict=True):
                        into = vectors[z + k if k < half else k]
                        builder.store(builder.xor(builder.load(into), affine(builder, x, matrix)), into)
                builder.branch(test)
                builder.position_at_end(after)
            for g, vectors in enumerate(state):
                for k, vector in zip(in_group, vectors, strict=True):
                    place = builder.add(first_byte, number(64 * (g * (2 * half + tail) + k)))
                    builder.store(turn_bits(builder, builder.load(vector)), at(1, place, SLICE), align=1)
        return context.get_dummy_value()

    n = types.int64
    return types.none(rows, groups, maps, has, n, n, shape), codegen


@emits(free_bytes)
def _free_bytes(has: Any, first: Any) -> tuple[Signature, Any]:
    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        where = pointer_to(context, builder, signature.args[0], args[0], args[1], SLICE)
        found = builder.load(where, align=4)
        free = builder.icmp_unsigned("!=", found, ir.Constant(SLICE, [255] * 64))
        return builder.bitcast(free, INDEX)

    return types.uint64(has, types.int64), codegen


@emits(used_bytes)
def _used_bytes(groups: Any, shape: Any) -> tuple[Signature, Any]:
    half, tail, _, _ = parts_of(shape)

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        found = number(0)
        for k in range(min(8, half)):
            part = ir.Constant(WORDS, [0] * 8)
            for g in range(N_GROUPS):
                place = number(64 * (g * (2 * half + tail) + k))
                where = pointer_to(context, builder, signature.args[0], args[0], place, WORDS)
                part = builder.or_(part, builder.load(where, align=1))
            used = builder.icmp_unsigned("!=", part, ir.Constant(WORDS, [0] * 8))
            mask = builder.zext(builder.bitcast(used, ir.IntType(8)), INDEX)
            found = builder.or_(found, builder.shl(mask, number(8 * k)))
        return found

    return types.uint64(groups, shape), codegen


@emits(join_tails)
def _join_tails(groups: Any, tails: Any, shape: Any) -> tuple[Signature, Any]:
    half, tail, _, _ = parts_of(shape)

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        for g in range(N_GROUPS):
            words = [ir.Constant(WORDS, [0] * 8)] * 8
            for k in range(tail):
                place = number(64 * (g * (2 * half + tail) + 2 * half + k))
                where = pointer_to(context, builder, signature.args[0], args[0], place, SLICE)
                part = turn_bytes(builder, turn_bits(builder, builder.load(where, align=1)))
                words[k] = builder.bitcast(part, WORDS)
            for r, row in enumerate(turn_words(builder, words)):
                where = pointer_to(
                    context, builder, signature.args[1], args[1], number(8 * (8 * g + r)), WORDS
                )
                builder.store(row, where, align=8)
        return context.get_dummy_value()

    return types.none(groups, tails, shape), codegen
