"""Mask codec ``block``: blocks of mask bits under prefix codes whose depths are XOR-coded; near the entropy.

A row is cut into blocks of ``block`` bits; where columns differ much, of columns that are sorted by class first. The
code of block b of row r follows from the density there, as the level ``row_levels[class of r] + col_levels[class of
b]`` (:mod:`xorpack.masks.block.prefix`; below 0 kept and pruned change places). Bit d of all codewords is a plane
over the matrix of blocks, whose care set is the blocks with codewords longer than d: stored bits are as many as
codeword bits, at fixed positions. The first ``n_raw`` depths, which every block cares for, are stored as they are; all
others are one plane of one network:

====================  =====================================================================
matrix of the plane   rows ``place of r * n_parts + part``, columns ``32 * (g * n_depths + place of d) + j``
block                 ``b = n_words * j + part * n_groups + g``, dealt to ``n_words = n_parts * n_groups`` words
n_groups              ``32 // n_depths``, so that a row of the plane has one panel; not more than are needed
====================  =====================================================================

Rows take their places by class, so that a stride over the places meets all classes evenly, and so all lengths.
See FORMAT.md for the bytes.

Config: ``code`` = [block, max_ones, max_length, by_column]; ``row_levels``, ``col_levels``: lists; ``layout`` =
[lanes, n_steps, row_stride, m_lane]; ``n_corrections`` = [of the plane, of the mask].
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import accumulate, pairwise
from typing import Any, ClassVar, NamedTuple

import numpy as np
from numpy.typing import NDArray

from xorpack.code import corrections, depths
from xorpack.code.corrections import Corrections
from xorpack.code.layout import Layout
from xorpack.code.planes import CodedPlanes, Expand
from xorpack.code.words import Words, n_chunks
from xorpack.errors import FormatError
from xorpack.masks import bitmap
from xorpack.masks.block import prefix
from xorpack.masks.block.joining import BlockCode, decoding_tables, join, move_columns
from xorpack.masks.mask import Mask, shape_of
from xorpack.masks.rows import by_rows

MAX_LEVELS = 16
"""Classes of rows, and of columns, at the most."""

BLOCK_WORDS = 1 << 18
"""Words of the mask that are decoded at a time."""

_LISTS = {"code": 4, "layout": 4, "n_corrections": 2, "row_levels": None, "col_levels": None}
"""Members of a config, and how many integers each has."""


class Parts(NamedTuple):
    """Bytes of a section, uint8 each: packed classes of rows and of columns or blocks, depths that are stored as they
    are, the plane's code, its packed corrections, those of the mask.
    """

    row_classes: NDArray[np.uint8]
    col_classes: NDArray[np.uint8]
    raw: NDArray[np.uint8]
    plane: NDArray[np.uint8]
    wrong: NDArray[np.uint8]
    missed: NDArray[np.uint8]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Block(Mask):
    """Codewords of blocks.

    Attributes:
        code: blocks and levels.
        layout, m_lane: how the code of the plane becomes the plane, with :data:`xorpack.code.depths.NETWORK`.
        n_wrong: bits of the plane where the network is wrong.
        n_corrections: weights that no codeword tells, or a wrong one.
        parts: of the section.
    """

    NAME: ClassVar[str] = "block"

    code: BlockCode
    layout: Layout
    m_lane: int
    n_wrong: int
    n_corrections: int
    parts: Parts = field(init=False, repr=False)

    def __post_init__(self) -> None:
        if not 0 <= self.n_wrong <= self.universe or not 0 <= self.n_corrections <= math.prod(self.shape):
            raise FormatError(
                f"mask codec block: n_wrong {self.n_wrong} or n_corrections {self.n_corrections}"
            )
        ends = list(accumulate(self._sizes()))
        if self.data.size != ends[-1]:
            raise FormatError(f"mask codec block: section of {self.data.size} bytes, not {ends[-1]}")
        parts = (self.data[begin:end] for begin, end in pairwise([0, *ends]))
        object.__setattr__(self, "parts", Parts(*parts))

    @classmethod
    def from_config(cls, config: Mapping[str, Any], data: NDArray[np.uint8], tensor: CodedPlanes) -> Block:
        """See :class:`Mask`."""
        if set(config) != set(_LISTS):
            raise FormatError(f"mask codec block needs {sorted(_LISTS)}, has {sorted(config)}")
        for name, n in _LISTS.items():
            values = config[name]
            if not isinstance(values, list) or not all(type(x) is int for x in values):
                raise FormatError(f"mask codec block: {name} = {values!r} is not a list of integers")
            if len(values) != n and (n is not None or not 1 <= len(values) <= MAX_LEVELS):
                raise FormatError(f"mask codec block: {name} = {values} has {len(values)} members")
            if n is None and max(map(abs, values)) > prefix.EMPTY:
                raise FormatError(f"mask codec block: {name} = {values} is outside +-{prefix.EMPTY}")
        block, max_ones, max_length, by_column = config["code"]
        if by_column not in (0, 1):
            raise FormatError(f"mask codec block: columns have classes, 1, or blocks, 0, not {by_column}")
        if not 1 <= block <= prefix.MAX_BLOCK or not 0 <= max_ones <= block:
            raise FormatError(f"mask codec block: blocks of {block} bits with up to {max_ones} ones")
        n_symbols = prefix.n_symbols(block, max_ones)
        if not 1 <= max_length <= prefix.MAX_LENGTH or n_symbols > min(1 << max_length, prefix.MAX_SYMBOLS):
            raise FormatError(f"mask codec block: codewords of {max_length} bits for {n_symbols} symbols")
        rows, cols = shape_of(tensor)
        code = BlockCode(
            rows=rows,
            cols=cols,
            block=block,
            max_ones=max_ones,
            max_length=max_length,
            by_column=bool(by_column),
            row_levels=tuple(config["row_levels"]),
            col_levels=tuple(config["col_levels"]),
        )
        lanes, n_steps, row_stride, m_lane = config["layout"]
        n_wrong, n_corrections = config["n_corrections"]
        plane_rows, plane_cols = code.plane_shape()
        try:
            layout = depths.stored_layout(plane_rows, plane_cols, lanes, n_steps, row_stride, m_lane)
        except FormatError as error:
            raise FormatError(f"mask codec block: {error}") from None
        return cls(
            shape=(rows, cols),
            data=data,
            code=code,
            layout=layout,
            m_lane=m_lane,
            n_wrong=n_wrong,
            n_corrections=n_corrections,
        )

    def get_config(self) -> dict[str, Any]:
        """See :class:`Mask`."""
        code, layout = self.code, self.layout
        return {
            "code": [code.block, code.max_ones, code.max_length, int(code.by_column)],
            "row_levels": list(code.row_levels),
            "col_levels": list(code.col_levels),
            "layout": [layout.lanes, layout.n_steps, layout.row_stride, self.m_lane],
            "n_corrections": [self.n_wrong, self.n_corrections],
        }

    @property
    def universe(self) -> int:
        """Positions in the plane."""
        return self.layout.rows * self.layout.cols

    @property
    def coded(self) -> CodedPlanes:
        """The plane's code."""
        return CodedPlanes.of_bytes(depths.NETWORK, self.layout, self.parts.plane, self.m_lane)

    def load_row_classes(self) -> NDArray[np.int64]:
        """The class of every row, checked."""
        return classes_of(self.parts.row_classes, self.code.row_levels, self.code.rows)

    def load_col_classes(self) -> NDArray[np.int64]:
        """The class of every column, or block, checked."""
        return classes_of(self.parts.col_classes, self.code.col_levels, self.code.n_col_classes)

    def load_wrong(self) -> Corrections:
        """Bits of the plane where the network is wrong, checked."""
        return corrections.unpack(self.parts.wrong, self.n_wrong, self.universe, 1)

    def load_missed(self) -> Corrections:
        """Weights that codewords tell wrong, checked."""
        return corrections.unpack(self.parts.missed, self.n_corrections, math.prod(self.shape), 1)

    def rows(self, first: int, last: int, expand: Expand, *, jobs: int = 1) -> Words:
        """See :class:`Mask`."""
        code, layout, parts = self.code, self.layout, self.parts
        row_classes = self.load_row_classes()
        order, col_classes = code.col_order(self.load_col_classes())
        coded, wrong, missed = self.coded, self.load_wrong(), self.load_missed()
        n_raw, _ = code.depths()
        places, n_parts, cols = places_of(row_classes), code.parts()[0], layout.cols
        tables = decoding_tables(code)

        def part(begin: int, end: int) -> Words:
            raw = bitmap.rows_of(parts.raw, code.n_blocks, begin * n_raw, end * n_raw)
            at = np.empty(end - begin, np.int64)
            found = [np.zeros((0, layout.chunks), np.uint32)]
            for a, b in spans(places[begin:end], at):
                span: Words = expand(coded, a * n_parts, b * n_parts, None)[0]
                corrections.flip(span, wrong.in_rows(a * n_parts, b * n_parts, cols), cols)
                found.append(span)
            plane = found[-1] if len(found) <= 2 else np.concatenate(found)
            mask = join(code, tables, row_classes[begin:end], col_classes, raw, plane, at)
            if code.by_column:
                mask = move_columns(mask, order)
            corrections.flip(mask, missed.in_rows(begin, end, code.cols), code.cols)
            return mask

        return by_rows(part, first, last, n_chunks(code.cols), jobs, BLOCK_WORDS)

    def _sizes(self) -> tuple[int, ...]:
        code, layout = self.code, self.layout
        return (
            -(-code.rows * width(code.row_levels) // 8),
            -(-code.n_col_classes * width(code.col_levels) // 8),
            -(-code.rows * code.depths()[0] * code.n_blocks // 8),
            4 * layout.n_segments * self.m_lane * layout.lanes,
            sum(corrections.packed_sizes(self.n_wrong, self.universe, 1)),
            sum(corrections.packed_sizes(self.n_corrections, math.prod(self.shape), 1)),
        )


def width(levels: tuple[int, ...]) -> int:
    """Bits of a class."""
    return (len(levels) - 1).bit_length()


def places_of(row_classes: NDArray[np.int64]) -> NDArray[np.int64]:
    """Place of every row in the plane: by class, rows of one class in their order.

    A stride over the places meets all classes evenly, however rows of a class crowd.
    """
    places = np.empty(len(row_classes), np.int64)
    places[np.argsort(row_classes, kind="stable")] = np.arange(len(row_classes))
    return places


def spans(places: NDArray[np.int64], at: NDArray[np.int64]) -> list[tuple[int, int]]:
    """Ranges of neighbouring places that hold ``places``, a range per class at the most.

    ``at``, out: where each place stands when the ranges follow one another.
    """
    order = np.argsort(places)
    at[order] = np.arange(len(places))
    rising = places[order]
    cuts = np.flatnonzero(np.diff(rising) != 1) + 1
    return [(int(part[0]), int(part[-1]) + 1) for part in np.split(rising, cuts) if part.size]


def classes_of(data: NDArray[np.uint8], levels: tuple[int, ...], n: int) -> NDArray[np.int64]:
    """Packed classes of ``n`` rows or block columns.

    Raises:
        FormatError: a class that there is not.
    """
    classes = corrections.unpack_fields(data, n, width(levels)).astype(np.int64)
    if n and int(classes.max()) >= len(levels):
        raise FormatError(f"mask codec block: class {int(classes.max())} of {len(levels)}")
    return classes
