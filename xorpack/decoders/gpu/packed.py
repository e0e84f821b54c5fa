"""An encoded tensor as it lies in GPU memory, made and checked on the host: nothing is expanded.

Code and scales keep their bits; words of planes are put side by side, mask and scales in order of visits
(``kernels/common.cu``), so that a warp reads them end to end. Corrections are unpacked into groups of 32 row indices:
their Elias-Fano code has no random access.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from xorpack.code.corrections import Corrections
from xorpack.code.dense import UNSIGNED
from xorpack.code.layout import Layout
from xorpack.code.planes import CodedPlanes, StoredPlanes, TrellisPlanes
from xorpack.code.words import Words
from xorpack.decoders import cpu
from xorpack.decoders.gpu.fields import DeviceField
from xorpack.decoders.gpu.lists import tiled, tiled_rows
from xorpack.decoders.gpu.masks import CODECS, DeviceMask, on_device
from xorpack.decoders.gpu.order import ScaleOrder, coded_order, side_by_side, visited_rows
from xorpack.elements import Bcq, Lossless
from xorpack.encoded import EncodedTensor, sections_sha256
from xorpack.errors import CorruptError, ParameterError
from xorpack.masks import Bitmap, Cascade

MaskForm = Literal["stored", "bitmap"]
NARROW_PLANES = 4
"""Planes up to which a correction's value, XOR and right bits, is a byte."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Packed:
    """What is loaded, and its arrays for the device by name, absent ones left out.

    Attributes:
        encoded: the tensor, with raw planes where its bits are packed or its binary codes have a field: kernels find a
            word without counting the mask, and look no symbols up.
        arrays: ``code``; those of the mask and of the field; ``scales``; ``starts``, ``entries`` and ``values`` of
            corrections; of trellis tensors ``a`` and ``gains``, and outliers for corrections.
        layout: the order in which weights are visited; a trellis's rows in their own order.
        mask: None where every weight is kept, or none: no mask is read.
        field: None of tensors that have none.
        scale_order: where the scales lie; of ``lossless`` and ``trellis`` tensors it means nothing.
        n_corrections: of the weights; outliers of a trellis.
    """

    encoded: EncodedTensor
    arrays: dict[str, NDArray[Any]]
    layout: Layout
    mask: DeviceMask[Any] | None
    field: DeviceField | None
    scale_order: ScaleOrder
    n_corrections: int


def pack(encoded: EncodedTensor, form: MaskForm = "stored", *, jobs: int = 1) -> Packed:
    """Check ``encoded`` by decoding it on the CPU, and lay it out for the device.

    Raises:
        CorruptError, FormatError: the tensor contradicts itself or its checksum.
        ParameterError: ``form`` is unknown.
    """
    if form not in ("stored", "bitmap"):
        raise ParameterError(f"mask = {form!r} is not 'stored' or 'bitmap'")
    if sys.byteorder != "little":
        raise ParameterError("the GPU decoder needs a little-endian host")
    if encoded.stored_sha256 and sections_sha256(encoded.sections()) != encoded.stored_sha256:
        raise CorruptError("the stored bytes of the tensor do not match their checksum")
    encoded.elements.check_values()
    if isinstance(encoded.planes, TrellisPlanes):
        return _pack_trellis(encoded, encoded.planes, form, jobs)
    mask, planes = cpu.decode_planes(
        encoded, jobs=jobs
    )  # checks the mask's count and the corrections' places
    encoded = _with_network(encoded, mask, planes, jobs)
    layout, q = encoded.layout, encoded.bits
    order = ScaleOrder.of(layout, encoded.group_size, q)
    arrays: dict[str, NDArray[Any]] = {"code": side_by_side(encoded.code)}
    on, field = None, None
    if 0 < encoded.n_kept < encoded.n_weights:
        on = _mask(encoded, mask, form, encoded.coded)
        arrays |= on.arrays()
    if isinstance(encoded.elements, Lossless) and encoded.elements.field is not None:
        field = DeviceField(
            field=encoded.elements.field,
            layout=layout,
            order=coded_order(encoded.coded),
            itemsize=q // 8,
            masked=on is not None,
        )
        arrays |= field.arrays()
    if isinstance(encoded.elements, Bcq):
        arrays["scales"] = _scales(layout, np.asarray(encoded.elements.scales), order, q)
    wrong = encoded.load_corrections()
    if len(wrong):
        arrays |= _corrections(encoded, wrong, planes)
    return Packed(
        encoded=encoded,
        arrays=arrays,
        layout=layout,
        mask=on,
        field=field,
        scale_order=order,
        n_corrections=len(wrong),
    )


