"""Planes as XOR code: what a network expands, and what stands in a file beside it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from xorpack.code.corrections import Corrections, packed_sizes, unpack
from xorpack.code.layout import MAX_STEPS, Layout
from xorpack.code.network import XorNetwork
from xorpack.code.packed import PackedPlanes
from xorpack.code.trellis import TrellisNetwork
from xorpack.code.words import Words, n_chunks
from xorpack.errors import FormatError


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class CodedPlanes:
    """Code words with the network and the order of coding that expand them.

    ``code``: uint32 (q, n_segments, m_lane, lanes).
    """

    network: XorNetwork
    layout: Layout
    code: NDArray[np.uint32]

    def __post_init__(self) -> None:
        if self.code.ndim != 4 or self.code.dtype != np.uint32:
            raise FormatError(f"code of type {self.code.dtype} and shape {self.code.shape}")

    @classmethod
    def of_bytes(
        cls, network: XorNetwork, layout: Layout, data: NDArray[np.uint8], m_lane: int, q: int = 1
    ) -> CodedPlanes:
        """Code that stands in a part of a section: little-endian words, at any address."""
        words = np.array(data).view("<u4").astype(np.uint32, copy=False)  # a copy is aligned
        shaped = words.reshape(q, layout.n_segments, m_lane, layout.lanes)
        return cls(network=network, layout=layout, code=shaped)

    @classmethod
    @lru_cache(64)
    def nothing(cls, rows: int, cols: int) -> CodedPlanes:
        """No planes of such a matrix: what a mask is stored beside that can use no network of the tensor.

        Kept, for a model has many tensors of few shapes, and each asks twice.
        """
        layout = Layout.raw(rows, cols)
        code = np.zeros((0, layout.n_segments, layout.n_steps, layout.lanes), np.uint32)
        return cls(network=XorNetwork.identity(), layout=layout, code=code)

    @classmethod
    def raw(cls, planes: Words, cols: int) -> CodedPlanes:
        """Planes (q, rows, chunks) that are kept as they are."""
        q, rows, chunks = planes.shape
        layout = Layout.raw(rows, cols)
        step = np.arange(layout.n_segments * layout.n_steps).reshape(layout.n_segments, layout.n_steps)
        index = layout.word_index(step)
        words = (
            planes.reshape(q, rows * chunks)[:, np.maximum(index, 0)] if chunks else np.zeros((q, 0, 0, 1))
        )
        code = np.where(index >= 0, words, 0).astype(np.uint32)
        return cls(network=XorNetwork.identity(), layout=layout, code=code)

    @property
    def m_lane(self) -> int:
        """Stored words per lane of a segment."""
        return int(self.code.shape[2])

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns of the matrix of weights."""
        return self.layout.rows, self.layout.cols

    def check(self, n_coded: int, n_kept: int) -> None:
        """Raise FormatError unless this can be the code of so many planes of a matrix that keeps ``n_kept``."""
        layout, network, code, m_lane = self.layout, self.network, self.code, self.m_lane
        if layout.n_steps > min(layout.total_steps, MAX_STEPS) or layout.row_stride > max(layout.rows, 1):
            raise FormatError(
                f"n_steps {layout.n_steps} or row_stride {layout.row_stride} is more than "
                f"{layout.total_steps} steps of {layout.rows} rows need"
            )
        if code.shape != (n_coded, layout.n_segments, m_lane, layout.lanes):
            raise FormatError(
                f"code of shape {code.shape}, not ({n_coded}, {layout.n_segments}, m, {layout.lanes})"
            )
        if m_lane > 2 * layout.n_steps + network.window or (m_lane == 0 and n_kept and n_coded):
            raise FormatError(f"{m_lane} stored words for {layout.n_steps} steps")
        if not network.any_rate and layout.total_steps:
            expected = network.n_code_words(layout.n_steps, 1.0)
            if m_lane not in (expected, 0):
                raise FormatError(f"{m_lane} stored words, but {network.family} takes {expected}")


