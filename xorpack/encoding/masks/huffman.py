"""Encoder of the mask codec ``huffman``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from xorpack.code.planes import CodedPlanes
from xorpack.encoding.fields.huffman import limited_lengths
from xorpack.encoding.masks.huffman_kernels import count_bytes, encode_panels
from xorpack.encoding.masks.proposal import Proposal, WantedMask
from xorpack.masks import Huffman
from xorpack.masks.bitmap import to_bytes
from xorpack.masks.huffman import MAX_LENGTH, N_SYMBOLS, SIZE_BYTES, TABLE_BYTES, codewords

PANEL_BYTES = 8192
"""Bytes of the bitmap in a panel: its size costs .0005 bits per weight, to decode it some microseconds."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class HuffmanProposal(Proposal):
    """A prefix code of the bitmap's bytes.

    Attributes:
        octets: the bitmap.
        lengths: of the codewords of all bytes.
    """

    NAME: ClassVar[str] = Huffman.NAME
    FOR: ClassVar[frozenset[str]] = frozenset(("packed speed",))
    CONFIG_BYTES: ClassVar[int] = 25

    octets: NDArray[np.uint8]
    lengths: NDArray[np.int64]

    @classmethod
    def of(cls, wanted: WantedMask) -> HuffmanProposal:
        """See :class:`Proposal`."""
        octets = to_bytes(wanted.words, wanted.cols)
        counts = np.zeros(N_SYMBOLS, np.int64)
        count_bytes(octets, counts)
        lengths = code_lengths(counts)
        n_panels = -(-octets.size // PANEL_BYTES)
        sizes = TABLE_BYTES + SIZE_BYTES * n_panels + cls.CONFIG_BYTES
        bits = int(counts @ lengths) + 8 * sizes + 4 * n_panels
        return cls(wanted=wanted, bits=bits, octets=octets, lengths=lengths)

    @classmethod
    def typical_bits(cls, density: float) -> float:
        """See :class:`Proposal`."""
        ones = np.bitwise_count(np.arange(N_SYMBOLS, dtype=np.uint8)).astype(np.float64)
        counts = np.rint(1e12 * density**ones * (1 - density) ** (8 - ones)).astype(np.int64)
        return float(counts @ code_lengths(counts) / counts.sum() / 8)

    def encode(self, riders: CodedPlanes, missing: NDArray[np.int64], jobs: int) -> Huffman:
        """See :class:`Proposal`."""
        n_panels = -(-self.octets.size // PANEL_BYTES)
        sizes = np.zeros(n_panels, np.uint32)
        room = np.zeros(n_panels * (PANEL_BYTES * MAX_LENGTH // 8 + 1), np.uint8)
        end = encode_panels(self.octets, PANEL_BYTES, codewords(self.lengths), self.lengths, sizes, room)
        table = (self.lengths[::2] | self.lengths[1::2] << 4).astype(np.uint8)
        data = np.concatenate([table, sizes.astype("<u4").view(np.uint8), room[:end]])
        rows, cols = len(self.wanted.words), self.wanted.cols
        return Huffman(shape=(rows, cols), data=data, panel_bytes=PANEL_BYTES)


def code_lengths(counts: NDArray[np.int64]) -> NDArray[np.int64]:
    """Bits of the best codewords of bytes that occur ``counts`` times; 0 of those that never do, but for two."""
    found = np.array(counts)
    for spare in range(2):  # a code of fewer symbols is not complete
        if np.count_nonzero(found) < 2:
            found[spare] = max(found[spare], 1)
    symbols = np.flatnonzero(found)
    order = symbols[np.lexsort((symbols, -found[symbols]))]
    lengths = np.zeros(N_SYMBOLS, np.int64)
    lengths[order] = limited_lengths(found[order], 0, MAX_LENGTH)
    return lengths
