"""Encoders of masks, and the choice between them.

The codecs are specified in :mod:`xorpack.masks`. ``cascade`` rides on the tensor's own planes: its filters are
planes with the same care set, so that one elimination serves both.
"""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from xorpack import masks
from xorpack.code.corrections import Corrections
from xorpack.code.expand import expand
from xorpack.code.layout import Layout
from xorpack.code.network import XorNetwork
from xorpack.code.planes import CodedPlanes
from xorpack.code.words import Words, popcount, tail_mask
from xorpack.encoding.masks.block import Plan, ideal_cost
from xorpack.encoding.masks.bmf import MASK_BITS, choose_tile, factor
from xorpack.encoding.rings.gather import PlaneSource
from xorpack.encoding.rings.tensor import encode_planes
from xorpack.errors import ParameterError
from xorpack.masks import bitmap, bmf, cascade, constant
from xorpack.masks.block import codec as block
from xorpack.masks.bmf import Factors

Choice = Literal["auto", "constant", "bitmap", "cascade", "block", "bmf"]
Prefer = Literal["size", "speed"]

CASCADE_OVERHEAD = 1.02
"""What a network costs a cascade: stored bits over its ideal cost, about."""


def cascade_cost(density: float, n_filters: int) -> float:
    """Ideal bits per weight of ``cascade`` on an i.i.d. mask that keeps ``density`` of the weights."""
    return n_filters * density + density + (1 - density) / float(2**n_filters)


NEAR = 1.0005
"""Cost over the least at which more filters are taken: they leave fewer candidates to solve for, which is faster."""


def best_filters(density: float) -> int:
    """The largest number of filters of about the least cost."""
    costs = {r: cascade_cost(density, r) for r in range(1, cascade.MAX_FILTERS + 1)}
    return max(r for r, cost in costs.items() if cost <= NEAR * min(costs.values()))


class Chosen(NamedTuple):
    """A codec, and what its encoder needs: the plan of ``block``, the factors of ``bmf``."""

    name: str
    plan: Plan | None = None
    factors: Factors | None = None


def choose(
    mask: Words,
    cols: int,
    density: float,
    choice: str,
    prefer: str,
    *,
    gates: bool,
    factors: Factors | None = None,
) -> Chosen:
    """The codec to use.

    ``gates``: the tensor's network can carry a cascade; ``factors``: of the mask, where it was chosen so. Factors in
    tiles of the usual size are found where there are some, and taken where nothing is smaller.

    Raises:
        ParameterError: the codec asked for cannot store this mask, or ``factors`` are another mask's.
    """
    if choice not in ("auto", *masks.CODECS):
        raise ParameterError(f"mask codec {choice!r} is not one of auto, {', '.join(masks.CODECS)}")
    if prefer not in ("size", "speed"):
        raise ParameterError(f"prefer = {prefer!r} is not size or speed")
    is_constant = not mask.any() or bool((mask == tail_mask(cols)).all())
    if choice == constant.NAME and not is_constant:
        raise ParameterError(
            "mask codec 'constant' cannot store this mask: some weights are kept, some pruned"
        )
    if choice == cascade.NAME and not gates:
        raise ParameterError("mask codec 'cascade' needs the default encoder and a quasi-cyclic network")
    if factors is not None and not np.array_equal(factors.mask(), mask):
        raise ParameterError("factors are not those of the tensor's mask")
    if choice == block.NAME:
        return Chosen(choice, Plan(mask, cols))
    if choice == bmf.NAME:
        return Chosen(choice, None, factors or factor(mask, cols, *choose_tile(len(mask), cols)))
    if choice != "auto":
        return Chosen(choice)
    if is_constant:
        return Chosen(constant.NAME)
    if prefer == "speed":
        return Chosen(bitmap.NAME)
    n, plan = len(mask) * cols, Plan(mask, cols)
    sizes = {bitmap.NAME: float(n), block.NAME: plan.bits}
    if gates:
        sizes[cascade.NAME] = CASCADE_OVERHEAD * cascade_cost(density, best_filters(density)) * n
    factors = factors or _usual_factors(mask, cols, min(sizes.values()))
    if factors is not None:
        sizes[bmf.NAME] = 8.0 * bmf.encode(factors, cols)[1].size
    return Chosen(min(sizes, key=lambda name: sizes[name]), plan, factors)


def _usual_factors(mask: Words, cols: int, bits: float) -> Factors | None:
    """Factors of a mask in tiles of the usual size; None if there are none of less than ``bits``."""
    try:
        rank, *tile = choose_tile(len(mask), cols)
        if 8 * sum(bmf.sizes(len(mask), cols, rank, *tile)) >= bits:
            return None
        return factor(mask, cols, rank, *tile)
    except ParameterError:
        return None


def estimate_bits(density: float, choice: str, prefer: str, mask_bits: float = MASK_BITS) -> float:
    """Bits per weight that a codec takes for an i.i.d. mask which keeps ``density`` of the weights, about.

    ``mask_bits``: what ``bmf`` may take.
    """
    if not 0 < density < 1:
        return 0.0
    sizes = {
        bitmap.NAME: 1.0,
        cascade.NAME: CASCADE_OVERHEAD * cascade_cost(density, best_filters(density)),
        block.NAME: ideal_cost(density),
    }
    if choice == bmf.NAME:
        return mask_bits
    if choice == "auto":
        return 1.0 if prefer == "speed" else min(sizes.values())
    return sizes[choice]


def encode_plain(name: str, mask: Words, cols: int) -> tuple[str, dict[str, Any], NDArray[np.uint8]]:
    """``(name, config, section)`` of ``constant`` or ``bitmap``."""
    if name == constant.NAME:
        return name, {"value": int(mask.any())}, np.zeros(0, np.uint8)
    return bitmap.NAME, {}, bitmap.encode(mask, cols)


def split_filters(found: Corrections, q: int) -> tuple[Corrections, NDArray[np.int64]]:
    """Corrections of q planes and the filters above them: the planes' own, and where a filter is wrong."""
    own = found.values & np.uint64((1 << q) - 1)
    wrong = found.values >> np.uint64(q) != 0
    return Corrections(found.positions[own != 0], own[own != 0]), found.positions[wrong]


def encode_cascade(
    mask: Words,
    network: XorNetwork,
    layout: Layout,
    filters: NDArray[np.uint32],
    missing: NDArray[np.int64],
    jobs: int,
) -> tuple[str, dict[str, Any], NDArray[np.uint8]]:
    """``(name, config, section)`` of a cascade whose filter planes are coded already.

    Args:
        mask: uint32 (rows, chunks).
        network, layout: of the tensor.
        filters: code of the filters, uint32 (n_filters, n_segments, m_lane, lanes).
        missing: element indices of kept positions that a filter gets wrong.
        jobs: threads.
    """
    coded = CodedPlanes(network=network, layout=layout, code=filters)
    found = cascade.candidates(expand(coded, 0, layout.rows, jobs=jobs), 0, layout.cols)
    source = PlaneSource(found, mask[None])
    code, last = encode_planes(network, source, layout, popcount(found), "elimination", None, jobs)
    # Wrong are: kept positions that are no candidates, and errors of the last plane among the candidates.
    positions = np.sort(np.concatenate([last.positions, missing]))
    wrong = Corrections(positions, np.ones(positions.size, np.uint64))
    return cascade.NAME, *cascade.encode(filters, code, wrong, layout.rows * layout.cols)
