"""What kernels are told about a tensor, as plain numbers: order of coding, scales. See ``kernels/common.cu``."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from xorpack.code.layout import Layout
from xorpack.code.network import XorNetwork
from xorpack.code.planes import CodedPlanes
from xorpack.tensors import n_groups

ROW_MULTIPLE = 8
"""Rows of the network are unrolled by multiples of it: the product adds up 8 visits at a time."""
MAX_DISTINCT = 32
MAX_WINDOW = 16
MAX_TAPS = 16
MAX_PLANES = 4
"""Limits of the unrolled decoder: the code of all rows, and the window of every plane in registers."""
VISIT_PADDING = 8
"""Visits before and behind a run whose scales a warp may read, for nothing: it takes 8 at a time."""
MASK_PADDING = 16
"""Visits behind the last whose mask a warp may read, for nothing: it takes 8 or 16 at a time."""
GROUP_PADDING = 40
"""Groups behind the last one that a warp may read, where a panel has fewer than 32 chunks, for nothing: 33, and as many
as leave the first scale on a multiple of 16 bytes."""


def reciprocal(n: int) -> int:
    """``floor(2^64 / n)``, at most ``2^64 - 1``: with it a kernel divides by ``n``."""
    return min((1 << 64) - 1, (1 << 64) // max(n, 1))


def can_unroll(layout: Layout, network: XorNetwork, m_lane: int, n_planes: int) -> bool:
    """Whether a warp can walk the rings of this code with the window in its registers."""
    periodic = network.family == "identity" or (
        network.family == "quasi-cyclic"
        and network.n_rows <= MAX_DISTINCT
        and network.n_rows % ROW_MULTIPLE == 0
        and network.window <= MAX_WINDOW
        and network.n_taps <= MAX_TAPS
    )
    periodic |= network.family == "turned" and network.hold * m_lane < 1 << 31  # steps are counted in 32 bits
    return (
        periodic
        and (layout.lanes, layout.n_sub) == (32, 1)
        and 0 < m_lane <= layout.n_steps
        and 1 <= n_planes <= MAX_PLANES
    )


def order_values(layout: Layout, network: XorNetwork, m_lane: int) -> tuple[np.generic, ...]:
    """The parameters ``XP_ORDER`` of a kernel, in their order."""
    n_in, num, den, _ = network.schedule(m_lane, layout.n_steps)
    signed = (
        layout.rows,
        layout.cols,
        layout.chunks,
        layout.lanes,
        layout.n_steps,
        layout.row_stride,
        layout.panel_chunks,
        layout.n_panels,
        layout.n_sub,
        m_lane,
        n_in,
        num,
        den,
        network.n_rows,
    )
    divisors = (layout.rows, layout.n_steps, den, network.n_rows)
    return (*map(np.int64, signed), *(np.uint64(reciprocal(n)) for n in divisors))


def coded_order(coded: CodedPlanes) -> tuple[np.generic, ...]:
    """:func:`order_values` of coded planes."""
    return order_values(coded.layout, coded.network, coded.m_lane)


def side_by_side(code: NDArray[np.uint32]) -> NDArray[np.uint32]:
    """Code (planes, segments, m_lane, lanes), flat, so that words of all planes follow each other."""
    return np.ascontiguousarray(code.transpose(1, 2, 0, 3)).reshape(-1)


@dataclass(frozen=True, slots=True, kw_only=True)
class ScaleOrder:
    """Where the scales of a column lie, in elements: ``panel * p + row * i + q * g``.

    ``g`` counts the groups of a panel where ``groups_per_panel`` is not 0 (groups end where panels do), else
    those of the row. ``padding`` elements stand before the first and behind the last.
    """

    group: int
    groups_per_panel: int
    panel: int
    row: int
    padding: int

    @classmethod
    def of(cls, layout: Layout, group_size: int, q: int) -> ScaleOrder:
        """The order of the scales of a tensor with that many columns a group, 0 = the row."""
        group = group_size or max(layout.cols, 1)
        per_panel = 32 * layout.panel_chunks // group
        if not group_size or 32 * layout.panel_chunks % group:
            per_panel = 0
        row = (per_panel or n_groups(layout.cols, group_size)) * q
        return cls(
            group=group,
            groups_per_panel=per_panel,
            panel=layout.rows * per_panel * q,
            row=row,
            padding=VISIT_PADDING * row + (GROUP_PADDING * q if group < layout.cols else 0),
        )

    def shift(self, layout: Layout) -> int:
        """``log2`` of the chunks of a group where groups begin with panels, 5 for one a panel; else -1."""
        if self.group >= layout.cols or self.groups_per_panel == 1:
            return 5
        chunks = self.group // 32
        power = self.group % 32 == 0 and chunks & (chunks - 1) == 0
        return chunks.bit_length() - 1 if self.groups_per_panel and power else -1

    def values(self) -> tuple[np.generic, ...]:
        """The parameters ``XP_SCALES`` of a kernel behind the pointer, in their order."""
        signed = (self.group, self.groups_per_panel, self.panel, self.row)
        return (*map(np.int64, signed), np.uint64(reciprocal(self.group)))


def visited_rows(layout: Layout) -> NDArray[np.int64]:
    """Row of every row index: ``i * row_stride % rows``."""
    return np.arange(layout.rows, dtype=np.int64) * layout.row_stride % max(layout.rows, 1)


def is_skewed(layout: Layout) -> bool:
    """Whether words lie in order of lanes within a visit: where a panel is one turn of 32 chunks."""
    return (layout.lanes, layout.n_sub, layout.panel_chunks) == (32, 1, 32)


def by_visit(layout: Layout, words: NDArray[np.uint32]) -> NDArray[np.uint32]:
    """Words (rows, chunks) in order of visits: (n_panels, rows, panel_chunks), 0 where there is no chunk.

    Where :func:`is_skewed` the last axis is the lane, of chunk ``(lane + i) % 32`` of the panel.
    """
    padded = np.zeros((layout.rows, layout.n_panels * layout.panel_chunks), np.uint32)
    padded[:, : layout.chunks] = words[visited_rows(layout)]
    panels = padded.reshape(layout.rows, layout.n_panels, layout.panel_chunks)
    if is_skewed(layout):
        i = np.arange(layout.rows)[:, None]
        turned = (np.arange(layout.panel_chunks) + i) % layout.panel_chunks
        panels = np.take_along_axis(panels, turned[:, None, :], axis=2)
    return np.ascontiguousarray(panels.transpose(1, 0, 2))
