"""Masks on the device: for every codec of :mod:`xorpack.masks` what is uploaded, and the passes that decode it.

A decoded mask is words in order of visits (``kernels/common.cu``).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Protocol

from numpy.typing import NDArray

from xorpack.code.words import Words
from xorpack.decoders.gpu.masks import bitmap, block, bmf, cascade
from xorpack.encoded import EncodedTensor
from xorpack.masks import Bitmap, Block, Bmf, Cascade

if TYPE_CHECKING:
    from xorpack.decoders.gpu.passes import Prelude
    from xorpack.decoders.gpu.resident import Resident


class DeviceMask(Protocol):
    """What a module of this package does."""

    def arrays(self, encoded: EncodedTensor, mask: Words) -> dict[str, NDArray[Any]]:
        """What to upload, by name; ``mask``: decoded, uint32 (rows, chunks)."""

    def plan(self, resident: Resident) -> Prelude:
        """The passes, once the arrays are on the device."""


CODECS: Mapping[str, DeviceMask] = {
    Bitmap.NAME: bitmap,
    Cascade.NAME: cascade,
    Block.NAME: block,
    Bmf.NAME: bmf,
}
"""By the name in the file. ``constant`` needs none: where every weight is kept, or none, no mask is read."""
