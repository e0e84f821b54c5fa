"""GF(2) algebra of rows in slices of a byte, inside numba kernels: ``vgf2p8affineqb`` where the CPU has it.

A *group* is 8 rows of ``width`` 64-bit words, sliced: byte ``8 * c + r`` of its ``64 * width`` is byte c of row r. A
*map* takes the 8 bits that a row has in one byte to a row: for each of its ``8 * width`` bytes 8 octets, of which octet
``7 - i`` says which of the 8 bits bit i is the sum of. To multiply one byte of 8 rows by a map, and to add what comes
to the rows, is one instruction for 64 columns.

Functions are plain numpy with numba overloads, as in :mod:`xorpack.vector.llvm`. Arrays are flat and contiguous;
indices are not checked. ``width``, a multiple of 8, is the length of the tuple ``shape``, so that it is known where
code is made; ``n_groups(width)`` groups are treated side by side, as many as registers hold.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
from llvmlite import binding, ir
from numba import types
from numba.core import cgutils
from numba.core.typing.templates import Signature
from numba.extending import intrinsic, overload
from numpy.typing import NDArray

from xorpack.vector.llvm import pointer_to

Bytes = NDArray[np.uint8]
Shape = tuple[int, ...]

BYTE, WORD, INDEX = ir.IntType(8), ir.IntType(32), ir.IntType(64)
SLICE = ir.VectorType(BYTE, 64)
WORDS = ir.VectorType(INDEX, 8)
TURNED = [8 * (i % 8) + i // 8 for i in range(64)]
"""Bytes of 8 words: byte r of word c becomes byte c of word r."""


@cache
def features() -> frozenset[str]:
    """What this CPU has, by LLVM's names."""
    return frozenset(name for name, has in binding.get_host_cpu_features().items() if has)


def is_fast() -> bool:
    """Whether this CPU multiplies bytes by maps in an instruction."""
    return features() >= {"gfni", "avx2"}


def n_groups(width: int) -> int:
    """Groups that are treated side by side."""
    return 2 if width == 8 else 1


def _product(x: Bytes, maps: NDArray[Any]) -> Bytes:
    """Bytes x (8,) of 8 rows by maps (n, 8): (n, 8)."""
    bits = np.bitwise_count(maps[:, None, ::-1] & x[None, :, None]) & 1  # (n, row, output bit)
    return np.packbits(bits, axis=2, bitorder="little")[..., 0]


def put_equation(
    rows: NDArray[np.uint64],
    at: int,
    pattern: NDArray[np.uint32],
    turn: int,
    words: NDArray[np.uint32],
    shape: Shape,
) -> None:
    """A row at ``at``: the words of ``pattern`` (2 * width,) turned left; last bit k: bit ``turn`` of ``words[k]``.

    ``words``: as many as there are right-hand sides, and zeros up to the next multiple of 16; 64 at the most.
    """
    turned = pattern.astype(np.uint64) << np.uint64(turn)
    rows[at : at + len(shape)] = (turned | turned >> np.uint64(32)).astype(np.uint32).view(np.uint64)
    last = np.zeros(64, np.uint8)
    last[: words.size] = words >> np.uint32(turn) & np.uint32(1)
    rows[at + len(shape) - 1] = np.packbits(last, bitorder="little").view(np.uint64)[0]


