"""Numba kernels of binary-coding quantization.

The kept weights of a group are sorted once. The nearest of the ``2^q`` levels then owns one interval of
them, so that a step of the alternation costs a binary search per level and a difference of prefix sums,
whatever the number of weights. Bit k of a *code* is 1 where plane k is +1; level ``c`` is
``sum_k (alpha_k if c >> k & 1 else -alpha_k)``, summed from plane 0 as the decoders do. Between two levels
at the same distance the upper one is taken, which makes the sign of 0 a plus. Counts begin as ``np.int64(0)``: of a
literal 0, numba would compile all functions that are called with it once more. What is to be 0 is written so:
``np.zeros`` is three functions to compile for each type.
"""

from __future__ import annotations

import math

import numpy as np

from xorpack.vector.bitops import trailing_zeros
from xorpack.vector.compiled import njit


@njit(cache=True, nogil=True)
def sorted_levels(alphas, levels, codes, other_levels, other_codes):
    """Fill ``levels`` (2^q,), rising, and their ``codes``; the others are scratch of the same shape.

    Adding a plane merges two sorted lists. Rounding is monotone, so this holds in float32 as well, and
    ``levels`` are bit for bit what the decoder of ``alphas`` (q,) of the same type sums up.
    """
    size = 1
    levels[0] = 0
    codes[0] = 0
    for k in range(alphas.size):
        alpha = alphas[k]
        for i in range(size):
            other_levels[i] = levels[i]
            other_codes[i] = codes[i]
        low = 0
        high = 0
        for i in range(2 * size):
            if high == size or (low < size and other_levels[low] - alpha <= other_levels[high] + alpha):
                levels[i] = other_levels[low] - alpha
                codes[i] = other_codes[low]
                low += 1
            else:
                levels[i] = other_levels[high] + alpha
                codes[i] = other_codes[high] | (1 << k)
                high += 1
        size *= 2


@njit(cache=True, nogil=True)
def count_below(values, begin, end, bound):
    """First index in ``begin..end`` of the sorted ``values`` that is not below ``bound``."""
    while begin < end:
        middle = (begin + end) >> 1
        if values[middle] < bound:
            begin = middle + 1
        else:
            end = middle
    return begin


@njit(cache=True, nogil=True)
def canonical(alphas):
    """Flip and swap planes so that ``alphas`` are not negative and fall; the set of levels stays."""
    for k in range(alphas.size):
        alpha = abs(alphas[k])
        i = k
        while i > 0 and alphas[i - 1] < alpha:
            alphas[i] = alphas[i - 1]
            i -= 1
        alphas[i] = alpha


@njit(cache=True, nogil=True)
def greedy(values, n, prefix, alphas, ends):
    """Fill ``alphas`` (q,): each the mean of what the planes before it leave, then signs of the rest.

    ``values`` sorted (n,), ``prefix`` their running sums (n + 1,), ``ends`` int64 scratch (2^q, 3).
    """
    q = alphas.size
    level = np.empty(1 << q, np.float64)
    size = 1
    level[0] = 0
    ends[0, 0] = n
    for k in range(q):
        total = 0.0
        begin = np.int64(0)
        for i in range(size):
            end = ends[i, 0]
            middle = count_below(values, begin, end, level[i])
            below = (middle - begin) * level[i] - (prefix[middle] - prefix[begin])
            above = (prefix[end] - prefix[middle]) - (end - middle) * level[i]
            total += max(below, 0.0) + max(above, 0.0)
            ends[i, 1] = middle
            ends[i, 2] = end
            begin = end
        alpha = total / n
        alphas[k] = alpha
        for i in range(size - 1, -1, -1):
            ends[2 * i + 1, 0] = ends[i, 2]
            ends[2 * i, 0] = ends[i, 1]
            level[2 * i + 1] = level[i] + alpha
            level[2 * i] = level[i] - alpha
        size *= 2


@njit(cache=True, nogil=True)
def least_squares(normal, alphas):
    """Solve ``normal`` (q, q + 1), Gram matrix of the planes and right-hand side, which it overwrites.

    A plane that depends on those before it gets 0. The Gram matrix is of whole numbers, and the pivot of
    an independent plane is at least ``(4 / q)^(q - 1) >= 1 / 128`` (Hadamard's bound on the ones before).
    """
    q = alphas.size
    for k in range(q):
        if normal[k, k] < 1e-3:
            for i in range(q):
                normal[k, i] = 0.0
                normal[i, k] = 0.0
            normal[k, k] = 1.0
            normal[k, q] = 0.0
        for i in range(k + 1, q):
            factor = normal[i, k] / normal[k, k]
            for j in range(k, q + 1):
                normal[i, j] -= factor * normal[k, j]
    for k in range(q - 1, -1, -1):
        total = normal[k, q]
        for j in range(k + 1, q):
            total -= normal[k, j] * alphas[j]
        alphas[k] = total / normal[k, k]


