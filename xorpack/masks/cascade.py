"""Mask codec ``cascade``: the mask by XOR and AND gates alone, near its entropy.

``n_filters`` *filter* planes, coded with the tensor's own planes, equal a fixed pseudo-random bit at every
kept position and agree elsewhere by chance, half of the time. Positions where all of them agree are the
*candidates*; one more plane, coded over the candidates, holds the mask there::

    mask = AND over k of ~(filter_k ^ target_k)  &  last  &  exists          then XOR 1 at the corrections
    target_k of word (row, chunk) = mix32(row * 0x9E3779B1 + chunk * 0x85EBCA77 + (k + 1) * 0xC2B2AE3D)

with arithmetic modulo 2^32. Network and order of coding are the tensor's; ``m_lane`` of the filters is that of
the tensor's planes. The section is the filters' code (n_filters, n_segments, m_lane, lanes), the last plane's
(1, n_segments, m_last, lanes), both little-endian words, then the corrections, packed with q = 1.

Config: ``{"n_filters": r, "m_last": m, "n_corrections": n}``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from xorpack.code import corrections
from xorpack.code.corrections import Corrections
from xorpack.code.layout import Layout
from xorpack.code.network import XorNetwork
from xorpack.code.planes import CodedPlanes, Expand
from xorpack.code.words import Words, tail_mask
from xorpack.errors import FormatError
from xorpack.masks.cascade_kernels import fill_targets, meet_targets
from xorpack.masks.mask import Mask, shape_of
from xorpack.masks.rows import by_rows

MAX_FILTERS = 16

CACHE_WORDS = 1 << 19
"""Words that are worked on at a time: all filters, the candidates and the mask of a block of rows."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Cascade(Mask):
    """Filters, and a plane over the candidates that they leave.

    Attributes:
        network, layout, m_lane: of the tensor's planes; the filters' too.
        n_filters: filter planes.
        m_last: stored words per lane of a segment of the last plane.
        n_corrections: weights where the gates are wrong.
        sizes: bytes of the filters' code, of the last plane's, of the corrections.
    """

    NAME: ClassVar[str] = "cascade"

    network: XorNetwork
    layout: Layout
    m_lane: int
    n_filters: int
    m_last: int
    n_corrections: int
    sizes: tuple[int, int, int] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        if not self.network.any_rate:
            raise FormatError(
                f"mask codec cascade needs a turned or quasi-cyclic network, not {self.network.family}"
            )
        if not 1 <= self.n_filters <= MAX_FILTERS or not 0 <= self.m_last <= self.layout.n_steps:
            raise FormatError(
                f"mask codec cascade: n_filters {self.n_filters} or m_last {self.m_last} out of range"
            )
        if not 0 <= self.n_corrections <= self.universe:
            raise FormatError(f"mask codec cascade: {self.n_corrections} corrections")
        per_word = 4 * self.layout.n_segments * self.layout.lanes
        packed = corrections.packed_sizes(self.n_corrections, self.universe, 1)
        sizes = self.n_filters * self.m_lane * per_word, self.m_last * per_word, sum(packed)
        if self.data.size != sum(sizes):
            raise FormatError(f"mask codec cascade: section of {self.data.size} bytes, not {sum(sizes)}")
        object.__setattr__(self, "sizes", sizes)

    @classmethod
    def of(cls, filters: CodedPlanes, last: NDArray[np.uint32], wrong: Corrections) -> Cascade:
        """Make the mask of filters, the code of the last plane, and the positions where the gates are wrong."""
        layout, codes = filters.layout, (filters.code, last)
        octets = (np.ascontiguousarray(code, "<u4").reshape(-1).view(np.uint8) for code in codes)
        return cls(
            shape=shape_of(filters),
            data=np.concatenate([*octets, corrections.pack(wrong, layout.rows * layout.cols, 1)]),
            network=filters.network,
            layout=layout,
            m_lane=filters.m_lane,
            n_filters=len(filters.code),
            m_last=last.shape[2],
            n_corrections=len(wrong),
        )

    @classmethod
    def from_config(cls, config: Mapping[str, Any], data: NDArray[np.uint8], tensor: CodedPlanes) -> Cascade:
        """See :class:`Mask`."""
        names = ("n_filters", "m_last", "n_corrections")
        if set(config) != set(names) or not all(type(config[name]) is int for name in names):
            raise FormatError(f"mask codec cascade needs integers {names}, has {dict(config)}")
        return cls(
            shape=shape_of(tensor),
            data=data,
            network=tensor.network,
            layout=tensor.layout,
            m_lane=tensor.m_lane,
            **config,
        )

    def get_config(self) -> dict[str, Any]:
        """See :class:`Mask`."""
        return {"n_filters": self.n_filters, "m_last": self.m_last, "n_corrections": self.n_corrections}

    def check(self, tensor: CodedPlanes) -> None:
        """See :class:`Mask`: the filters' code is read as that of the tensor's own planes."""
        if (self.network, self.layout, self.m_lane) != (tensor.network, tensor.layout, tensor.m_lane):
            raise FormatError("mask codec cascade: network, layout or m_lane are not the tensor's")

    @property
    def universe(self) -> int:
        """Positions of weights."""
        return self.layout.rows * self.layout.cols

    @property
    def filters(self) -> CodedPlanes:
        """The filters' code."""
        size, _, _ = self.sizes
        return self._coded(self.data[:size], self.m_lane, self.n_filters)

    @property
    def last(self) -> CodedPlanes:
        """The last plane's code."""
        begin, size, _ = self.sizes
        return self._coded(self.data[begin : begin + size], self.m_last, 1)

    def load_corrections(self) -> Corrections:
        """Where the gates are wrong, unpacked and checked."""
        begin, size, _ = self.sizes
        return corrections.unpack(self.data[begin + size :], self.n_corrections, self.universe, 1)

    def rows(self, first: int, last: int, expand: Expand, *, jobs: int = 1) -> Words:
        """See :class:`Mask`."""
        cols, chunks = self.layout.cols, self.layout.chunks
        filters, final, wrong = self.filters, self.last, self.load_corrections()

        def part(begin: int, end: int) -> Words:
            found = candidates(expand(filters, begin, end, None), begin, cols)
            mask: Words = expand(final, begin, end, found)[0]
            corrections.flip(mask, wrong.in_rows(begin, end, cols), cols)
            return mask

        return by_rows(part, first, last, chunks, jobs, CACHE_WORDS // (self.n_filters + 2))

    def _coded(self, data: NDArray[np.uint8], m_lane: int, n_planes: int) -> CodedPlanes:
        return CodedPlanes.of_bytes(self.network, self.layout, data, m_lane, n_planes)


def targets(n_filters: int, first: int, last: int, chunks: int) -> Words:
    """Target words of rows ``first .. last - 1``: uint32 (n_filters, rows, chunks)."""
    out = np.empty((n_filters, last - first, chunks), np.uint32)
    fill_targets(first, out)
    return out


def candidates(filters: Words, first: int, cols: int) -> Words:
    """Positions where all filter planes (n_filters, rows, chunks) meet their targets: uint32 (rows, chunks)."""
    found: Words = np.tile(tail_mask(cols), (filters.shape[1], 1))
    meet_targets(filters, first, found)
    return found
