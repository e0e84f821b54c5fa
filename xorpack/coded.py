"""Planes as XOR code: what a network expands, before masks and corrections."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from xorpack.layout import Layout
from xorpack.network import XorNetwork
from xorpack.words import Words


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class CodedPlanes:
    """Code words with the network and the order of coding that expand them.

    ``code``: uint32 (q, n_segments, m_lane, lanes).
    """

    network: XorNetwork
    layout: Layout
    code: NDArray[np.uint32]

    @property
    def m_lane(self) -> int:
        """Stored words per lane of a segment."""
        return int(self.code.shape[2])


Expand = Callable[[CodedPlanes, int, int, Words | None], Words]
"""``expand(coded, first, last, mask)``: rows ``first .. last - 1`` of the planes, uint32 (q, rows, chunks),
all of them ANDed with ``mask`` (rows, chunks) where one is given. Each decoder has its own."""
