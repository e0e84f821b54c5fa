"""The algorithm ``binary`` for trellis tensors without a mask (``kernels/trellis_product.cu``)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from xorpack.code.planes import TrellisPlanes
from xorpack.code.trellis import MAX_PLANES, TrellisNetwork
from xorpack.cuda.launches import Launch
from xorpack.cuda.sources import Kernel
from xorpack.decoders.gpu.products.binary import MAX_COLUMNS, Binary, digit_macros
from xorpack.decoders.gpu.resident import Step
from xorpack.decoders.gpu.trellis import TrellisResident
from xorpack.encoded import EncodedTensor

WARPS = 4
COLUMNS = 4
"""Columns at a time, whose sums leave two blocks their registers."""
MAX_PERIOD = 16
"""Rows after which taps repeat, at the most: a loop is unrolled for them, and its code must fit in a cache."""
BODY = 8
"""Rows that a loop is unrolled for where the period allows it: with more, the compiler runs out of registers."""
MAX_WINDOW_WORDS = 80
"""Stored words that a lane holds for four chunks, else it has two: what leaves three blocks their registers."""
MAX_STRIPE = 256
"""Rows of a lane."""


class TrellisBinary(Binary):
    """Trellis tensors without a mask."""

    resident: TrellisResident

    @staticmethod
    def why_not(encoded: EncodedTensor, n: int, x_dtype: str, shared_limit: int) -> str:
        """See :class:`Product`."""
        assert isinstance(encoded.planes, TrellisPlanes)
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

    def main(self, n: int) -> Step:
        """See :class:`Binary`."""
        resident, layout = self.resident, self.resident.layout
        self._plan = plan(resident.network, layout.cols, resident.encoded.group_size, n)
        self.part_cols, self.n_parts = self._plan.part_cols, -(-layout.cols // self._plan.part_cols)
        twice = np.zeros(MAX_PLANES, np.float32)
        twice[: resident.network.n_planes] = 2 * resident.a
        self._twice = tuple(twice.view(np.uint64))
        digits = digit_macros(self.precision, often=False)
        sizes = layout.rows, layout.cols, self.device.n_multiprocessors
        self._stripe, launch = self._plan.launch(*sizes, digits["PRODUCTS"])
        macros = resident.macros | self._plan.macros(layout.chunks) | digits
        return Kernel.of("trellis_product", macros), launch

    def operands(self) -> tuple[int, int, int, int]:
        """See :class:`Binary`."""
        chosen = self._plan
        return 4 * chosen.chunks, 4 * chosen.chunks, chosen.chunks, chosen.columns

    def main_values(
        self, n: int, activations: np.uint64, units: np.uint64, mask: np.uint64
    ) -> tuple[Any, ...]:
        """See :class:`Binary`."""
        resident, layout, store = self.resident, self.resident.layout, self.resident.store
        m = resident.network.n_stored(layout.rows)
        code = (np.int64(layout.rows), np.int64(layout.chunks), store.pointer("code"), np.int64(m))
        walk = np.int64(self._stripe), np.int64(self.n_parts), np.int64(n)
        return (*code, *self._twice, *walk, activations, units)


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

    def launch(self, rows: int, cols: int, n_multiprocessors: int, products: int) -> tuple[int, Launch]:
        """``(stripe, launch)``: rows of a lane such that all blocks run at once, or in as few rounds as it takes.

        In shared memory lies what digits are worth, and where there are several columns their digits, of ``products``
        each (``kernels/binary.cu``).
        """
        held = 1 + (self.columns > 1) * self.chunks // 2 * products
        panel_blocks = max(1, -(-cols // (self.part_cols * WARPS)))
        row_blocks = max(1, n_multiprocessors * self.blocks // panel_blocks)
        most = MAX_STRIPE // self.body * self.body
        stripe = min(most, -(-max(rows, 1) // (8 * row_blocks * self.body)) * self.body)
        return stripe, Launch(
            grid=(-(-max(rows, 1) // (8 * stripe)), panel_blocks, -(-self.n // self.columns)),
            block=32 * WARPS,
            shared_bytes=256 * WARPS * self.columns * held,
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
