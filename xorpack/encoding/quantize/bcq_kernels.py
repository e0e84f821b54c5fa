"""Numba kernels of binary-coding quantization.

The kept weights of a group are sorted once. The nearest of the ``2^q`` levels then owns one interval of
them, so that a step of the alternation costs a binary search per level and a difference of prefix sums,
whatever the number of weights. Bit k of a *code* is 1 where plane k is +1; level ``c`` is
``sum_k (alpha_k if c >> k & 1 else -alpha_k)``, summed from plane 0 as the decoders do. Between two levels
at the same distance the upper one is taken, which makes the sign of 0 a plus.

What these take to compile is most of what a first, small encode takes. So all numbers are float64, arrays are flat, and
scratch is passed on: each type of an array that is made, or sliced, is functions of numba's to compile. Counts begin as
``np.int64(0)``: of a literal 0, all functions that are called with it would be compiled once more.
"""

from __future__ import annotations

import math

import numpy as np

from xorpack.vector.bitops import trailing_zeros
from xorpack.vector.compiled import njit, part


@part
def sort(values, n, other):
    """Sort ``values[:n]``: runs of 8, merged. ``other`` is scratch of that size."""
    for i in range(n):
        value = values[i]
        k = i
        while k & 7 and values[k - 1] > value:
            values[k] = values[k - 1]
            k -= 1
        values[k] = value
    width, is_other = 8, False
    while width < n:
        for begin in range(0, n, 2 * width):
            middle = n if n - begin < width else begin + width
            end = n if n - middle < width else middle + width
            i, j, k = begin, middle, begin
            while i < middle and j < end:  # no branch depends on a value
                low, high = values[i], values[j]
                is_high = np.int64(high < low)
                other[k] = high if high < low else low
                i += 1 - is_high
                j += is_high
                k += 1
            for t in range(i, middle):
                other[k + t - i] = values[t]
            for t in range(j, end):
                other[t] = values[t]
        values, other = other, values
        is_other = not is_other
        width *= 2
    if is_other:
        for k in range(n):
            other[k] = values[k]


@part
def sorted_levels(alphas, q, single, levels, codes, other_levels, other_codes):
    """Fill ``levels`` (2^q,), rising, and their ``codes``; the others are scratch of the same shape.

    Adding a plane merges two sorted lists. Rounding is monotone, so this holds as well where sums are rounded to
    float32, as those of ``single`` are, whose ``alphas`` (q,) are float32 numbers: ``levels`` are then bit for bit what
    the decoder sums up.
    """
    size = 1
    levels[0] = 0
    codes[0] = 0
    for k in range(q):
        alpha = alphas[k]
        for i in range(size):
            other_levels[i] = levels[i]
            other_codes[i] = codes[i]
        low = 0
        high = 0
        for i in range(2 * size):
            below, above = other_levels[low] - alpha, other_levels[high] + alpha
            if single:
                below, above = np.float64(np.float32(below)), np.float64(np.float32(above))
            if high == size or (low < size and below <= above):
                levels[i] = below
                codes[i] = other_codes[low]
                low += 1
            else:
                levels[i] = above
                codes[i] = other_codes[high] | (1 << k)
                high += 1
        size *= 2


@part
def count_below(values, begin, end, bound):
    """First index in ``begin..end`` of the sorted ``values`` that is not below ``bound``."""
    while begin < end:
        middle = (begin + end) >> 1
        if values[middle] < bound:
            begin = middle + 1
        else:
            end = middle
    return begin


@part
def distance(values, begin, end, prefix, level):
    """``(sum of |value - level|, first index not below level)`` of the sorted ``values`` from ``begin`` to ``end``."""
    middle = count_below(values, begin, end, level)
    below = (middle - begin) * level - (prefix[middle] - prefix[begin])
    above = (prefix[end] - prefix[middle]) - (end - middle) * level
    return (below if below > 0.0 else 0.0) + (above if above > 0.0 else 0.0), middle


@part
def canonical(alphas, q):
    """Flip and swap planes so that ``alphas`` are not negative and fall; the set of levels stays."""
    for k in range(q):
        alpha = abs(alphas[k])
        i = k
        while i > 0 and alphas[i - 1] < alpha:
            alphas[i] = alphas[i - 1]
            i -= 1
        alphas[i] = alpha


