"""The mask codec ``bmf``: the factors as they stand in the file, multiplied in one pass."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from xorpack.code.words import Words
from xorpack.decoders.gpu import plan as launches
from xorpack.decoders.gpu.lists import as_words
from xorpack.decoders.gpu.order import is_skewed
from xorpack.decoders.gpu.passes import Pass, Prelude
from xorpack.decoders.gpu.sources import Kernel
from xorpack.encoded import EncodedTensor
from xorpack.masks import Bmf

if TYPE_CHECKING:
    from xorpack.decoders.gpu.resident import Resident


def arrays(encoded: EncodedTensor, words: Words) -> dict[str, NDArray[Any]]:
    """See :class:`xorpack.decoders.gpu.masks.DeviceMask`."""
    mask = encoded.mask
    assert isinstance(mask, Bmf)
    return {"left": as_words(mask.left), "right": as_words(mask.right)}


def plan(resident: Resident) -> Prelude:
    """See :class:`xorpack.decoders.gpu.masks.DeviceMask`."""
    encoded, layout = resident.encoded, resident.encoded.layout
    mask = encoded.mask
    assert isinstance(mask, Bmf)
    numbers = map(np.int64, (mask.rank, mask.tile_rows, mask.tile_cols // 32, mask.n_tiles))
    product = Pass(
        kernel=Kernel.of("bmf_product", {"SKEW": int(is_skewed(layout))}),
        launch=launches.flat_launch(layout.n_panels * layout.rows * layout.panel_chunks),
        args=(*resident.order, resident.pointer("left"), resident.pointer("right"), *numbers, "mask"),
    )
    return Prelude(passes=[product], workspaces={"mask": resident.mask_bytes})
