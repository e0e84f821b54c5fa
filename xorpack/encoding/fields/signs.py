"""The field of binary codes: which prefix code their symbols get, and its encoder (:mod:`xorpack.fields.signs`)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from xorpack.code.corrections import Corrections, pack
from xorpack.code.planes import CodedPlanes
from xorpack.code.words import Words, popcount
from xorpack.encoding.fields.choice import LARGE
from xorpack.encoding.fields.huffman import limited_lengths
from xorpack.encoding.rings.gather import PlaneSource
from xorpack.encoding.rings.tensor import encode_planes
from xorpack.fields.codewords import Codewords
from xorpack.fields.field import MAX_LENGTH, FieldCode
from xorpack.fields.signs import SignField

OVER_ENTROPY = 1.025
"""Bits of symbols under a prefix code over their entropy, about: 1.5 % are the code's, 1 % the XOR code's."""

OVERHEAD = 1.006
"""Stored bits per care bit of a depth, corrections included, over those of planes, about."""

MOST_STORED = 1.1
"""Stored bits per care bit of the tensor's own code from which on depths search for another rate."""

DEPTH_BYTES = 100
"""What another depth takes whatever its size, about: its rate is a whole number of words."""

CONFIG_BYTES = 100
"""What a field takes in its record, about."""

CARE_TIME = 0.02
"""Bits that a care bit of a depth may cost if it is saved, for the time that encoding it takes."""

DEPTH_TIME = 0.01
"""Bits per kept weight that a depth may cost if it is saved, for the time that decoding it takes."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SignPlan:
    """The field of binary codes, to be encoded.

    Attributes:
        code: its code.
        symbols: uint32, in the order of their codewords.
        n_kept: weights.
        cares: care bits of every depth.
    """

    code: FieldCode
    symbols: NDArray[np.uint32]
    n_kept: int
    cares: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Split:
    """Symbols as they are coded.

    Attributes:
        planes: uint32 (q, rows, chunks): heads of codewords, and zeros.
        depths, cares: uint32 (n_depths, rows, chunks): further bits, and where there are any.
    """

    planes: Words
    depths: Words
    cares: Words


def choose_signs(source: PlaneSource, *, always: bool) -> SignPlan | None:
    """The field that saves most, time among it, or None where none saves anything.

    ``always``: that of the fewest bits, whatever it takes besides, if symbols differ at all.
    """
    counts = np.fromiter(_counts(source.mask, source.planes[::-1]), np.int64)
    symbols = np.lexsort((np.arange(counts.size), -counts))[: np.count_nonzero(counts)]
    if symbols.size < 2:
        return None
    n_kept, q = int(counts.sum()), len(source.planes)
    plans = list(_plans(symbols, counts[symbols], q))
    if always:
        return min(plans, key=lambda found: found[1].code.n_raw * n_kept + sum(found[1].cares))[1]
    cost, plan = min(plans, key=lambda found: found[0])
    return plan if cost < n_kept * q else None


def _counts(kept: Words, planes: Words) -> Iterator[int]:
    """Kept weights of every symbol, in the order of symbols; ``planes``: the highest bit first."""
    if not len(planes):
        yield popcount(kept)
        return
    yield from _counts(kept & ~planes[0], planes[1:])
    yield from _counts(kept & planes[0], planes[1:])


def _plans(symbols: NDArray[np.int64], totals: NDArray[np.int64], q: int) -> Iterator[tuple[float, SignPlan]]:
    """Codes of symbols, the most frequent first: about the bits they take, those that time is worth among them."""
    n, n_kept = len(symbols), int(totals.sum())
    shortest = (n - 1).bit_length()
    seen = set()
    for least in range(1, n.bit_length()):
        for most in range(shortest, MAX_LENGTH + 1):
            lengths = limited_lengths(totals, least, most)
            if tuple(lengths) in seen:
                continue
            seen.add(tuple(lengths))
            n_raw, n_depths = int(lengths[0]), int(lengths[-1] - lengths[0])
            cares = tuple(int(totals[lengths > n_raw + e].sum()) for e in range(n_depths))
            cost = n_raw * n_kept + sum(cares) * (OVERHEAD + CARE_TIME) + DEPTH_TIME * n_depths * n_kept
            cost += n * q + 8 * (CONFIG_BYTES + n_depths * DEPTH_BYTES)
            canonical = np.lexsort((symbols, lengths))
            code = FieldCode(low=0, width=q, n_raw=n_raw, counts=tuple(np.bincount(lengths - n_raw).tolist()))
            yield (
                cost,
                SignPlan(code=code, symbols=symbols[canonical].astype(np.uint32), n_kept=n_kept, cares=cares),
            )


def split_signs(plan: SignPlan, source: PlaneSource, jobs: int) -> Split:
    """Heads and depths of all symbols."""
    code = plan.code
    found = Codewords.encoding(code, plan.symbols).recode(source.planes[::-1], source.mask, jobs=jobs)
    heads, depths, cares = np.split(found, [code.n_raw, code.n_raw + code.n_depths])
    planes = np.zeros_like(source.planes)
    planes[: code.n_raw] = heads
    return Split(planes=planes, depths=depths, cares=cares)


def encode_signs(plan: SignPlan, split: Split, coded: CodedPlanes, jobs: int) -> SignField:
    """The section of a field beside the code of its tensor.

    What that stores for a care bit, a large depth does, too: it has the same mask to cope with, and needs no search.
    """
    network, layout = coded.network, coded.layout
    all_lanes = layout.n_segments * layout.lanes
    stored = 32 * all_lanes * coded.m_lane / max(plan.n_kept, 1)
    words, wrong = [], []
    for n_care, plane, care in zip(plan.cares, split.depths, split.cares, strict=True):
        source, rate = PlaneSource(care, plane[None]), None
        if n_care >= LARGE and 1 <= stored < MOST_STORED:
            rate = stored * n_care / (32 * all_lanes * layout.n_steps)
        code, found = encode_planes(network, source, layout, n_care, "elimination", rate, jobs)
        words.append(code)
        wrong.append(found.positions)
    mended = _together(wrong)
    packed = pack(mended, layout.rows * layout.cols, plan.code.n_depths)
    return SignField.pack(plan.code, plan.symbols, network, layout, words, packed, len(mended))


def _together(wrong: list[NDArray[np.int64]]) -> Corrections:
    """Positions at which each depth is wrong, as corrections of all."""
    everywhere = np.concatenate([np.zeros(0, np.int64), *wrong])
    positions = np.unique(everywhere)
    values = np.zeros(positions.size, np.uint64)
    for e, own in enumerate(wrong):
        values[np.searchsorted(positions, own)] |= np.uint64(1 << e)
    return Corrections(positions, values)
