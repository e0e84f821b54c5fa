"""The mask codec ``cascade``: the filters' code and the last plane's, decoded as the weights' is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from xorpack.code.words import Words
from xorpack.decoders.gpu import plan as launches
from xorpack.decoders.gpu.lists import bit_lists, visit_bits
from xorpack.decoders.gpu.order import order_values
from xorpack.decoders.gpu.passes import Argument, Pass, Prelude
from xorpack.decoders.gpu.sources import Kernel
from xorpack.encoded import EncodedTensor
from xorpack.masks import Cascade

if TYPE_CHECKING:
    from xorpack.decoders.gpu.resident import Resident


def arrays(encoded: EncodedTensor, words: Words) -> dict[str, NDArray[Any]]:
    """See :class:`xorpack.decoders.gpu.masks.DeviceMask`."""
    layout, mask = encoded.layout, encoded.mask
    assert isinstance(mask, Cascade)
    found: dict[str, NDArray[Any]] = {
        "filters": mask.filters.code.reshape(-1),
        "last": mask.last.code.reshape(-1),
    }
    if mask.n_corrections:
        n_bits = 32 * layout.n_panels * layout.rows * layout.panel_chunks
        wrong = mask.load_corrections().positions
        found["flip_starts"], found["flips"] = bit_lists(visit_bits(layout, wrong), n_bits)
    return found


def plan(resident: Resident) -> Prelude:
    """See :class:`xorpack.decoders.gpu.masks.DeviceMask`."""
    encoded, mask = resident.encoded, resident.encoded.mask
    assert isinstance(mask, Cascade)
    codes = (
        ("cascade_candidates", "filters", encoded.m_lane, mask.n_filters),
        ("cascade_last", "last", mask.m_last, 1),
    )
    passes = []
    for name, code, m_lane, n_planes in codes:
        macros = launches.coded_macros(encoded.layout, encoded.network, m_lane, n_planes)
        order = order_values(encoded.layout, encoded.network, m_lane)
        launch = resident.decode_launch(encoded.layout, encoded.rows, n_planes)
        args: tuple[Argument, ...] = (*order, resident.pointer(code), resident.taps(encoded.network), "mask")
        passes.append(Pass(kernel=Kernel.of(name, macros), launch=launch, args=args))
    passes.extend(resident.flip_passes("flip_starts", "flips", "mask"))
    return Prelude(passes=passes, workspaces={"mask": resident.mask_bytes})
