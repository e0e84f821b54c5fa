"""What an encoder of masks is asked, and what it answers."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from xorpack.code.planes import CodedPlanes
from xorpack.code.words import Words
from xorpack.masks import Mask
from xorpack.masks.bmf import Factors


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class WantedMask:
    """A mask that is to be stored.

    Attributes:
        words: uint32 (rows, chunks).
        cols: weights of a row.
        n_kept: ones.
        gates: whether planes can be coded along with the tensor's own: its network can carry them.
        factors: of the mask, where it was chosen as their product.
        below: bits that another codec takes; no need to propose what takes as many.
    """

    words: Words
    cols: int
    n_kept: int
    gates: bool = False
    factors: Factors | None = None
    below: float = float("inf")

    @property
    def n_weights(self) -> int:
        """Weights, pruned ones included."""
        return len(self.words) * self.cols

    @property
    def density(self) -> float:
        """Share of weights kept."""
        return self.n_kept / max(self.n_weights, 1)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Proposal(ABC):
    """How a codec would store a mask.

    Attributes:
        NAME: of the codec.
        FOR: what may be preferred for a choice to take the codec: ``size``, ``speed``, or ``packed speed``: speed where
            bits are packed.
        CONFIG_BYTES: what the config takes in a file's header, where that counts.
        wanted: the mask.
        bits: what the codec takes, exactly or as near as is known before the mask is encoded.
    """

    NAME: ClassVar[str]
    FOR: ClassVar[frozenset[str]] = frozenset(("size",))
    CONFIG_BYTES: ClassVar[int] = 0

    wanted: WantedMask
    bits: float

    @classmethod
    @abstractmethod
    def of(cls, wanted: WantedMask) -> Self:
        """The codec's proposal.

        Raises:
            ParameterError: the codec cannot store this mask, or not in fewer than ``wanted.below`` bits.
        """

    @classmethod
    @abstractmethod
    def typical_bits(cls, density: float) -> float:
        """Bits per weight, about, of an i.i.d. mask that keeps ``density`` of the weights, which is not 0 or 1;
        infinite where the codec cannot be expected to store one.
        """

    def riders(self) -> Words | None:
        """Planes (n, rows, chunks) that the codec needs coded along with the tensor's own; None: it needs none."""
        return None

    @abstractmethod
    def encode(self, riders: CodedPlanes, missing: NDArray[np.int64], jobs: int) -> Mask:
        """The mask.

        Args:
            riders: the code of :meth:`riders`, of no planes where there are none; network and order of coding are the
                tensor's.
            missing: rising positions of kept weights at which a rider is wrong.
            jobs: threads.
        """
