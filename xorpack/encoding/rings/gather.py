"""Words of a tensor in the order of coding: what an encoder sees of one ring."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from xorpack.code.corrections import Corrections
from xorpack.code.dense import UNSIGNED, split_planes
from xorpack.code.layout import Layout
from xorpack.code.words import Words, popcount, unpack
from xorpack.encoding.rings.gather_kernels import count_bits, gather_elements, gather_words, mark_nonzero

_BLOCK = 1 << 20

SAMPLE = 1 << 18
"""Elements that are looked at to find constant planes, about."""


class RingSource(Protocol):
    """Planes that are about to be encoded."""

    @property
    def n_planes(self) -> int:
        """Planes that are coded."""

    def ring(self, layout: Layout, segment: int) -> tuple[Words, Words]:
        """``(care, planes)`` of a segment: uint32 (lanes, n_steps) and (n_planes, lanes, n_steps)."""


class WordSource(RingSource, Protocol):
    """Planes of which all words are there, in the order of the matrix."""

    def words(self) -> tuple[Words, Words]:
        """``(care, planes)``: uint32 (rows, chunks) and (n_planes, rows, chunks)."""


class PlaneSource:
    """Planes that are already packed: BCQ, and the planes of masks."""

    def __init__(self, mask: Words, planes: Words) -> None:
        """``mask`` (rows, chunks), ``planes`` (q, rows, chunks), 0 where the mask is 0."""
        self.mask = np.ascontiguousarray(mask)
        self.planes = np.ascontiguousarray(planes)
        self.coded = list(range(len(planes)))

    @property
    def n_planes(self) -> int:
        """See :class:`RingSource`."""
        return len(self.coded)

    def count_ones(self) -> tuple[list[int], int]:
        """Kept weights whose bit is 1, for each plane; kept weights."""
        return [popcount(plane & self.mask) for plane in self.planes], popcount(self.mask)

    def exceptions(self, zeros: int, ones: int, cols: int) -> Corrections:
        """Kept weights that differ from constant planes, by element index of rows of ``cols``."""
        wrong = {
            k: (plane if zeros >> k & 1 else ~plane) & self.mask
            for k, plane in enumerate(self.planes)
            if (zeros | ones) >> k & 1
        }
        either = np.bitwise_or.reduce(list(wrong.values()))
        row, chunk = np.nonzero(either)
        bits = unpack(either[row, chunk][:, None], 32)
        at, j = np.nonzero(bits)
        row, chunk = row[at], chunk[at]
        values = np.zeros(row.size, np.uint64)
        for k, words in wrong.items():
            values |= ((words[row, chunk] >> j.astype(np.uint32)) & np.uint32(1)).astype(
                np.uint64
            ) << np.uint64(k)
        return Corrections(row * cols + 32 * chunk + j, values)

    def blocks(self) -> Iterator[tuple[Words, Words]]:
        """Blocks of rows of mask and coded planes: (n, chunks), (n_planes, n, chunks)."""
        yield self.mask, self.planes if self.n_planes == len(self.planes) else self.planes[self.coded]

    def words(self) -> tuple[Words, Words]:
        """See :class:`WordSource`."""
        return next(self.blocks())

    def ring(self, layout: Layout, segment: int) -> tuple[Words, Words]:
        """See :class:`RingSource`."""
        care = np.empty((layout.lanes, layout.n_steps), np.uint32)
        planes = np.empty((self.n_planes, layout.lanes, layout.n_steps), np.uint32)
        gather_words(self.mask, segment, *layout.params(), care)
        for k, out in zip(self.coded, planes, strict=True):
            gather_words(self.planes[k], segment, *layout.params(), out)
        return care, planes


class ElementSource:
    """Elements of 1, 2 or 4 bytes, split into bit-planes ring by ring: the lossless mode.

    The mask is 1 where an element is not all-zero bits.
    """

    codewords: tuple[int, int, NDArray[np.int64], int, int, Words] = (
        0, 0, np.zeros(0, np.int64), 1, 0, np.zeros(0, np.uint32),
    )  # fmt: skip
    """As :func:`~xorpack.encoding.rings.gather_kernels.gather_elements` takes them: none."""

    def __init__(self, elements: NDArray[Any]) -> None:
        """``elements``: (rows, cols), C-contiguous."""
        self.elements = elements.view(UNSIGNED[elements.dtype.itemsize])
        self.n_bits = 8 * elements.dtype.itemsize
        self.coded = list(range(self.n_bits))
        rows, cols = elements.shape
        self.mask = np.zeros((rows, -(-cols // 32)), np.uint32)
        mark_nonzero(self.elements, self.mask)

    @property
    def n_planes(self) -> int:
        """See :class:`RingSource`."""
        return len(self.coded)

    def count_ones(self) -> tuple[list[int], int]:
        """Kept weights whose bit is 1, for each plane; kept weights. Of an even sample."""
        flat = self.elements.reshape(-1)
        sample = np.ascontiguousarray(flat[:: max(1, flat.size // SAMPLE)])
        counts = np.zeros(self.n_bits, np.int64)
        count_bits(self.coded_form(sample, -1), counts)
        return [int(count) for count in counts], int(np.count_nonzero(sample))

    def exceptions(self, zeros: int, ones: int, cols: int) -> Corrections:
        """Kept weights that differ from constant planes, by element index of rows of ``cols``."""
        flat = self.elements.reshape(-1)
        kind = flat.dtype.type
        positions, values = [np.zeros(0, np.int64)], [np.zeros(0, np.uint64)]
        for begin in range(0, flat.size, _BLOCK) if zeros | ones else ():
            part = flat[begin : begin + _BLOCK]
            wrong = self.coded_form(part, zeros | ones) ^ kind(ones)
            wrong &= kind(zeros | ones)
            where = np.flatnonzero((wrong != 0) & (part != 0))
            positions.append(begin + where)
            values.append(wrong[where].astype(np.uint64))
        return Corrections(np.concatenate(positions), np.concatenate(values))

    def ring(self, layout: Layout, segment: int) -> tuple[Words, Words]:
        """See :class:`RingSource`."""
        lanes, n_steps = layout.lanes, layout.n_steps
        care = np.empty((lanes, n_steps), np.uint32)
        planes = np.empty((self.n_planes, lanes, n_steps), np.uint32)
        gather_words(self.mask, segment, *layout.params(), care)
        self._gather(layout, segment, planes, (0, lanes * n_steps, n_steps, 1))
        return care, planes

    def put(self, layout: Layout, segment: int, out: Words) -> None:
        """All planes of a segment, as they are: ``out`` (n_planes, n_segments, n_steps, lanes)."""
        lanes, n = layout.lanes, layout.lanes * layout.n_steps
        self._gather(layout, segment, out, (segment * n, layout.n_segments * n, 1, lanes))

    def words(self) -> tuple[Words, Words]:
        """See :class:`WordSource`."""
        return self.mask, np.concatenate([planes for _, planes in self.blocks()], axis=1)

    def blocks(self) -> Iterator[tuple[Words, Words]]:
        """See :class:`PlaneSource`."""
        rows, cols = self.elements.shape
        step = max(1, _BLOCK // max(cols, 1))
        for first in range(0, rows, step):
            part = self.elements[first : first + step]
            _, planes = split_planes(self.coded_form(part.reshape(-1), -1).reshape(part.shape))
            yield self.mask[first : first + step], planes[self.coded]

    def coded_form(self, elements: NDArray[Any], planes: int) -> NDArray[Any]:
        """``elements`` (n,) with those bits that their planes hold; of the set ``planes``, others may be anything."""
        return elements

    def _gather(self, layout: Layout, segment: int, out: Words, strides: tuple[int, int, int, int]) -> None:
        bits = np.array(self.coded, np.int64)
        gather_elements(self.elements, segment, *layout.params(), bits, self.codewords, out, strides)


class FilteredSource:
    """A source with more planes after its own: the filters of a mask cascade."""

    def __init__(self, source: WordSource, filters: Words) -> None:
        """``filters``: uint32 (n_filters, rows, chunks)."""
        self.source = source
        self.filters = filters

    @property
    def n_planes(self) -> int:
        """See :class:`RingSource`."""
        return self.source.n_planes + len(self.filters)

    def words(self) -> tuple[Words, Words]:
        """See :class:`WordSource`."""
        care, own = self.source.words()
        return care, np.concatenate([own, self.filters])

    def ring(self, layout: Layout, segment: int) -> tuple[Words, Words]:
        """See :class:`RingSource`."""
        care, own = self.source.ring(layout, segment)
        planes = np.empty((self.n_planes, layout.lanes, layout.n_steps), np.uint32)
        planes[: len(own)] = own
        for plane, out in zip(self.filters, planes[len(own) :], strict=True):
            gather_words(plane, segment, *layout.params(), out)
        return care, planes
