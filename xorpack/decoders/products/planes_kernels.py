"""Kernel of :mod:`xorpack.decoders.products.planes`: 16 rows expanded, turned side by side, and multiplied."""

from __future__ import annotations

import numpy as np

from xorpack.code.expand_kernels import make_words, next_slot, place_word
from xorpack.code.layout_kernels import place_of
from xorpack.decoders.products.sums_kernels import kept_sums
from xorpack.fields.codewords_kernels import recode
from xorpack.vector.aligned import aligned
from xorpack.vector.bitops import count_ones, deposit
from xorpack.vector.compiled import njit, part
from xorpack.vector.lookup import add_lookups, and_rows, turn_rows
from xorpack.vector.outlined import fail, itself
from xorpack.vector.team_kernels import lead


@njit(cache=True, nogil=True)
def planes_kernel(
    begin,
    end,
    helpers,  # of a team that share the units: those are all, from 0 to end
    team,  # see xorpack.vector.team_kernels
    code,  # (n_coded * n_segments * m_lane * lanes,) uint32, or (n_coded * words,) of packed bits
    m_lane,
    bits,  # (rows + 1,) int64: where those of each row are packed; or empty: they are not
    order,  # Layout.params()
    schedule,  # XorNetwork.schedule()
    taps,  # XorNetwork.taps()
    reach,  # XorNetwork.reach()
    n_alike,  # XorNetwork.n_alike
    furthest,  # offset of all taps
    constants,  # uint32, words of the planes that are not coded; they come behind the coded ones
    wrong,  # (starts, columns, lanes, values): corrections of unit u, by column, from starts[u] to starts[u + 1]
    masks,  # (units, chunks, 16) uint32 flat, or empty: nothing is pruned
    alphas,  # (units, n_groups, q, 16) float32 flat
    chunks_of_group,
    depths,  # see xorpack.decoders.products.planes.Depths
    tables,  # (n, chunks * 128) flat, float32 or int16
    totals,  # (n, n_groups), float32 or int32
    steps,  # (n,) float32, what 1 in the tables is
    out,  # (n, rows) float32
):
    """Fill ``out`` with the products of units ``begin .. end - 1``: of 16 rows each, in the order of coding."""
    if helpers:
        fail(lead(team, helpers, end, itself()))
        return
    rows, chunks, lanes, _, row_stride, panel_chunks, n_sub = order
    n, n_groups = totals.shape
    q = alphas.size // (16 * n_groups * (-(-rows // 16)))
    deep, deep_firsts, deep_lanes, deep_schedules, program, bit_planes = depths
    n_depths, n_bits = deep_lanes.size, bit_planes.size
    n_held = n_bits - n_depths if n_bits else q  # planes before depths
    n_coded, n_all = n_held - constants.size, n_held + n_depths
    masked = masks.size > 0
    n_planes = q + 1 if masked else q
    firsts, columns, wrong_lanes, values = wrong
    # Where all lanes are a turn, any skew of them is 32 neighbours of what was made: nothing need be placed.
    packed = bits.size > 0
    straight = lanes == 32 and n_sub == 1 and not packed
    many_words = 16 * n_sub * 64  # that are made of a plane
    made = aligned(many_words * (n_coded + n_depths))
    window = aligned(max(n_coded, 1) * ((furthest + 1) * lanes + 32))
    placed = aligned(0 if straight else 16 * n_all * 32)
    turned = aligned(256 * n_bits)
    nodes = aligned(256 * max(n_bits, 1))
    nodes[:256] = 0xFFFFFFFF
    rest = aligned(16 * constants.size * 32)
    everything = aligned(32)
    everything[:] = 0xFFFFFFFF
    words = aligned(16 * n_planes * 16)
    sums = aligned(n * n_planes * 16).view(totals.dtype)
    total, kept = np.empty((n, 16), np.float32), np.empty(16, totals.dtype)
    indices, slots = np.zeros(16, np.int64), np.zeros(16, np.int64)
    starts, places, nexts = np.zeros((n_all, 16), np.int64), np.zeros(16, np.int64), np.zeros(16, np.int64)
    for unit in range(begin, end):
        n_rows = min(16, rows - 16 * unit)
        for y in range(n_rows):
            indices[y], slots[y] = 16 * unit + y, place_of(0, 16 * unit + y, lanes, n_sub)
            places[y] = indices[y] * row_stride % rows
            if packed:
                nexts[y] = bits[places[y]]
        for y in range(16):
            for j in range(n_all):
                if n_coded <= j < n_held:
                    starts[j, y] = ((j - n_coded) * 16 + y) * 32
                elif straight and j < n_coded:
                    starts[j, y] = (y * n_coded + j) * 64 + 32 - slots[y]
                elif straight:
                    starts[j, y] = many_words * (n_coded + j - n_held) + y * 64 + 32 - slots[y]
                else:
                    starts[j, y] = (j * 16 + y) * 32
        total[:] = 0
        cursor, until = firsts[unit], firsts[unit + 1]
        p, c, g, left, chunk = -1, panel_chunks, 0, chunks_of_group, 0
        while chunk < chunks:
            if c == panel_chunks:
                p, c = p + 1, 0
                limit = min(panel_chunks, chunks - chunk)
                if packed and n_coded:
                    unpack_rows(
                        placed, starts, code, n_coded, masks, unit * chunks + chunk, limit, bits[1] - 32 * chunk,
                        nexts, n_rows,
                    )  # fmt: skip
                elif n_coded:
                    make_words(
                        made, code, n_coded, m_lane, p, indices, n_rows, order, schedule, taps, reach, n_alike, window,
                    )  # fmt: skip
                for e in range(n_depths):
                    begins, ends = many_words * (n_coded + e), many_words * (n_coded + e + 1)
                    how = (
                        deep_schedules[e, 0],
                        deep_schedules[e, 1],
                        deep_schedules[e, 2],
                        deep_schedules[e, 3],
                    )
                    make_words(
                        made[begins:ends], deep[deep_firsts[e] : deep_firsts[e + 1]], np.int64(1), deep_lanes[e], p,
                        indices, n_rows, order, how, taps, reach, n_alike, window,
                    )  # fmt: skip
                if not (straight or packed):
                    place_rows(
                        placed, starts, np.int64(0), n_coded, made, np.int64(0), slots, n_rows, lanes, n_sub, limit,
                        everything,
                    )  # fmt: skip
                    for e in range(n_depths):
                        place_rows(
                            placed, starts, n_held + e, np.int64(1), made, many_words * (n_coded + e), slots, n_rows,
                            lanes, n_sub, limit, everything,
                        )  # fmt: skip
                for j in range(constants.size):
                    rest[j * 512 : (j + 1) * 512] = constants[j]
                coded = made if straight else placed
                while cursor < until and columns[cursor] < 32 * (chunk + panel_chunks):
                    column, y, value = columns[cursor], wrong_lanes[cursor], values[cursor]
                    bit = np.uint32(1) << np.uint32(column & 31)
                    for j in range(n_all):
                        if value >> j & 1:
                            target = rest if n_coded <= j < n_held else coded
                            target[starts[j, y] + (column >> 5) - chunk] ^= bit
                    cursor += 1
            if c & 15 == 0 and not n_bits:
                for j in range(q):
                    turn_rows(words, 16 * j, 16 * n_planes, coded if j < n_coded else rest, c, starts[j])
            elif c & 15 == 0:
                for d in range(n_bits):
                    j = bit_planes[d]
                    turn_rows(turned, 256 * d, 16, rest if n_coded <= j < n_held else coded, c, starts[j])
                recode(program, turned, 0, 256, nodes, 256, words, 0, 16 * n_planes, 16, 256)
            if left == chunks_of_group:
                sums[:] = 0
            at = (c & 15) * n_planes * 16
            many = min(16 - (c & 15), limit - c, left)  # words that are turned, of one panel and of one group
            if masked:
                and_rows(words, at, q, masks, (unit * chunks + chunk) * 16, many)
            for k in range(n):
                first = (k * chunks + chunk) * 128
                add_lookups(sums, k * n_planes * 16, words, at, tables, first, n_planes, many)
            chunk, c, left = chunk + many, c + many, left - many
            if left and chunk < chunks:
                continue
            for k in range(n):
                at = k * n_planes * 16
                kept_sums(kept, sums, at, q, masked, totals[k, g])
                for j in range(q):
                    alpha = ((unit * n_groups + g) * q + j) * 16
                    for i in range(16):
                        total[k, i] += alphas[alpha + i] * np.float32(
                            sums[at + 16 * j + i] + sums[at + 16 * j + i] - kept[i]
                        )
            g, left = g + 1, chunks_of_group
        for y in range(n_rows):
            for k in range(n):
                out[k, places[y]] = steps[k] * total[k, y]


