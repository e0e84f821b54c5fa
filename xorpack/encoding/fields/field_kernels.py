"""Kernels of :mod:`xorpack.encoding.fields.choice`: counting symbols, and planes of elements under a prefix code."""

from __future__ import annotations

import numpy as np

from xorpack.code.layout_kernels import chunk_of, next_place, visit
from xorpack.encoding.fields.huffman_kernels import code_bits
from xorpack.encoding.rings.gather_kernels import AHEAD, find_slot
from xorpack.vector.compiled import njit
from xorpack.vector.symbols import bring, choose_bits, look_up

HASH = 0x9E3779B1
"""Multiplier of hash tables."""


@njit(cache=True, nogil=True)
def count_values(elements, shift, counts):
    """Add to ``counts`` the elements (n,) that are not 0, by their bits from ``shift`` on."""
    for x in elements:
        if x != 0:
            counts[np.int64(x) >> shift] += 1


@njit(cache=True, nogil=True)
def count_distinct(elements, n, most, multiplier, keys, counts):
    """Add the elements (any number,) that are not 0 to a hash table of ``n`` distinct ones: how many it holds then.

    ``keys`` (2^k,) int64, -1 where free, and ``counts`` (2^k,), more than ``most`` of them, are written to. If more
    than ``most`` are found, the rest is not looked at. ``multiplier``: of the hash.
    """
    shift = 32
    while 1 << 32 - shift < keys.size:
        shift -= 1
    for x in elements:
        if x != 0:
            slot = find_slot(keys, multiplier, shift, np.int64(x))
            if keys[slot] < 0:
                n += 1
                if n > most:
                    return n
                keys[slot] = np.int64(x)
            counts[slot] += 1
    return n


@njit(cache=True, nogil=True)
def field_bits(values, counts, bits, most, n_symbols, found):
    """Bits of a Huffman code for every field of up to ``most`` symbols, else -1.

    ``values`` (n,) int64 of ``bits`` bits with ``counts`` (n,); ``n_symbols`` and ``found`` (bits, bits + 1), out, by
    low and width.
    """
    sums = np.zeros(1 << bits, np.int64)
    for low in range(bits):
        n_symbols[low, 0] = 0
        found[low, 0] = -1
        for width in range(1, bits + 1):
            n_symbols[low, width] = 0
            found[low, width] = -1
            if low + width > bits:
                continue
            last = (1 << width) - 1
            n = 0
            for i in range(values.size):
                symbol = values[i] >> low & last
                n += sums[symbol] == 0
                sums[symbol] += counts[i]
            kept = np.empty(n, np.int64)
            k = 0
            for i in range(values.size):
                symbol = values[i] >> low & last
                if sums[symbol] != 0:
                    kept[k] = sums[symbol]
                    k += 1
                    sums[symbol] = 0
            n_symbols[low, width] = n
            if n <= most:
                kept.sort()
                found[low, width] = code_bits(kept)


@njit(cache=True, nogil=True)
def gather_depths(
    elements,  # (rows, cols) unsigned
    segment,
    plane_rows,
    chunks,  # of the plane
    lanes,
    n_steps,
    row_stride,
    panel_chunks,
    n_sub,
    n_groups,
    order,  # (n_depths,) int64: the depth of every place in a group
    low,
    last,
    keys,
    multiplier,
    shift,
    codewords,  # (2^k,) uint32, by slot: bits past the first, from n_depths - 1 down; 16 up, ones where there are any
    care,  # (lanes, n_steps) uint32, out
    plane,  # (1, lanes, n_steps) uint32, out
):
    """The plane of depths of a segment, whose rows have one panel."""
    rows, cols = elements.shape
    n_depths = order.size
    n_parts = plane_rows // rows
    flat, flat_care, flat_plane = elements.reshape(-1), care.reshape(-1), plane.reshape(-1)
    found = np.zeros(32, np.uint32)
    bits, care_bits = np.empty(n_depths, np.int64), np.empty(n_depths, np.int64)
    for place in range(n_depths):
        bits[place] = n_depths - 1 - order[place]
        care_bits[place] = 16 + bits[place]
    deep = np.zeros(chunks, np.uint32)  # of a row of the plane
    deep_care = np.zeros(chunks, np.uint32)
    places = n_sub * lanes
    further = AHEAD * row_stride % max(plane_rows, 1)
    row_ready = -1
    for step in range(n_steps):
        p, r, k = visit(segment * n_steps + step, plane_rows, lanes, row_stride, n_sub)
        if p == 0 and r != row_ready:
            row_ready = r
            row, part = r // n_parts, r % n_parts
            later = r + further if r + further < plane_rows else r + further - plane_rows
            later = later // n_parts * cols + later % n_parts * n_groups * 32
            for g in range(n_groups):
                first = 32 * (part * n_groups + g)
                bring(flat, later + 32 * g)
                if multiplier == 1 and first + 32 <= cols:
                    look_up(flat, row * cols + first, low, last, codewords, 0, 0, found)
                else:
                    for j in range(32):
                        x = np.int64(elements[row, first + j]) if first + j < cols else 0
                        slot = find_slot(keys, multiplier, shift, x >> low & last) if x != 0 else 0
                        found[j] = codewords[slot] if x != 0 else 0
                choose_bits(found, 0, bits, deep, g * n_depths, 1)
                choose_bits(found, 0, care_bits, deep_care, g * n_depths, 1)
        if p == 0 and places == chunks:
            until = min(lanes, places - k)
            for lane in range(lanes):
                chunk = np.uint64(k + lane if lane < until else k + lane - places)
                flat_care[np.uint64(lane * n_steps + step)] = deep_care[chunk]
                flat_plane[np.uint64(lane * n_steps + step)] = deep[chunk]
            continue
        for lane in range(lanes):
            chunk = chunk_of(p, k, chunks, panel_chunks)
            care[lane, step] = deep_care[chunk] if chunk >= 0 else np.uint32(0)
            plane[0, lane, step] = deep[chunk] if chunk >= 0 else np.uint32(0)
            k = next_place(k, lanes, n_sub)


@njit(cache=True, nogil=True)
def fill_slots(keys, multiplier, shift, symbols, slots):
    """Put ``symbols`` (n,) into ``keys`` (2^k,), -1 before: where each stands is written to ``slots`` (n,)."""
    for i in range(symbols.size):
        slots[i] = find_slot(keys, multiplier, shift, np.int64(symbols[i]))
        keys[slots[i]] = np.int64(symbols[i])
