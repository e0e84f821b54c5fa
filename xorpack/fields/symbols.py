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
from xorpack.fields.symbols_kernels import join_kernel, replace_kernel
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