@njit(cache=True, nogil=True)
def alternating(values, n, prefix, n_iterations, alphas):
    """Fill ``alphas`` (q,): add planes one by one, greedily, and alternate after each.

    Alternating after every plane rather
    than after the last one alone leaves a squared error about 0.8 (q = 4) or 0.7 (q = 6) times as large
    on normally distributed weights, and lets it fall with every plane.
    """
    q = alphas.size
    levels = np.empty(1 << q, np.float64)
    codes = np.empty(1 << q, np.int64)
    other_levels = np.empty(1 << q, np.float64)
    other_codes = np.empty(1 << q, np.int64)
    for k in range(q):
        size = 1 << k
        sorted_levels(alphas[:k], levels[:size], codes, other_levels, other_codes)
        total = 0.0
        begin = np.int64(0)
        for i in range(size):
            end = n
            if i + 1 < size:
                end = count_below(values, begin, n, 0.5 * (levels[i] + levels[i + 1]))
            middle = count_below(values, begin, end, levels[i])
            below = (middle - begin) * levels[i] - (prefix[middle] - prefix[begin])
            above = (prefix[end] - prefix[middle]) - (end - middle) * levels[i]
            total += max(below, 0.0) + max(above, 0.0)
            begin = end
        alphas[k] = total / n
        canonical(alphas[: k + 1])
        alternate(values, n, prefix, n_iterations, alphas[: k + 1])


@njit(cache=True, nogil=True)
def alternate(values, n, prefix, n_iterations, alphas):
    """Improve ``alphas`` (q,): nearest codes, then least squares, until nothing changes."""
    size = 1 << alphas.size
    levels = np.empty(size, np.float64)
    codes = np.empty(size, np.int64)
    other_levels = np.empty(size, np.float64)
    other_codes = np.empty(size, np.int64)
    for _ in range(n_iterations):
        sorted_levels(alphas, levels, codes, other_levels, other_codes)
        if not refit(values, n, prefix, levels, codes, alphas):
            break


@njit(cache=True, nogil=True)
def refit(values, n, prefix, levels, codes, alphas):
    """Fit ``alphas`` (q,) to the weights nearest to each of ``levels``; whether that changed them."""
    q = alphas.size
    normal = np.empty((q, q + 1), np.float64)
    for k in range(q):
        for j in range(q + 1):
            normal[k, j] = 0
    begin = np.int64(0)
    for i in range(levels.size):
        end = n
        if i + 1 < levels.size:
            end = count_below(values, begin, n, 0.5 * (levels[i] + levels[i + 1]))
        if end > begin:
            total = prefix[end] - prefix[begin]
            count = float(end - begin)
            code = codes[i]
            for k in range(q):
                one = (code >> k) & 1
                normal[k, q] += total if one else -total
                for j in range(k + 1):
                    normal[k, j] += count if (code >> j) & 1 == one else -count
        begin = end
    before = alphas.copy()
    for k in range(q):
        for j in range(k):
            normal[j, k] = normal[k, j]
    least_squares(normal, alphas)
    canonical(alphas)
    changed = False
    for k in range(q):
        changed |= alphas[k] != before[k]
    return changed


@njit(cache=True, nogil=True)
def rounded(alphas, half, scales):
    """Fill ``scales`` (q,) float32 with canonical ``alphas`` rounded to float16 (``half``) or float32.

    Values past float16 stay as they are. What is 2^-40 of the largest is noise of the sums: 0.
    """
    canonical(alphas)
    for k in range(alphas.size):
        alpha = alphas[k] if alphas[k] > alphas[0] * 2.0**-40 else 0.0
        if half and 0.0 < alpha < 65520.0:
            ulp = math.ldexp(1.0, max(math.frexp(alpha)[1] - 11, -24))
            alpha = np.rint(alpha / ulp) * ulp
        scales[k] = alpha


