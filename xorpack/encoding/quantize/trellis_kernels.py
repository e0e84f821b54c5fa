"""Viterbi search of a trellis network's stored bits, column by column, in integers.

A state is the ``window`` bits that a step's levels depend on, the newest highest; ``windows`` are what is left of it
when the bits that fall out at the next step (``n_dropped`` low ones) are forgotten, the best of them having been
chosen. A step of the search takes in the stored bits of a row, and the weights of that row and of the rows after it
that bring no bits of their own.

Levels lie by dropped bits first: state ``s`` of a table is at ``start + (s % 2**n_dropped << window - n_dropped) +
(s >> n_dropped)``, so that a step is runs of neighbours (:func:`xorpack.vector.select.add_compare_select`).
"""

from __future__ import annotations

import numpy as np

from xorpack.vector.compiled import njit, part
from xorpack.vector.select import add_compare_select, unshuffle


@njit(cache=True, nogil=True)
def search_kernel(
    targets,
    weights,
    weighted,
    fine,
    firsts,
    new_bits,
    counts,
    tables,
    levels,
    window,
    edge,
    capacity,
    code,
    chunk,
):
    """Choose the stored bits of up to 32 columns and write them as word column ``chunk`` of ``code``.

    Few bits: all columns of them are tried. Otherwise the window that a column begins and ends in (tail-biting) is one
    that a free search passes there, and the best path from it to itself is found; in a column that is short beside
    its window, of several such windows, and then again from other steps of that path on, which never makes it worse.

    Args:
        targets: int16 (n_cols, rows), in the unit of ``levels``.
        weights: int16 (n_cols, rows), of the squared errors, in 1/32768; where 0, the target is don't care.
        weighted: whether any of them is neither 0 nor the largest.
        fine: square differences as 4 times what they are.
        firsts, new_bits, counts: int64 (n_steps,), first row, stored bits and rows of each step.
        tables: int64 (rows,), start of each row's levels.
        levels: int16, flat.
        window: bits of a state (L).
        edge: steps after which the past hardly matters. Where survivors are full, all but so many steps are decided.
        capacity: steps whose survivors are kept, more than ``5 * edge``;
            paths that do not pass where the decided one ends are given up.
        code: uint32 (m, chunks).
        chunk: column of ``code`` that is written.
    """
    n_cols, rows = targets.shape
    n_steps = firsts.size
    m = code.shape[0]
    anywhere, first = (
        np.int64(-1),
        np.int64(0),
    )  # with literals, what is called below would be compiled anew for each
    most, widest = 0, 0
    for s in range(n_steps):
        most = max(most, new_bits[s])
        widest = max(widest, counts[s])
    size = max(1 << window, 32 << most)
    costs = np.empty((2, size), np.int16)
    stride = np.int64(0)
    for s in range(n_steps):
        stride = max(stride, (1 << window - new_bits[s]) // 32 * new_bits[s])
    survivors = np.empty(capacity * stride, np.uint32)
    starts = np.zeros(max(widest, 1), np.int64)
    step_targets = np.zeros(max(widest, 1), np.int16)
    step_weights = np.zeros(max(widest, 1), np.int16)
    chosen = np.zeros(n_steps, np.int64)
    best = np.zeros(n_steps, np.int64)
    candidates = np.zeros(4, np.int64)
    for i in range(m):
        code[i, chunk] = 0
    for c in range(n_cols):
        x, weight = targets[c], weights[c]
        cares = False
        for r in range(rows):
            cares |= weight[r] != 0
        if not cares:
            continue
        if m < max(window, 13):
            exhaust(x, weight, firsts, new_bits, counts, tables, levels, window, m, chosen)
        else:
            laps = 1 if n_steps >= edge else 4
            before = edge if laps == 1 else n_steps
            n = laps * before + before
            begin = (n_steps - before) % n_steps
            last, _ = run(
                x, weight, weighted, fine, firsts, new_bits, counts, tables, levels, window, begin, n, edge,
                capacity, anywhere, costs, survivors, stride, starts, step_targets, step_weights, chosen,
            )  # fmt: skip
            for lap in range(laps, 0, -1):
                last = trace(
                    survivors, stride, capacity, new_bits, window, begin, n, lap * before, last, chosen
                )
                candidates[lap - 1] = last
                n = lap * before
            least = np.int64(-1)
            for lap in range(laps):
                _, total = run(
                    x, weight, weighted, fine, firsts, new_bits, counts, tables, levels, window, first, n_steps, edge,
                    capacity, candidates[lap], costs, survivors, stride, starts, step_targets, step_weights, chosen,
                )  # fmt: skip
                if least < 0 or total < least:
                    least = total
                    for s in range(n_steps):
                        best[s] = chosen[s]
            for s in range(n_steps):
                chosen[s] = best[s]
            for quarter in range(1, 4 if laps > 1 else 1):
                begin = quarter * n_steps // 4
                last = window_before(chosen, new_bits, window, begin)
                run(
                    x, weight, weighted, fine, firsts, new_bits, counts, tables, levels, window, begin, n_steps,
                    edge, capacity, last, costs, survivors, stride, starts, step_targets, step_weights, chosen,
                )  # fmt: skip
        i = 0
        for s in range(n_steps):
            for k in range(new_bits[s]):
                code[i, chunk] |= np.uint32(chosen[s] >> k & 1) << np.uint32(c)
                i += 1


@njit(cache=True, nogil=True)
def run(
    x, weight, weighted, fine, firsts, new_bits, counts, tables, levels, window, begin, n, edge, capacity, state,
    costs, survivors, stride, starts, step_targets, step_weights, chosen,
):  # fmt: skip
    """Search ``n`` steps from step ``begin`` on, cyclically; returns the window that the best path ends in, and cost.

    From window ``state``, back to which the path then is led, or from any where that is negative. ``chosen`` (n_steps,)
    gets the bits of the steps that were decided: all of them where ``state`` is given. Other windows begin at a cost
    of 16000: above any that matters, with room for sums.
    """
    n_steps = firsts.size
    dropped = new_bits[(begin + 1) % n_steps]
    length = 1 << window - new_bits[begin] - dropped
    reach = max(length, 32)
    now, then = costs[0], costs[1]
    for i in range(reach << dropped):
        now[i] = 0 if state < 0 else 16000
    if state >= 0:
        i = state >> dropped
        while i < reach:
            now[(state & (1 << dropped) - 1) * reach + i] = 0
            i += length
    done, last, total = np.int64(0), np.int64(0), np.int64(0)
    ignored = np.empty(n_steps, np.int64)
    for t in range(n):
        s = (begin + t) % n_steps
        dropped, following = new_bits[(s + 1) % n_steps], new_bits[(s + 2) % n_steps]
        n_weights = 0
        for r in range(firsts[s], firsts[s] + counts[s]):
            if weight[r] != 0:
                starts[n_weights] = tables[r]
                step_targets[n_weights] = x[r]
                step_weights[n_weights] = weight[r]
                n_weights += 1
        n_new = 1 << window - dropped
        reach = max(1 << window - new_bits[s] - dropped, 32)
        at = t % capacity * stride
        least = add_compare_select(
            then, now, reach, levels, starts, n_weights, dropped, n_new, step_targets, step_weights, weighted, fine,
            survivors, at,
        )  # fmt: skip
        total += least
        is_last = t + 1 == n
        if is_last or t + 1 - done == capacity:
            last = np.int64(0)
            while then[last] != least:
                last += 1
            if is_last:
                if state >= 0:
                    last = state
                    total += np.int64(then[state]) - least
                    trace(survivors, stride, capacity, new_bits, window, begin, n, done, state, chosen)
                break
            decided = trace(
                survivors, stride, capacity, new_bits, window, begin, t + 1, t + 1 - edge, last, chosen
            )
            trace(survivors, stride, capacity, new_bits, window, begin, t + 1 - edge, done, decided, chosen)
            done = t + 1 - edge
            for i in range(n_new):
                if (
                    trace(survivors, stride, capacity, new_bits, window, begin, t + 1, done, i, ignored)
                    != decided
                ):
                    then[i] = 32767
        for _ in range(following):
            unshuffle(now, then, n_new, least)
            least = 0
            now, then = then, now
        now, then = then, now
        length = n_new >> following
        if length < 32:
            for b in range((1 << following) - 1, -1, -1):
                for i in range(31, -1, -1):
                    now[b * 32 + i] = now[b * length + i % length]
    return last, total


@part
def trace(survivors, stride, capacity, new_bits, window, begin, n, until, last, chosen):
    """Follow the survivors from window ``last`` after ``n`` steps back to the window before step ``until``."""
    n_steps = new_bits.size
    for t in range(n - 1, until - 1, -1):
        s = (begin + t) % n_steps
        dropped = new_bits[(s + 1) % n_steps]
        shared = window - new_bits[s] - dropped
        chosen[s] = last >> shared
        branch = 0
        at = t % capacity * stride + (last >> 5) * dropped
        for k in range(dropped):
            branch |= (np.int64(survivors[at + k]) >> (last & 31) & 1) << k
        last = (last & (1 << shared) - 1) << dropped | branch
    return last


@part
def window_before(chosen, new_bits, window, step):
    """The window that the path ``chosen`` (n_steps,) is in before ``step``."""
    missing = window - new_bits[step]
    found = 0
    s = step
    while missing > 0:
        s = (s + chosen.size - 1) % chosen.size
        n = new_bits[s]
        missing -= n
        found |= chosen[s] << missing if missing >= 0 else chosen[s] >> -missing
    return found


@part
def exhaust(x, weight, firsts, new_bits, counts, tables, levels, window, m, chosen):
    """The best of all ``2**m`` columns of fewer bits than the window, into ``chosen`` (n_steps,)."""
    n_steps = firsts.size
    best, winner = np.int64(-1), 0
    for bits in range(1 << m):
        state = 0
        for age in range(window):
            state |= (bits >> (m - 1 - age) % m & 1) << window - 1 - age
        total, at = np.int64(0), 0
        for s in range(n_steps):
            new, dropped = new_bits[s], new_bits[(s + 1) % n_steps]
            state = state >> new | (bits >> at & (1 << new) - 1) << window - new
            at += new
            place = ((state & (1 << dropped) - 1) << window - dropped) + (state >> dropped)
            for r in range(firsts[s], firsts[s] + counts[s]):
                d = np.int64(x[r]) - np.int64(levels[tables[r] + place])
                total += d * d * np.int64(weight[r])
        if best < 0 or total < best:
            best, winner = total, bits
    at = 0
    for s in range(n_steps):
        chosen[s] = winner >> at & (1 << new_bits[s]) - 1
        at += new_bits[s]
