"""Pivots of groups, and the maps that they are added to, inside numba kernels: see :mod:`xorpack.vector.gf2_bytes`.

Pivots of all rows of the groups are found at once, from 6 bytes of each: what became of a row there, and which rows it
is the sum of (bit ``7 - s`` of byte ``VIEW + h``: row s of group h), are one 64-bit word. The rows themselves are not
touched: maps are multiplied by those sums.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.core.typing.templates import Signature

from xorpack.vector.gf2_bytes import (
    N_GROUPS,
    Bytes,
    Shape,
    Words,
    group_size,
    joined,
    parts_of,
    sizes,
    sliced,
)
from xorpack.vector.gf2_llvm import (
    BYTE,
    INDEX,
    SLICE,
    WORD,
    WORDS,
    affine,
    as_words,
    lanes,
    number,
    spread,
    spread_lane,
    turn_bits,
    turn_bytes,
    turn_words,
)
from xorpack.vector.llvm import emits, pointer_to, prefetch

VIEW = 6
"""Bytes of a row in which its pivot is sought."""

AHEAD = 6
"""Pairs of words whose maps are on their way while one is solved."""

SEEN = (1 << 8 * VIEW) - 1


def find_pivots(
    groups: Bytes,
    left: int,
    free: int,
    begin: int,
    maps: Words,
    standing: Bytes,
    base: int,
    origin: int,
    sums: Words,
    mixing: Words,
    shape: Shape,
) -> np.uint64:
    """Let each row have a column of its own, in the first VIEW of the bytes that are ``free``.

    Rows take the lowest bit that they have there, one row after another, and leave all other rows.

    Args:
        groups: rows; they stay what they are.
        left: a word with bit r set where row r is to take a column; the others are 0.
        free: not 0; bit k for byte ``begin + k`` of a row, ``base + k`` of the stream. If they are fewer than VIEW, the
            first one takes the others' places.
        begin: see ``free``.
        maps: those of bytes of the stream from ``origin`` on.
        standing: by byte of the stream: 0 where it has no map.
        base, origin: see there.
        sums: (8 * N_GROUPS,), out: ``sums[8 * h + k]`` is what :func:`add_to_map` is to add for place k of group h.
        mixing: (N_GROUPS ** 2,), out: what :func:`mix_groups` makes of rows that took nothing, 0 for the others.
        shape: see the module.

    Returns:
        A word with bit ``8 * k + i`` set where bit i of place k was taken, bit ``8 * VIEW + r`` where row r took one.
    """
    n, rows = N_GROUPS, joined(groups, shape)
    numbers = [k for k in range(64) if int(free) >> k & 1]
    numbers = (numbers + VIEW * numbers[:1])[:VIEW] if len(numbers) < VIEW else numbers[:VIEW]
    places, chosen = begin + np.array(numbers), base + np.array(numbers)
    own = sizes(shape)[3] // 8 * (chosen - origin) + chosen % 8
    octets = [maps[at] if standing[k] else 0 for at, k in zip(own, chosen, strict=True)]
    seen = [int.from_bytes(bytes(row[places[:VIEW]]), "little") for row in rows]
    found = [x | 1 << 8 * (VIEW + r // 8) + 7 - r % 8 for r, x in enumerate(seen)]
    for r in (r for r in range(len(found)) if int(left) >> r & 1):
        mine = found[r]
        lowest = mine & SEEN & -(mine & SEEN)
        found = [x ^ mine if other != r and x & lowest else x for other, x in enumerate(found)]
    taken, mixed, summed = 0, [0] * (n * n), [0] * (8 * n)
    for r, x in enumerate(found):
        column = (x & SEEN & -(x & SEEN)).bit_length() - 1
        for h in range(n):
            added = x >> 8 * (VIEW + h) & 255
            if column < 0:
                mixed[n * (r // 8) + h] |= added << 8 * (r % 8)
                continue
            k, i = divmod(column, 8)
            bits = int(octets[k]) >> 8 * (7 - i) & 255 | 1 << i
            summed[8 * h + k] ^= sum(added << 8 * (7 - b) for b in range(8) if bits >> b & 1)
        taken |= 1 << column | 1 << 8 * VIEW + r if column >= 0 else 0
    sums[: 8 * n], mixing[: n * n] = np.array(summed, np.uint64), np.array(mixed, np.uint64)
    return np.uint64(taken)


def add_to_map(
    maps: Bytes, at: int, groups: Bytes, sums: Words, place: int, begin: int, fresh: bool, shape: Shape
) -> None:
    """Let a map at ``at`` add, for bit b, those rows s of group h for which bit ``7 - s`` of byte ``7 - b`` is set.

    Of ``sums[8 * h + place]``, that is. ``begin``: the word of the rows' windows that the map's byte is in. ``fresh``:
    whether the map was nothing before.
    """
    half, _, _, size = sizes(shape)
    if fresh:
        maps[at : at + size] = 0
    for h, group in enumerate(groups[: N_GROUPS * group_size(shape)].reshape(N_GROUPS, -1)):
        chosen = sums[8 * h + place : 8 * h + place + 1].view(np.uint8)[::-1]
        rows = np.concatenate([group[64 * begin : 64 * (begin + half)], group[128 * half :]])
        bits = np.bitwise_count(rows[:, None] & chosen) & 1
        maps[at : at + size] ^= np.packbits(bits, axis=1, bitorder="little")[:, 0]


def mix_groups(groups: Bytes, mixing: Words, shape: Shape) -> None:
    """Row r of group g becomes the sum of those rows s of groups h for which bit ``7 - s`` is set in its byte.

    That is byte r of ``mixing[N_GROUPS * g + h]``.
    """
    n, rows = N_GROUPS, joined(groups, shape)
    chosen = np.unpackbits(mixing[: n * n].view(np.uint8).reshape(n, n, 8, 1), axis=3)  # (g, h, r, s)
    chosen = chosen.transpose(0, 2, 1, 3).reshape(8 * n, 8 * n)
    mixed = [np.bitwise_xor.reduce(rows[each != 0], axis=0, initial=np.uint8(0)) for each in chosen]
    groups[: n * group_size(shape)] = sliced(np.array(mixed))


def solve_pair(
    maps: Bytes,
    at: int,
    standing: int,
    stream: Words,
    place: int,
    stride: int,
    tails: Words,
    found: Words,
    shape: Shape,
) -> None:
    """What the maps of a pair of words, from ``at`` on, make of the words after it: its columns that have pivots.

    Maps of pairs before it are brought near on the way: memory is slower than what is done with them.

    Args:
        maps: see the module.
        at: where the first of the pair's 8 maps begins.
        standing: the pair's columns that have pivots.
        stream: pairs of words, the bits of each byte in reverse order, of ``found.size`` planes that are ``stride``
            apart; those after ``place`` are known, this one is written.
        place: the pair's place in the first plane.
        stride: see ``stream``.
        tails: the tails of all planes, one after another, the bits of each byte in reverse order.
        found: out: the pair itself, of each plane.
        shape: see the module.
    """
    half, tail, _, size = sizes(shape)
    for p in range(found.size):
        begin = place + p * stride
        known = np.concatenate([stream[begin : begin + half], tails[p * tail : (p + 1) * tail]])
        known[0] = 0
        bits = np.unpackbits(known.view(np.uint8), bitorder="little")
        pair = np.zeros(8, np.uint8)
        for b in range(7, -1, -1):
            octets = maps[at + size * b : at + size * (b + 1)]
            total = np.bitwise_xor.reduce(octets[bits != 0], initial=np.uint8(0))
            pair[b] = total & np.uint8(int(standing) >> 8 * b & 255)
            bits[8 * b : 8 * b + 8] = np.unpackbits(pair[b : b + 1])
        found[p] = pair.view(np.uint64)[0]
        stream[begin] = np.packbits(bits[:64], bitorder="little").view(np.uint64)[0]


@contextmanager
def bits_by_two(builder: Any, word: Any) -> Iterator[tuple[Any, Any]]:
    """A loop over the bits of a 64-bit word that are set, the lowest first: which two they are, or twice the last."""
    rest = cgutils.alloca_once_value(builder, word)
    test, body, after = (builder.append_basic_block(name) for name in ("test", "body", "after"))
    builder.branch(test)
    builder.position_at_end(test)
    left = builder.load(rest)
    builder.cbranch(builder.icmp_unsigned("!=", left, number(0)), body, after)
    builder.position_at_end(body)
    others = builder.and_(left, builder.sub(left, number(1)))
    second = builder.select(builder.icmp_unsigned("!=", others, number(0)), others, left)
    builder.store(builder.and_(others, builder.sub(others, number(1))), rest)
    yield tuple(builder.cttz(bits, ir.Constant(ir.IntType(1), 1)) for bits in (left, second))
    builder.branch(test)
    builder.position_at_end(after)


@emits(find_pivots)
def _find_pivots(
    groups: Any, left: Any, free: Any, begin: Any, maps: Any, standing: Any, base: Any, origin: Any, sums: Any,
    mixing: Any, shape: Any,
) -> tuple[Signature, Any]:  # fmt: skip
    half, tail, _, _ = parts_of(shape)

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        def at(k: int, where: Any, kind: Any) -> Any:
            return pointer_to(context, builder, signature.args[k], args[k], where, kind)

        n, nothing = N_GROUPS, ir.Constant(WORDS, [0] * 8)
        found, own, left = [nothing] * n, nothing, args[2]
        behind = builder.sub(args[6], args[7])
        for k in range(VIEW):
            place = builder.cttz(left, ir.Constant(ir.IntType(1), 0))
            if k == 0:
                first = place
            else:
                place = builder.select(builder.icmp_unsigned("==", left, number(0)), first, place)
            left = builder.and_(left, builder.sub(left, number(1)))
            lane, byte = ir.Constant(WORD, k), builder.add(args[6], place)
            where = builder.mul(builder.add(behind, place), number(8 * (half + tail)))
            octet = builder.load(at(4, builder.add(where, builder.and_(byte, number(7))), INDEX))
            # Not by a comparison, of which a branch would be made.
            stands = builder.add(builder.zext(builder.load(at(5, byte, BYTE)), INDEX), number(255))
            stands = builder.sub(number(0), builder.lshr(stands, number(8)))
            own = builder.insert_element(own, builder.and_(octet, stands), lane)
            where = builder.mul(builder.add(args[3], place), number(8))
            for g in range(n):
                word = builder.load(
                    at(0, builder.add(where, number(64 * (2 * half + tail) * g)), INDEX), align=8
                )
                found[g] = builder.insert_element(found[g], word, lane)
        for g, words in enumerate(found):
            seen = builder.bitcast(turn_bytes(builder, turn_bits(builder, words)), WORDS)
            unit = ir.Constant(WORDS, [1 << 8 * (VIEW + g) + 7 - r for r in range(8)])
            found[g] = builder.or_(seen, unit)

        def without(words: Any, row: Any) -> Any:
            """What is added to words so that they do not have the lowest bit of a row."""
            # All bits of a row are at its lowest one or above: nothing less the bit that both have chooses them.
            lowest = builder.and_(row, builder.sub(nothing, row))
            return builder.and_(row, builder.sub(nothing, builder.and_(words, lowest)))

        state, looks = [cgutils.alloca_once_value(builder, words) for words in found], [SEEN] * 8
        for g in range(n):
            rest = builder.and_(builder.lshr(args[1], number(8 * g)), number(255))
            with bits_by_two(builder, rest) as both:
                words = [builder.load(each) for each in state]
                a, b = (builder.bitcast(spread_lane(builder, words[g], r), WORDS) for r in both)
                b = builder.xor(b, without(builder.and_(b, ir.Constant(WORDS, looks)), a))
                for r, row in zip(both, (a, b), strict=True):
                    itself = builder.icmp_unsigned(
                        "==", spread(builder, r, 8), ir.Constant(WORDS, list(range(8)))
                    )
                    others = builder.select(itself, nothing, ir.Constant(WORDS, looks))
                    masks = [others if h == g else ir.Constant(WORDS, looks) for h in range(n)]
                    words = [
                        builder.xor(x, without(builder.and_(x, mask), row))
                        for x, mask in zip(words, masks, strict=True)
                    ]
                for each, value in zip(state, words, strict=True):
                    builder.store(value, each)
        found = [builder.load(words) for words in state]

        columns, took, matrices, chosen = nothing, number(0), [], []
        for g, words in enumerate(found):
            seen = builder.and_(words, ir.Constant(WORDS, [SEEN] * 8))
            lowest = builder.and_(seen, builder.sub(nothing, seen))
            columns = builder.or_(columns, lowest)
            some = builder.icmp_unsigned("!=", lowest, nothing)
            mask = builder.zext(builder.bitcast(some, BYTE), INDEX)
            took = builder.or_(took, builder.shl(mask, number(8 * (VIEW + g))))
            matrices.append(turn_bytes(builder, lowest))
            chosen.append(turn_bits(builder, builder.bitcast(turn_bytes(builder, words), WORDS)))
            others = builder.bitcast(builder.select(some, nothing, words), SLICE)
            for h in range(n):
                rest = builder.shuffle_vector(others, others, lanes(range(VIEW + h, 64, 8)))
                builder.store(builder.bitcast(rest, INDEX), at(9, number(n * g + h), INDEX))
        for step in (4, 2, 1):
            moved = builder.shuffle_vector(columns, columns, lanes([(k + step) % 8 for k in range(8)]))
            columns = builder.or_(columns, moved)
        taken = builder.extract_element(columns, ir.Constant(WORD, 0))
        own = builder.or_(builder.bitcast(own, SLICE), ir.Constant(SLICE, [128 >> i % 8 for i in range(64)]))
        # By bit of a place's byte, the rows that took the bits it is the sum of; then what those are the sums of.
        takers = [affine(builder, turn_bits(builder, own), matrix) for matrix in matrices]
        for h in range(n):
            total = None
            for rows, words in zip(takers, chosen, strict=True):
                word = builder.shuffle_vector(words, words, lanes([VIEW + h] * 8))
                part = affine(builder, rows, builder.bitcast(word, SLICE))
                total = part if total is None else builder.xor(total, part)
            builder.store(total, at(8, number(8 * h), SLICE), align=8)
        return builder.or_(taken, took)

    n = types.int64
    return types.uint64(
        groups, types.uint64, types.uint64, n, maps, standing, n, n, sums, mixing, shape
    ), codegen


@emits(add_to_map)
def _add_to_map(
    maps: Any, at: Any, groups: Any, sums: Any, place: Any, begin: Any, fresh: Any, shape: Any
) -> tuple[Signature, Any]:
    half, tail, _, in_group = parts_of(shape)

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        kinds = signature.args
        matrices = []
        for h in range(N_GROUPS):
            place = builder.add(args[4], number(8 * h))
            word = builder.load(pointer_to(context, builder, kinds[3], args[3], place, INDEX))
            matrices.append(builder.bitcast(spread(builder, word, 8), SLICE))
        moved = builder.mul(args[5], number(64))

        old = builder.sext(builder.icmp_unsigned("==", args[6], ir.Constant(args[6].type, 0)), INDEX)
        old = builder.bitcast(spread(builder, old, 8), SLICE)
        for k, vector in enumerate(in_group):
            into = pointer_to(
                context, builder, kinds[0], args[0], builder.add(args[1], number(64 * k)), SLICE
            )
            total = builder.and_(builder.load(into, align=64), old)
            for h, matrix in enumerate(matrices):
                place = number(64 * (h * (2 * half + tail) + vector))
                place = builder.add(place, moved) if k < half else place
                rows = builder.load(pointer_to(context, builder, kinds[2], args[2], place, SLICE), align=1)
                total = builder.xor(total, affine(builder, rows, matrix))
            builder.store(total, into, align=64)
        return context.get_dummy_value()

    index = types.int64
    return types.none(maps, index, groups, sums, index, index, types.boolean, shape), codegen


@emits(mix_groups)
def _mix_groups(groups: Any, mixing: Any, shape: Any) -> tuple[Signature, Any]:
    half, tail, _, in_group = parts_of(shape)

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        kinds, n = signature.args, N_GROUPS
        matrices = []
        for k in range(n * n):
            word = builder.load(pointer_to(context, builder, kinds[1], args[1], number(k), INDEX))
            matrices.append(builder.bitcast(spread(builder, word, 8), SLICE))
        for k in in_group:
            places = [
                pointer_to(
                    context, builder, kinds[0], args[0], number(64 * (h * (2 * half + tail) + k)), SLICE
                )
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


@emits(solve_pair)
def _solve_pair(
    maps: Any,
    at: Any,
    standing: Any,
    stream: Any,
    place: Any,
    stride: Any,
    tails: Any,
    found: Any,
    shape: Any,
) -> tuple[Signature, Any]:
    half, tail, _, _ = parts_of(shape)
    ones, nothing = ir.Constant(SLICE, [255] * 64), ir.Constant(WORDS, [0] * 8)

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        def at(k: int, where: Any, kind: Any) -> Any:
            return pointer_to(context, builder, signature.args[k], args[k], where, kind)

        def octets(b: int, k: int) -> Any:
            where = builder.add(args[1], number(64 * ((half + tail) * b + k)))
            return builder.load(at(0, where, WORDS), align=64)

        def every_byte(words: Any, of: int) -> Any:
            words = as_words(builder, words)
            return builder.shuffle_vector(words, words, lanes([of] * 8))

        # Of byte b of the pair, what it adds to those before it, all at once: a matrix for each.
        inner = []
        for b, words in enumerate(turn_words(builder, [octets(b, 0) for b in range(8)])):
            earlier = ir.Constant(WORDS, [(1 << 64) - 1 if a < b else 0 for a in range(8)])
            inner.append(builder.bitcast(builder.and_(turn_bits(builder, words), earlier), SLICE))
        stands = builder.bitcast(spread(builder, args[2], 8), SLICE)
        stands = builder.shuffle_vector(stands, stands, lanes([i // 8 for i in range(64)]))
        n_planes = cgutils.create_struct_proxy(signature.args[7])(context, builder, args[7]).nitems
        # A pair's maps, some for each plane: all at once would hold up what is loaded.
        lines, soon = 8 * (half + tail), builder.sub(args[1], number(64 * 8 * (half + tail) * AHEAD))
        share = builder.udiv(builder.add(n_planes, number(lines - 1)), n_planes)
        share = builder.mul(share, number(64))
        with cgutils.for_range(builder, n_planes, intp=INDEX) as plane:
            begin = builder.add(args[4], builder.mul(plane.index, args[5]))
            first = builder.mul(plane.index, number(tail))
            known = [(k, 3, builder.add(begin, number(k))) for k in range(half - 1, 0, -1)]
            known += [(half + k, 6, builder.add(first, number(k))) for k in range(tail)]
            totals = [nothing] * 8
            for k, array, where in sorted(known, key=lambda each: -each[0]):
                bits = builder.bitcast(
                    builder.load(at(array, where, INDEX)), ir.VectorType(ir.IntType(1), 64)
                )
                mask = builder.bitcast(builder.sext(bits, SLICE), WORDS)
                totals = [
                    builder.xor(total, builder.and_(octets(b, k), mask)) for b, total in enumerate(totals)
                ]
            for step in (1, 2, 4):  # word b: the sum of all words of total b
                low = lanes([i - step + 8 if i & step else i for i in range(8)])
                high = lanes([i + 8 if i & step else i + step for i in range(8)])
                pairs = zip(totals[::2], totals[1::2], strict=True)
                totals = [
                    builder.xor(builder.shuffle_vector(a, b, low), builder.shuffle_vector(a, b, high))
                    for a, b in pairs
                ]
            fetched = builder.add(soon, builder.mul(plane.index, share))
            with cgutils.for_range_slice(
                builder, fetched, builder.add(fetched, share), number(64), INDEX
            ) as (line, _):
                prefetch(builder, at(0, line, BYTE), 2)
            sums = affine(builder, ones, builder.bitcast(turn_bits(builder, totals[0]), SLICE))
            for b in range(7, 0, -1):
                solved = builder.bitcast(every_byte(builder.and_(sums, stands), b), SLICE)
                added = affine(builder, solved, inner[b])
                sums = builder.xor(sums, added)
            solved = builder.and_(sums, stands)
            turned = affine(builder, solved, ir.Constant(SLICE, [1 << i % 8 for i in range(64)]))
            for octet, array, where in ((solved, 7, plane.index), (turned, 3, begin)):
                chosen = builder.shuffle_vector(octet, octet, lanes([8 * i % 64 for i in range(64)]))
                word = builder.extract_element(builder.bitcast(chosen, WORDS), ir.Constant(WORD, 0))
                builder.store(word, at(array, where, INDEX))
        return context.get_dummy_value()

    n = types.int64
    return types.none(maps, n, types.uint64, stream, n, n, tails, found, shape), codegen
