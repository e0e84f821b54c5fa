"""GF(2) algebra of rows in slices of a byte, inside numba kernels: ``vgf2p8affineqb`` where the CPU has it.

A *group* is 8 rows of ``width`` 64-bit words, sliced: bit ``7 - r`` of byte ``8 * c + 7 - i`` of its ``64 * width`` is
bit i of byte c of row r. A *map* takes the 8 bits that a row has in one byte to a row: for each of its ``8 * width``
bytes 8 octets, of which octet ``7 - i`` says which of the 8 bits bit i is the sum of. To multiply one byte of 8 rows by
a map, and to add what comes to the rows, is one instruction for 64 columns.

Functions are plain numpy, for which kernels emit LLVM, as in :mod:`xorpack.vector.llvm`. Arrays are flat and
contiguous; indices are not checked. ``width``, a multiple of 8, is the length of the tuple ``shape``, so that it is
known where code is made. Pivots are found and maps are made by :mod:`xorpack.vector.gf2_pivots`.
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
    lanes,
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
Shape = tuple[int, ...]

N_GROUPS = 2
"""Groups that are treated together."""


def is_fast() -> bool:
    """Whether this CPU multiplies bytes by maps in an instruction."""
    return cpu.has("gfni", "avx2")


def put_equation(
    rows: Words, at: int, patterns: NDArray[np.uint32], begin: int, n: int, turn: int, rhs: int, shape: Shape
) -> None:
    """A row at ``at``: ``n`` words of ``patterns`` from ``begin`` on, each turned left; then zeros; last ``rhs``."""
    pattern = np.zeros(2 * len(shape), np.uint64)
    pattern[:n] = patterns[begin : begin + n]
    pattern <<= np.uint64(turn)
    rows[at : at + len(shape)] = (pattern | pattern >> np.uint64(32)).astype(np.uint32).view(np.uint64)
    rows[at + len(shape) - 1] = rhs


def sliced(rows: Bytes) -> Bytes:
    """Groups of ``rows`` (n, 8 * width)."""
    bits = np.unpackbits(rows.reshape(-1, 8, rows.shape[1], 1), axis=3, bitorder="little")  # (g, r, c, i)
    return np.packbits(bits[..., ::-1].transpose(0, 2, 3, 1), axis=3).reshape(-1)


def joined(groups: Bytes, width: int) -> Bytes:
    """Inverse of :func:`sliced`."""
    bits = np.unpackbits(groups.reshape(-1, 8 * width, 8, 1), axis=3)  # (g, c, 7 - i, r)
    rows = np.packbits(bits[:, :, ::-1].transpose(0, 3, 1, 2), axis=3, bitorder="little")
    return rows.reshape(-1, 8 * width)


def reduce_rows(
    rows: Words,
    groups: Bytes,
    maps: Bytes,
    has: NDArray[np.uint32],
    first: int,
    last: int,
    base: int,
    slots: int,
    shape: Shape,
) -> None:
    """Add to every row the maps of its bytes in words ``first .. last - 1`` of a stream, one byte after another.

    ``rows``, one after another, become ``groups``. 32-bit word w of the stream is bytes ``4 * (w % slots) + y`` of a
    row; byte y of it has a map, at ``64 * width * (4 * (w - base) + y)``, where byte y of ``has[w]`` is not 0.
    """
    size = 64 * len(shape)
    table = rows[: N_GROUPS * size // 8].view(np.uint8).reshape(-1, size // 8).copy()
    for w in range(first, last):
        for y in range(4):
            if has[w] >> np.uint32(8 * y) & np.uint32(255):
                at = size * (4 * (w - base) + y)
                octets = maps[at : at + size].reshape(-1, 8)[:, ::-1]
                x = table[:, 4 * (w % slots) + y, None, None]
                table ^= np.packbits(np.bitwise_count(octets & x) & 1, axis=2, bitorder="little")[..., 0]
    groups[: N_GROUPS * size] = sliced(table)


def free_bytes(has: NDArray[np.uint32], first: int) -> np.uint64:
    """A word with bit k set where byte k of the 16 words of ``has`` from ``first`` on is not full."""
    full = has[first : first + 16].view(np.uint8) == 255
    return np.uint64(np.packbits(~full, bitorder="little").view(np.uint64)[0])


def used_bytes(groups: Bytes, shape: Shape) -> np.uint64:
    """A word with bit k set where a row has a 1 in its byte k < 64."""
    parts = groups[: N_GROUPS * 64 * len(shape)].reshape(N_GROUPS, -1, 8)
    return np.uint64(np.packbits(parts[:, :64].any(axis=(0, 2)), bitorder="little").view(np.uint64)[0])


def join_groups(groups: Bytes, rows: Words, shape: Shape) -> None:
    """Rows of ``width`` words, one after another, of groups."""
    found = joined(groups[: N_GROUPS * 64 * len(shape)], len(shape)).reshape(-1).view(np.uint64)
    rows[: found.size] = found


@emits(put_equation)
def _put_equation(
    rows: Any, at: Any, patterns: Any, begin: Any, n: Any, turn: Any, rhs: Any, shape: Any
) -> tuple[Signature, Any]:
    width = shape.count

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        kinds = signature.args
        vector = ir.VectorType(WORD, 16)
        rotate = cgutils.get_or_insert_function(
            builder.module, ir.FunctionType(vector, [vector] * 3), "llvm.fshl.v16i32"
        )
        amount = spread(builder, builder.trunc(args[5], WORD), 16)
        n_words = spread(builder, builder.trunc(args[4], WORD), 16)
        for block in range(0, width, 8):
            place = builder.add(args[3], number(2 * block))
            words = builder.load(pointer_to(context, builder, kinds[2], args[2], place, vector), align=4)
            chosen = builder.icmp_unsigned("<", lanes(range(2 * block, 2 * block + 16)), n_words)
            words = builder.select(chosen, words, ir.Constant(vector, [0] * 16))
            turned = builder.bitcast(builder.call(rotate, [words, words, amount]), WORDS)
            if block + 8 == width:
                turned = builder.insert_element(turned, args[6], ir.Constant(WORD, 7))
            into = pointer_to(context, builder, kinds[0], args[0], builder.add(args[1], number(block)), WORDS)
            builder.store(turned, into, align=8)
        return context.get_dummy_value()

    index = types.int64
    return types.none(rows, index, patterns, index, index, index, types.uint64, shape), codegen


@emits(reduce_rows)
def _reduce_rows(
    rows: Any, groups: Any, maps: Any, has: Any, first: Any, last: Any, base: Any, slots: Any,
    shape: Any,
) -> tuple[Signature, Any]:  # fmt: skip
    width = shape.count

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        kinds = signature.args

        def at(k: int, where: Any, kind: Any) -> Any:
            return pointer_to(context, builder, kinds[k], args[k], where, kind)

        beside = N_GROUPS if width == 8 else 1  # as registers hold
        state = [[cgutils.alloca_once(builder, SLICE) for _ in range(width)] for _ in range(beside)]
        with cgutils.for_range(builder, number(N_GROUPS // beside), intp=INDEX) as turn:
            first_row = builder.mul(turn.index, number(8 * beside * width))
            first_byte = builder.mul(first_row, number(8))
            for g, vectors in enumerate(state):
                for block in range(0, width, 8):
                    places = [builder.add(first_row, number((8 * g + r) * width + block)) for r in range(8)]
                    found = [builder.load(at(0, place, WORDS), align=8) for place in places]
                    for k, words in enumerate(turn_words(builder, found)):
                        builder.store(turn_bytes(builder, words), vectors[block + k])
            slot = cgutils.alloca_once_value(builder, builder.urem(args[4], args[7]))
            with cgutils.for_range_slice(builder, args[4], args[5], number(1), INDEX) as (w, _):
                standing = builder.load(at(3, w, WORD))
                s = builder.load(slot)
                with builder.if_then(builder.icmp_unsigned("!=", standing, ir.Constant(WORD, 0))):
                    block = builder.mul(builder.sub(w, args[6]), number(4))
                    lane0 = builder.shl(builder.and_(s, number(1)), number(2))
                    after = builder.append_basic_block("after")
                    switch = builder.switch(builder.lshr(s, number(1)), after)
                    for z in range(width - 1):
                        case = builder.append_basic_block(f"word{z}")
                        switch.add_case(number(z), case)
                        builder.position_at_end(case)
                        with cgutils.for_range(builder, number(4), intp=INDEX) as loop:
                            shift = builder.trunc(builder.mul(loop.index, number(8)), WORD)
                            byte = builder.and_(builder.lshr(standing, shift), ir.Constant(WORD, 255))
                            with builder.if_then(builder.icmp_unsigned("!=", byte, ir.Constant(WORD, 0))):
                                lane = builder.add(lane0, loop.index)
                                xs = [
                                    spread_lane(
                                        builder, builder.bitcast(builder.load(vectors[z]), WORDS), lane
                                    )
                                    for vectors in state
                                ]
                                where = builder.mul(builder.add(block, loop.index), number(64 * width))
                                for k in range(width):
                                    matrix = builder.load(
                                        at(2, builder.add(where, number(64 * k)), SLICE), align=64
                                    )
                                    for x, vectors in zip(xs, state, strict=True):
                                        added = affine(builder, x, matrix)
                                        builder.store(
                                            builder.xor(builder.load(vectors[k]), added), vectors[k]
                                        )
                        builder.branch(after)
                    builder.position_at_end(after)
                following = builder.add(s, number(1))
                wrapped = builder.icmp_unsigned("==", following, args[7])
                builder.store(builder.select(wrapped, number(0), following), slot)
            for g, vectors in enumerate(state):
                for k, vector in enumerate(vectors):
                    builder.store(
                        turn_bits(builder, builder.load(vector)),
                        at(1, builder.add(first_byte, number(64 * (g * width + k))), SLICE),
                        align=1,
                    )
        return context.get_dummy_value()

    n = types.int64
    return types.none(rows, groups, maps, has, n, n, n, n, shape), codegen


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
    width = shape.count

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        found = number(0)
        for k in range(8):
            part = ir.Constant(WORDS, [0] * 8)
            for g in range(N_GROUPS):
                place = number(64 * (g * width + k))
                where = pointer_to(context, builder, signature.args[0], args[0], place, WORDS)
                part = builder.or_(part, builder.load(where, align=1))
            used = builder.icmp_unsigned("!=", part, ir.Constant(WORDS, [0] * 8))
            mask = builder.zext(builder.bitcast(used, ir.IntType(8)), INDEX)
            found = builder.or_(found, builder.shl(mask, number(8 * k)))
        return found

    return types.uint64(groups, shape), codegen


@emits(join_groups)
def _join_groups(groups: Any, rows: Any, shape: Any) -> tuple[Signature, Any]:
    width = shape.count

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        for g in range(N_GROUPS):
            for block in range(0, width, 8):
                words = []
                for k in range(block, block + 8):
                    place = number(64 * (g * width + k))
                    where = pointer_to(context, builder, signature.args[0], args[0], place, SLICE)
                    part = turn_bytes(builder, turn_bits(builder, builder.load(where, align=1)))
                    words.append(builder.bitcast(part, WORDS))
                for r, row in enumerate(turn_words(builder, words)):
                    place = number((8 * g + r) * width + block)
                    where = pointer_to(context, builder, signature.args[1], args[1], place, WORDS)
                    builder.store(row, where, align=8)
        return context.get_dummy_value()

    return types.none(groups, rows, shape), codegen
