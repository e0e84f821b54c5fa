"""Sums of four activations by table, for 16 rows at a time: what products on the CPU are made of.

Like :mod:`xorpack.vector.llvm`: plain numpy functions, for which kernels emit LLVM vectors. 16 rows of a plane stand
side by side, a word of 32 columns in each lane; 4 bits of it choose one of the 16 sums of 4 activations: with AVX-512
one instruction does so for all rows. Arrays are flat and contiguous; indices are not checked.
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
from xorpack.vector.llvm import emits, pointer_to, prefetch

ROWS = 16
"""Rows that are treated at once."""

GROUP = 4
"""Columns of a table."""

ENTRIES = 1 << GROUP

TABLE = 32 // GROUP * ENTRIES
"""Entries of the tables of one word's columns."""

AHEAD = 32 * ROWS
"""Words of the mask that are fetched before they are needed: those of the next panel, while its planes are expanded."""

_WORD, _FLOAT, _INDEX = ir.IntType(32), ir.FloatType(), ir.IntType(64)
_WORDS, _FLOATS = ir.VectorType(_WORD, ROWS), ir.VectorType(_FLOAT, ROWS)
_SHORTS = ir.VectorType(ir.IntType(16), 2 * ROWS)


def xor_rows(
    target: NDArray[np.uint32],
    to: int,
    source: NDArray[np.uint32],
    here: int,
    offsets: NDArray[np.int64],
    first: int,
    n: int,
) -> None:
    """``target[to + i] = XOR over k < n of source[here + offsets[first + k] + i]``, for i < 16."""
    total = np.zeros(ROWS, np.uint32)
    for k in range(first, first + n):
        at = here + int(offsets[k])
        total ^= source[at : at + ROWS]
    target[to : to + ROWS] = total


def and_rows(
    target: NDArray[np.uint32], to: int, n: int, mask: NDArray[np.uint32], at: int, n_words: int
) -> None:
    """``target[to + 16 * j + i] &= mask[at + i]``, for j < n and i < 16; then ``mask`` as plane n.

    The same for ``n_words`` in turn, planes and masks one behind another.
    """
    for _ in range(n_words):
        target[to : to + ROWS * n].reshape(n, ROWS)[...] &= mask[at : at + ROWS]
        target[to + ROWS * n : to + ROWS * (n + 1)] = mask[at : at + ROWS]
        to += ROWS * (n + 1)
        at += ROWS


def turn_rows(
    target: NDArray[np.uint32],
    to: int,
    step: int,
    source: NDArray[np.uint32],
    at: int,
    starts: NDArray[np.int64],
) -> None:
    """``target[to + step * c + i] = source[at + starts[i] + c]`` for i, c < 16: rows side by side."""
    for i in range(ROWS):
        begin = at + int(starts[i])
        target[to + i : to + i + step * ROWS : step][:ROWS] = source[begin : begin + ROWS]


def add_lookups(
    sums: NDArray[Any],
    to: int,
    words: NDArray[np.uint32],
    at: int,
    tables: NDArray[Any],
    first: int,
    n: int,
    n_words: int,
) -> None:
    """``sums[to + 16 * j + i] += sum over g < 8 of tables[first + 16 * place(g) + e]``, j < n planes and i < 16 rows.

    ``e`` is the g-th group of 4 bits of ``words[at + 16 * j + i]``. Of float32 tables, for float32 sums, ``place(g)``
    is g; the eight are added pairwise, then to the sum. Of int16 tables, for int32 sums, it is :func:`place_of_table`;
    four entries must add up to an int16. The same for ``n_words`` in turn, planes and tables one behind another.
    """
    groups = np.arange(8, dtype=np.uint32)
    places = np.array([place_of_table(g) if tables.dtype == np.int16 else g for g in range(8)])
    for word in range(n_words):
        begin = at + ROWS * n * word
        found = words[begin : begin + ROWS * n, None] >> (GROUP * groups) & np.uint32(ENTRIES - 1)
        parts = tables[first + TABLE * word + ENTRIES * places + found]
        if tables.dtype == np.int16:
            sums[to : to + ROWS * n] += parts.sum(axis=1, dtype=np.int32)
            continue
        while parts.shape[1] > 1:
            parts = parts[:, ::2] + parts[:, 1::2]
        sums[to : to + ROWS * n] += parts[:, 0]


def place_of_table(group: int) -> int:
    """Where the int16 table of a group of 4 bits stands among those of a word.

    A word is two lanes of 16 bits: tables of the same 4 bits of both stand together, as one of 32 entries.
    """
    return 2 * (group % 4) + group // 4


