"""Planes of a field from the bits of its codewords: the decoder of :mod:`xorpack.fields.field`."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from xorpack.code import depths
from xorpack.code.corrections import Corrections, flip
from xorpack.code.dense import UNSIGNED
from xorpack.code.expand import expand
from xorpack.code.planes import CodedPlanes
from xorpack.code.words import Words
from xorpack.fields.field import Field, FieldCode
from xorpack.vector.compiled import njit
from xorpack.vector.simd import join_bits, put_symbols, split_bits
from xorpack.vector.threads import for_each

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
        flat, kept = planes.reshape(-1), np.ascontiguousarray(mask)

        def block(begin: int, end: int, plane: Words) -> None:
            replace_kernel(flat, kept, begin, end, plane.reshape(-1), *self._how(cols))

        self._by_blocks(block, first, len(mask), cols, jobs)

    def join(self, planes: Words, mask: Words, first: int, out: NDArray[Any]) -> None:
        """Elements of rows from ``first`` on: :func:`xorpack.code.dense.join_planes` of planes that are replaced first.

        ``planes`` (q, rows, chunks) as they are coded, ``mask`` (rows, chunks); ``out`` (rows, cols), C-contiguous.
        """
        flat, kept = np.ascontiguousarray(planes).reshape(-1), np.ascontiguousarray(mask)
        elements = out.view(UNSIGNED[out.dtype.itemsize])

        def block(begin: int, end: int, plane: Words) -> None:
            *how, table = self._how(out.shape[1])
            table = table.astype(elements.dtype)
            join_kernel(flat, kept, begin, end, plane.reshape(-1), *how, table, elements)

        self._by_blocks(block, first, len(mask), out.shape[1], 1)

    def _how(self, cols: int) -> tuple[int, NDArray[np.int64], int, int, int, NDArray[np.uint32]]:
        """Arguments that the kernels share."""
        code = self.code
        return (
            math.prod(code.parts(cols)),
            depths.order(code.n_depths),
            code.low,
            code.width,
            code.n_raw,
            self.table,
        )

    def _by_blocks(
        self, block: Callable[[int, int, Words], None], first: int, rows: int, cols: int, jobs: int
    ) -> None:
        """Call ``block(begin, end, plane of depths)`` for all of ``rows`` rows from ``first`` on, a few at a time."""
        if rows * cols == 0:
            return
        n_parts, n_groups = self.code.parts(cols)
        width = self.coded.layout.cols
        step = max(1, BLOCK_WORDS // (n_parts * n_groups * max(self.code.n_depths, 1)))

        def run(begin: int) -> None:
            end = min(begin + step, rows)
            span = (first + begin) * n_parts, (first + end) * n_parts
            plane = expand(self.coded, *span)[0]
            flip(plane, self.wrong.in_rows(*span, width), width)
            block(begin, end, plane)

        for_each(run, range(0, rows, step), jobs)


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


@njit(cache=True, nogil=True)
def join_kernel(planes, mask, first, last, plane, n_words, order, low, width, n_raw, table, out):
    """Kernel of :meth:`LoadedField.join`: arguments as above, ``planes`` only read; ``out`` unsigned (rows, cols)."""
    rows, chunks = mask.shape
    cols = out.shape[1]
    n_depths = order.size
    stride = rows * chunks
    q = planes.size // stride
    heads, tails, above = np.zeros(32, np.uint32), np.zeros(32, np.uint32), np.zeros(32, np.uint32)
    deep = np.zeros(max(n_depths, 1), np.uint32)
    last_word = np.zeros(32, out.dtype)
    flat = out.reshape(-1)
    n_above = q - low - width
    for r in range(first, last):
        for chunk in range(chunks):
            word = r * chunks + chunk
            at = r * cols + 32 * chunk
            group = ((r - first) * n_words + chunk) * n_depths
            for k in range(n_depths):
                deep[n_depths - 1 - order[k]] = plane[group + k]
            join_bits(heads, 0, planes, word, stride, low + n_raw)
            join_bits(tails, 0, deep, 0, 1, n_depths)
            if n_above > 0:
                join_bits(above, 0, planes, (low + width) * stride + word, stride, n_above)
                for j in range(32):
                    heads[j] |= above[j] << np.uint32(low + width)
            if 32 * chunk + 32 <= cols:
                put_symbols(flat, at, mask[r, chunk], heads, tails, table, low, width, n_raw, n_depths)
            else:
                put_symbols(last_word, 0, mask[r, chunk], heads, tails, table, low, width, n_raw, n_depths)
                for j in range(cols - 32 * chunk):
                    flat[at + j] = last_word[j]
