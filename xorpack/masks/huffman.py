"""Mask codec ``huffman``: the bytes of the bitmap under one prefix code, in panels.

A byte, 8 weights, has a codeword of 1 to 12 bits, the shorter the more often it occurs; of an i.i.d. mask that is
within 3 % of the entropy up to a sparsity of .9, and at least .125 bits per weight. Lengths depend on the data, so
there is no fixed place for a weight: panels of ``panel_bytes`` of the bitmap are coded one by one, each from a byte of
its own on. Fast on a CPU, both ways.

Config: ``{"panel_bytes": n}``. The section: lengths of the codewords of all 256 bytes, 4 bits each; the size of every
panel, 32 bits each; the panels.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from xorpack.code.planes import CodedPlanes, Expand
from xorpack.code.words import Words, n_chunks
from xorpack.errors import FormatError
from xorpack.masks.bitmap import rows_of
from xorpack.masks.huffman_kernels import decode_panels
from xorpack.masks.mask import Mask, shape_of
from xorpack.vector.threads import for_each

MAX_LENGTH = 12
"""Bits of a codeword at the most."""

N_SYMBOLS = 256
TABLE_BYTES = N_SYMBOLS // 2
SIZE_BYTES = 4

MAX_PANEL = 1 << 24
"""Bytes of the bitmap in a panel at the most: its codewords are below 2^32 bytes."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Huffman(Mask):
    """The mask's bytes under a prefix code. ``panel_bytes``: of the bitmap, in a panel."""

    NAME: ClassVar[str] = "huffman"

    panel_bytes: int

    def __post_init__(self) -> None:
        if not 1 <= self.panel_bytes <= MAX_PANEL:
            raise FormatError(f"mask codec huffman: panel_bytes {self.panel_bytes} is outside 1..{MAX_PANEL}")
        least = TABLE_BYTES + SIZE_BYTES * self.n_panels
        most = least + self.n_panels + self.n_bytes * MAX_LENGTH // 8
        if not least <= self.data.size <= most:
            raise FormatError(
                f"mask codec huffman: a bitmap of {self.n_bytes} bytes takes {least} to {most}, not {self.data.size}"
            )

    @classmethod
    def from_config(cls, config: Mapping[str, Any], data: NDArray[np.uint8], tensor: CodedPlanes) -> Huffman:
        """See :class:`Mask`."""
        panel = config.get("panel_bytes")
        if set(config) != {"panel_bytes"} or type(panel) is not int:
            raise FormatError(f"mask codec huffman needs panel_bytes, an integer, has {dict(config)}")
        return cls(shape=shape_of(tensor), data=data, panel_bytes=panel)

    def get_config(self) -> dict[str, Any]:
        """See :class:`Mask`."""
        return {"panel_bytes": self.panel_bytes}

    @property
    def n_bytes(self) -> int:
        """Bytes of the bitmap."""
        rows, cols = self.shape
        return -(-rows * cols // 8)

    @property
    def n_panels(self) -> int:
        """Panels of the bitmap."""
        return -(-self.n_bytes // self.panel_bytes)

    def sizes(self) -> NDArray[np.int64]:
        """Bytes of every panel's codewords."""
        part = self.data[TABLE_BYTES : TABLE_BYTES + SIZE_BYTES * self.n_panels]
        return np.array(part).view("<u4").astype(np.int64)

    def lengths(self) -> NDArray[np.int64]:
        """Bits of the codeword of every byte, 0 where it has none.

        Raises:
            FormatError: they are no complete code.
        """
        octets = self.data[:TABLE_BYTES].astype(np.int64)
        found = np.stack([octets & 15, octets >> 4], axis=1).reshape(-1)
        room = (1 << MAX_LENGTH - found[found > 0]) if found.max() <= MAX_LENGTH else np.zeros(0)
        if room.sum() != 1 << MAX_LENGTH:
            raise FormatError("mask codec huffman: the codewords' lengths are those of no complete code")
        return found

    def rows(self, first: int, last: int, expand: Expand, *, jobs: int = 1) -> Words:
        """See :class:`Mask`."""
        cols = self.shape[1]
        if first >= last or not cols:
            return np.zeros((last - first, n_chunks(cols)), np.uint32)
        begin, end = first * cols // 8, -(-last * cols // 8)
        panels = range(begin // self.panel_bytes, -(-end // self.panel_bytes))
        octets = self._decode(panels, jobs)
        base = panels.start * self.panel_bytes
        shift = first * cols - 8 * base  # bits of the panel before the first row
        return _rows_from(octets, shift, last - first, cols)

    def _decode(self, panels: range, jobs: int) -> NDArray[np.uint8]:
        """Bytes of the bitmap in ``panels``."""
        table, sizes = decoding_table(self.lengths()), self.sizes()
        ends = TABLE_BYTES + SIZE_BYTES * self.n_panels + np.cumsum(sizes)
        if ends[-1] != self.data.size:
            raise FormatError(f"mask codec huffman: panels end at byte {ends[-1]} of {self.data.size}")
        starts = np.concatenate([ends[:1] - sizes[:1], ends])[panels.start : panels.stop + 1]
        low = int(starts[0]) // 4 * 4
        part = np.zeros(-(-(int(starts[-1]) - low) // 4) * 4 + 8, np.uint8)
        part[: int(starts[-1]) - low] = self.data[low : int(starts[-1])]
        words, bits = part.view("<u4").astype(np.uint32, copy=False), 8 * (starts - low)
        n = min(panels.stop * self.panel_bytes, self.n_bytes) - panels.start * self.panel_bytes
        out = np.empty(n, np.uint8)
        share = max(1, -(-len(panels) // jobs))
        bad: list[int] = []

        def run(k: int) -> None:
            end = min(k + share, len(panels))
            bad.append(decode_panels(words, bits, k, end, table, self.panel_bytes, out))

        for_each(run, range(0, len(panels), share), jobs)
        if max(bad, default=-1) >= 0:
            panel = panels.start + max(bad)
            raise FormatError(f"mask codec huffman: codewords of panel {panel} do not end where it does")
        return out


def _rows_from(octets: NDArray[np.uint8], shift: int, rows: int, cols: int) -> Words:
    """Words of ``rows`` rows whose first bit is bit ``shift`` of ``octets``."""
    if cols % 32 == 0:
        octets, shift = octets[shift // 8 :], 0
        return rows_of(octets[: rows * cols // 8], cols, 0, rows)
    bits = np.unpackbits(octets, bitorder="little")[shift : shift + rows * cols]
    return rows_of(np.packbits(bits, bitorder="little"), cols, 0, rows)


def codewords(lengths: NDArray[np.int64]) -> NDArray[np.int64]:
    """Codewords of every symbol, the first bit lowest: canonical, in the order of (length, symbol)."""
    order = [s for s in np.lexsort((np.arange(lengths.size), lengths)).tolist() if lengths[s]]
    words, start = np.zeros(lengths.size, np.int64), 0
    for symbol in order:
        bits = int(lengths[symbol])
        words[symbol] = int(f"{start >> MAX_LENGTH - bits:0{bits}b}"[::-1], 2)
        start += 1 << MAX_LENGTH - bits
    return words


def decoding_table(lengths: NDArray[np.int64]) -> NDArray[np.uint16]:
    """By the next ``MAX_LENGTH`` bits: the symbol, and 256 times the bits of its codeword."""
    table = np.zeros(1 << MAX_LENGTH, np.uint16)
    for symbol, word in enumerate(codewords(lengths).tolist()):
        if bits := int(lengths[symbol]):
            table[word :: 1 << bits] = symbol | bits << 8
    return table
