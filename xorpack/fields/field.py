"""The field of a lossless tensor: neighbouring bits of its elements, an exponent say, under a prefix code.

The ``width`` bits of an element from bit ``low`` on are its *symbol*. Symbols are skewed: those that are frequent have
short codewords. The first ``n_raw`` bits of a codeword, which every kept element has, take the place of the symbol in
the element, so that they are coded with its other planes; the rest of the field's planes are constantly 0 there. Bits
past them stand in a plane of their own (:mod:`xorpack.code.depths`), where the care set at depth e is the kept elements
whose codewords are longer than ``n_raw + e``.

The code is canonical and complete: symbols in the order of (length, value) take consecutive codewords, and every
sequence of ``max_length`` bits begins with one of them. An element is decoded on its own, by one look at a table.

The section holds the symbols, the plane's code and its corrections, one after another. See FORMAT.md.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xorpack.code import depths
from xorpack.code.corrections import Corrections, pack_fields, packed_sizes, unpack, unpack_fields
from xorpack.code.layout import Layout
from xorpack.code.planes import CodedPlanes
from xorpack.code.words import n_chunks
from xorpack.errors import FormatError

MAX_LENGTH = 16
"""Bits of a codeword at the most: a table of all of them is small."""

MAX_WIDTH = 32
"""Bits of an element at the most."""

_CONFIG = {"code": 3, "counts": None, "layout": 4, "n_corrections": None}
"""Members of a config; how many integers those have that are lists of a fixed size."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FieldCode:
    """Which bits are a symbol, and the lengths of the codewords.

    Attributes:
        low, width: bits ``low .. low + width - 1`` of an element are its symbol.
        n_raw: bits of the shortest codeword.
        counts: how many codewords have ``n_raw + i`` bits, for each i; the last is not 0.
    """

    low: int
    width: int
    n_raw: int
    counts: tuple[int, ...]

    def __post_init__(self) -> None:
        if self.low < 0 or self.width < 1 or self.n_raw < 0:
            raise FormatError(
                f"field of bits {self.low} to {self.low + self.width - 1}, {self.n_raw} of them raw"
            )
        if not self.counts or min(self.counts) < 0 or not self.counts[0] or not self.counts[-1]:
            raise FormatError(
                f"field: counts {list(self.counts)} do not run from the shortest codeword to the longest"
            )
        if self.max_length > MAX_LENGTH:
            raise FormatError(f"field: codewords of {self.max_length} bits, more than {MAX_LENGTH}")
        used = sum(n << self.n_depths - i for i, n in enumerate(self.counts))
        if used != 1 << self.max_length:
            raise FormatError(
                f"field: {used} of {1 << self.max_length} codewords of {self.max_length} bits are used"
            )
        if self.n_symbols > 1 << self.width:
            raise FormatError(f"field: {self.n_symbols} symbols of {self.width} bits")

    @property
    def n_depths(self) -> int:
        """Bits of the longest codeword without the first ``n_raw``."""
        return len(self.counts) - 1

    @property
    def max_length(self) -> int:
        """Bits of the longest codeword."""
        return self.n_raw + self.n_depths

    @property
    def n_symbols(self) -> int:
        """Symbols that have a codeword."""
        return sum(self.counts)

    @property
    def planes(self) -> range:
        """The field's bits."""
        return range(self.low, self.low + self.width)

    @property
    def unused(self) -> int:
        """The field's planes that hold nothing, as a set of bits: those past the first ``n_raw``."""
        return (1 << self.low + self.width) - (1 << self.low + self.n_raw)

    def lengths(self) -> NDArray[np.int64]:
        """Bits of every codeword, int64 (n_symbols,), rising."""
        return np.repeat(np.arange(self.n_raw, self.max_length + 1), self.counts)

    def codewords(self) -> NDArray[np.int64]:
        """Every codeword in their order, int64 (n_symbols,), its last bit the lowest."""
        free = self.max_length - self.lengths()
        return np.concatenate([[0], np.cumsum(1 << free)[:-1]]).astype(np.int64) >> free

    def parts(self, cols: int) -> tuple[int, int]:
        """``(n_parts, n_groups)``: rows of the plane for a row of ``cols`` elements, words of elements in each."""
        n_parts, _ = depths.parts(n_chunks(cols), self.n_depths)
        return n_parts, -(-n_chunks(cols) // max(n_parts, 1))

    def plane_shape(self, rows: int, cols: int) -> tuple[int, int]:
        """Rows and columns of the plane of a tensor of ``rows`` x ``cols``."""
        n_parts, n_groups = self.parts(cols)
        return rows * n_parts, 32 * n_groups * self.n_depths

    @property
    def symbol_bytes(self) -> int:
        """Bytes that the symbols take at the beginning of a section."""
        return -(-self.n_symbols * self.width // 8)

    def load_symbols(self, section: NDArray[np.uint8]) -> NDArray[np.uint32]:
        """The symbols that a section begins with, uint32, in the order of their codewords, checked.

        Raises:
            FormatError: they are not in order, or one occurs twice.
        """
        found = unpack_fields(section[: self.symbol_bytes], self.n_symbols, self.width).astype(np.uint32)
        rising = (np.diff(found.astype(np.int64)) > 0) | (np.diff(self.lengths()) > 0)
        if not rising.all() or np.unique(found).size != found.size:
            raise FormatError("field: symbols are not in order, or one occurs twice")
        return found

    def table(self, symbols: NDArray[np.uint32]) -> NDArray[np.uint32]:
        """The symbol that ``max_length`` bits begin with, uint32 (2^max_length,); ``symbols`` in coding order."""
        return np.repeat(symbols, 1 << self.max_length - self.lengths())


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Field:
    """A field as it is stored.

    Attributes:
        code: see :class:`FieldCode`.
        layout, m_lane: how the plane's code becomes the plane, with :data:`xorpack.code.depths.NETWORK`.
        n_corrections: of the plane.
        data: uint8, the section.
    """

    code: FieldCode
    layout: Layout
    m_lane: int
    n_corrections: int
    data: NDArray[np.uint8]

    def __post_init__(self) -> None:
        if not 0 <= self.n_corrections <= self.universe:
            raise FormatError(f"field: {self.n_corrections} corrections of {self.universe} bits")
        if self.data.size != sum(self.sizes()):
            raise FormatError(f"field: section of {self.data.size} bytes, not {sum(self.sizes())}")

    @property
    def universe(self) -> int:
        """Positions in the plane."""
        return self.layout.rows * self.layout.cols

    def sizes(self) -> tuple[int, int, int]:
        """Bytes of the parts: symbols, code, corrections."""
        layout = self.layout
        return (
            self.code.symbol_bytes,
            4 * layout.n_segments * self.m_lane * layout.lanes,
            sum(packed_sizes(self.n_corrections, self.universe, 1)),
        )

    def load_symbols(self) -> NDArray[np.uint32]:
        """See :meth:`FieldCode.load_symbols`."""
        return self.code.load_symbols(self.data)

    @property
    def coded(self) -> CodedPlanes:
        """The plane's code."""
        begin, size, _ = self.sizes()
        return CodedPlanes.of_bytes(depths.NETWORK, self.layout, self.data[begin : begin + size], self.m_lane)

    def load_corrections(self) -> Corrections:
        """The plane's corrections, unpacked and checked."""
        begin, size, _ = self.sizes()
        return unpack(self.data[begin + size :], self.n_corrections, self.universe, 1)

    @classmethod
    def pack(
        cls,
        code: FieldCode,
        symbols: NDArray[np.uint32],
        layout: Layout,
        words: NDArray[np.uint32],
        wrong: NDArray[np.uint8],
        n_wrong: int,
    ) -> Field:
        """Pack a section: ``words`` uint32 (1, n_segments, m_lane, lanes), ``wrong`` packed corrections."""
        parts = [
            pack_fields(symbols.astype(np.uint64), code.width),
            np.ascontiguousarray(words, "<u4").reshape(-1).view(np.uint8),
            wrong,
        ]
        return cls(
            code=code, layout=layout, m_lane=words.shape[2], n_corrections=n_wrong, data=np.concatenate(parts)
        )

    def get_config(self) -> dict[str, Any]:
        """What stands in the record."""
        code, layout = self.code, self.layout
        return {
            "code": [code.low, code.width, code.n_raw],
            "counts": list(code.counts),
            "layout": [layout.lanes, layout.n_steps, layout.row_stride, self.m_lane],
            "n_corrections": self.n_corrections,
        }

    @classmethod
    def from_config(cls, config: Mapping[str, Any], data: NDArray[np.uint8], rows: int, cols: int) -> Field:
        """The field of a tensor of ``rows`` x ``cols``.

        Raises:
            FormatError: the config or the size of the section breaks a rule.
        """
        if set(config) != set(_CONFIG):
            raise FormatError(f"field needs {sorted(_CONFIG)}, has {sorted(config)}")
        for name, n in _CONFIG.items():
            values = config[name] if name != "n_corrections" else [config[name]]
            if not isinstance(values, list) or not all(type(x) is int and 0 <= x < 1 << 48 for x in values):
                raise FormatError(
                    f"field: {name} = {config[name]!r} is not of integers that are not negative"
                )
            if n is not None and len(values) != n:
                raise FormatError(f"field: {name} = {values} has {len(values)} members, not {n}")
        if len(config["counts"]) > MAX_LENGTH + 1:
            raise FormatError(f"field: counts of {len(config['counts'])} lengths")
        low, width, n_raw = config["code"]
        if low + width > MAX_WIDTH or n_raw > MAX_LENGTH:
            raise FormatError(f"field: code = {config['code']} is more than an element holds")
        code = FieldCode(low=low, width=width, n_raw=n_raw, counts=tuple(config["counts"]))
        lanes, n_steps, row_stride, m_lane = config["layout"]
        try:
            layout = depths.stored_layout(*code.plane_shape(rows, cols), lanes, n_steps, row_stride, m_lane)
        except FormatError as error:
            raise FormatError(f"field: {error}") from None
        return cls(code=code, layout=layout, m_lane=m_lane, n_corrections=config["n_corrections"], data=data)
