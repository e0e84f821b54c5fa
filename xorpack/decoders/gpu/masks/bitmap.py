"""A mask of one bit per weight: it lies as the kernels read it."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from xorpack.decoders.gpu.masks.mask import DeviceMask
from xorpack.decoders.gpu.order import MASK_PADDING, by_visit
from xorpack.decoders.gpu.passes import Prelude
from xorpack.decoders.gpu.store import Store
from xorpack.masks import Bitmap


class DeviceBitmap(DeviceMask[Bitmap]):
    """The words themselves."""

    __slots__ = ()

    def arrays(self) -> dict[str, NDArray[Any]]:
        """See :class:`DeviceMask`."""
        layout = self.layout
        words = by_visit(layout, self.mask.words(0, layout.rows))
        return {"mask": np.pad(words.reshape(-1), (0, MASK_PADDING * layout.panel_chunks))}

    def prelude(self, store: Store) -> Prelude:
        """See :class:`DeviceMask`."""
        return Prelude()
