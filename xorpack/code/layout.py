"""The order in which a matrix of words is coded.

A matrix of ``rows x cols`` weights is ``rows x chunks`` words. Its chunks are cut into ``n_panels``
panels of at most 32 chunks, a panel into ``n_sub`` turns of ``lanes`` chunks. Step ``t`` decodes one
word in every lane::

    turn            c = t % n_sub
    row index       i = t // n_sub % rows
    panel           p = t // n_sub // rows
    row             r = i * row_stride % rows
    chunk in panel  k = (c * lanes + lane + i) % (n_sub * lanes)       (the skew)
    chunk             = p * panel_chunks + k,  absent if k >= panel_chunks or chunk >= chunks

Rows are visited ``row_stride`` apart and chunks are skewed by the row index, so that every lane of
every stretch samples the whole panel: real masks crowd in some rows and columns.

Steps are cut into ``n_segments`` segments of ``n_steps`` (steps past the end decode nothing). A
segment is one ring: lane 0's steps, then lane 1's, ... are its ``n = lanes * n_steps`` words, coded
in ``m = lanes * m_lane`` stored words by one tail-biting network, so that a decoder can walk all
lanes of a segment at once. Stored word ``x`` of a ring is ``code[x % m_lane, x // m_lane]``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from xorpack.code.words import n_chunks
from xorpack.errors import ParameterError

MAX_LANES = 32
PANEL_CHUNKS = 32
MAX_STEPS = 1 << 30
"""Steps of a segment at the most: step * m_lane stays within 64 bits."""
_GOLDEN = 0.6180339887498949


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """Order of coding of one tensor. ``rows`` and ``cols`` in weights; see the module's equations."""

    rows: int
    cols: int
    lanes: int
    n_steps: int
    row_stride: int

    def __post_init__(self) -> None:
        if not 1 <= self.lanes <= MAX_LANES:
            raise ParameterError(f"lanes = {self.lanes} is outside 1..{MAX_LANES}")
        if min(self.rows, self.cols, self.n_steps) < 0:
            raise ParameterError("rows, cols and n_steps must not be negative")
        if self.total_steps and self.n_steps == 0:
            raise ParameterError("n_steps = 0 for a tensor that has weights")
        if self.n_steps > MAX_STEPS:
            raise ParameterError(f"n_steps = {self.n_steps} is more than {MAX_STEPS}")
        if self.rows and (self.row_stride < 1 or math.gcd(self.row_stride, self.rows) != 1):
            raise ParameterError(f"row_stride {self.row_stride} is not coprime to {self.rows} rows")
        if self.row_stride > max(self.rows, 1):  # kernels take i * row_stride for less than 64 bits
            raise ParameterError(f"row_stride {self.row_stride} is more than {self.rows} rows need")

    @property
    def chunks(self) -> int:
        """Words in a row."""
        return n_chunks(self.cols)

    @property
    def n_panels(self) -> int:
        """Groups of at most 32 chunks."""
        return -(-self.chunks // PANEL_CHUNKS)

    @property
    def panel_chunks(self) -> int:
        """Chunks in a panel."""
        return -(-self.chunks // max(self.n_panels, 1))

    @property
    def n_sub(self) -> int:
        """Steps that one row of one panel takes."""
        return -(-self.panel_chunks // self.lanes)

    @property
    def total_steps(self) -> int:
        """Steps that decode something."""
        return self.n_panels * self.rows * self.n_sub

    @property
    def n_segments(self) -> int:
        """Independent rings."""
        return -(-self.total_steps // self.n_steps) if self.n_steps else 0

    @property
    def ring_words(self) -> int:
        """Decoded words of one ring, absent ones included (n)."""
        return self.lanes * self.n_steps

    def params(self) -> tuple[int, int, int, int, int, int, int]:
        """``(rows, chunks, lanes, n_steps, row_stride, panel_chunks, n_sub)`` for kernels."""
        return (
            self.rows,
            self.chunks,
            self.lanes,
            self.n_steps,
            self.row_stride,
            self.panel_chunks,
            self.n_sub,
        )

    def word_index(self, t: NDArray[np.int64]) -> NDArray[np.int64]:
        """Flat index into (rows, chunks) of steps ``t``: shape ``(*t.shape, lanes)``, -1 if absent."""
        step = np.asarray(t, np.int64)[..., None]
        lane = np.arange(self.lanes, dtype=np.int64)
        c = step % self.n_sub
        i = step // self.n_sub % self.rows
        p = step // self.n_sub // self.rows
        r = i * self.row_stride % self.rows
        k = (c * self.lanes + lane + i) % (self.n_sub * self.lanes)
        chunk = p * self.panel_chunks + k
        absent = (k >= self.panel_chunks) | (chunk >= self.chunks) | (step >= self.total_steps)
        return np.where(absent, -1, r * self.chunks + chunk)

    @classmethod
    def choose(cls, rows: int, cols: int, n_kept: int, *, lanes: int | None = None) -> Layout:
        """A good order for a tensor: many lanes where it is large, fine rates where it is small.

        A lane keeps at least about ``MIN_LANE_CODE`` stored words, for the rate is a whole number of
        them; a ring holds about ``RING_CODE`` stored words, which bounds the encoder's memory.
        """
        chunks = n_chunks(cols)
        words = rows * chunks
        if words == 0:
            return cls(rows=rows, cols=cols, lanes=1, n_steps=0, row_stride=1)
        density = max(n_kept, 1) / (words * 32)
        if lanes is None:
            lanes = MAX_LANES
            panel = -(-chunks // -(-chunks // PANEL_CHUNKS))
            while lanes > 1 and (words * density < lanes * MIN_LANE_CODE or lanes >= 2 * panel):
                lanes //= 2
        one = cls(rows=rows, cols=cols, lanes=lanes, n_steps=1, row_stride=_row_stride(rows))
        total = one.total_steps
        n_rings = max(1, round(total * lanes * density / RING_CODE))
        n_rings = max(n_rings, -(-total * lanes // MAX_RING_WORDS))
        n_steps = -(-total // n_rings)
        return cls(rows=rows, cols=cols, lanes=lanes, n_steps=n_steps, row_stride=one.row_stride)

    @classmethod
    def raw(cls, rows: int, cols: int) -> Layout:
        """The order with the fewest absent words, for planes that are kept as they are."""
        chunks = n_chunks(cols)
        if rows * chunks == 0:
            return cls.choose(rows, cols, 0)
        lanes = -(-chunks // -(-chunks // PANEL_CHUNKS))
        one = cls(rows=rows, cols=cols, lanes=lanes, n_steps=1, row_stride=_row_stride(rows))
        n_steps = min(one.total_steps, MAX_STEPS)
        return cls(rows=rows, cols=cols, lanes=lanes, n_steps=n_steps, row_stride=one.row_stride)


MIN_LANE_CODE = 100
RING_CODE = 32768
MAX_RING_WORDS = 1 << 22


def _row_stride(rows: int) -> int:
    """The number nearest to ``rows / golden ratio`` that is coprime to ``rows``: an even spread."""
    centre = max(1, round(rows * _GOLDEN))
    for distance in range(rows):
        for stride in (centre + distance, centre - distance):
            if 1 <= stride < max(rows, 2) and math.gcd(stride, rows) == 1:
                return stride
    return 1
