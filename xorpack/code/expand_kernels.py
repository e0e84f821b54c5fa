"""Kernel of :func:`xorpack.code.expand.expand`: one step of all lanes at a time.

Words of a stretch of rows are made first, every lane twice, and go to their places then: what was just stored could
not be read at once, and lines of many rows are on their way together.
"""

from __future__ import annotations

import numpy as np

from xorpack.code.layout_kernels import place_of, step_of
from xorpack.vector.compiled import inlined, njit, part
from xorpack.vector.xor import and_lanes, copy_words, xor_taps


@njit(cache=True, nogil=True)
def expand_kernel(
    code,  # (q * n_segments * m_lane * lanes,) uint32
    m_lane,
    first,
    begin,
    end,
    whole,
    order,  # Layout.params()
    schedule,  # XorNetwork.schedule()
    taps,  # XorNetwork.taps()
    inverse,  # of row_stride modulo rows
    reach,  # XorNetwork.reach()
    n_alike,  # XorNetwork.n_alike
    word,  # (stretch * n_sub * q * 64,) uint32, aligned, scratch
    window,  # of :func:`xorpack.code.expand.expanding`, as ``word``
    places,  # (3, stretch) int64, scratch
    mask,  # (n * chunks,) uint32
    out,  # (q * n * chunks,) uint32
):
    """Rows ``first + begin .. first + end - 1`` into the same rows of ``out``.

    Where ``whole`` (and first = 0), row indices ``begin .. end - 1`` instead, in the order of coding,
    which reads the code from end to end.
    """
    rows, chunks, lanes, _, row_stride, panel_chunks, n_sub = order
    n_panels = -(-chunks // panel_chunks)
    q = out.size // mask.size
    stretch = places.shape[1]
    indices, slots, starts = places[0], places[1], places[2]
    row_step, index_step = (row_stride, 1) if whole else (1, inverse)
    i = begin if whole else (first + begin) * inverse % rows
    r = begin * row_stride % rows if whole else first + begin
    for x in range(begin, end, stretch):
        n = stretch if stretch < end - x else end - x
        for y in range(n):
            indices[y], starts[y] = i, (r - first) * chunks
            slots[y] = place_of(0, i, lanes, n_sub)
            i += index_step
            if i >= rows:
                i -= rows
            r += row_step
            if r >= rows:
                r -= rows
        for p in range(n_panels):
            base = p * panel_chunks
            limit = panel_chunks if panel_chunks < chunks - base else chunks - base
            make_words(word, code, q, m_lane, p, indices, n, order, schedule, taps, reach, n_alike, window)
            made = np.int64(0)
            for y in range(n):
                at = starts[y] + base
                slot = slots[y]
                for _ in range(n_sub):
                    for plane in range(q):
                        to = plane * mask.size + at
                        place_word(out, to, word, made, mask, at, slot, lanes, n_sub * lanes, limit)
                        made += 64
                    slot = next_slot(slot, lanes, n_sub)


@inlined
def next_slot(slot, lanes, n_sub):
    """The place of lane 0 a turn later."""
    return slot + lanes if slot + lanes < n_sub * lanes else slot + lanes - n_sub * lanes


@part
def make_words(word, code, q, m_lane, p, indices, n, order, schedule, taps, reach, n_alike, window):
    """The lanes of panel p of the first ``n`` row ``indices``, twice each: ``word`` is (n, n_sub, q, 64), flat.

    Other arguments are those of :func:`expand_kernel`.
    """
    rows, _, lanes, n_steps, _, _, n_sub = order
    n_in, num, den, hold = schedule
    offsets, rotations, counts = taps
    size = code.size // q
    flat_offsets, flat_rotations = offsets.reshape(-1), rotations.reshape(-1)
    n_distinct, n_taps = offsets.shape
    last = (size - 32) // lanes  # word of lane 0 from which on 32 can be read
    made = np.int64(0)  # with a literal, what is called below would be compiled twice
    segment, step, start, row, rest, held, expected = 0, 0, 0, 0, 0, 0, -1
    y, c = 0, 0
    while y < n:
        t = step_of(p, indices[y], c, rows, n_sub)
        if t == expected and step + 1 < n_steps:  # the next step, as a rule: no division
            step += 1
            row = row + 1 if row + 1 < n_distinct else 0
            held += 1
            if held == hold:
                held = 0
                rest += hold * num
                while rest >= den:
                    rest -= den
                    start += n_in
        else:
            segment = t // n_steps
            step = t - segment * n_steps
            row = step % n_distinct
            held = step % hold
            start = (step - held) * num // den
            rest = (step - held) * num - start * den
            start *= n_in
        # All taps before the ring's end, and 32 words to read at each of them.
        room = (m_lane - 1 if m_lane - 1 < last - segment * m_lane else last - segment * m_lane) - start
        here = (segment * m_lane + start) * lanes
        tap = row * n_taps
        done = np.int64(1)
        if reach[row] <= room:
            # As many steps as follow each other and read from the same place on.
            most = hold - held if hold - held < n_steps - step else n_steps - step
            most = most if most < n_distinct - row else n_distinct - row
            left = n - y if n_sub == 1 else n_sub - c
            most = most if most < left else left
            most = most if counts[row] == n_taps else 1
            while (
                done < most
                and (n_sub > 1 or indices[y + done] == indices[y] + done)
                and reach[row + done] <= room
                and counts[row + done] == n_taps
            ):
                done += 1
            xor_taps(
                word, made, code, here, lanes, flat_offsets, flat_rotations, tap, counts[row], n_alike, q, size, done,
            )  # fmt: skip
        else:
            wrap_taps(
                word, made, code, q, segment * m_lane * lanes, lanes, start, m_lane, flat_offsets,
                flat_rotations, tap, counts[row], n_alike, reach[row] + 1, window,
            )  # fmt: skip
        step += done - 1
        row += done - 1
        held += done - 1
        expected = t + done
        made += 64 * q * done
        if n_sub == 1:
            y += done
        else:
            c += done
            if c == n_sub:
                y, c = y + 1, 0


@part
def wrap_taps(
    word, to, code, q, ring, lanes, start, m_lane, offsets, rotations, first, n_taps, n_alike, n, window
):
    """:func:`xorpack.vector.xor.xor_taps` near the end of a ring that begins at ``code[ring]``.

    Past the last word of a lane the next one begins: ``n`` words of each from ``start`` on are copied to ``window``.
    """
    size, width = code.size // q, window.size // q
    for k in range(n):
        turns = (start + k) // m_lane
        on = turns % lanes
        for plane in range(q):
            there = plane * size + ring + (start + k - turns * m_lane) * lanes
            into = plane * width + k * lanes
            copy_words(window, into, code, there + on, lanes - on)
            copy_words(window, into + lanes - on, code, there, on)
    one = np.int64(1)
    xor_taps(word, to, window, 0, lanes, offsets, rotations, first, n_taps, n_alike, q, width, one)


@inlined
def place_word(out, to, word, made, mask, at, slot, lanes, turn, limit):
    """The lanes at ``word[made:]``, of which lane 0 goes to place ``slot`` of a turn, to a panel of ``limit`` chunks
    that begins at ``out[to]`` and ``mask[at]``.
    """
    if turn == 32 and lanes == 32 and limit == 32:
        and_lanes(out, to, word, made + 32 - slot, mask, at)
    elif turn == 32 and lanes == 32:
        # The skew is a rotation of the lanes: read them from the doubled copy.
        for j in range(limit):
            out[to + j] = word[made + 32 - slot + j] & mask[at + j]
    else:
        # The lanes up to the turn's end, then those from its beginning on.
        last = turn if turn < limit else limit
        for j in range(slot, slot + lanes if slot + lanes < last else last):
            out[to + j] = word[made + j - slot] & mask[at + j]
        rest = slot + lanes - turn
        for j in range(rest if rest < limit else limit):
            out[to + j] = word[made + turn - slot + j] & mask[at + j]
