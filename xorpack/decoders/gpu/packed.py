"""An encoded tensor as it lies in GPU memory, made and checked on the host: nothing is expanded.

Code and scales keep their bits; mask and scales are put in order of visits (``kernels/common.cu``), so that a warp
reads them end to end. Corrections are unpacked into groups of 32 row indices: their Elias-Fano code has no random
access.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from xorpack import corrections as elias_fano
from xorpack.corrections import Corrections
from xorpack.decoders import cpu
from xorpack.decoders.gpu.order import ScaleOrder, by_visit, is_skewed, is_wide, tap_table, visited_rows
from xorpack.encoded import EncodedTensor, sections_sha256
from xorpack.errors import CorruptError, FormatError, ParameterError
from xorpack.layout import Layout
from xorpack.masks import cascade
from xorpack.words import Words

MaskForm = Literal["stored", "bitmap"]
MAX_NARROW_BITS = 1 << 32
"""Bits of a mask up to which 32 bits hold the place of one."""
VISIT_PADDING = 8
"""Visits before and behind a run that a warp may read, for nothing: it takes 8 at a time. None before the mask's."""
GROUP_PADDING = 33
"""Groups behind the last one that a warp may read, where a panel has fewer than 32 chunks, for nothing."""
ROW_GROUP = 32
"""Row indices that share a list of corrections."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Packed:
    """Arrays for the device by name, absent ones left out.

    Attributes:
        arrays: ``code``, ``taps``, ``mask`` or ``filters`` + ``last`` + ``flips``, ``scales``, ``starts``, ``entries``,
            ``values``.
        mask_form: ``ones`` or ``zeros`` (nothing stored), ``bitmap``, ``cascade``.
        mask_note: where the mask is larger than in the file: why.
        scale_order: where the scales lie; of ``lossless`` tensors it means nothing.
        n_corrections: of the weights.
    """

    arrays: dict[str, NDArray[Any]]
    mask_form: str
    mask_note: str
    scale_order: ScaleOrder
    n_corrections: int


def pack(encoded: EncodedTensor, mask_form: MaskForm = "stored", *, jobs: int = 1) -> Packed:
    """Check ``encoded`` by decoding it on the CPU, and lay it out for the device.

    Raises:
        CorruptError, FormatError: the tensor contradicts itself or its checksum.
        ParameterError: ``mask_form`` is unknown.
    """
    if mask_form not in ("stored", "bitmap"):
        raise ParameterError(f"mask = {mask_form!r} is not 'stored' or 'bitmap'")
    if sys.byteorder != "little":
        raise ParameterError("the GPU decoder needs a little-endian host")
    if encoded.stored_sha256 and sections_sha256(encoded.sections()) != encoded.stored_sha256:
        raise CorruptError("the stored bytes of the tensor do not match their checksum")
    if encoded.scales is not None and not np.isfinite(encoded.scales).all():
        raise FormatError("scales that are not finite")
    mask, planes = cpu.decode_planes(
        encoded, jobs=jobs
    )  # checks the mask's count and the corrections' places
    layout, q = encoded.layout, encoded.bits
    order = ScaleOrder.of(layout, encoded.group_size, q)
    arrays: dict[str, NDArray[Any]] = {
        "code": np.ascontiguousarray(encoded.code).reshape(-1),
        "taps": tap_table(encoded.network).reshape(-1),
    }
    form, note = _mask(encoded, mask, mask_form, arrays)
    if encoded.scales is not None:
        arrays["scales"] = _scales(layout, np.asarray(encoded.scales), order, q)
    wrong = encoded.load_corrections()
    if len(wrong):
        arrays |= _corrections(encoded, wrong, planes)
    return Packed(arrays=arrays, mask_form=form, mask_note=note, scale_order=order, n_corrections=len(wrong))


def _mask(
    encoded: EncodedTensor, mask: Words, mask_form: MaskForm, arrays: dict[str, NDArray[Any]]
) -> tuple[str, str]:
    layout = encoded.layout
    if encoded.n_kept == 0:
        return "zeros", ""
    if encoded.n_kept == encoded.rows * encoded.cols:
        return "ones", ""
    if encoded.mask_codec == cascade.NAME and mask_form == "stored":
        n_filters, m_last = encoded.mask_config["n_filters"], encoded.mask_config["m_last"]
        unit = 4 * layout.n_segments * layout.lanes
        middle = unit * n_filters * encoded.m_lane
        end = middle + unit * m_last
        arrays["filters"] = np.array(encoded.mask[:middle]).view(np.uint32)
        arrays["last"] = np.array(encoded.mask[middle:end]).view(np.uint32)
        n = encoded.mask_config["n_corrections"]
        flips = elias_fano.unpack(encoded.mask[end:], n, layout.rows * layout.cols, 1).positions
        if n:
            arrays["flips"] = _visit_bits(layout, flips)
        return "cascade", ""
    arrays["mask"] = np.pad(by_visit(layout, mask).reshape(-1), (0, VISIT_PADDING * layout.panel_chunks))
    if encoded.mask_codec == "bitmap":
        return "bitmap", ""
    why = "asked for" if encoded.mask_codec == cascade.NAME else "no kernel decodes this codec"
    return "bitmap", f"mask codec {encoded.mask_codec} was decoded on the host and lies as a bitmap: {why}"


def _row_index(layout: Layout, rows: NDArray[np.int64]) -> NDArray[np.int64]:
    inverse = np.empty(layout.rows, np.int64)
    inverse[visited_rows(layout)] = np.arange(layout.rows)
    return inverse[rows]


def _visit_bits(layout: Layout, positions: NDArray[np.int64]) -> NDArray[np.unsignedinteger]:
    """Bit index of elements in the mask as words in order of visits."""
    row, col = np.divmod(positions, layout.cols)
    panel, k = np.divmod(col // 32, layout.panel_chunks)
    i = _row_index(layout, row)
    if is_skewed(layout):
        k = (k - i) % layout.panel_chunks
    word = (panel * layout.rows + i) * layout.panel_chunks + k
    n_bits = 32 * layout.n_panels * layout.rows * layout.panel_chunks
    return np.sort(word * 32 + col % 32).astype(np.uint64 if n_bits > MAX_NARROW_BITS else np.uint32)


def _scales(layout: Layout, scales: NDArray[Any], order: ScaleOrder, q: int) -> NDArray[Any]:
    visited = scales[visited_rows(layout)]
    before, after = np.zeros((2, VISIT_PADDING * order.row + GROUP_PADDING * q), scales.dtype)
    if not order.groups_per_panel:
        return np.concatenate([before, visited.reshape(-1), after])
    padded = np.zeros((layout.rows, layout.n_panels * order.groups_per_panel, q), scales.dtype)
    padded[:, : visited.shape[1]] = visited
    panels = padded.reshape(layout.rows, layout.n_panels, order.groups_per_panel * q)
    return np.concatenate([before, panels.transpose(1, 0, 2).reshape(-1), after])


def _corrections(encoded: EncodedTensor, wrong: Corrections, planes: Words) -> dict[str, NDArray[Any]]:
    layout, q = encoded.layout, encoded.bits
    row, col = np.divmod(wrong.positions, layout.cols)
    index = _row_index(layout, row)
    order = np.lexsort((col, index))
    index, row, col = index[order], row[order], col[order]
    xor = wrong.values[order]
    n_groups = -(-layout.rows // ROW_GROUP)
    starts = np.searchsorted(index, np.arange(n_groups + 1) * ROW_GROUP).astype(np.int64)
    entries = (col << 5 | index % ROW_GROUP).astype(np.uint64 if is_wide(layout.cols) else np.uint32)
    if encoded.scales is None:
        values = xor.astype({8: np.uint8, 16: np.uint16, 32: np.uint32}[q])
    else:
        right = np.zeros(len(col), np.uint64)
        for k in range(q):
            bit = planes[k, row, col // 32] >> (col % 32).astype(np.uint32) & np.uint32(1)
            right |= bit.astype(np.uint64) << np.uint64(k)
        values = (xor | right << np.uint64(8)).astype(np.uint16)
    return {"starts": starts, "entries": entries, "values": values}
