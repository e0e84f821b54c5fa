"""The mask codec ``bmf``: the factors as they stand in the file, multiplied in one pass."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from xorpack.cuda.launches import Launch
from xorpack.cuda.sources import Kernel
from xorpack.decoders.gpu.lists import as_words
from xorpack.decoders.gpu.masks.mask import DeviceMask
from xorpack.decoders.gpu.order import is_skewed
from xorpack.decoders.gpu.passes import Pass, Prelude
from xorpack.decoders.gpu.store import Store
from xorpack.masks import Bmf


class DeviceBmf(DeviceMask[Bmf]):
    """Two factors."""

    __slots__ = ()

    def arrays(self) -> dict[str, NDArray[Any]]:
        """See :class:`DeviceMask`."""
        return {"left": as_words(self.mask.left), "right": as_words(self.mask.right)}

    def prelude(self, store: Store) -> Prelude:
        """See :class:`DeviceMask`."""
        mask, layout = self.mask, self.layout
        numbers = map(np.int64, (mask.rank, mask.tile_rows, mask.tile_cols // 32, mask.n_tiles))
        product = Pass(
            kernel=Kernel.of("bmf_product", {"SKEW": int(is_skewed(layout))}),
            launch=Launch.of_threads(layout.n_panels * layout.rows * layout.panel_chunks),
            args=(*self.order, store.pointer("left"), store.pointer("right"), *numbers, "mask"),
        )
        return Prelude(passes=[product], workspaces={"mask": self.n_bytes})
