"""Kernels of :mod:`xorpack.encoding.masks.bmf`: patterns of tiles, what their rows are worth, fewer of them."""

from __future__ import annotations

import numpy as np

from xorpack.vector.compiled import njit, part


@njit(cache=True, nogil=True)
def fit_strip(importance, threshold, tile_cols, passes, seeds, left, right):
    """Patterns of all tiles of one strip.

    ``importance`` (rows, cols) float32; ``left`` (rows, tiles, rank), ``right`` (rank, cols): uint8 of zeros, out.
    What is 0 has no gain that would pay for it, so that it stays pruned.
    """
    rows, all_cols = importance.shape
    rank = right.shape[0]
    gain = np.empty((rows, tile_cols), np.float32)
    free = np.empty((rows, tile_cols), np.float32)
    cover = np.empty((rows, tile_cols), np.int32)
    a, best_a = np.empty(rows, np.uint8), np.empty(rows, np.uint8)
    b, best_b = np.empty(tile_cols, np.uint8), np.empty(tile_cols, np.uint8)
    row_sums, col_sums = np.empty(rows, np.float32), np.empty(tile_cols, np.float32)
    chosen = np.empty(tile_cols, np.int64)
    power = np.empty(rows, np.float32)
    zero = np.float32(0)
    better = np.float32(1.00001)
    for tile in range(left.shape[1]):
        first = tile * tile_cols
        cols = min(tile_cols, all_cols - first)
        for r in range(rows):
            for c in range(cols):
                w = importance[r, first + c]
                gain[r, c] = w - threshold if w > 0 else np.float32(-1e30)
                cover[r, c] = 0
        for _turn in range(passes):
            changed = False
            for k in range(rank):
                best = zero
                for r in range(rows):
                    best_a[r] = left[r, tile, k]
                    power[r] = zero
                    for c in range(cols):
                        if best_a[r] and right[k, first + c]:
                            cover[r, c] -= 1
                        free[r, c] = gain[r, c] if cover[r, c] == 0 else zero
                        if free[r, c] > 0:
                            power[r] += free[r, c]
                        if best_a[r] and right[k, first + c]:
                            best += free[r, c]
                for c in range(cols):
                    best_b[c] = right[k, first + c]
                heads = np.argsort(-power, kind="mergesort")
                for begin in range(-1, 6 * min(seeds, rows)):
                    if begin < 0:
                        for r in range(rows):
                            a[r] = best_a[r]
                    else:
                        head = heads[begin // 6]
                        for r in range(rows):
                            a[r] = 0
                            row_sums[r] = zero
                            for c in range(cols):
                                if free[head, c] > 0:
                                    row_sums[r] += free[r, c]
                        alike = np.argsort(-row_sums, kind="mergesort")
                        for n in range(min(rows, 1 << begin % 6)):
                            a[alike[n]] = 1
                    before = np.float32(-1)
                    total = zero
                    for _ in range(20):
                        for c in range(cols):
                            col_sums[c] = zero
                        for r in range(rows):
                            if a[r]:
                                for c in range(cols):
                                    col_sums[c] += free[r, c]
                        n_chosen = 0
                        for c in range(cols):
                            b[c] = col_sums[c] > 0
                            if b[c]:
                                chosen[n_chosen] = c
                                n_chosen += 1
                        total = zero
                        for r in range(rows):
                            worth = zero
                            for n in range(n_chosen):
                                worth += free[r, chosen[n]]
                            a[r] = worth > 0
                            if worth > 0:
                                total += worth
                        if total <= before * better:
                            break
                        before = total
                    if total > best * better:
                        best = total
                        changed = True
                        for r in range(rows):
                            best_a[r] = a[r]
                        for c in range(cols):
                            best_b[c] = b[c]
                for r in range(rows):
                    left[r, tile, k] = best_a[r]
                    if best_a[r]:
                        for c in range(cols):
                            cover[r, c] += best_b[c]
                for c in range(cols):
                    right[k, first + c] = best_b[c]
            if not changed:
                break


@njit(cache=True, nogil=True)
def losses(left, right, importance, tile_rows, tile_cols, loss):
    """Mean importance of the weights that only row r of tile j keeps in pattern k: ``loss`` (rows, tiles, rank)."""
    rows, n_tiles, rank = left.shape
    cols = importance.shape[1]
    for r in range(rows):
        t = r // tile_rows
        for j in range(n_tiles):
            for k in range(rank):
                if left[r, j, k]:
                    n = 0
                    total = np.float32(0)
                    for c in range(j * tile_cols, min((j + 1) * tile_cols, cols)):
                        if right[t, k, c] and _alone(left, right, r, t, j, k, c):
                            n += 1
                            total += importance[r, c]
                    loss[r, j, k] = total / np.float32(max(n, 1))


@part
def _alone(left, right, r, t, j, k, c):
    others = 0
    for i in range(left.shape[2]):
        others += i != k and left[r, j, i] != 0 and right[t, i, c] != 0
    return others == 0


@njit(cache=True, nogil=True)
def remove(left, right, tile_rows, tile_cols, order, kept, n_kept):
    """Clear bits of ``left`` in ``order`` (flat indices) while more than ``n_kept`` weights are kept; those left."""
    _, n_tiles, rank = left.shape
    cols = right.shape[2]
    for index in order:
        if kept <= n_kept:
            break
        k = index % rank
        j = index // rank % n_tiles
        r = index // rank // n_tiles
        t = r // tile_rows
        for c in range(j * tile_cols, min((j + 1) * tile_cols, cols)):
            if right[t, k, c] and _alone(left, right, r, t, j, k, c):
                kept -= 1
        left[r, j, k] = 0
    return kept