Expand = Callable[[CodedPlanes, int, int, Words | None], Words]
"""``expand(coded, first, last, mask)``: rows ``first .. last - 1`` of the planes, uint32 (q, rows, chunks),
all of them ANDed with ``mask`` (rows, chunks) where one is given. Each decoder has its own."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class StoredPlanes:
    """All planes of a tensor as a file stores them: code or packed bits, the planes that are constant, corrections.

    Attributes:
        bits: number of planes (q).
        n_kept: weights that the mask keeps.
        coded: the code of the planes that are not constant, or their packed bits.
        constants: ``(zeros, ones)``: where bit k is set, plane k is that at every kept weight and not coded.
        n_corrections, corrections: count and bytes, see :mod:`xorpack.code.corrections`.
    """

    bits: int
    n_kept: int
    coded: CodedPlanes | PackedPlanes
    constants: tuple[int, int] = (0, 0)
    n_corrections: int
    corrections: NDArray[np.uint8]

    def __post_init__(self) -> None:
        if not 0 <= self.n_kept <= self.n_weights or not 0 <= self.n_corrections <= self.n_kept:
            raise FormatError(
                f"{self.n_corrections} corrections and {self.n_kept} kept of {self.n_weights} weights"
            )
        zeros, ones = self.constants
        if self.bits < 1:
            raise FormatError(f"{self.bits} planes")
        if min(zeros, ones) < 0 or zeros & ones or (zeros | ones) >> self.bits:
            raise FormatError(f"constant planes {zeros:#x} and {ones:#x} of {self.bits}")
        self.coded.check(self.bits - (zeros | ones).bit_count(), self.n_kept)
        expected_bytes = sum(packed_sizes(self.n_corrections, self.n_weights, self.bits))
        if self.corrections.size != expected_bytes:
            raise FormatError(f"{self.corrections.size} bytes of corrections, not {expected_bytes}")

    @property
    def code(self) -> NDArray[np.uint32]:
        """Stored words: uint32 (coded planes, n_segments, m_lane, lanes); (coded planes, words) of packed bits."""
        return self.coded.code

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns of the matrix of weights."""
        return self.coded.shape

    @property
    def host(self) -> CodedPlanes:
        """What a mask is stored beside, and may use."""
        return self.coded if isinstance(self.coded, CodedPlanes) else CodedPlanes.nothing(*self.shape)

    @property
    def n_weights(self) -> int:
        """Weights, pruned ones included."""
        rows, cols = self.shape
        return rows * cols

    def load_corrections(self) -> Corrections:
        """The corrections, unpacked and checked."""
        return unpack(self.corrections, self.n_corrections, self.n_weights, self.bits)

    def place(self, coded: Words, mask: Words) -> Words:
        """All planes (q, rows, chunks) from the coded ones, before corrections and before a field is decoded."""
        zeros, ones = self.constants
        if not zeros | ones:
            return coded
        rest = iter(coded)
        planes = np.empty((self.bits, *mask.shape), np.uint32)
        for k in range(self.bits):
            planes[k] = 0 if zeros >> k & 1 else mask if ones >> k & 1 else next(rest)
        return planes


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TrellisPlanes:
    """All planes of a tensor from one code: the output of a trellis network.

    Attributes:
        network: how planes come from the code.
        shape: rows and columns of the matrix of weights.
        n_kept: weights that the mask keeps.
        code: uint32 (network.n_stored(rows), chunks).
    """

    network: TrellisNetwork
    shape: tuple[int, int]
    n_kept: int
    code: Words

    def __post_init__(self) -> None:
        rows, cols = self.shape
        if not 0 <= self.n_kept <= rows * cols:
            raise FormatError(f"n_kept {self.n_kept} of {rows * cols} weights")
        expected = (self.network.n_stored(rows), n_chunks(cols))
        if self.code.shape != expected or self.code.dtype != np.uint32:
            raise FormatError(f"code of type {self.code.dtype} and shape {self.code.shape}, not {expected}")

    @property
    def bits(self) -> int:
        """Number of planes (q)."""
        return self.network.n_planes

    @property
    def constants(self) -> tuple[int, int]:
        """No plane is constant."""
        return 0, 0

    @property
    def n_corrections(self) -> int:
        """Nothing is corrected: the code was chosen for what it gives."""
        return 0

    @property
    def host(self) -> CodedPlanes:
        """What a mask is stored beside."""
        return CodedPlanes.nothing(*self.shape)
