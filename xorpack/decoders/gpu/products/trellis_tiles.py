"""The algorithm ``trellis_tiles``: levels by bits of planes, in tensor cores (``kernels/trellis_matmul.cu``)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from xorpack.code.planes import TrellisPlanes
from xorpack.cuda.arrays import TYPES, ArrayView
from xorpack.cuda.launches import Launch
from xorpack.cuda.sources import Kernel
from xorpack.decoders.gpu.products.product import Product
from xorpack.decoders.gpu.resident import Step
from xorpack.decoders.gpu.trellis import TrellisResident
from xorpack.elements import Trellis
from xorpack.encoded import EncodedTensor

WARPS = 4
ROWS = 32 * WARPS
"""Rows of a block."""
QUAD = 128
"""Columns of the weight that a step takes."""
MAX_TILES = 8
"""Groups of 8 columns of activations for which weights are decoded once, at the most: what registers hold."""
MAX_PLANES = 8


class TrellisTiles(Product):
    """Levels rounded to the type of the activations, scaled in float32; no mask, scales of rows."""

    NAME: ClassVar[str] = "trellis_tiles"

    resident: TrellisResident

    @staticmethod
    def why_not(encoded: EncodedTensor, n: int, x_dtype: str, shared_limit: int) -> str:
        """See :class:`Product`."""
        if not isinstance(encoded.planes, TrellisPlanes) or not isinstance(encoded.elements, Trellis):
            return f"it is for trellis tensors, not {encoded.kind}"
        if encoded.n_kept != encoded.n_weights:
            return "some weights are pruned"
        if 0 < encoded.group_size < encoded.cols:
            return f"scales change within a row: group_size {encoded.group_size}"
        if x_dtype == "F32":
            return "activations are float32: weights would be rounded to 16 bits"
        if encoded.planes.network.n_planes > MAX_PLANES:
            return f"{encoded.planes.network.n_planes} planes are more than {MAX_PLANES}"
        if -(-n // (8 * MAX_TILES)) > 65535:
            return f"{n} columns are more than {8 * MAX_TILES * 65535}"
        return ""

    def set_up(self, n: int, dtype: str) -> list[Step]:
        """See :class:`Product`."""
        resident, layout = self.resident, self.resident.layout
        chosen = plan(layout.rows, layout.cols, n, self.device.n_multiprocessors)
        macros = resident.macros | {"X": TYPES.index(dtype), "TILES": chosen.tiles, "WARPS": WARPS}
        self.part_cols, self.n_parts = QUAD * chosen.part_quads, chosen.n_parts
        self._plan, self._largest = chosen, np.uint64(largest_gain(resident.encoded))
        passes = -(-max(n, 1) // (8 * chosen.tiles))
        self._n_tiles = np.int64(passes * chosen.tiles)
        words = 512 * chosen.quads * int(self._n_tiles)
        self.workspace["activations"] = 4 * words
        launch = Launch(
            grid=(-(-max(layout.rows, 1) // ROWS), chosen.n_parts, passes),
            block=32 * WARPS,
            shared_bytes=128 << resident.network.n_planes,
        )
        self._steps = (
            (Kernel.of("trellis_fragments", macros), Launch.of_threads(words // 2)),
            (Kernel.of("trellis_matmul", macros), launch),
        )
        return list(self._steps)

    def multiply(self, x: ArrayView, partial: int, mask: np.uint64, stream: Any) -> None:
        """See :class:`Product`."""
        resident, layout, target, chosen = self.resident, self.resident.layout, self.device, self._plan
        store, (fill, main) = resident.store, self._steps
        fragments = np.uint64(target.workspace(stream, "activations", self.workspace["activations"]))
        n, quads = x.shape[0], np.int64(chosen.quads)
        seen = (
            np.uint64(x.pointer),
            store.pointer("gains"),
            self._largest,
            np.int64(x.strides[0]),
            np.int64(n),
            np.int64(layout.cols),
        )
        target.launch(*fill, (*seen, quads, self._n_tiles, fragments), stream)
        code = np.int64(layout.rows), np.int64(layout.chunks), store.pointer("code")
        walk = (
            np.int64(resident.network.n_stored(layout.rows)),
            store.pointer("a"),
            self._largest,
            fragments,
            np.int64(n),
        )
        target.launch(
            *main,
            (*code, *walk, self._n_tiles, quads, np.int64(chosen.part_quads), np.uint64(partial)),
            stream,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class TilesPlan:
    """How ``trellis_matmul`` runs: groups of 8 columns at a time; quads of the weight's columns, and of a part."""

    tiles: int
    quads: int
    part_quads: int

    @property
    def n_parts(self) -> int:
        """Partial sums of an output."""
        return -(-self.quads // self.part_quads)


def plan(rows: int, cols: int, n: int, n_multiprocessors: int) -> TilesPlan:
    """As many columns at a time as there are, and at least two blocks a multiprocessor, by cutting rows into parts."""
    tiles = 1
    while tiles < MAX_TILES and 8 * tiles < n:
        tiles *= 2
    quads = max(1, -(-cols // QUAD))
    blocks = max(1, -(-rows // ROWS) * -(-n // (8 * tiles)))
    parts = min(quads, max(1, -(-2 * n_multiprocessors // blocks)))
    return TilesPlan(tiles=tiles, quads=quads, part_quads=-(-quads // parts))


def largest_gain(encoded: EncodedTensor) -> int:
    """Bits of a float32: the least power of two that no gain is above; 1 without gains."""
    gains = encoded.trellis(None).gains
    most = 1.0 if gains is None else float(np.abs(gains.astype(np.float32)).max(initial=2.0**-24))
    return int(np.float32(2.0 ** math.ceil(math.log2(most or 1.0))).view(np.uint32))