def _with_network(encoded: EncodedTensor, mask: Words, planes: Words, jobs: int) -> EncodedTensor:
    """``encoded``; where its bits are packed, or its binary codes, of these ``planes``, have a field, with raw ones."""
    if isinstance(encoded.elements, Bcq) and encoded.elements.field is not None:
        raw = StoredPlanes(
            bits=encoded.bits,
            n_kept=encoded.n_kept,
            coded=CodedPlanes.raw(planes, encoded.cols),
            n_corrections=0,
            corrections=np.zeros(0, np.uint8),
        )
        gated = isinstance(encoded.mask, Cascade)  # by the network that the planes have no more
        kept = Bitmap.of(mask, encoded.cols) if gated else encoded.mask
        return replace(encoded, planes=raw, mask=kept, elements=replace(encoded.elements, field=None))
    if encoded.packed is None or not isinstance(encoded.planes, StoredPlanes):
        return encoded
    starts = encoded.packed.row_starts(0, mask, partial(cpu.load_mask, encoded))
    words = encoded.packed.unpack(mask, starts, jobs=jobs)
    return replace(encoded, planes=replace(encoded.planes, coded=CodedPlanes.raw(words, encoded.cols)))


def _pack_trellis(encoded: EncodedTensor, planes: TrellisPlanes, form: MaskForm, jobs: int) -> Packed:
    words = cpu.load_mask(encoded, jobs=jobs)  # checks its count
    whole = encoded.n_kept == encoded.n_weights
    tensor = encoded.trellis(None if whole else words)  # checks code, numbers and outliers
    host = planes.host
    host = replace(host, layout=replace(host.layout, row_stride=1))
    arrays: dict[str, NDArray[Any]] = {
        "code": np.ascontiguousarray(tensor.code).reshape(-1),
        "scales": np.ascontiguousarray(tensor.scales).reshape(-1),
        "a": tensor.a,
    }
    if tensor.gains is not None:
        arrays["gains"] = tensor.gains.view(np.uint16)
    on = None
    if encoded.n_kept and not whole:
        on = _mask(encoded, words, form, host)
        arrays |= on.arrays()
    if len(tensor.positions):
        starts, entries, order = tiled_rows(tensor.positions, encoded.rows, encoded.cols)
        arrays |= {"starts": starts, "entries": entries, "values": tensor.values[order].view(np.uint16)}
    return Packed(
        encoded=encoded,
        arrays=arrays,
        layout=host.layout,
        mask=on,
        field=None,
        scale_order=ScaleOrder.of(host.layout, encoded.group_size, 1),
        n_corrections=len(tensor.positions),
    )


def _mask(encoded: EncodedTensor, words: Words, form: MaskForm, host: CodedPlanes) -> DeviceMask[Any]:
    """The mask as it is stored, where kernels decode that; else, or where ``form`` says so, a bitmap."""
    stored = form == "stored" and type(encoded.mask) in CODECS
    return on_device(encoded.mask if stored else Bitmap.of(words, encoded.cols), host)


def _scales(layout: Layout, scales: NDArray[Any], order: ScaleOrder, q: int) -> NDArray[Any]:
    visited = scales[visited_rows(layout)]
    before, after = np.zeros((2, order.padding), scales.dtype)
    if not order.groups_per_panel:
        return np.concatenate([before, visited.reshape(-1), after])
    padded = np.zeros((layout.rows, layout.n_panels * order.groups_per_panel, q), scales.dtype)
    padded[:, : visited.shape[1]] = visited
    panels = padded.reshape(layout.rows, layout.n_panels, order.groups_per_panel * q)
    return np.concatenate([before, panels.transpose(1, 0, 2).reshape(-1), after])


def _corrections(encoded: EncodedTensor, wrong: Corrections, planes: Words) -> dict[str, NDArray[Any]]:
    q = encoded.bits
    starts, entries, order = tiled(encoded.layout, wrong)
    row, col = np.divmod(wrong.positions[order], encoded.cols)
    right = np.zeros(len(col), np.uint64)
    for k in range(q):
        bit = planes[k, row, col // 32] >> (col % 32).astype(np.uint32) & np.uint32(1)
        right |= bit.astype(np.uint64) << np.uint64(k)
    if isinstance(encoded.elements, Lossless):
        values = right.astype(UNSIGNED[q // 8])
    else:
        shift, kind = (np.uint64(4), np.uint8) if q <= NARROW_PLANES else (np.uint64(8), np.uint16)
        values = (wrong.values[order] | right << shift).astype(kind)
    return {"starts": starts, "entries": entries, "values": values}
