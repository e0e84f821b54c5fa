"""A mask of one bit per weight: it lies as the kernels read it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from xorpack.code.words import Words
from xorpack.decoders.gpu.order import VISIT_PADDING, by_visit
from xorpack.decoders.gpu.passes import Prelude
from xorpack.encoded import EncodedTensor

if TYPE_CHECKING:
    from xorpack.decoders.gpu.resident import Resident


def arrays(encoded: EncodedTensor, mask: Words) -> dict[str, NDArray[Any]]:
    """See :class:`xorpack.decoders.gpu.masks.DeviceMask`; any codec's mask, as a bitmap."""
    layout = encoded.layout
    return {"mask": np.pad(by_visit(layout, mask).reshape(-1), (0, VISIT_PADDING * layout.panel_chunks))}


def plan(resident: Resident) -> Prelude:
    """See :class:`xorpack.decoders.gpu.masks.DeviceMask`."""
    return Prelude()
