"""Every choice about a tensor, in the order in which they follow from one another: the second act of encoding."""

from __future__ import annotations

from dataclasses import dataclass

from xorpack.code.corrections import NO_CORRECTIONS, Corrections
from xorpack.code.layout import Layout
from xorpack.code.network import XorNetwork
from xorpack.code.words import popcount
from xorpack.encoding.constants import choose_constants, coded_planes
from xorpack.encoding.fields.choice import FieldPlan, choose_field, takes_fields
from xorpack.encoding.fields.signs import SignPlan, Split, choose_signs, split_signs
from xorpack.encoding.fields.sources import FieldSource
from xorpack.encoding.masks.choice import choose
from xorpack.encoding.masks.proposal import Proposal, WantedMask
from xorpack.encoding.options import EncodingOptions
from xorpack.encoding.rings.gather import ElementSource, PlaneSource
from xorpack.masks import Cascade

RAW_OVERHEAD = 1.002
"""Overhead up to which raw planes are kept without trying a network: almost nothing is pruned."""

MAX_DISTINCT_ROWS = 4096
"""Distinct rows of a quasi-cyclic network at the most."""

FEW_KEPT = 1024
"""Kept weights below which a code may have fewer words than a window: taps that are turned alike would meet there."""

HOLDS = (8, 4)
"""Steps for which the window of the default network may stay, where it then moves by at most :data:`MOVE` words."""

MOVE = 2.2


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TensorPlan:
    """How a tensor is going to be encoded.

    Attributes:
        packs: whether bits of kept weights are packed: network and layout do not matter then.
        source: the planes; those that are constant or under a field are out of ``source.coded``.
        n_kept: weights that the mask keeps.
        field: what of elements is under a prefix code, or None.
        signs: the field of binary codes, and their symbols as it codes them; or None.
        constants, exceptions: planes that are not coded, and the kept weights that differ from them.
        network, layout: of the code.
        raw_layout: the order of raw planes, where the caller left the choice and they may turn out to be smaller.
        mask: how the mask will be stored.
    """

    packs: bool
    source: PlaneSource | ElementSource
    n_kept: int
    field: FieldPlan | None
    signs: tuple[SignPlan, Split] | None
    constants: tuple[int, int]
    exceptions: Corrections
    network: XorNetwork
    layout: Layout
    raw_layout: Layout | None
    mask: Proposal

    @classmethod
    def of(
        cls, source: PlaneSource | ElementSource, rows: int, cols: int, options: EncodingOptions
    ) -> TensorPlan:
        """Choose for the planes of a matrix of ``rows`` x ``cols``."""
        n_planes, n_kept = source.n_planes, popcount(source.mask)
        field, signs = None, None
        if isinstance(source, PlaneSource) and options.field != "none" and not options.no_signs:
            found = choose_signs(source, always=options.field == "always")
            if found is not None:
                signs = found, split_signs(found, source, options.jobs)
                source = PlaneSource(source.mask, signs[1].planes)
        if isinstance(source, ElementSource) and takes_fields(options.field, options.prefer):
            field = choose_field(source.elements, *source.count_ones(), options.field)
            if field is not None:
                source = FieldSource(source, field.code, field.table())
        zeros, ones = choose_constants(*source.count_ones())
        if field is not None:
            zeros |= field.code.unused
        if signs is not None:
            zeros |= signs[0].code.unused
        exceptions = source.exceptions(zeros, ones, cols) if zeros | ones else NO_CORRECTIONS
        source.coded = coded_planes(zeros | ones, n_planes)
        network = options.network or default_network(n_kept, rows * cols)
        layout, raw = Layout.choose(rows, cols, n_kept, lanes=options.lanes), Layout.raw(rows, cols)
        n_coded = source.n_planes
        may_be_raw = options.network is None and n_coded > 0 and options.mask_codec != Cascade.NAME
        may_be_raw = may_be_raw and not options.packs and signs is None
        if may_be_raw and 8 * raw_bytes(raw, n_coded) <= RAW_OVERHEAD * n_kept * n_coded:
            network, layout, may_be_raw = XorNetwork.identity(), raw, False
        gates = not options.packs and options.encoder == "elimination" and network.any_rate
        wanted = WantedMask(words=source.mask, cols=cols, n_kept=n_kept, gates=gates, factors=options.factors)
        return cls(
            packs=options.packs,
            source=source,
            n_kept=n_kept,
            field=field,
            signs=signs,
            constants=(zeros, ones),
            exceptions=exceptions,
            network=network,
            layout=layout,
            raw_layout=raw if may_be_raw and options.rate is None else None,
            mask=choose(wanted, options.mask_codec, options.prefer, packs=options.packs),
        )


def raw_bytes(layout: Layout, n_coded: int) -> int:
    """Bytes of ``n_coded`` raw planes."""
    return 4 * n_coded * layout.n_segments * layout.ring_words


def default_network(n_kept: int, n_weights: int) -> XorNetwork:
    """The network of a tensor that keeps so many of its weights: turned, unless they are few."""
    density = n_kept / max(n_weights, 1)
    if n_kept < FEW_KEPT:
        return quasi_cyclic_network(density)
    return XorNetwork.turned(hold=next((hold for hold in HOLDS if hold * density <= MOVE), 2))


def quasi_cyclic_network(density: float) -> XorNetwork:
    """Quasi-cyclic, with more distinct rows than words that share a window's start.

    Fewer would give two words of one window the same equations. ``density``: share of weights kept.
    """
    n_rows = 16
    while n_rows * density < 1.5 and n_rows < MAX_DISTINCT_ROWS:
        n_rows *= 2
    return XorNetwork.quasi_cyclic(n_rows=n_rows)