def _look_up(builder: Any, pointer: Any, table: Any, index: Any) -> Any:
    """Entries of a table of 16 floats, at ``pointer`` and in the vector ``table``, by the low 4 bits of ``index``."""
    if cpu.has("avx512f"):
        kind = ir.FunctionType(_FLOATS, [_FLOATS, _WORDS])
        permute = cgutils.get_or_insert_function(builder.module, kind, "llvm.x86.avx512.permvar.sf.512")
        return builder.call(permute, [table, index])
    index = builder.and_(index, ir.Constant(_WORDS, [ENTRIES - 1] * ROWS))
    data = builder.bitcast(pointer, _FLOAT.as_pointer())
    found = ir.Constant(_FLOATS, ir.Undefined)
    for i in range(ROWS):
        lane = ir.Constant(_WORD, i)
        place = builder.zext(builder.extract_element(index, lane), _INDEX)
        found = builder.insert_element(found, builder.load(builder.gep(data, [place])), lane)
    return found


@emits(xor_rows)
def _xor_rows(
    target: Any, to: Any, source: Any, here: Any, offsets: Any, first: Any, n: Any
) -> tuple[Signature, Any]:
    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        def at(k: int, index: Any, kind: Any) -> Any:
            return pointer_to(context, builder, signature.args[k], args[k], index, kind)

        total = cgutils.alloca_once_value(builder, ir.Constant(_WORDS, [0] * ROWS))
        with cgutils.for_range(builder, args[6]) as loop:
            offset = builder.load(at(4, builder.add(args[5], loop.index), _INDEX))
            words = builder.load(at(2, builder.add(args[3], offset), _WORDS), align=4)
            builder.store(builder.xor(builder.load(total), words), total)
        builder.store(builder.load(total), at(0, args[1], _WORDS), align=4)
        return context.get_dummy_value()

    integer = types.int64
    return types.none(target, integer, source, integer, offsets, integer, integer), codegen


@emits(and_rows)
def _and_rows(target: Any, to: Any, n: Any, mask: Any, at: Any, n_words: Any) -> tuple[Signature, Any]:
    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        rows, ahead = ir.Constant(_INDEX, ROWS), ir.Constant(_INDEX, AHEAD)
        n_planes = builder.add(args[2], ir.Constant(_INDEX, 1))
        with cgutils.for_range(builder, args[5]) as words:
            begin = builder.add(args[4], builder.mul(words.index, rows))

            def masks(where: Any) -> Any:
                return pointer_to(context, builder, signature.args[3], args[3], where, _WORDS)

            prefetch(builder, masks(builder.add(begin, ahead)), 3)
            kept = builder.load(masks(begin), align=4)
            planes = builder.mul(words.index, n_planes)

            def plane(j: Any, planes: Any = planes) -> Any:
                where = builder.add(args[1], builder.mul(builder.add(planes, j), rows))
                return pointer_to(context, builder, signature.args[0], args[0], where, _WORDS)

            with cgutils.for_range(builder, args[2]) as loop:
                place = plane(loop.index)
                builder.store(builder.and_(builder.load(place, align=4), kept), place, align=4)
            builder.store(kept, plane(args[2]), align=4)
        return context.get_dummy_value()

    integer = types.int64
    return types.none(target, integer, integer, mask, integer, integer), codegen


