"""The reference decoder: numpy only, one page, what every other decoder must equal bit for bit."""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xorpack.code import depths
from xorpack.code.corrections import Corrections, check_kept, flip
from xorpack.code.planes import CodedPlanes, TrellisPlanes
from xorpack.code.scales import scale_values
from xorpack.code.trellis import expand_reference
from xorpack.code.words import Words, pack, unpack
from xorpack.elements import Lossless, Trellis
from xorpack.encoded import EncodedTensor
from xorpack.fields.field import Field
from xorpack.fields.signs import SignField
from xorpack.tensors import DTYPES


def expand(coded: CodedPlanes, first: int, last: int, mask: Words | None = None) -> Words:
    """Rows ``first .. last - 1`` of the planes: uint32 (q, rows, chunks), ANDed with ``mask`` if given."""
    layout, network = coded.layout, coded.network
    q, m = coded.code.shape[0], layout.lanes * coded.m_lane
    planes = np.zeros((q, layout.rows * layout.chunks), np.uint32)
    offsets, rotations, counts = network.taps()
    lane = np.arange(layout.lanes)
    step = np.arange(layout.n_steps)
    start = network.start(step, coded.m_lane, layout.n_steps)
    row = step % network.n_rows
    for segment in range(layout.n_segments if m else 0):
        ring = coded.code[:, segment].transpose(0, 2, 1).reshape(q, m)  # lane after lane
        words = np.zeros((q, layout.n_steps, layout.lanes), np.uint32)
        for k in range(offsets.shape[1]):
            at = (lane * coded.m_lane + (start + offsets[row, k])[:, None]) % m  # (n_steps, lanes)
            x = ring[:, at].astype(np.uint64)
            turned = (x << rotations[row, k][:, None].astype(np.uint64)) * (k < counts[row])[:, None]
            words ^= (turned | turned >> np.uint64(32)).astype(np.uint32)
        index = layout.word_index(segment * layout.n_steps + step)
        planes[:, index[index >= 0]] = words[:, index >= 0]
    part = planes.reshape(q, layout.rows, layout.chunks)[:, first:last]
    return part if mask is None else part & mask


