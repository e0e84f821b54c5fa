"""Encoder of the mask codec ``cascade``.

It rides on the tensor's own planes: its filters are planes with the same care set, so that one elimination serves
both.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from xorpack.code.corrections import Corrections
from xorpack.code.expand import expand
from xorpack.code.planes import CodedPlanes
from xorpack.code.words import Words, n_chunks, popcount
from xorpack.encoding.masks.proposal import Proposal, WantedMask
from xorpack.encoding.rings.gather import PlaneSource
from xorpack.encoding.rings.tensor import encode_planes
from xorpack.errors import ParameterError
from xorpack.masks import Cascade
from xorpack.masks.cascade import MAX_FILTERS, candidates, targets

OVERHEAD = 1.02
"""What a network costs: stored bits over the ideal cost, about."""

NEAR = 1.0005
"""Cost over the least at which more filters are taken: they leave fewer candidates to solve for, which is faster."""


def ideal_cost(density: float, n_filters: int) -> float:
    """Ideal bits per weight on an i.i.d. mask that keeps ``density`` of the weights."""
    return n_filters * density + density + (1 - density) / float(2**n_filters)


def best_filters(density: float) -> int:
    """The largest number of filters of about the least cost."""
    costs = {r: ideal_cost(density, r) for r in range(1, MAX_FILTERS + 1)}
    return max(r for r, cost in costs.items() if cost <= NEAR * min(costs.values()))


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class CascadeProposal(Proposal):
    """``n_filters`` riders, and a plane over the candidates."""

    NAME: ClassVar[str] = Cascade.NAME

    n_filters: int

    @classmethod
    def of(cls, wanted: WantedMask) -> CascadeProposal:
        """See :class:`Proposal`."""
        if not wanted.gates:
            raise ParameterError(
                "mask codec 'cascade' needs the default encoder and a turned or quasi-cyclic network"
            )
        bits = cls.typical_bits(wanted.density) * wanted.n_weights
        return cls(wanted=wanted, bits=bits, n_filters=best_filters(wanted.density))

    @classmethod
    def typical_bits(cls, density: float) -> float:
        """See :class:`Proposal`."""
        return OVERHEAD * ideal_cost(density, best_filters(density))

    def riders(self) -> Words:
        """See :class:`Proposal`: the filters."""
        return targets(self.n_filters, 0, len(self.wanted.words), n_chunks(self.wanted.cols))

    def encode(self, riders: CodedPlanes, missing: NDArray[np.int64], jobs: int) -> Cascade:
        """See :class:`Proposal`."""
        network, layout = riders.network, riders.layout
        found = candidates(expand(riders, 0, layout.rows, jobs=jobs), 0, layout.cols)
        source = PlaneSource(found, self.wanted.words[None])
        code, last = encode_planes(network, source, layout, popcount(found), "elimination", None, jobs)
        # Wrong are: kept positions that are no candidates, and errors of the last plane among the candidates.
        positions = np.sort(np.concatenate([last.positions, missing]))
        return Cascade.of(riders, code, Corrections(positions, np.ones(positions.size, np.uint64)))
