"""Encoder of the mask codec ``bitmap``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from xorpack.code.planes import CodedPlanes
from xorpack.encoding.masks.proposal import Proposal, WantedMask
from xorpack.masks import Bitmap


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class BitmapProposal(Proposal):
    """One bit a weight: every mask can be stored so."""

    NAME: ClassVar[str] = Bitmap.NAME
    FOR: ClassVar[frozenset[str]] = frozenset(("size", "speed", "packed speed"))

    @classmethod
    def of(cls, wanted: WantedMask) -> BitmapProposal:
        """See :class:`Proposal`."""
        return cls(wanted=wanted, bits=wanted.n_weights)

    @classmethod
    def typical_bits(cls, density: float) -> float:
        """See :class:`Proposal`."""
        return 1.0

    def encode(self, riders: CodedPlanes, missing: NDArray[np.int64], jobs: int) -> Bitmap:
        """See :class:`Proposal`."""
        return Bitmap.of(self.wanted.words, self.wanted.cols)