def decode_planes(encoded: EncodedTensor, first: int = 0, last: int | None = None) -> tuple[Words, Words]:
    """``(mask, planes)`` of rows ``first .. last - 1``: uint32 (rows, chunks), (q, rows, chunks).

    Planes are of the elements: a field is decoded. Bits of a plane where the mask is 0 are 0.
    """
    end = encoded.rows if last is None else last
    mask = encoded.load_mask(expand, first, end)
    if isinstance(encoded.planes, TrellisPlanes):
        planes = expand_reference(encoded.planes.network, encoded.planes.code, encoded.rows, first, end)
        return mask, planes & mask
    if encoded.packed is None:
        coded = expand(encoded.coded, first, end, mask)
    else:
        starts = encoded.packed.row_starts(first, mask, partial(encoded.load_mask, expand))
        coded = encoded.packed.unpack_reference(mask, starts)
    planes = encoded.planes.place(coded, mask)
    wrong = encoded.load_corrections().in_rows(first, end, encoded.cols)
    check_kept(wrong, mask, encoded.cols)
    r, c = wrong.positions // max(encoded.cols, 1), wrong.positions % max(encoded.cols, 1)
    for k in range(encoded.bits):
        flips = ((wrong.values >> np.uint64(k)) & np.uint64(1)).astype(np.uint32) << (c % 32).astype(
            np.uint32
        )
        np.bitwise_xor.at(planes[k], (r, c // 32), flips)
    if isinstance(encoded.field, Field):
        replace_field(encoded.field, planes, mask, first, encoded.cols)
    elif isinstance(encoded.field, SignField):
        planes = replace_signs(encoded.field, planes, mask, first, encoded.cols)
    return mask, planes


def replace_field(field: Field, planes: Words, mask: Words, first: int, cols: int) -> None:
    """Put the symbols of rows from ``first`` on in place of the first bits of their codewords, in ``planes``."""
    code, (rows, chunks) = field.code, mask.shape
    n_parts, n_groups = code.parts(cols)
    begin, end = first * n_parts, (first + rows) * n_parts
    plane = expand(field.coded, begin, end)[0]
    flip(plane, field.load_corrections().in_rows(begin, end, field.layout.cols), field.layout.cols)
    deep = plane.reshape(rows, n_parts * n_groups, code.n_depths)[:, :chunks]
    value = np.zeros((rows, 32 * chunks), np.int64)  # the first max_length bits
    for k in reversed(range(code.n_raw)):
        value = value << 1 | unpack(planes[code.low + k], 32 * chunks)
    for e in range(code.n_depths):
        place = int(np.flatnonzero(depths.order(code.n_depths) == e)[0])
        value = value << 1 | unpack(deep[:, :, place], 32 * chunks)
    symbols = code.table(field.load_symbols())[value]
    for k in range(code.width):
        planes[code.low + k] = pack((symbols >> np.uint32(k) & np.uint32(1)).astype(np.bool_)) & mask


def replace_signs(field: SignField, planes: Words, mask: Words, first: int, cols: int) -> Words:
    """The planes (q, rows, chunks) of which ``planes`` holds the first bits of codewords, of rows from ``first`` on."""
    code, (rows, chunks) = field.code, mask.shape
    wrong = field.load_corrections().in_rows(first, first + rows, cols)
    check_kept(wrong, mask, cols)
    value = np.zeros((rows, 32 * chunks), np.int64)  # the first max_length bits
    for k in reversed(range(code.n_raw)):
        value = value << 1 | unpack(planes[k], 32 * chunks)
    for e, coded in enumerate(field.load_depths()):
        plane = expand(coded, first, first + rows)[0]
        own = (wrong.values >> np.uint64(e) & np.uint64(1)) == 1
        flip(plane, Corrections(wrong.positions[own], wrong.values[own]), cols)
        value = value << 1 | unpack(plane, 32 * chunks)
    symbols = code.table(field.load_symbols())[value]
    bits = [(symbols >> np.uint32(k) & np.uint32(1)).astype(np.bool_) for k in range(code.width)]
    return np.stack([pack(plane) & mask for plane in bits])


def decode_dense(encoded: EncodedTensor, first: int = 0, last: int | None = None) -> NDArray[Any]:
    """Elements of rows ``first .. last - 1`` of the tensor's matrix, of the tensor's dtype."""
    mask, planes = decode_planes(encoded, first, last)
    bits = unpack(planes, encoded.cols)  # (q, rows, cols)
    dtype = DTYPES[encoded.dtype]
    if isinstance(encoded.elements, Lossless):
        return join(bits, encoded.matrix_dtype).view(dtype)
    kept = unpack(mask, encoded.cols)
    if isinstance(encoded.elements, Trellis):
        total = sum_trellis(bits, kept, encoded.elements, first)
    else:
        scales = encoded.elements.scales[first : first + len(mask)].astype(np.float32)
        total = sum_signs(bits, kept, scales, encoded.elements.group_size)
    with np.errstate(over="ignore"):
        return total.astype(dtype)


def join(bits: NDArray[np.bool_], dtype: np.dtype[Any]) -> NDArray[Any]:
    """Elements whose bit k is ``bits[k]``, (q, rows, cols)."""
    unsigned = {1: np.uint8, 2: np.uint16, 4: np.uint32}[dtype.itemsize]
    whole = np.zeros(bits.shape[1:], unsigned)
    for k, plane in enumerate(bits):
        whole |= plane.astype(unsigned) << unsigned(k)
    return whole.view(dtype)


def sum_signs(
    bits: NDArray[np.bool_], kept: NDArray[np.bool_], scales: NDArray[np.float32], group_size: int
) -> NDArray[np.float32]:
    """Sums of ``scales`` (rows, n_groups, q), of signs ``bits[k]``, (q, rows, cols), and +0 where not ``kept``."""
    cols = kept.shape[1]
    group = np.arange(cols) // (group_size or max(cols, 1))
    total = np.zeros(kept.shape, np.float32)
    with np.errstate(over="ignore"):
        for k, plane in enumerate(bits):
            alpha = scales[:, group, k]
            total += np.where(plane, alpha, -alpha)
    return np.where(kept, total, np.float32(0))


def sum_trellis(
    bits: NDArray[np.bool_], kept: NDArray[np.bool_], trellis: Trellis, first: int
) -> NDArray[np.float32]:
    """Elements of rows from ``first`` on, of signs ``bits[k]``, as :class:`xorpack.tensors.TrellisTensor` says."""
    rows, cols = kept.shape
    with np.errstate(over="ignore", invalid="ignore"):
        alphas = scale_values(trellis.scales[first : first + rows])[:, :, None] * trellis.a
        total = sum_signs(bits, np.ones_like(kept), alphas, trellis.group_size)
        if trellis.gains is not None:
            total *= trellis.gains.astype(np.float32)
    total[~kept] = 0
    listed = trellis.load_outliers(len(trellis.scales) * cols).in_rows(first, first + rows, cols)
    check_kept(listed, pack(kept), cols, "an outlier")
    largest = float(np.abs(trellis.a).max())
    unit = np.float32(2.0 ** (math.frexp(largest)[1] - 1)) if largest else np.float32(1)
    values = listed.values.astype(np.uint16).view(np.float16).astype(np.float32)
    with np.errstate(over="ignore"):
        total.reshape(-1)[listed.positions] = values * unit
    return total