@njit(cache=True, nogil=True)
def boundaries(scales, limit, levels, codes, other_levels, other_codes, bounds):
    """Fill ``levels``, ``codes`` and the ``bounds`` (2^q - 1,) between them for float32 ``scales``.

    Levels from ``limit`` on would overflow the decoded type, and are put at infinity.
    """
    sorted_levels(scales, levels, codes, other_levels, other_codes)
    for i in range(levels.size):
        if abs(levels[i]) >= limit:
            levels[i] = math.copysign(math.inf, levels[i])
    for i in range(levels.size - 1):
        bounds[i] = 0.5 * (np.float64(levels[i]) + np.float64(levels[i + 1]))


@njit(cache=True, nogil=True)
def squared_error(values, n, levels, bounds):
    """Squared error of the sorted ``values`` (n,) rounded to the nearest of ``levels``."""
    total = 0.0
    begin = np.int64(0)
    for i in range(levels.size):
        end = n if i + 1 == levels.size else count_below(values, begin, n, bounds[i])
        level = np.float64(levels[i])
        for t in range(begin, end):
            rest = np.float64(values[t]) - level
            total += rest * rest
        begin = end
    return total


@njit(cache=True, nogil=True)
def quantize_kernel(weight, first_row, mask, group, n_iterations, half, limit, planes, scales):
    """Quantize the rows of ``weight``, float32 (n_rows, cols), which are ``first_row`` on of the tensor.

    Args:
        weight: finite.
        first_row: of ``mask`` and ``planes``.
        mask: uint32 (rows, chunks).
        group: columns that share scales, >= 1.
        n_iterations: of the alternation after each plane, at the most; negative for the greedy method.
        half: round scales to float16 instead of float32.
        limit: levels from here on overflow the decoded type.
        planes: uint32 (q, rows, chunks), of which these rows are written.
        scales: float32 (n_rows, n_groups, q), written.
    """
    n_rows, cols = weight.shape
    q = planes.shape[0]
    size = 1 << q
    width = min(group, cols)
    values = np.empty(width, np.float32)
    columns = np.empty(width, np.int64)
    ordered = np.empty(width, np.float32)
    prefix = np.empty(width + 1, np.float64)
    prefix[0] = 0
    ends = np.empty((size, 3), np.int64)
    alphas = np.empty(q, np.float64)
    other_alphas = np.empty(q, np.float64)
    chosen = np.empty(q, np.float32)
    levels = np.empty(size, np.float32)
    codes = np.empty(size, np.int64)
    other_levels = np.empty(size, np.float32)
    other_codes = np.empty(size, np.int64)
    bounds = np.empty(size - 1, np.float64)
    for r in range(n_rows):
        row = first_row + r
        for k in range(q):
            for chunk in range(mask.shape[1]):
                planes[k, row, chunk] = 0
        for g in range(scales.shape[1]):
            begin = g * group
            end = min(begin + group, cols)
            n = np.int64(0)
            for chunk in range(begin // 32, (end + 31) // 32):
                kept = np.uint64(mask[row, chunk])
                while kept:
                    c = 32 * chunk + np.int64(trailing_zeros(kept))
                    kept &= kept - np.uint64(1)
                    if begin <= c < end:
                        values[n] = weight[r, c]
                        columns[n] = c
                        n += 1
            if n == 0:
                for k in range(q):
                    scales[r, g, k] = 0
                continue

            for i in range(n):
                ordered[i] = values[i]
            ordered[:n].sort()
            for i in range(n):
                prefix[i + 1] = prefix[i] + np.float64(ordered[i])
            error = 0.0
            for attempt in range(1 if n_iterations < 0 else 3):  # a loop: LLVM makes a copy for each call
                if attempt == 0:
                    greedy(ordered, n, prefix, alphas, ends)
                elif attempt == 1:
                    alternating(ordered, n, prefix, n_iterations, other_alphas)
                else:
                    alternate(ordered, n, prefix, n_iterations, alphas)
                rounded(other_alphas if attempt == 1 else alphas, half, chosen)
                boundaries(chosen, limit, levels, codes, other_levels, other_codes, bounds)
                found = squared_error(ordered, n, levels, bounds)
                if attempt == 0 or found <= error:
                    for k in range(q):
                        scales[r, g, k] = chosen[k]
                if attempt == 0:
                    error = found
                elif found <= error:
                    break
            boundaries(scales[r, g], limit, levels, codes, other_levels, other_codes, bounds)
            for i in range(n):
                at = 0
                step = size >> 1
                while step:
                    at += step if values[i] >= bounds[at + step - 1] else 0
                    step >>= 1
                code = codes[at]
                chunk = columns[i] // 32
                bit = np.uint32(columns[i] % 32)
                for k in range(q):
                    planes[k, row, chunk] |= np.uint32((code >> k) & 1) << bit
