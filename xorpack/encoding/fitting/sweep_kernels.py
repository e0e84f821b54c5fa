"""Columns of a weight quantized one after another, each by Viterbi; what an error means for the others is fed to them.

Matrices are transposed here: a column of the weight is a contiguous row. What all columns share comes as a tuple
``shared = (kept, group, scales, counts, outputs, threshold, search, expand)``:

- kept: uint32 (rows, chunks), 1 where a weight is kept; changed where the sweep chooses.
- group: columns that share a scale.
- scales: float64 (n_groups, rows).
- counts: float64 (n_groups, rows), what a squared error counts beside the others of its column.
- outputs: float64 (rows,), what a squared error of each row counts beside those of the others, in the end.
- threshold: weights above it, in scales and gains, are kept as they are.
- search: what :class:`xorpack.encoding.quantize.trellis_search.Search` makes of a network: ``(unit, limit, fine,
  firsts, new_bits, counts, tables, levels, window, edge, capacity)``.
- expand: ``(n_in, n_out, float64 (n_out, 2**window))``: the rate, and the level of every state.
"""

from __future__ import annotations

import math

import numpy as np

from xorpack.encoding.quantize.trellis_kernels import search_kernel
from xorpack.vector.compiled import njit, part


@njit(cache=True, nogil=True)
def feedback_kernel(block, factor, columns, shared, gains, sizes, choose, code, values, outliers, errors):
    """Quantize the columns of a block in order; the columns of the block after each make up for its error.

    Args:
        block: float64 (n, rows), what the columns are by now; changed.
        factor: float64 (n, n), the block's part of the upper factor of the inverse Hessian.
        columns: int64 (n,): which columns of the weight these are.
        shared: see the module.
        gains: float64 (cols,).
        sizes: float64 (cols,): root mean squares of the columns, in scales, that the gains are made for; those gains
            are adapted, and written. Or empty: gains stay.
        choose: whether to keep those weights of a column that cost the most by now, as many as are kept: OBS, but that
            the weights of a column share its stored bits, so that their number stays.
        code: uint32 (m, chunks): the bits of these columns are written.
        values: float32 (n, rows), written: what the columns are now.
        outliers: bool (n, rows), written: weights that are kept as they are.
        errors: float64 (n, rows), written: what the columns after the block are to make up for.
    """
    n, rows = block.shape
    bits = np.empty((code.shape[0], 1), np.uint32)
    for i in range(n):
        c, target = columns[i], block[i]
        if choose:
            keep_costliest(target, c, shared)
        if sizes.size:
            size = root_mean_square(target, c, shared)
            if size > 0.0 and sizes[c] > 0.0:
                gains[c] = rounded(gains[c] * min(max(size / sizes[c], 0.0625), 16.0))
        gains[c] = quantize_column(target, c, shared, gains[c], sizes.size > 0, bits, values[i], outliers[i])
        write_bits(bits, code, c)
        for r in range(rows):
            errors[i, r] = (target[r] - np.float64(values[i, r])) / factor[i, i]
        for k in range(i + 1, n):
            share = factor[i, k]
            if share != 0.0:
                later = block[k]
                for r in range(rows):
                    later[r] -= errors[i, r] * share


@njit(cache=True, nogil=True)
def descent_kernel(gradient, hessian, columns, shared, gains, fit_gains, code, values, outliers, steps):
    """Quantize the columns of a block once more, all others being what they are, where that makes the total less.

    Args:
        gradient: float64 (n, rows): ``H (w - v)`` of the block's columns; kept up to date.
        hessian: float64 (n, n), of the block.
        columns, shared, gains, code: see :func:`feedback_kernel`.
        fit_gains: whether gains are fitted, too.
        values, outliers: (n, rows): what the columns are; changed.
        steps: float64 (n, rows), written: by how much.

    Returns:
        By how much the total error fell.
    """
    n, rows = gradient.shape
    bits = np.empty((code.shape[0], 1), np.uint32)
    target, outputs = np.empty(rows, np.float64), shared[4]
    found = np.empty(rows, np.float32)
    apart = np.empty(rows, np.bool_)
    total = 0.0
    for i in range(n):
        c, slope, curvature = columns[i], gradient[i], hessian[i, i]
        for r in range(rows):
            target[r] = np.float64(values[i, r]) + slope[r] / curvature
        gain = quantize_column(target, c, shared, gains[c], fit_gains, bits, found, apart)
        change = 0.0
        for r in range(rows):
            step = np.float64(found[r]) - np.float64(values[i, r])
            steps[i, r] = step
            change += outputs[r] * (step * (curvature * step - 2.0 * slope[r]))
        if not change < 0.0:
            for r in range(rows):
                steps[i, r] = 0.0
            continue
        total -= change
        gains[c] = gain
        write_bits(bits, code, c)
        for r in range(rows):
            values[i, r] = found[r]
            outliers[i, r] = apart[r]
        for k in range(n):
            share = hessian[i, k]
            if share != 0.0:
                other = gradient[k]
                for r in range(rows):
                    other[r] -= steps[i, r] * share
    return total


