"""Products by an encoded tensor on the CPU: rows are decoded as they are needed, never the whole matrix."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from xorpack import checks
from xorpack.decoders.cpu import check_encoded
from xorpack.decoders.products.tiles import Tiles
from xorpack.encoded import EncodedTensor
from xorpack.product import PreparedProduct

__all__ = ["EncodedProduct"]


class EncodedProduct(PreparedProduct):
    """The product by an encoded tensor."""

    def __init__(self, encoded: EncodedTensor, *, jobs: int = 1) -> None:
        check_encoded(encoded)
        super().__init__(encoded.shape)
        self._tiles = Tiles(encoded, checks.whole("jobs", jobs, 1))

    def _multiply(self, x: NDArray[np.float32], out: NDArray[np.float32], jobs: int) -> None:
        self._tiles.multiply(x, out, jobs)