@part
def greedy(values, n, prefix, q, alphas, ends, level):
    """Fill ``alphas`` (q,): each the mean of what the planes before it leave, then signs of the rest.

    ``values`` sorted (n,), ``prefix`` their running sums (n + 1,), ``ends`` int64 scratch (3 * 2^q,), ``level`` (2^q,).
    """
    size = 1
    level[0] = 0
    ends[0] = n
    for k in range(q):
        total = 0.0
        begin = np.int64(0)
        for i in range(size):
            end = ends[3 * i]
            found, middle = distance(values, begin, end, prefix, level[i])
            total += found
            ends[3 * i + 1] = middle
            ends[3 * i + 2] = end
            begin = end
        alpha = total / n
        alphas[k] = alpha
        for i in range(size - 1, -1, -1):
            ends[3 * (2 * i + 1)] = ends[3 * i + 2]
            ends[3 * (2 * i)] = ends[3 * i + 1]
            level[2 * i + 1] = level[i] + alpha
            level[2 * i] = level[i] - alpha
        size *= 2


@part
def least_squares(normal, q, alphas):
    """Solve ``normal`` (q, q + 1), Gram matrix of the planes and right-hand side, which it overwrites; it is flat.

    A plane that depends on those before it gets 0. The Gram matrix is of whole numbers, and the pivot of
    an independent plane is at least ``(4 / q)^(q - 1) >= 1 / 128`` (Hadamard's bound on the ones before).
    """
    width = q + 1
    for k in range(q):
        row = k * width
        if normal[row + k] < 1e-3:
            for i in range(q):
                normal[row + i] = 0.0
                normal[i * width + k] = 0.0
            normal[row + k] = 1.0
            normal[row + q] = 0.0
        for i in range(k + 1, q):
            factor = normal[i * width + k] / normal[row + k]
            for j in range(k, width):
                normal[i * width + j] -= factor * normal[row + j]
    for k in range(q - 1, -1, -1):
        total = normal[k * width + q]
        for j in range(k + 1, q):
            total -= normal[k * width + j] * alphas[j]
        alphas[k] = total / normal[k * width + k]


@part
def refit(values, n, prefix, q, levels, codes, alphas, normal):
    """Fit ``alphas`` (q,) to the weights nearest to each of ``levels``; whether that changed them.

    ``normal``: scratch, (q + 2) * (q + 1).
    """
    width = q + 1
    before = q * width
    for k in range(before):
        normal[k] = 0
    begin = np.int64(0)
    for i in range(1 << q):
        end = n
        if i + 1 < 1 << q:
            end = count_below(values, begin, n, 0.5 * (levels[i] + levels[i + 1]))
        if end > begin:
            total = prefix[end] - prefix[begin]
            count = float(end - begin)
            code = codes[i]
            for k in range(q):
                one = (code >> k) & 1
                normal[k * width + q] += total if one else -total
                for j in range(k + 1):
                    normal[k * width + j] += count if (code >> j) & 1 == one else -count
        begin = end
    for k in range(q):
        normal[before + k] = alphas[k]
        for j in range(k):
            normal[j * width + k] = normal[k * width + j]
    least_squares(normal, q, alphas)
    canonical(alphas, q)
    changed = False
    for k in range(q):
        changed |= alphas[k] != normal[before + k]
    return changed


@part
def alternate(values, n, prefix, n_iterations, q, alphas, levels, codes, other_levels, other_codes, normal):
    """Improve ``alphas`` (q,): nearest codes, then least squares, until nothing changes. The last five are scratch."""
    for _ in range(n_iterations):
        sorted_levels(alphas, q, np.bool_(False), levels, codes, other_levels, other_codes)
        if not refit(values, n, prefix, q, levels, codes, alphas, normal):
            break


@part
def add_plane(values, n, prefix, k, alphas, levels, codes, other_levels, other_codes):
    """Add plane k to ``alphas``, greedily: the mean distance to the nearest level of those before. Scratch follows."""
    sorted_levels(alphas, k, np.bool_(False), levels, codes, other_levels, other_codes)
    total = 0.0
    begin = np.int64(0)
    for i in range(1 << k):
        end = n
        if i + 1 < 1 << k:
            end = count_below(values, begin, n, 0.5 * (levels[i] + levels[i + 1]))
        total += distance(values, begin, end, prefix, levels[i])[0]
        begin = end
    alphas[k] = total / n
    canonical(alphas, k + 1)


