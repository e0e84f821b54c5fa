"""Planes as XOR code: what a network expands, before masks and corrections."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from xorpack.code.layout import Layout
from xorpack.code.network import XorNetwork
from xorpack.code.words import Words
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

    @property
    def m_lane(self) -> int:
        """Stored words per lane of a segment."""
        return int(self.code.shape[2])


Expand = Callable[[CodedPlanes, int, int, Words | None], Words]
"""``expand(coded, first, last, mask)``: rows ``first .. last - 1`` of the planes, uint32 (q, rows, chunks),
all of them ANDed with ``mask`` (rows, chunks) where one is given. Each decoder has its own."""
