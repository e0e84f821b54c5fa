"""The algorithm ``binary``: decoded words as operands of binary tensor cores (``kernels/trellis_product.cu``)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from xorpack.code.planes import TrellisPlanes
from xorpack.code.trellis import TrellisNetwork
from xorpack.decoders.gpu.arrays import TYPES, ArrayView
from xorpack.decoders.gpu.launches import Launch
from xorpack.decoders.gpu.products.product import Product
from xorpack.decoders.gpu.resident import Step
from xorpack.decoders.gpu.sources import Kernel
from xorpack.decoders.gpu.trellis import TrellisResident
from xorpack.encoded import EncodedTensor

MAX_COLUMNS = 8
COLUMNS = 4
"""Columns at a time, whose sums leave two blocks their registers."""
WARPS = 4
MAX_PERIOD = 16
"""Rows after which taps repeat, at the most: a loop is unrolled for them, and its code must fit in a cache."""
BODY = 8
"""Rows that a loop is unrolled for where the period allows it: with more, the compiler runs out of registers."""
MAX_WINDOW_WORDS = 80
"""Stored words that a lane holds for four chunks, else it has two: what leaves three blocks their registers."""
MAX_STRIPE = 256
"""Rows of a lane."""


class Binary(Product):
    """Unrounded values and activations of 24 bits, a panel a part; trellis tensors without a mask."""

    NAME: ClassVar[str] = "binary"

    resident: TrellisResident

    @staticmethod
    def why_not(encoded: EncodedTensor, n: int, x_dtype: str, shared_limit: int) -> str:
        """See :class:`Product`."""
        if not isinstance(encoded.planes, TrellisPlanes):
            return f"it is for trellis tensors, not {encoded.kind}"
        if encoded.n_kept != encoded.n_weights:
            return "some weights are pruned"
        if n > MAX_COLUMNS:
            return f"{n} columns are more than {MAX_COLUMNS}"
        network = encoded.planes.network
        period = math.lcm(2, network.n_out)
        if period > MAX_PERIOD:
            return f"pairs of rows repeat their taps after {period} rows, more than {MAX_PERIOD}"
        if encoded.group_size and encoded.group_size < encoded.cols and encoded.group_size % 256:
            return f"scales change within 256 columns: group_size {encoded.group_size} is no multiple of 256"
        if (network.n_stored(encoded.rows) + 1) * -(-encoded.cols // 32) >= 1 << 32:
            return "the code has 2^32 words or more"
        return ""

    def set_up(self, n: int, dtype: str) -> list[Step]:
        """See :class:`Product`."""
        resident, layout = self.resident, self.resident.layout
        chosen = plan(resident.network, layout.cols, resident.encoded.group_size, n)
        macros = resident.macros | chosen.macros(layout.chunks)
        self._n_panels = -(-layout.cols // chosen.part_cols)
        self._stripe, launch = chosen.launch(layout.rows, layout.cols, self.device.n_multiprocessors)
        self.part_cols, self.n_parts = chosen.part_cols, self._n_panels
        columns = -(-n // chosen.columns) * chosen.columns
        self.workspace["activations"] = columns * self._n_panels * chosen.chunks // 2 * 3 * 32 * 8
        self.workspace["units"] = columns * self._n_panels * 4
        warps = 4 * chosen.chunks
        bits = Launch(grid=(self._n_panels, n, 1), block=32 * warps, shared_bytes=4 * warps)
        self._steps = (
            (Kernel.of("trellis_bits", macros), bits),
            (Kernel.of("trellis_product", macros), launch),
        )
        return list(self._steps)

    def multiply(self, x: ArrayView, partial: int, mask: np.uint64, stream: Any) -> None:
        """See :class:`Product`."""
        resident, layout, target = self.resident, self.resident.layout, self.device
        activations = np.uint64(target.workspace(stream, "activations", self.workspace["activations"]))
        units = np.uint64(target.workspace(stream, "units", self.workspace["units"]))
        store, (bits, main) = resident.store, self._steps
        seen = (np.uint64(x.pointer), np.int64(TYPES.index(x.dtype)), np.int64(x.strides[0]))
        target.launch(
            *bits, (np.int64(layout.cols), store.pointer("gains"), *seen, activations, units), stream
        )
        m = resident.network.n_stored(layout.rows)
        code = (np.int64(layout.rows), np.int64(layout.chunks), store.pointer("code"), np.int64(m))
        walk = (store.pointer("a"), np.int64(self._stripe), np.int64(self._n_panels), np.int64(x.shape[0]))
        target.launch(*main, (*code, *walk, activations, units, np.uint64(partial)), stream)


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How ``trellis_product`` is specialised, for ``n`` columns of activations.

    Attributes:
        columns: at a time.
        chunks: of a lane.
        body: rows of the loop's body.
    """

    n: int
    columns: int
    chunks: int
    body: int

    @property
    def part_cols(self) -> int:
        """Columns of a panel."""
        return 128 * self.chunks

    @property
    def blocks(self) -> int:
        """Blocks of a multiprocessor."""
        return 3 if self.columns == 1 else 2

    def macros(self, n_chunks: int) -> dict[str, int | str]:
        """The macros of the kernel for a matrix of that many chunks."""
        return {
            "CHUNKS": self.chunks,
            "VECTOR": int(n_chunks % self.chunks == 0),
            "BODY": self.body,
            "WARPS": WARPS,
            "BLOCKS": self.blocks,
            "COLUMNS": self.columns,
        }

    def launch(self, rows: int, cols: int, n_multiprocessors: int) -> tuple[int, Launch]:
        """``(stripe, launch)``: rows of a lane such that all blocks run at once, or in as few rounds as it takes."""
        panel_blocks = max(1, -(-cols // (self.part_cols * WARPS)))
        row_blocks = max(1, n_multiprocessors * self.blocks // panel_blocks)
        most = MAX_STRIPE // self.body * self.body
        stripe = min(most, -(-max(rows, 1) // (8 * row_blocks * self.body)) * self.body)
        return stripe, Launch(
            grid=(-(-max(rows, 1) // (8 * stripe)), panel_blocks, -(-self.n // self.columns)),
            block=32 * WARPS,
        )


def plan(network: TrellisNetwork, cols: int, group_size: int, n: int) -> Plan:
    """The plan for ``n`` columns: a body of as many rows as bring new words for all carried over, if it can be."""
    period = math.lcm(2, network.n_out)
    body = period
    carried = network.window - 1 + -(-2 * network.n_in // network.n_out)
    while body + period <= BODY and body * network.n_in < carried * network.n_out:
        body += period
    held = network.window - 1 + -(-4 * network.n_in // network.n_out)
    narrow = cols <= 256 or 4 * held > MAX_WINDOW_WORDS or (0 < group_size < cols and group_size % 512)
    return Plan(n=n, columns=min(n, COLUMNS), chunks=2 if narrow else 4, body=body)
