"""Planes packed: the bits of the kept weights and nothing else, one after another in the order of rows.

The i-th kept weight, row after row, has its bit of plane j at::

    code[j, i // 32] >> (i % 32) & 1

A network expands any stretch of its code on its own; here the place of a row's bits depends on how many weights the
rows before it keep. So rows are in panels of ``panel_rows``, and ``starts`` says how many weights are kept before each
panel but the first. What that buys is speed on a CPU: to pack or unpack a word takes an instruction (``pext``,
``pdep``).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from xorpack.code.packed_kernels import pack_kernel, unpack_kernel
from xorpack.code.words import WORD_BITS, Words, n_chunks, unpack
from xorpack.code.words import pack as pack_bits
from xorpack.errors import FormatError
from xorpack.vector.threads import for_each

FAMILY = "packed"
"""Stands in records in the place of a network's family."""

PANEL_WEIGHTS = 1 << 16
"""Weights of a panel, about: a row is found by counting as many bits of the mask at the most."""

START_BYTES = 8


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PackedPlanes:
    """Packed bits, and where those of a panel begin.

    Attributes:
        shape: rows and columns of the matrix of weights.
        n_kept: weights that the mask keeps.
        panel_rows: rows of a panel.
        starts: uint8, the section: a little-endian number of 64 bits for every panel but the first.
        code: uint32 (planes, ceil(n_kept / 32)); bits past the last are 0.
    """

    shape: tuple[int, int]
    n_kept: int
    panel_rows: int
    starts: NDArray[np.uint8]
    code: Words

    def __post_init__(self) -> None:
        rows, cols = self.shape
        if not 0 <= self.n_kept <= rows * cols:
            raise FormatError(f"n_kept {self.n_kept} of {rows * cols} weights")
        if not 1 <= self.panel_rows <= max(rows, 1):
            raise FormatError(f"panel_rows {self.panel_rows} of {rows} rows")
        if self.code.ndim != 2 or self.code.dtype != np.uint32 or self.code.shape[1] != n_chunks(self.n_kept):
            raise FormatError(
                f"packed code of type {self.code.dtype} and shape {self.code.shape} for {self.n_kept} kept weights"
            )
        expected = START_BYTES * (self.n_panels - 1)
        if self.starts.size != expected:
            raise FormatError(f"{self.starts.size} bytes of starts of {self.n_panels} panels, not {expected}")

    def check(self, n_coded: int, n_kept: int) -> None:
        """Raise FormatError unless these can be the bits of so many planes of a matrix that keeps ``n_kept``."""
        if (len(self.code), self.n_kept) != (n_coded, n_kept):
            raise FormatError(
                f"{len(self.code)} planes of {self.n_kept} packed bits, not {n_coded} of {n_kept}"
            )

    @property
    def n_panels(self) -> int:
        """Panels of rows, 1 at the least."""
        return max(1, -(-self.shape[0] // self.panel_rows))

    @classmethod
    def room(cls, mask: Words, cols: int, n_planes: int) -> PackedPlanes:
        """Packed planes of zeros for the ones of ``mask`` (rows, chunks), to be filled by :meth:`put`."""
        rows, counts = len(mask), _row_counts(mask)
        panel_rows = max(1, min(rows, PANEL_WEIGHTS // max(cols, 1)))
        before, n_kept = np.cumsum(counts) - counts, int(counts.sum())
        return cls(
            shape=(rows, cols),
            n_kept=n_kept,
            panel_rows=panel_rows,
            starts=before[panel_rows::panel_rows].astype("<u8").view(np.uint8),
            code=np.zeros((n_planes, n_chunks(n_kept)), np.uint32),
        )

    def put(self, mask: Words, planes: Words, begin: int) -> int:
        """Fill in the bits of ``planes`` (q, n, chunks) where ``mask`` (n, chunks) is 1: the rows that come next.

        ``begin`` weights are kept before them; the number before the next rows is returned.
        """
        flat = np.ascontiguousarray(planes).reshape(len(planes), mask.size)
        return int(pack_kernel(np.ascontiguousarray(mask).reshape(-1), flat, begin, self.code))

    def _start(self, panel: int) -> int:
        """Weights that are kept before a panel, as ``starts`` says."""
        at = START_BYTES * (panel - 1)
        return int.from_bytes(self.starts[at : at + START_BYTES].tobytes(), "little") if panel else 0

    def row_starts(self, first: int, mask: Words, load: Callable[[int, int], Words]) -> NDArray[np.int64]:
        """Weights that are kept before each row of ``mask``, and after them all: int64 (rows + 1,).

        Args:
            first: number of the first row.
            mask: uint32 (rows, chunks).
            load: gives the mask of rows ``first .. last - 1``, for those of the panel that come before.

        Raises:
            FormatError: ``starts`` says something else, or there are fewer bits.
        """
        begin = first // self.panel_rows * self.panel_rows
        if begin < first:
            mask = np.concatenate([load(begin, first), mask])
        before = self._start(begin // self.panel_rows)
        if before > self.n_kept:
            raise FormatError(f"packed bits of row {begin} start at {before}, and there are {self.n_kept}")
        found = np.concatenate([[before], before + np.cumsum(_row_counts(mask))])
        for row in range(
            begin + self.panel_rows, min(begin + len(mask), self.shape[0] - 1) + 1, self.panel_rows
        ):
            if (start := self._start(row // self.panel_rows)) != found[row - begin]:
                raise FormatError(
                    f"packed bits of row {row} start at {start}, but the mask keeps {found[row - begin]} before it"
                )
        if found[-1] > self.n_kept:
            raise FormatError(f"the mask keeps more weights than the {self.n_kept} that are packed")
        return found[first - begin :]

    def unpack(
        self, mask: Words, starts: NDArray[np.int64], *, jobs: int = 1, out: Words | None = None
    ) -> Words:
        """Planes of the rows of ``mask``: uint32 (q, rows, chunks).

        Args:
            mask: uint32 (rows, chunks).
            starts: of these rows, by :meth:`row_starts`.
            jobs: threads.
            out: C-contiguous, to write to.
        """
        q, (rows, chunks) = len(self.code), mask.shape
        if out is None:
            out = np.empty((q, rows, chunks), np.uint32)
        if not self.code.size:
            out[...] = 0
            return out
        code, flat = np.ascontiguousarray(self.code), np.ascontiguousarray(mask).reshape(-1)
        into, share = out.reshape(q, -1), max(1, -(-rows // jobs))

        def run(first: int) -> None:
            last = min(first + share, rows)
            unpack_kernel(code, flat, int(starts[first]), first * chunks, last * chunks, into)

        for_each(run, range(0, rows, share), jobs)
        return out

    def unpack_reference(self, mask: Words, starts: NDArray[np.int64]) -> Words:
        """The same by numpy alone."""
        kept = unpack(mask, WORD_BITS * mask.shape[1])
        planes = np.zeros((len(self.code), *kept.shape), np.bool_)
        planes[:, kept] = unpack(self.code, self.n_kept)[:, starts[0] : starts[-1]]
        return pack_bits(planes)


def _row_counts(mask: Words) -> NDArray[np.int64]:
    """Ones of each row."""
    counts: NDArray[np.int64] = np.bitwise_count(mask).sum(axis=1, dtype=np.int64)
    return counts
