"""Planes of a field from the bits of its codewords: the decoder of :mod:`xorpack.fields`."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from xorpack import depths
from xorpack.coded import CodedPlanes
from xorpack.corrections import Corrections, flip
from xorpack.expand import expand
from xorpack.fields import Field, FieldCode
from xorpack.simd import join_bits, split_bits
from xorpack.words import Words

BLOCK_WORDS = 1 << 15
"""Words of the plane that are decoded at a time, about."""


class LoadedField(NamedTuple):
    """A field, unpacked and checked, as its rows are decoded.

    Attributes:
        code: its code.
        table: uint32 (2^max_length,), the symbol of every sequence of bits.
        coded, wrong: the plane of depths and its corrections.
    """

    code: FieldCode
    table: NDArray[np.uint32]
    coded: CodedPlanes
    wrong: Corrections

    @classmethod
    def of(cls, field: Field) -> LoadedField:
        """Unpack ``field``."""
        return cls(field.code, field.code.table(field.load_symbols()), field.coded, field.load_corrections())

    def replace(self, planes: Words, mask: Words, first: int, cols: int, *, jobs: int = 1) -> None:
        """Put the symbols of rows from ``first`` on in place of the first bits of their codewords.

        ``planes`` (q, rows, chunks), C-contiguous, is written to; bits are 0 where ``mask`` (rows, chunks) is 0.
        ``cols`` of the tensor.
        """
        if not mask.size:
            return
        n_parts, n_groups = self.code.parts(cols)
        width, order = self.coded.layout.cols, depths.order(self.code.n_depths)
        flat, kept = planes.reshape(-1), np.ascontiguousarray(mask)
        step = max(1, BLOCK_WORDS // (n_parts * n_groups * max(self.code.n_depths, 1)))

        def block(r: int) -> None:
            n = min(step, len(mask) - r)
            begin, end = (first + r) * n_parts, (first + r + n) * n_parts
            plane = expand(self.coded, begin, end)[0]
            flip(plane, self.wrong.in_rows(begin, end, width), width)
            replace_kernel(
                flat,
                kept,
                r,
                r + n,
                plane.reshape(-1),
                n_parts * n_groups,
                order,
                self.code.low,
                self.code.width,
                self.code.n_raw,
                self.table,
            )

        starts = range(0, len(mask), step)
        if jobs == 1:
            for r in starts:
                block(r)
        else:
            with ThreadPoolExecutor(jobs) as pool:
                list(pool.map(block, starts))


@njit(cache=True, nogil=True)
def replace_kernel(
    planes,  # (q * rows * chunks,) uint32, in and out
    mask,  # (rows, chunks) uint32
    first,
    last,
    plane,  # ((last - first) * n_words * n_depths,) uint32
    n_words,  # of a row in the plane, a few of them behind the last chunk
    order,  # (n_depths,) int64: the depth of every place in a group
    low,
    width,
    n_raw,
    table,  # (2^(n_raw + n_depths),) uint32
):
    """Kernel of :meth:`LoadedField.replace`: rows ``first .. last - 1``."""
    rows, chunks = mask.shape
    n_depths = order.size
    stride = rows * chunks
    found = np.zeros(32, np.uint32)
    heads = np.zeros(32, np.uint32)
    tails = np.zeros(32, np.uint32)
    deep = np.zeros(max(n_depths, 1), np.uint32)
    for r in range(first, last):
        for chunk in range(chunks):
            word = r * chunks + chunk
            at = low * stride + word
            kept = mask[r, chunk]
            if kept == 0:
                for k in range(width):
                    planes[at + k * stride] = 0
                continue
            group = ((r - first) * n_words + chunk) * n_depths
            for k in range(n_depths):
                deep[n_depths - 1 - order[k]] = plane[group + k]
            join_bits(heads, 0, planes, at, stride, n_raw)
            join_bits(tails, 0, deep, 0, 1, n_depths)
            for j in range(32):
                found[j] = table[np.int64(heads[j]) << n_depths | np.int64(tails[j])]
            split_bits(found, 0, planes, at, stride, width)
            for k in range(width):
                planes[at + k * stride] &= kept
