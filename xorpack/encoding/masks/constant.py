"""Encoder of the mask codec ``constant``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from xorpack.code.planes import CodedPlanes
from xorpack.code.words import tail_mask
from xorpack.encoding.masks.proposal import Proposal, WantedMask
from xorpack.errors import ParameterError
from xorpack.masks import Constant


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ConstantProposal(Proposal):
    """No bits at all."""

    NAME: ClassVar[str] = Constant.NAME
    FOR: ClassVar[frozenset[str]] = frozenset(("size", "speed", "packed speed"))

    @classmethod
    def of(cls, wanted: WantedMask) -> ConstantProposal:
        """See :class:`Proposal`."""
        if wanted.words.any() and not (wanted.words == tail_mask(wanted.cols)).all():
            raise ParameterError(
                "mask codec 'constant' cannot store this mask: some weights are kept, some pruned"
            )
        return cls(wanted=wanted, bits=0)

    @classmethod
    def typical_bits(cls, density: float) -> float:
        """See :class:`Proposal`."""
        return float("inf")

    def encode(self, riders: CodedPlanes, missing: NDArray[np.int64], jobs: int) -> Constant:
        """See :class:`Proposal`."""
        words, cols = self.wanted.words, self.wanted.cols
        return Constant(shape=(len(words), cols), data=np.zeros(0, np.uint8), value=int(words.any()))
