"""What a mask codec does on the device."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from xorpack.code.layout import Layout
from xorpack.code.planes import CodedPlanes
from xorpack.decoders.gpu.order import MASK_PADDING, coded_order
from xorpack.decoders.gpu.passes import Prelude
from xorpack.decoders.gpu.store import Store
from xorpack.masks import Mask

M = TypeVar("M", bound=Mask)


@dataclass(frozen=True, slots=True, eq=False)
class DeviceMask(ABC, Generic[M]):
    """A mask of one codec. Decoded, it is words in order of visits (``kernels/common.cu``).

    Attributes:
        mask: as it is stored.
        tensor: the code of the tensor's planes, whose order of visits the words have.
    """

    mask: M
    tensor: CodedPlanes

    @abstractmethod
    def arrays(self) -> dict[str, NDArray[Any]]:
        """What to upload, by name."""

    @abstractmethod
    def prelude(self, store: Store) -> Prelude:
        """The passes that decode the mask into the workspace ``mask``, once its arrays are in ``store``; none where
        its array ``mask`` holds the words already.
        """

    @property
    def layout(self) -> Layout:
        """The tensor's order of coding."""
        return self.tensor.layout

    @property
    def order(self) -> tuple[np.generic, ...]:
        """The parameters ``XP_ORDER`` of a kernel."""
        return coded_order(self.tensor)

    @property
    def n_bytes(self) -> int:
        """Bytes of the words and their padding."""
        layout = self.layout
        return 4 * (layout.n_panels * layout.rows + MASK_PADDING) * layout.panel_chunks