def reduce_rows(
    rows: NDArray[np.uint64],
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

    ``rows``, one after another, become ``groups``. 32-bit word w of the stream is bytes ``4 * (w % slots) + y`` of a row; byte y of it has a map, at ``64 * width *
    (4 * (w - base) + y)``, where byte y of ``has[w]`` is not 0.
    """
    size = 64 * len(shape)
    n = n_groups(len(shape))
    sliced = rows[: n * size // 8].view(np.uint8).reshape(n, 8, size // 8).transpose(0, 2, 1).copy()
    for w in range(first, last):
        for y in range(4):
            if has[w] >> np.uint32(8 * y) & np.uint32(255):
                at = size * (4 * (w - base) + y)
                for group in sliced:
                    x = group[4 * (w % slots) + y].copy()
                    group ^= _product(x, maps[at : at + size].reshape(-1, 8))
    groups[: n * size] = sliced.reshape(-1)


def join_groups(groups: Bytes, rows: NDArray[np.uint64], shape: Shape) -> None:
    """Rows of ``width`` words, one after another, of groups."""
    size = 64 * len(shape)
    for g in range(n_groups(len(shape))):
        joined = np.ascontiguousarray(groups[g * size : (g + 1) * size].reshape(-1, 8).T)
        rows[g * size // 8 : (g + 1) * size // 8] = joined.reshape(-1).view(np.uint64)


def used_slots(rows: NDArray[np.uint64], at: int, shape: Shape) -> np.uint64:
    """A word with bit s set where the row's 32-bit word s is not 0; ``width`` is 32 at the most."""
    words = rows[at : at + len(shape)].view(np.uint32)
    return np.uint64(
        (np.uint64(1) << np.arange(words.size, dtype=np.uint64))[words != 0].sum(dtype=np.uint64)
    )


def clear_column(
    rows: NDArray[np.uint64], row: int, n_rows: int, word: int, shift: int, shape: Shape
) -> None:
    """Add row ``row`` to each row after it, up to ``n_rows``, that has a 1 at bit ``shift`` of its word ``word``."""
    table = rows[: n_rows * len(shape)].reshape(n_rows, -1)
    for other in table[row + 1 :]:
        if int(other[word]) >> shift & 1:
            other ^= table[row]


def add_to_map(
    maps: Bytes, at: int, rows: NDArray[np.uint64], row: int, bits: int, fresh: int, shape: Shape
) -> None:
    """Let a map at ``at`` add the row at ``row`` where an odd number of ``bits`` is set.

    ``fresh``: whether the map was nothing before.
    """
    size = 64 * len(shape)
    chosen = np.unpackbits(rows[row : row + len(shape)].view(np.uint8), bitorder="little").reshape(-1, 8)[
        :, ::-1
    ]
    if fresh:
        maps[at : at + size] = 0
    maps[at : at + size] ^= chosen.reshape(-1) * np.uint8(bits)


def solve_byte(maps: Bytes, at: int, solved: NDArray[np.uint64], row: int, shape: Shape) -> np.uint8:
    """Bit b: the parity of what the map at ``at`` makes of bit b, where ``solved`` is set.

    The bits of each byte of ``solved[row : row + width]`` stand in reverse order.
    """
    chosen = np.unpackbits(solved[row : row + len(shape)].view(np.uint8), bitorder="little")
    return np.uint8(np.bitwise_xor.reduce(maps[at : at + chosen.size][chosen != 0], initial=np.uint8(0)))


def _affine(builder: Any, x: Any, matrix: Any) -> Any:
    """64 bytes times their matrices, 32 at a time where the CPU has no more."""
    wide = "avx512bw" in features()
    n = 64 if wide else 32
    vector = ir.VectorType(BYTE, n)
    function = cgutils.get_or_insert_function(
        builder.module, ir.FunctionType(vector, [vector, vector, BYTE]), f"llvm.x86.vgf2p8affineqb.{8 * n}"
    )
    nothing = ir.Constant(BYTE, 0)
    if wide:
        return builder.call(function, [x, matrix, nothing])

    def part(value: Any, first: int) -> Any:
        return builder.shuffle_vector(value, value, _lanes(range(first, first + n)))

    halves = [builder.call(function, [part(x, k), part(matrix, k), nothing]) for k in (0, n)]
    return builder.shuffle_vector(*halves, _lanes(range(64)))


def _lanes(numbers: Any) -> Any:
    chosen = list(numbers)
    return ir.Constant(ir.VectorType(WORD, len(chosen)), chosen)


def _spread_lane(builder: Any, words: Any, lane: Any) -> Any:
    """One 64-bit word of a slice, eight times."""
    lane32 = builder.trunc(lane, WORD)
    if "avx512f" in features():
        function = cgutils.get_or_insert_function(
            builder.module, ir.FunctionType(WORDS, [WORDS, WORDS]), "llvm.x86.avx512.permvar.di.512"
        )
        index = builder.insert_element(ir.Constant(WORDS, ir.Undefined), lane, ir.Constant(WORD, 0))
        index = builder.shuffle_vector(index, index, _lanes([0] * 8))
        return builder.bitcast(builder.call(function, [words, index]), SLICE)
    word = builder.extract_element(words, lane32)
    one = builder.insert_element(ir.Constant(WORDS, ir.Undefined), word, ir.Constant(WORD, 0))
    return builder.bitcast(builder.shuffle_vector(one, one, _lanes([0] * 8)), SLICE)


def _n(value: int) -> Any:
    return ir.Constant(INDEX, value)


@intrinsic
def _put_equation(
    typingctx: Any, rows: Any, at: Any, pattern: Any, turn: Any, words: Any, shape: Any
) -> tuple[Signature, Any]:
    width = shape.count

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        kinds = signature.args
        vector = ir.VectorType(WORD, 16)
        rotate = cgutils.get_or_insert_function(
            builder.module, ir.FunctionType(vector, [vector] * 3), "llvm.fshl.v16i32"
        )

        def spread(value: Any) -> Any:
            one = builder.insert_element(ir.Constant(vector, ir.Undefined), value, ir.Constant(WORD, 0))
            return builder.shuffle_vector(one, one, _lanes([0] * 16))

        turn = builder.trunc(args[3], WORD)
        amount, bit = spread(turn), spread(builder.shl(ir.Constant(WORD, 1), turn))
        last = cgutils.alloca_once_value(builder, _n(0))
        builder.store(_n(0), last)
        size = cgutils.create_struct_proxy(kinds[4])(context, builder, args[4]).nitems
        with cgutils.for_range_slice(builder, _n(0), size, _n(16), INDEX) as (k, _):
            found = builder.load(pointer_to(context, builder, kinds[4], args[4], k, vector), align=4)
            wanted = builder.icmp_unsigned("!=", builder.and_(found, bit), ir.Constant(vector, [0] * 16))
            part = builder.shl(builder.zext(builder.bitcast(wanted, ir.IntType(16)), INDEX), k)
            builder.store(builder.or_(builder.load(last), part), last)
        for block in range(0, width, 8):
            lanes = builder.load(
                pointer_to(context, builder, kinds[2], args[2], _n(2 * block), vector), align=4
            )
            turned = builder.bitcast(builder.call(rotate, [lanes, lanes, amount]), WORDS)
            if block + 8 == width:
                turned = builder.insert_element(turned, builder.load(last), ir.Constant(WORD, 7))
            place = builder.add(args[1], _n(block))
            builder.store(turned, pointer_to(context, builder, kinds[0], args[0], place, WORDS), align=8)
        return context.get_dummy_value()

    n = types.int64
    return types.none(rows, n, pattern, n, words, shape), codegen


@intrinsic
def _reduce_rows(
    typingctx: Any, rows: Any, groups: Any, maps: Any, has: Any, first: Any, last: Any, base: Any, slots: Any,
    shape: Any,
) -> tuple[Signature, Any]:  # fmt: skip
    width = shape.count

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        kinds = signature.args

        def at(k: int, where: Any, kind: Any) -> Any:
            return pointer_to(context, builder, kinds[k], args[k], where, kind)

        state = [[cgutils.alloca_once(builder, SLICE) for _ in range(width)] for _ in range(n_groups(width))]
        for g, vectors in enumerate(state):
            for block in range(0, width, 8):
                places = [_n((8 * g + r) * width + block) for r in range(8)]
                found = [builder.load(at(0, place, WORDS), align=8) for place in places]
                for k, words in enumerate(_turn_words(builder, found)):
                    joined = builder.bitcast(words, SLICE)
                    builder.store(builder.shuffle_vector(joined, joined, _lanes(TURNED)), vectors[block + k])
        slot = cgutils.alloca_once_value(builder, builder.urem(args[4], args[7]))
        with cgutils.for_range_slice(builder, args[4], args[5], _n(1), INDEX) as (w, _):
            standing = builder.load(at(3, w, WORD))
            s = builder.load(slot)
            with builder.if_then(builder.icmp_unsigned("!=", standing, ir.Constant(WORD, 0))):
                block = builder.mul(builder.sub(w, args[6]), _n(4))
                lane0 = builder.shl(builder.and_(s, _n(1)), _n(2))
                after = builder.append_basic_block("after")
                switch = builder.switch(builder.lshr(s, _n(1)), after)
                for z in range(width - 1):
                    case = builder.append_basic_block(f"word{z}")
                    switch.add_case(_n(z), case)
                    builder.position_at_end(case)
                    with cgutils.for_range(builder, _n(4), intp=INDEX) as loop:
                        shift = builder.trunc(builder.mul(loop.index, _n(8)), WORD)
                        byte = builder.and_(builder.lshr(standing, shift), ir.Constant(WORD, 255))
                        with builder.if_then(builder.icmp_unsigned("!=", byte, ir.Constant(WORD, 0))):
                            lane = builder.add(lane0, loop.index)
                            xs = [
                                _spread_lane(builder, builder.bitcast(builder.load(vectors[z]), WORDS), lane)
                                for vectors in state
                            ]
                            where = builder.mul(builder.add(block, loop.index), _n(64 * width))
                            for k in range(width):
                                matrix = builder.load(at(2, builder.add(where, _n(64 * k)), SLICE), align=64)
                                for x, vectors in zip(xs, state, strict=True):
                                    added = _affine(builder, x, matrix)
                                    builder.store(builder.xor(builder.load(vectors[k]), added), vectors[k])
                    builder.branch(after)
                builder.position_at_end(after)
            following = builder.add(s, _n(1))
            wrapped = builder.icmp_unsigned("==", following, args[7])
            builder.store(builder.select(wrapped, _n(0), following), slot)
        for g, vectors in enumerate(state):
            for k, vector in enumerate(vectors):
                builder.store(builder.load(vector), at(1, _n(64 * (g * width + k)), SLICE), align=1)
        return context.get_dummy_value()

    n = types.int64
    return types.none(rows, groups, maps, has, n, n, n, n, shape), codegen


def _turn_words(builder: Any, vectors: list[Any]) -> list[Any]:
    """Eight vectors of eight words: word i of vector k becomes word k of vector i."""
    found = list(vectors)
    for step in (1, 2, 4):
        low = _lanes([i - step + 8 if i & step else i for i in range(8)])
        high = _lanes([i + 8 if i & step else i + step for i in range(8)])
        for k in range(8):
            if not k & step:
                a, b = found[k], found[k + step]
                found[k] = builder.shuffle_vector(a, b, low)
                found[k + step] = builder.shuffle_vector(a, b, high)
    return found


@intrinsic
def _join_groups(typingctx: Any, groups: Any, rows: Any, shape: Any) -> tuple[Signature, Any]:
    width = shape.count

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        for g in range(n_groups(width)):
            for block in range(0, width, 8):
                words = []
                for k in range(block, block + 8):
                    where = pointer_to(
                        context, builder, signature.args[0], args[0], _n(64 * (g * width + k)), SLICE
                    )
                    sliced = builder.load(where, align=1)
                    words.append(builder.bitcast(builder.shuffle_vector(sliced, sliced, _lanes(TURNED)), WORDS))
                for r, row in enumerate(_turn_words(builder, words)):
                    place = _n((8 * g + r) * width + block)
                    where = pointer_to(context, builder, signature.args[1], args[1], place, WORDS)
                    builder.store(row, where, align=8)
        return context.get_dummy_value()

    return types.none(groups, rows, shape), codegen


@intrinsic
def _used_slots(typingctx: Any, rows: Any, at: Any, shape: Any) -> tuple[Signature, Any]:
    width = shape.count

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        vector = ir.VectorType(WORD, 16)
        found = _n(0)
        for block in range(0, width, 8):
            place = builder.add(args[1], _n(block))
            where = pointer_to(context, builder, signature.args[0], args[0], place, vector)
            used = builder.icmp_unsigned("!=", builder.load(where, align=8), ir.Constant(vector, [0] * 16))
            part = builder.zext(builder.bitcast(used, ir.IntType(16)), INDEX)
            found = builder.or_(found, builder.shl(part, _n(2 * block)))
        return found

    return types.uint64(rows, types.int64, shape), codegen


@intrinsic
def _clear_column(
    typingctx: Any, rows: Any, row: Any, n_rows: Any, word: Any, shift: Any, shape: Any
) -> tuple[Signature, Any]:
    width = shape.count

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        def at(r: Any, k: Any, kind: Any) -> Any:
            place = builder.add(builder.mul(r, _n(width)), k)
            return pointer_to(context, builder, signature.args[0], args[0], place, kind)

        blocks = range(0, width, 8)
        mine = [builder.load(at(args[1], _n(block), WORDS), align=8) for block in blocks]
        with cgutils.for_range_slice(builder, builder.add(args[1], _n(1)), args[2], _n(1), INDEX) as (
            other,
            _,
        ):
            bit = builder.and_(builder.lshr(builder.load(at(other, args[3], INDEX)), args[4]), _n(1))
            mask = builder.insert_element(
                ir.Constant(WORDS, ir.Undefined), builder.sub(_n(0), bit), ir.Constant(WORD, 0)
            )
            mask = builder.shuffle_vector(mask, mask, _lanes([0] * 8))
            for block, row_words in zip(blocks, mine, strict=True):
                into = at(other, _n(block), WORDS)
                added = builder.and_(row_words, mask)
                builder.store(builder.xor(builder.load(into, align=8), added), into, align=8)
        return context.get_dummy_value()

    n = types.int64
    return types.none(rows, n, n, n, n, shape), codegen


@intrinsic
def _add_to_map(
    typingctx: Any, maps: Any, at: Any, rows: Any, row: Any, bits: Any, fresh: Any, shape: Any
) -> tuple[Signature, Any]:
    width = shape.count

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        kinds = signature.args
        reverse = cgutils.get_or_insert_function(
            builder.module, ir.FunctionType(SLICE, [SLICE]), "llvm.bitreverse.v64i8"
        )
        one = builder.insert_element(
            ir.Constant(SLICE, ir.Undefined), builder.trunc(args[4], BYTE), ir.Constant(WORD, 0)
        )
        spread = builder.shuffle_vector(one, one, _lanes([0] * 64))
        nothing = ir.Constant(SLICE, [0] * 64)
        for block in range(0, width, 8):
            where = pointer_to(context, builder, kinds[2], args[2], builder.add(args[3], _n(block)), SLICE)
            reversed_ = builder.bitcast(builder.call(reverse, [builder.load(where, align=8)]), WORDS)
            for k in range(8):
                word = builder.extract_element(reversed_, ir.Constant(WORD, k))
                chosen = builder.bitcast(word, ir.VectorType(ir.IntType(1), 64))
                added = builder.select(chosen, spread, nothing)
                place = builder.add(args[1], _n(64 * (block + k)))
                into = pointer_to(context, builder, kinds[0], args[0], place, SLICE)
                is_fresh = builder.icmp_signed("!=", args[5], _n(0))
                before = builder.select(is_fresh, nothing, builder.load(into, align=64))
                builder.store(builder.xor(before, added), into, align=64)
        return context.get_dummy_value()

    n = types.int64
    return types.none(maps, n, rows, n, n, n, shape), codegen


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
                pointer_to(context, builder, kinds[2], args[2], builder.add(args[3], _n(k)), INDEX)
            )
            chosen = builder.bitcast(word, ir.VectorType(ir.IntType(1), 64))
            place = builder.add(args[1], _n(64 * k))
            octets = builder.load(pointer_to(context, builder, kinds[0], args[0], place, SLICE), align=64)
            total = builder.xor(total, builder.select(chosen, octets, nothing))
        words = builder.bitcast(total, WORDS)
        for step in (4, 2, 1):
            moved = builder.shuffle_vector(words, words, _lanes([(i + step) % 8 for i in range(8)]))
            words = builder.xor(words, moved)
        folded = builder.extract_element(words, ir.Constant(WORD, 0))
        for shift in (32, 16, 8):
            folded = builder.xor(folded, builder.lshr(folded, _n(shift)))
        return builder.trunc(folded, BYTE)

    n = types.int64
    return types.uint8(maps, n, solved, n, shape), codegen