@emits(turn_rows)
def _turn_rows(target: Any, to: Any, step: Any, source: Any, at: Any, starts: Any) -> tuple[Signature, Any]:
    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        def pointer(k: int, index: Any, kind: Any) -> Any:
            return pointer_to(context, builder, signature.args[k], args[k], index, kind)

        begins = [builder.load(pointer(5, ir.Constant(_INDEX, i), _INDEX)) for i in range(ROWS)]
        rows = [builder.load(pointer(3, builder.add(args[4], at), _WORDS), align=4) for at in begins]
        half = ROWS // 2
        halves = [
            ir.Constant(_WORDS, [16 * (i % 2) + i // 2 + first for i in range(ROWS)]) for first in (0, half)
        ]
        # Four perfect shuffles of all 256 words turn them.
        for _ in range(GROUP):
            pairs = [(rows[i], rows[i + half]) for i in range(half)]
            rows = [builder.shuffle_vector(a, b, order) for a, b in pairs for order in halves]
        for i, row in enumerate(rows):
            to = builder.add(args[1], builder.mul(args[2], ir.Constant(_INDEX, i)))
            builder.store(row, pointer(0, to, _WORDS), align=4)
        return context.get_dummy_value()

    integer = types.int64
    return types.none(target, integer, integer, source, integer, starts), codegen


def _each_word(add: Any) -> Any:
    """The code generator of :func:`add_lookups`, of one, ``add``, that adds those of a word."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        sums, to, words, at, tables, first, n, n_words = args
        planes = builder.mul(n, ir.Constant(_INDEX, ROWS))
        with cgutils.for_range(builder, n_words) as loop:
            here = builder.add(at, builder.mul(loop.index, planes))
            table = builder.add(first, builder.mul(loop.index, ir.Constant(_INDEX, TABLE)))
            add(context, builder, signature, (sums, to, words, here, tables, table, n))
        return context.get_dummy_value()

    return codegen


def _add_floats(context: Any, builder: Any, signature: Any, args: Any) -> None:
    def pointer(k: int, index: Any, kind: Any) -> Any:
        return pointer_to(context, builder, signature.args[k], args[k], index, kind)

    places = [pointer(4, builder.add(args[5], ir.Constant(_INDEX, ENTRIES * g)), _FLOATS) for g in range(8)]
    tables = [builder.load(place, align=4) for place in places]
    with cgutils.for_range(builder, args[6]) as loop:
        step = builder.mul(loop.index, ir.Constant(_INDEX, ROWS))
        word = builder.load(pointer(2, builder.add(args[3], step), _WORDS), align=4)
        parts = []
        for g in range(8):
            index = builder.lshr(word, ir.Constant(_WORDS, [GROUP * g] * ROWS)) if g else word
            parts.append(_look_up(builder, places[g], tables[g], index))
        while len(parts) > 1:
            parts = [builder.fadd(a, b) for a, b in zip(parts[::2], parts[1::2], strict=True)]
        target = pointer(0, builder.add(args[1], step), _FLOATS)
        builder.store(builder.fadd(builder.load(target, align=4), parts[0]), target, align=4)


def _add_halves(builder: Any, shorts: Any) -> Any:
    """Sums of neighbouring int16, as int32."""
    if cpu.has("avx512bw"):
        kind = ir.FunctionType(_WORDS, [_SHORTS, _SHORTS])
        add = cgutils.get_or_insert_function(builder.module, kind, "llvm.x86.avx512.pmaddw.d.512")
        return builder.call(add, [shorts, ir.Constant(_SHORTS, [1] * (2 * ROWS))])
    words, half = builder.bitcast(shorts, _WORDS), ir.Constant(_WORDS, [16] * ROWS)
    return builder.add(builder.ashr(builder.shl(words, half), half), builder.ashr(words, half))


def _look_up_shorts(builder: Any, pointer: Any, table: Any, index: Any) -> Any:
    """Entries of a table of 32 int16, at ``pointer`` and in the vector ``table``, by ``index`` below 32."""
    if cpu.has("avx512bw"):
        kind = ir.FunctionType(_SHORTS, [_SHORTS, _SHORTS])
        permute = cgutils.get_or_insert_function(builder.module, kind, "llvm.x86.avx512.permvar.hi.512")
        return builder.call(permute, [table, index])
    data = builder.bitcast(pointer, ir.IntType(16).as_pointer())
    found = ir.Constant(_SHORTS, ir.Undefined)
    for i in range(2 * ROWS):
        lane = ir.Constant(_WORD, i)
        place = builder.zext(builder.extract_element(index, lane), _INDEX)
        found = builder.insert_element(found, builder.load(builder.gep(data, [place])), lane)
    return found


def _add_shorts(context: Any, builder: Any, signature: Any, args: Any) -> None:
    def pointer(k: int, index: Any, kind: Any) -> Any:
        return pointer_to(context, builder, signature.args[k], args[k], index, kind)

    def shorts(*values: int) -> Any:
        return ir.Constant(_SHORTS, [*values] * (2 * ROWS // len(values)))

    places = [
        pointer(4, builder.add(args[5], ir.Constant(_INDEX, 2 * ENTRIES * g)), _SHORTS) for g in range(4)
    ]
    tables = [builder.load(place, align=2) for place in places]
    with cgutils.for_range(builder, args[6]) as loop:
        step = builder.mul(loop.index, ir.Constant(_INDEX, ROWS))
        word = builder.load(pointer(2, builder.add(args[3], step), _SHORTS), align=4)
        parts = []
        for g in range(4):
            index = builder.lshr(word, shorts(GROUP * g)) if g else word
            index = builder.or_(builder.and_(index, shorts(ENTRIES - 1)), shorts(0, ENTRIES))
            parts.append(_look_up_shorts(builder, places[g], tables[g], index))
        whole = builder.add(builder.add(parts[0], parts[1]), builder.add(parts[2], parts[3]))
        target = pointer(0, builder.add(args[1], step), _WORDS)
        total = builder.add(builder.load(target, align=4), _add_halves(builder, whole))
        builder.store(total, target, align=4)


@emits(add_lookups)
def _add_lookups(
    sums: Any, to: Any, words: Any, at: Any, tables: Any, first: Any, n: Any, n_words: Any
) -> tuple[Signature, Any]:
    integer = types.int64
    add = _add_shorts if tables.dtype == types.int16 else _add_floats
    return types.none(sums, integer, words, integer, tables, integer, integer, integer), _each_word(add)
