"""Planes of binary codes from the bits of their codewords: the decoder of :mod:`xorpack.fields.signs`."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from xorpack.code.corrections import Corrections, check_kept, flip
from xorpack.code.expand import expand
from xorpack.code.planes import CodedPlanes
from xorpack.code.words import Words
from xorpack.fields.codewords import Codewords
from xorpack.fields.field import FieldCode
from xorpack.fields.signs import SignField


class LoadedSigns(NamedTuple):
    """A field of binary codes, unpacked and checked, as its rows are decoded.

    Attributes:
        code: its code.
        codewords: the same, as planes are made of it.
        depths: the code of every depth.
        wrong: their corrections; bit e of a value is depth e.
    """

    code: FieldCode
    codewords: Codewords
    depths: tuple[CodedPlanes, ...]
    wrong: Corrections

    @classmethod
    def of(cls, field: SignField) -> LoadedSigns:
        """Unpack ``field``."""
        codewords = Codewords.decoding(field.code, field.load_symbols())
        return cls(field.code, codewords, tuple(field.load_depths()), field.load_corrections())

    def with_depths(self, wrong: Corrections, bits: int) -> Corrections:
        """Corrections ``wrong`` of ``bits`` planes, and those of depths as of planes behind them."""
        positions = np.union1d(wrong.positions, self.wrong.positions)
        values = np.zeros(positions.size, np.uint64)
        values[np.searchsorted(positions, wrong.positions)] = wrong.values
        values[np.searchsorted(positions, self.wrong.positions)] |= self.wrong.values << np.uint64(bits)
        return Corrections(positions, values)

    def replace(self, planes: Words, mask: Words, first: int, *, jobs: int = 1) -> Words:
        """The planes (q, rows, chunks) of which ``planes`` holds the first bits of codewords.

        Args:
            planes: uint32 (q, rows, chunks), as they are coded, of rows from ``first`` on.
            mask: uint32 (rows, chunks).
            first: row.
            jobs: threads.

        Raises:
            FormatError: a correction at a pruned weight.
        """
        n_raw, last = self.code.n_raw, first + len(mask)
        bits = np.empty((self.code.max_length, *mask.shape), np.uint32)
        bits[:n_raw] = planes[:n_raw][::-1]
        for e, coded in enumerate(self.depths):
            expand(coded, first, last, jobs=jobs, out=bits[n_raw + e : n_raw + e + 1])
        if self.depths:
            cols = self.depths[0].layout.cols
            wrong = self.wrong.in_rows(first, last, cols)
            check_kept(wrong, mask, cols)
            for e in range(len(self.depths)):
                own = (wrong.values >> np.uint64(e) & np.uint64(1)) == 1
                flip(bits[n_raw + e], Corrections(wrong.positions[own], wrong.values[own]), cols)
        return self.codewords.recode(bits, mask, jobs=jobs)
