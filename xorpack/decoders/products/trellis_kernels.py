"""Kernel of :mod:`xorpack.decoders.products.trellis`: rows expanded in registers, 16 at a time, and multiplied."""

from __future__ import annotations

import numpy as np

from xorpack.decoders.products.sums_kernels import kept_sums
from xorpack.vector.aligned import aligned
from xorpack.vector.compiled import njit
from xorpack.vector.lookup import add_lookups, and_rows, xor_rows
from xorpack.vector.outlined import fail, itself
from xorpack.vector.team_kernels import lead


@njit(cache=True, nogil=True)
def trellis_kernel(
    begin,
    end,
    helpers,  # of a team that share the units: those are all, from 0 to end
    team,  # see xorpack.vector.team_kernels
    code,  # Blocks.code
    sizes,  # (chunks, n_in, n_out, pad, width, units of a block)
    offsets,  # of all taps into the code
    bounds,  # (n_out * q + 1,): taps of row v, plane j are those between bounds[v * q + j] and the next
    masks,  # (units, n_out, chunks, 16) uint32 flat, or empty: nothing is pruned
    a,  # (q,) float32
    scales,  # (units, n_out, n_groups, 16) float32 flat
    chunks_of_group,
    tables,  # (n, chunks * 128) flat, float32 or int16
    totals,  # (n, n_groups), float32 or int32
    steps,  # (n,) float32, what 1 in the tables is
    out,  # (n, rows) float32
):
    """Fill ``out`` with the products of the rows of units ``begin .. end - 1``, each ``16 * n_out`` rows."""
    if helpers:
        fail(lead(team, helpers, end, itself()))
        return
    chunks, n_in, n_out, pad, width, n_sub = sizes
    n, rows = out.shape
    n_groups, q = totals.shape[1], a.size
    n_planes = q + 1 if masks.size else q
    masked = masks.size > 0
    # Units of a block together, so that its code is read from end to end; sums of many rows of x would leave the cache.
    together = n_sub if n <= 4 else 1
    size = n * n_planes * 16
    words, sums = aligned((q + 1) * 16), aligned(together * size).view(totals.dtype)
    made = np.empty((together, n, 16), np.float32)
    total, kept = np.empty(16, np.float32), np.empty(16, totals.dtype)
    first = begin
    while first < end:
        block = first // n_sub
        last = min(first + together, end, (block + 1) * n_sub)
        for v in range(n_out):
            made[:] = 0
            for g in range(n_groups):
                sums[:] = 0
                for chunk in range(g * chunks_of_group, min((g + 1) * chunks_of_group, chunks)):
                    for unit in range(first, last):
                        here = (block * chunks + chunk) * n_in * width + pad + 16 * (unit - block * n_sub)
                        for j in range(q):
                            tap = bounds[v * q + j]
                            xor_rows(words, 16 * j, code, here, offsets, tap, bounds[v * q + j + 1] - tap)
                        if masked:
                            and_rows(words, 0, q, masks, ((unit * n_out + v) * chunks + chunk) * 16, 1)
                        for k in range(n):
                            at = (unit - first) * size + k * n_planes * 16
                            add_lookups(sums, at, words, 0, tables, (k * chunks + chunk) * 128, n_planes, 1)
                for unit in range(first, last):
                    scale = ((unit * n_out + v) * n_groups + g) * 16
                    for k in range(n):
                        at = (unit - first) * size + k * n_planes * 16
                        kept_sums(kept, sums, at, q, masked, totals[k, g])
                        total[:] = 0
                        for j in range(q):
                            for i in range(16):
                                twice = sums[at + 16 * j + i] + sums[at + 16 * j + i]
                                total[i] += a[j] * np.float32(twice - kept[i])
                        for i in range(16):
                            made[unit - first, k, i] += scales[scale + i] * total[i]
            for unit in range(first, last):
                for i in range(16):
                    row = (16 * unit + i) * n_out + v
                    if row < rows:
                        for k in range(n):
                            out[k, row] = steps[k] * made[unit - first, k, i]
        first = last


@njit(cache=True, nogil=True)
def outliers_kernel(begin, end, helpers, team, starts, columns, values, x, out):
    """``out[k, r] += sum of values[o] * x[k, columns[o]]`` over ``starts[r] <= o < starts[r + 1]``, of these rows."""
    if helpers:
        fail(lead(team, helpers, end, itself()))
        return
    for r in range(begin, end):
        for k in range(len(x)):
            total = np.float32(0)
            for o in range(starts[r], starts[r + 1]):
                total += values[o] * x[k, columns[o]]
            out[k, r] += total
