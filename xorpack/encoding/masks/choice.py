"""The choice between the codecs: each proposes how it would store a mask, and the least is taken."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from xorpack.code.corrections import Corrections
from xorpack.code.planes import CodedPlanes
from xorpack.encoding.masks.bitmap import BitmapProposal
from xorpack.encoding.masks.block import BlockProposal
from xorpack.encoding.masks.bmf import BmfProposal
from xorpack.encoding.masks.cascade import CascadeProposal
from xorpack.encoding.masks.constant import ConstantProposal
from xorpack.encoding.masks.huffman import HuffmanProposal
from xorpack.encoding.masks.proposal import Proposal, WantedMask
from xorpack.errors import ParameterError
from xorpack.masks import Mask

Choice = Literal["auto", "constant", "bitmap", "cascade", "block", "bmf", "huffman"]
Prefer = Literal["size", "speed"]

PROPOSALS: Mapping[str, type[Proposal]] = {
    proposal.NAME: proposal
    for proposal in (
        ConstantProposal,
        BitmapProposal,
        BlockProposal,
        CascadeProposal,
        BmfProposal,
        HuffmanProposal,
    )
}
"""By the codec's name, in the order in which they are asked: of equals the first is taken."""


def choose(wanted: WantedMask, choice: Choice, prefer: Prefer, *, packs: bool = False) -> Proposal:
    """The proposal to take.

    Args:
        wanted: the mask. Factors in tiles of the usual size are found where there are some, and taken where nothing
            is smaller.
        choice: ``auto``, or a codec.
        prefer: what ``auto`` takes: the least ``size``, or only what is fast (``speed``).
        packs: whether bits of kept weights are packed: then codes of no fixed rate are fast enough.

    Raises:
        ParameterError: the codec asked for cannot store this mask, or ``factors`` are another mask's.
    """
    if wanted.factors is not None and not np.array_equal(wanted.factors.mask(), wanted.words):
        raise ParameterError("factors are not those of the tensor's mask")
    if choice != "auto":
        return PROPOSALS[choice].of(wanted)
    found: list[Proposal] = []
    for proposal in PROPOSALS.values():
        below = min((each.bits for each in found), default=wanted.below)
        if below > 0 and _preferred(prefer, packs) in proposal.FOR:
            with suppress(ParameterError):  # it cannot store this mask
                found.append(proposal.of(replace(wanted, below=below)))
    return min(found, key=lambda each: each.bits)


def encode_mask(
    proposal: Proposal, riders: CodedPlanes, missing: NDArray[np.int64], choice: str, jobs: int
) -> Mask:
    """:meth:`Proposal.encode`, or the bitmap where the choice is free and that turns out to be smaller."""
    mask = proposal.encode(riders, missing, jobs)
    wanted = proposal.wanted
    if choice == "auto" and mask.data.size + proposal.CONFIG_BYTES > -(-wanted.n_weights // 8):
        return BitmapProposal.of(wanted).encode(riders, missing, jobs)
    return mask


def _preferred(prefer: str, packs: bool) -> str:
    return "packed speed" if packs and prefer == "speed" else prefer


def estimate_bits(density: float, choice: str, prefer: str, *, packs: bool = False) -> float:
    """Bits per weight that a codec takes for an i.i.d. mask which keeps ``density`` of the weights, about.

    Raises:
        ParameterError: the codec asked for cannot be expected to store one.
    """
    if not 0 < density < 1:
        return 0.0
    asked = [each for each in PROPOSALS.values() if _preferred(prefer, packs) in each.FOR]
    if choice != "auto":
        asked = [PROPOSALS[choice]]
    bits = min(each.typical_bits(density) for each in asked)
    if bits == float("inf"):
        raise ParameterError(
            f"mask codec {choice!r} cannot store a mask that keeps {density:.4g} of the weights"
        )
    return bits


def split_riders(found: Corrections, q: int) -> tuple[Corrections, NDArray[np.int64]]:
    """Corrections of q planes and the riders above them: the planes' own, and where a rider is wrong."""
    own = found.values & np.uint64((1 << q) - 1)
    wrong = found.values >> np.uint64(q) != 0
    return Corrections(found.positions[own != 0], own[own != 0]), found.positions[wrong]