@overload(put_equation, inline="always")
def _put_equation_overload(rows, at, pattern, turn, words, shape):
    return lambda rows, at, pattern, turn, words, shape: _put_equation(rows, at, pattern, turn, words, shape)


@overload(reduce_rows, inline="always")
def _reduce_rows_overload(rows, groups, maps, has, first, last, base, slots, shape):
    return lambda rows, groups, maps, has, first, last, base, slots, shape: _reduce_rows(
        rows, groups, maps, has, first, last, base, slots, shape
    )


@overload(join_groups, inline="always")
def _join_groups_overload(groups, rows, shape):
    return lambda groups, rows, shape: _join_groups(groups, rows, shape)


@overload(used_slots, inline="always")
def _used_slots_overload(rows, at, shape):
    return lambda rows, at, shape: _used_slots(rows, at, shape)


@overload(add_to_map, inline="always")
def _add_to_map_overload(maps, at, rows, row, bits, fresh, shape):
    return lambda maps, at, rows, row, bits, fresh, shape: _add_to_map(
        maps, at, rows, row, bits, fresh, shape
    )


@overload(solve_byte, inline="always")
def _solve_byte_overload(maps, at, solved, row, shape):
    return lambda maps, at, solved, row, shape: _solve_byte(maps, at, solved, row, shape)


@overload(clear_column, inline="always")
def _clear_column_overload(rows, row, n_rows, word, shift, shape):
    return lambda rows, row, n_rows, word, shift, shape: _clear_column(rows, row, n_rows, word, shift, shape)