@part
def quantize_column(target, c, shared, gain, fit_gain, bits, values, outliers):
    """Choose the stored bits (m, 1) of column ``c``; ``values`` (rows,) gets what is decoded. Returns the gain.

    Weights above the threshold leave their step free, as pruned ones do, and stay as they are, to 11 bits.
    """
    kept, group, scales, counts, _, threshold, search, expand = shared
    scale, count = scales[c // group], counts[c // group]
    unit, limit, fine, firsts, new_bits, n_rows, tables, levels, window, edge, capacity = search
    rows = target.size
    targets = np.empty((1, rows), np.int16)
    shares = np.zeros((1, rows), np.int16)
    cares = np.zeros(rows, np.bool_)
    largest, least = 0.0, np.inf
    for r in range(rows):
        divisor = scale[r] * gain
        x = target[r] / divisor if divisor > 0.0 else 0.0
        targets[0, r] = np.int16(min(max(np.rint(x * unit), -limit), limit))
        values[r] = 0.0
        outliers[r] = False
        if kept[r, c >> 5] >> np.uint32(c & 31) & np.uint32(1):
            if abs(x) > threshold:
                values[r] = rounded(target[r])
                outliers[r] = True
            else:
                cares[r] = True
                largest = max(largest, count[r])
                if count[r] > 0.0:
                    least = min(least, count[r])
    weighted = least < 0.95 * largest
    for r in range(rows):
        if cares[r] and count[r] > 0.0:
            shares[0, r] = max(np.rint(count[r] / largest * 32767.0), 1) if weighted else 32767
    search_kernel(
        targets,
        shares,
        weighted,
        fine,
        firsts,
        new_bits,
        n_rows,
        tables,
        levels,
        window,
        edge,
        capacity,
        bits,
        np.int64(0),
    )
    return expand_column(target, cares, scale, count, gain, fit_gain, expand, bits, values)


@part
def expand_column(target, cares, scale, count, gain, fit_gain, expand, bits, values):
    """Write the decoded weights that ``cares`` tells; returns the gain, the best by least squares if ``fit_gain``."""
    n_in, n_out, levels = expand
    rows, m = target.size, bits.shape[0]
    window = 0
    while 1 << window < levels.shape[1]:
        window += 1
    state, end = np.int64(0), np.int64(0)
    for age in range(window - 1, -1, -1):
        state = state >> 1 | np.int64(bits[(m - 1 - age) % m, 0] & np.uint32(1)) << window - 1
    product, energy = 0.0, 0.0
    for r in range(rows):
        until = ((r + 1) * n_in + n_out - 1) // n_out
        while end < until:
            state = state >> 1 | np.int64(bits[end, 0] & np.uint32(1)) << window - 1
            end += 1
        if cares[r]:
            value = levels[r % n_out, state] * scale[r]
            values[r] = value * gain
            weight = count[r] / (scale[r] * scale[r]) if scale[r] > 0.0 else 0.0
            product += weight * target[r] * value
            energy += weight * value * value
    if not fit_gain or not product > 0.0:
        return gain
    best = rounded(min(max(product / energy, 0.001), 1000.0))
    for r in range(rows):
        if cares[r]:
            values[r] *= best / gain
    return best


@njit(cache=True, nogil=True)
def keep_costliest(column, c, shared):
    """Change which weights of column ``c`` are kept, not how many: the largest ``w^2``, as their rows count."""
    kept, outputs = shared[0], shared[4]
    bit, n = np.uint32(1) << np.uint32(c & 31), 0
    costs = np.empty(column.size, np.float64)
    for r in range(column.size):
        costs[r] = -column[r] * column[r] * outputs[r]
        if kept[r, c >> 5] & bit:
            n += 1
            kept[r, c >> 5] ^= bit
    order = np.argsort(costs, kind="mergesort")
    for i in range(n):
        kept[order[i], c >> 5] |= bit


@part
def root_mean_square(column, c, shared):
    """Of the kept weights of column ``c`` in units of their scales."""
    kept, scale = shared[0], shared[2][c // shared[1]]
    total, n = 0.0, 0
    for r in range(column.size):
        if kept[r, c >> 5] >> np.uint32(c & 31) & np.uint32(1) and scale[r] > 0.0:
            x = column[r] / scale[r]
            total += x * x
            n += 1
    return math.sqrt(total / max(n, 1))


@njit(cache=True, nogil=True)
def rounded(x):
    """To 11 significant bits, as a float16 has them."""
    mantissa, exponent = math.frexp(x)
    return math.ldexp(np.rint(mantissa * 2048.0), exponent - 11)


@njit(cache=True, nogil=True)
def write_bits(bits, code, c):
    """``bits`` (m, 1) as column ``c`` of ``code`` (m, chunks)."""
    place = np.uint32(c & 31)
    for k in range(code.shape[0]):
        others = code[k, c >> 5] & ~(np.uint32(1) << place)
        code[k, c >> 5] = others | (bits[k, 0] & np.uint32(1)) << place