@part
def place_rows(placed, starts, first, n, made, at, slots, n_rows, lanes, n_sub, limit, everything):
    """Put ``n`` planes of ``n_rows`` rows, as :func:`make_words` made them from ``made[at:]`` on, to their places.

    ``first``: of the planes. ``everything``: 32 words, all ones.
    """
    for y in range(n_rows):
        slot = slots[y]
        for _ in range(n_sub):
            for j in range(n):
                to = starts[first + j, y]
                place_word(placed, to, made, at, everything, 0, slot, lanes, n_sub * lanes, limit)
                at += 64
            slot = next_slot(slot, lanes, n_sub)


@part
def unpack_rows(placed, starts, code, q, masks, first, n, cols, at, n_rows):
    """Put ``n`` words of ``n_rows`` rows of packed planes to ``placed[starts[j, y]:]``; ``at`` (16,) moves past them.

    ``masks`` has the first of them at ``16 * first + y``; where it is empty, all of a row's ``cols`` columns are kept.
    """
    size = np.int64(code.size // q)
    for y in range(n_rows):
        bit = at[y]
        for k in range(n):
            if masks.size:
                kept = np.uint64(masks[16 * (first + k) + y])
            else:
                kept = np.uint64(0xFFFFFFFF) >> np.uint64(32 - min(32, cols - 32 * k))
            word = min(bit >> 5, size - 1)  # past the end, what is read is not deposited anywhere
            after = min((bit >> 5) + 1, size - 1)
            for j in range(q):
                found = np.uint64(code[j * size + word]) | np.uint64(code[j * size + after]) << np.uint64(32)
                placed[starts[j, y] + k] = np.uint32(deposit(found >> np.uint64(bit & 31), kept))
            bit += np.int64(count_ones(kept))
        at[y] = bit