@part
def rounded(alphas, q, half, scales):
    """Fill ``scales`` (q,) with canonical ``alphas`` rounded to float16 (``half``) or float32.

    Values past float16 stay as they are. What is 2^-40 of the largest is noise of the sums: 0.
    """
    canonical(alphas, q)
    for k in range(q):
        alpha = alphas[k] if alphas[k] > alphas[0] * 2.0**-40 else 0.0
        if half and 0.0 < alpha < 65520.0:
            exponent = math.frexp(alpha)[1] - 11
            ulp = math.ldexp(1.0, exponent if exponent > -24 else -24)
            alpha = np.rint(alpha / ulp) * ulp
        scales[k] = np.float64(np.float32(alpha))


@part
def boundaries(scales, q, limit, levels, codes, other_levels, other_codes, bounds):
    """Fill ``levels``, ``codes`` and the ``bounds`` (2^q - 1,) between them for ``scales``, float32 numbers.

    Levels from ``limit`` on would overflow the decoded type, and are put at infinity.
    """
    sorted_levels(scales, q, np.bool_(True), levels, codes, other_levels, other_codes)
    for i in range(1 << q):
        if abs(levels[i]) >= limit:
            levels[i] = math.copysign(math.inf, levels[i])
    for i in range((1 << q) - 1):
        bounds[i] = 0.5 * (levels[i] + levels[i + 1])


@part
def squared_error(values, n, q, levels, bounds):
    """Squared error of the sorted ``values`` (n,) rounded to the nearest of ``levels``."""
    total = 0.0
    begin = np.int64(0)
    for i in range(1 << q):
        end = n if i + 1 == 1 << q else count_below(values, begin, n, bounds[i])
        for t in range(begin, end):
            rest = values[t] - levels[i]
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
    width = group if group < cols else cols
    values = np.empty(width, np.float64)
    columns = np.empty(width, np.int64)
    ordered = np.empty(width, np.float64)
    other = np.empty(width, np.float64)
    prefix = np.empty(width + 1, np.float64)
    prefix[0] = 0
    ends = np.empty(3 * size, np.int64)
    alphas = np.empty(q, np.float64)
    other_alphas = np.empty(q, np.float64)
    chosen = np.empty(q, np.float64)
    normal = np.empty((q + 2) * (q + 1), np.float64)
    levels = np.empty(size, np.float64)
    codes = np.empty(size, np.int64)
    other_levels = np.empty(size, np.float64)
    other_codes = np.empty(size, np.int64)
    bounds = np.empty(size, np.float64)
    best_codes = np.empty(size, np.int64)
    best_bounds = np.empty(size, np.float64)
    for r in range(n_rows):
        row = first_row + r
        for k in range(q):
            for chunk in range(mask.shape[1]):
                planes[k, row, chunk] = 0
        for g in range(scales.shape[1]):
            begin = g * group
            end = begin + group if begin + group < cols else cols
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
            sort(ordered, n, other)
            for i in range(n):
                prefix[i + 1] = prefix[i] + ordered[i]
            error = 0.0
            for attempt in range(1 if n_iterations < 0 else 3):  # a loop: LLVM makes a copy for each call
                fitted = other_alphas if attempt == 1 else alphas
                if attempt == 0:
                    greedy(ordered, n, prefix, q, fitted, ends, levels)
                else:
                    for k in range(0 if attempt == 1 else q - 1, q):
                        if attempt == 1:
                            add_plane(ordered, n, prefix, k, fitted, levels, codes, other_levels, other_codes)
                        alternate(
                            ordered, n, prefix, n_iterations, k + 1, fitted, levels, codes, other_levels,
                            other_codes, normal,
                        )  # fmt: skip
                rounded(fitted, q, half, chosen)
                boundaries(chosen, q, limit, levels, codes, other_levels, other_codes, bounds)
                found = squared_error(ordered, n, q, levels, bounds)
                if attempt == 0 or found <= error:
                    for k in range(q):
                        scales[r, g, k] = chosen[k]
                    for i in range(size):
                        best_codes[i], best_bounds[i] = codes[i], bounds[i]
                if attempt == 0:
                    error = found
                elif found <= error:
                    break
            for i in range(n):
                at = 0
                step = size >> 1
                while step:
                    at += step if values[i] >= best_bounds[at + step - 1] else 0
                    step >>= 1
                code = best_codes[at]
                chunk = columns[i] // 32
                bit = np.uint32(columns[i] % 32)
                for k in range(q):
                    planes[k, row, chunk] |= np.uint32((code >> k) & 1) << bit
