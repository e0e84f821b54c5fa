"""Products by binary codes: planes of 16 rows are expanded in the order of coding, turned side by side, multiplied."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xorpack.code.corrections import Corrections, check_kept
from xorpack.code.expand import furthest
from xorpack.code.layout import Layout
from xorpack.code.network import XorNetwork
from xorpack.code.packed import PackedPlanes
from xorpack.code.planes import StoredPlanes
from xorpack.decoders.cpu import LoadedPlanes
from xorpack.decoders.products import fused
from xorpack.decoders.products.kept import Kept
from xorpack.decoders.products.planes_kernels import planes_kernel
from xorpack.elements import Bcq
from xorpack.fields.loaded_signs import LoadedSigns
from xorpack.vector.aligned import aligned, as_aligned
from xorpack.vector.lookup import ROWS


class PlaneRows:
    """See :class:`xorpack.decoders.products.fused.FusedRows`: a unit is 16 rows that are coded one after another.

    Mask and scales are kept in that order, 16 rows side by side; the code, or packed bits, stay as they are stored.
    Constant planes stand behind the coded ones, and depths of codewords behind these.
    """

    def __init__(self, loaded: LoadedPlanes, elements: Bcq, kept: Kept) -> None:
        stored, signs = loaded.stored, loaded.signs
        coded = stored.coded
        rows, cols = stored.shape
        bits = np.zeros(0, np.int64)
        if isinstance(coded, PackedPlanes):
            bits = coded.row_starts(0, kept.rows(0, rows), kept.rows)
            layout, network, m_lane = replace(Layout.raw(rows, cols), row_stride=1), XorNetwork.identity(), 0
        else:
            layout, network, m_lane = coded.layout, coded.network, coded.m_lane
        zeros, ones = stored.constants
        n_held = stored.bits if signs is None else signs.code.n_raw
        constant = [k for k in range(n_held) if (zeros | ones) >> k & 1]
        planes = [k for k in range(n_held) if k not in constant] + constant
        corrections, depths = loaded.corrections, NO_DEPTHS
        own = planes  # the planes of the scales
        if signs is not None:
            corrections = signs.with_depths(corrections, stored.bits)
            planes = planes + [stored.bits + e for e in range(signs.code.n_depths)]
            own = list(range(stored.bits))
            depths = _depths(signs, layout, network, planes)
        order = np.arange(rows) * layout.row_stride % rows
        self.group_size = elements.group_size
        self.n_units = -(-rows // ROWS)
        masks = np.zeros(0, np.uint32)
        if not kept.whole:
            mask = kept.rows(0, rows)
            check_kept(corrections, mask, cols)
            masks = fused.by_units(mask[order], 1)
        alphas = elements.scales.astype(np.float32)
        largest = float(np.abs(alphas).sum(axis=-1, dtype=np.float64).max(initial=1))
        self.reach = 2 * cols * largest
        self._how = (
            as_aligned(stored.code),
            m_lane,
            bits,
            layout.params(),
            network.schedule(m_lane, layout.n_steps),
            network.taps(),
            network.reach(),
            network.n_alike,
            furthest(network),
            np.array([0xFFFFFFFF * (ones >> k & 1) for k in constant], np.uint32),
            _by_units(corrections, order, cols, planes),
            masks,
            fused.by_units(alphas[order][:, :, own].reshape(rows, -1), 1),
            fused.chunks_of_group(self.group_size, cols),
            depths,
        )

    @staticmethod
    def fits(stored: StoredPlanes, elements: Bcq) -> bool:
        """Whether a tensor can be multiplied so: groups of whole words, and code for the planes that are coded."""
        return fused.fits(elements.group_size, stored.shape[1]) and (
            stored.code.size > 0 or not len(stored.code)
        )

    def activations(self, x: NDArray[np.float32]) -> NDArray[np.float32]:
        """See :class:`xorpack.decoders.products.fused.FusedRows`."""
        return x

    def fill(
        self, few: fused.Activations, out: NDArray[np.float32], helpers: int, team: NDArray[np.int64]
    ) -> None:
        """See :class:`xorpack.decoders.products.fused.FusedRows`."""
        planes_kernel(0, self.n_units, helpers, team, *self._how, *few[1:], out)


Depths = tuple[Any, ...]
"""The code of depths, one behind another; where each begins; its words per lane; its schedule, a row each; and the code
of symbols (:attr:`xorpack.fields.codewords.Codewords.program`), bit d of a codeword in the plane of ``bits[d]``.
"""

NO_DEPTHS: Depths = (
    aligned(0),
    np.zeros(1, np.int64),
    np.zeros(0, np.int64),
    np.zeros((0, 4), np.int64),
    np.zeros((0, 5), np.int64),
    np.zeros(0, np.int64),
)


def _depths(signs: LoadedSigns, layout: Layout, network: XorNetwork, planes: list[int]) -> Depths:
    """The depths of a field whose planes are expanded in the order of ``planes``, those of depths last."""
    codes = [np.ascontiguousarray(coded.code).reshape(-1) for coded in signs.depths]
    m_lanes = [coded.m_lane for coded in signs.depths]
    code = signs.code
    bits = [planes.index(code.n_raw - 1 - d) for d in range(code.n_raw)]
    bits += range(code.n_raw, code.max_length)
    return (
        as_aligned(np.concatenate([np.zeros(0, np.uint32), *codes])),
        np.cumsum([0, *(each.size for each in codes)]),
        np.array(m_lanes, np.int64),
        np.array([network.schedule(m, layout.n_steps) for m in m_lanes], np.int64).reshape(-1, 4),
        signs.codewords.program,
        np.array(bits, np.int64),
    )


def _by_units(
    corrections: Corrections, order: NDArray[np.int64], cols: int, planes: list[int]
) -> tuple[NDArray[np.int64], NDArray[np.int32], NDArray[np.int64], NDArray[np.int64]]:
    """Corrections by unit and column: where each unit's begin; their columns, which of its rows they are in, values.

    Bits of values stand in the order of ``planes``. ``order``: the rows as they are coded.
    """
    places = np.empty(len(order), np.int64)
    places[order] = np.arange(len(order))
    rows, columns = np.divmod(corrections.positions, max(cols, 1))
    units, lanes = np.divmod(places[rows], ROWS)
    found = np.lexsort((columns, units))
    starts = np.searchsorted(units[found], np.arange(-(-len(order) // ROWS) + 1)).astype(np.int64)
    values = np.zeros(len(corrections), np.int64)
    for j, k in enumerate(planes):
        values |= (corrections.values.astype(np.int64) >> k & 1) << j
    return starts, columns[found].astype(np.int32), lanes[found], values[found]
