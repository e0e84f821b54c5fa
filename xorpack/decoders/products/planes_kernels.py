"""Kernel of :mod:`xorpack.decoders.products.planes`: 16 rows expanded, turned side by side, and multiplied."""

from __future__ import annotations

import numpy as np

from xorpack.code.expand_kernels import reach_of, stretch_kernel
from xorpack.decoders.products.sums_kernels import kept_sums
from xorpack.vector.compiled import njit
from xorpack.vector.lookup import add_lookups, and_rows, turn_rows


@njit(cache=True, nogil=True)
def planes_kernel(
    code,  # (n_coded * n_segments * m_lane * lanes,) uint32
    m_lane,
    order,  # Layout.params()
    schedule,  # XorNetwork.schedule()
    taps,  # XorNetwork.taps()
    constants,  # (q - n_coded,) uint32: words of the planes that are not coded; they come last
    wrong,  # (starts, columns, values): corrections of row r are those from starts[r] to starts[r + 1]
    masks,  # (units, chunks, 16) uint32 flat, or empty: nothing is pruned
    alphas,  # (units, n_groups, q, 16) float32 flat
    chunks_of_group,
    tables,  # (n, chunks * 128) float32 flat
    totals,  # (n, n_groups) float32
    begin,
    end,
    out,  # (n, rows) float32
):
    """Fill ``out`` with the products of units ``begin .. end - 1``: of 16 rows each, in the order of coding."""
    rows, chunks, row_stride, n_sub = order[0], order[1], order[4], order[6]
    n, n_groups = totals.shape
    q = alphas.size // (16 * n_groups * (-(-rows // 16)))
    n_coded = q - constants.size
    masked = masks.size > 0
    n_planes = q + 1 if masked else q
    stride = (chunks + 15) // 16 * 16
    plane = 16 * stride
    starts, columns, values = wrong
    reach = reach_of(taps)
    everything = np.full(plane, 0xFFFFFFFF, np.uint32)
    scratch = np.empty(16 * n_sub * n_coded * 64, np.uint32)
    planes = np.empty(q * plane, np.uint32)
    words = np.empty(16 * (q + 1) * 16, np.uint32)
    sums = np.empty(n * n_planes * 16, np.float32)
    made, kept = np.empty((n, 16), np.float32), np.empty(16, np.float32)
    indices, places = np.empty(16, np.int64), np.arange(16) * stride
    for unit in range(begin, end):
        n_rows = min(16, rows - 16 * unit)
        for y in range(n_rows):
            indices[y] = 16 * unit + y
        if n_coded:
            stretch_kernel(
                code, m_lane, n_rows, indices, places, order, schedule, taps, reach, everything, scratch,
                planes[: n_coded * plane],
            )  # fmt: skip
        for j in range(n_coded, q):
            planes[j * plane : (j + 1) * plane] = constants[j - n_coded]
        for y in range(n_rows):
            row = indices[y] * row_stride % rows
            for o in range(starts[row], starts[row + 1]):
                bit = np.uint32(1) << np.uint32(columns[o] & 31)
                for j in range(q):
                    if values[o] >> j & 1:
                        planes[j * plane + places[y] + (columns[o] >> 5)] ^= bit
        made[:] = 0
        for chunk in range(chunks):
            c = chunk & 15
            if c == 0:
                for j in range(q):
                    turn_rows(words, 16 * j, 16 * (q + 1), planes, j * plane + chunk, stride)
            if chunk % chunks_of_group == 0:
                sums[:] = 0
            at = c * (q + 1) * 16
            if masked:
                and_rows(words, at, q, masks, (unit * chunks + chunk) * 16)
            for k in range(n):
                add_lookups(sums, k * n_planes * 16, words, at, tables, (k * chunks + chunk) * 128, n_planes)
            if (chunk + 1) % chunks_of_group and chunk + 1 < chunks:
                continue
            g = chunk // chunks_of_group
            for k in range(n):
                at = k * n_planes * 16
                kept_sums(kept, sums, at, q, masked, totals[k, g])
                for j in range(q):
                    alpha = ((unit * n_groups + g) * q + j) * 16
                    for i in range(16):
                        made[k, i] += alphas[alpha + i] * (np.float32(2) * sums[at + 16 * j + i] - kept[i])
        for y in range(n_rows):
            for k in range(n):
                out[k, indices[y] * row_stride % rows] = made[k, y]
