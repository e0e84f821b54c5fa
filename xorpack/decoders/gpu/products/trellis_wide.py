"""The algorithm ``wide`` for trellis tensors without a mask (``kernels/trellis_wide.cu``)."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from xorpack.code.planes import TrellisPlanes
from xorpack.code.trellis import TrellisNetwork
from xorpack.cuda.arrays import TYPES, ArrayView
from xorpack.cuda.sources import Kernel
from xorpack.decoders.gpu.products.trellis_tiles import TrellisTiles, largest_gain
from xorpack.decoders.gpu.products.wide import QUAD, SHARED_BYTES, STAGE_BYTES, Wide
from xorpack.decoders.gpu.trellis import TrellisResident
from xorpack.elements import Trellis
from xorpack.encoded import EncodedTensor

ALIGNED = 64 << 10
"""Of shared memory's addresses that at which the table of levels begins is a multiple."""
MAX_STAGES = 4
OUTLIER_COLS = 2048
"""Columns of a list of outliers."""
MAX_PLANES = 7
"""Planes whose bits have places for levels of outliers too."""
PLACES = 8
"""Outliers of two rows in 32 columns, at the most, that have levels of their own."""
LARGEST = 16384
"""Outliers over the largest level, at the most, that float16 holds."""
SMALLEST = 1e-20
"""Scale of a row with outliers that has an inverse, at the least."""
FEW = 8192
"""Weights for an outlier with which ``auto`` decodes no tiles instead: by counted instructions, not measured."""
HELD = (16, 23)
"""Stored words of two rows, and those and planes, with which registers hold the words of the next quad too."""
EASY = (14, 6)
"""Stored words and planes with which four products have registers at once, not two."""


class TrellisWide(Wide):
    """Levels rounded to the type of the activations, scaled in float32; no mask, scales of rows."""

    PAIRS: ClassVar[bool] = False

    resident: TrellisResident

    @staticmethod
    def why_not(encoded: EncodedTensor, n: int, x_dtype: str, shared_limit: int) -> str:
        """See :class:`Product`."""
        reason = TrellisTiles.why_not(encoded, 1, x_dtype, shared_limit)
        reason = reason or Wide.why_not(encoded, n, x_dtype, shared_limit)
        if reason:
            return reason
        assert isinstance(encoded.planes, TrellisPlanes)
        network = encoded.planes.network
        if network.n_out > 2:
            return f"rows repeat their taps after {network.n_out}, more than 2"
        if network.n_stored(encoded.rows) >= 1 << 31 or encoded.cols >= 1 << 34:
            return "a column has 2^31 stored bits or more, or a row 2^34 weights"
        return ""

    @staticmethod
    def pays(encoded: EncodedTensor) -> bool:
        """See :class:`Product`. Outliers that are no levels are added to the sums one by one, for every column."""
        assert isinstance(encoded.elements, Trellis)
        return encoded.elements.n_outliers * FEW <= encoded.n_weights or _fit(encoded)

    def main(self, dtype: str) -> tuple[Kernel, int]:
        """See :class:`Wide`."""
        resident = self.resident
        self.corrects = _fit(resident.encoded)
        n_outliers = resident.packed.n_corrections
        special, shared_bytes = specialised(resident.network, outliers=bool(n_outliers) and self.corrects)
        macros = resident.macros | {"X": TYPES.index(dtype)} | special
        self.finished = self.n_parts == 1 and (self.corrects or not n_outliers)
        self.part_cols = QUAD * self.part_quads
        self._largest = np.uint64(largest_gain(resident.encoded))
        return Kernel.of("trellis_wide", macros), shared_bytes

    def gains(self) -> tuple[np.uint64, np.uint64]:
        """See :class:`Wide`."""
        return self.resident.store.pointer("gains"), self._largest

    def main_values(self, mask: np.uint64) -> tuple[Any, ...]:
        """See :class:`Wide`."""
        return self._values(0, 0, 0)

    def complete(self, x: ArrayView, out: ArrayView, mask: np.uint64, stream: Any) -> None:
        """See :class:`Product`."""
        self.launch(x, self._values(1, TYPES.index(out.dtype), out.strides[0]), out.pointer, stream)

    def _values(self, finished: int, out_type: int, stride: int) -> tuple[Any, ...]:
        resident, layout = self.resident, self.resident.layout
        store, tiles = resident.store, -(-layout.cols // OUTLIER_COLS)
        code = np.int64(layout.rows), np.int64(layout.chunks), store.pointer("code")
        levels = np.int64(resident.network.n_stored(layout.rows)), store.pointer("a"), self._largest
        outliers = *resident.corrections, np.int64(tiles), resident.outlier_unit
        out = np.int64(finished), np.int64(out_type), np.int64(stride)
        return (*code, *levels, store.pointer("scales"), *outliers, *out)


def _fit(encoded: EncodedTensor) -> bool:
    """Whether outliers are levels of their own: few in a place, and float16 holds them by the scales of their rows."""
    tensor = encoded.trellis(None)
    if tensor.gains is not None or tensor.network.n_planes > MAX_PLANES:
        return False
    rows, cols = np.divmod(tensor.positions, max(encoded.cols, 1))
    _, crowds = np.unique(rows // 2 * encoded.cols + cols // 32, return_counts=True)
    if crowds.max(initial=0) > PLACES:
        return False
    scales = np.abs(tensor.scales.astype(np.float64))[rows, 0]
    sizes = np.abs(tensor.values.astype(np.float64)) * tensor.outlier_unit
    most = float(np.abs(tensor.a.astype(np.float64)).sum())
    return bool(((sizes <= LARGEST * most * scales) & (scales >= SMALLEST)).all())


def specialised(network: TrellisNetwork, *, outliers: bool = False) -> tuple[dict[str, int], int]:
    """Macros of ``trellis_wide`` for a network, with which nothing is spilled, and its shared memory in bytes."""
    loaded, planes = network.window + network.n_in // network.n_out, network.n_planes
    early = loaded <= HELD[0] and loaded + planes <= HELD[1]
    easy = loaded <= EASY[0] and planes <= EASY[1]
    before = ALIGNED + 256 * ((1 << planes) + (64 if outliers else 0))
    stages = min(MAX_STAGES, (SHARED_BYTES - before) // STAGE_BYTES)
    macros = {
        "STAGES": stages,
        "GROUP": 4 if easy or not early else 2,
        "EARLY": int(early),
        "OUTLIERS": int(outliers),
    }
    return macros, before + stages * STAGE_BYTES
