"""Products by an encoded tensor on the CPU: rows are expanded as they are needed, never the whole matrix."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from xorpack import checks
from xorpack.decoders import cpu
from xorpack.decoders.products import fused
from xorpack.decoders.products.kept import Kept
from xorpack.decoders.products.planes import PlaneRows
from xorpack.decoders.products.tiles import Tiles
from xorpack.decoders.products.trellis import TrellisRows
from xorpack.decoders.trellis import LoadedTrellis
from xorpack.elements import Bcq
from xorpack.encoded import EncodedTensor
from xorpack.errors import ParameterError
from xorpack.product import PreparedProduct
from xorpack.tensors import PACKED_DTYPES

__all__ = ["EncodedProduct"]

MAX_FUSED = 32
"""Rows of x that are multiplied without weights; from there on, decoding costs less than BLAS saves."""


class EncodedProduct(PreparedProduct):
    """The product by an encoded tensor."""

    def __init__(self, encoded: EncodedTensor, *, jobs: int = 1) -> None:
        cpu.check_encoded(encoded)
        if encoded.dtype in PACKED_DTYPES:
            raise ParameterError(
                f"a tensor of {encoded.dtype} holds integers that a tool packed, so that products by it mean nothing: "
                f"decode it"
            )
        super().__init__(encoded.shape)
        kept = Kept(encoded, checks.whole("jobs", jobs, 1))
        loaded = cpu.load(encoded)
        self._tiles = Tiles(encoded, loaded, kept)
        self._rows = _rows(encoded, loaded, kept)

    def _multiply(self, x: NDArray[np.float32], out: NDArray[np.float32], jobs: int, rounded: bool) -> None:
        rows = self._rows
        if rows is not None and len(x) <= MAX_FUSED and fused.multiply(rows, x, out, jobs, rounded=rounded):
            return
        if rounded:
            with np.errstate(all="ignore"):
                steps = fused.steps_of(x)
                x = np.where(np.isfinite(steps), np.rint(x / steps) * steps, x)
        self._tiles.multiply(x, out, jobs)


def _rows(encoded: EncodedTensor, loaded: cpu.Loaded, kept: Kept) -> fused.FusedRows | None:
    """The tensor as rows that are expanded and multiplied at once, where it can be."""
    if not encoded.n_kept:
        return None
    if isinstance(loaded, cpu.LoadedPlanes) and isinstance(loaded.elements, Bcq):
        if PlaneRows.fits(loaded.stored, loaded.elements):
            return PlaneRows(loaded, loaded.elements, kept)
    elif isinstance(loaded, LoadedTrellis) and TrellisRows.fits(loaded.tensor):
        return TrellisRows(loaded, kept)
    return None
