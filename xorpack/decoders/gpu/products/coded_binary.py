"""The algorithm ``binary`` for planes that are coded one by one (``kernels/coded_product.cu``)."""

from __future__ import annotations

from typing import Any

import numpy as np

from xorpack.code.layout import PANEL_CHUNKS, Layout
from xorpack.cuda.launches import Launch
from xorpack.cuda.sources import Kernel, Macros
from xorpack.decoders.gpu.launches import tensor_macros
from xorpack.decoders.gpu.order import ScaleOrder
from xorpack.decoders.gpu.products.binary import MAX_COLUMNS, Binary, digit_macros
from xorpack.decoders.gpu.products.product import PRECISIONS
from xorpack.decoders.gpu.resident import CodedResident, Step
from xorpack.encoded import EncodedTensor

ROWS = 16
"""Rows that a warp decodes before it multiplies."""
AHEAD = 4
"""Stored words that a lane has loaded ahead."""
PANEL_SHIFT = 5
"""``log2`` of the chunks of a group that is a panel or more."""
MAX_NARROW = 2
"""Planes whose windows leave twelve warps of a multiprocessor their registers, else it has eight, as where scales of
groups are held for many columns."""


class CodedBinary(Binary):
    """Tensors whose window stays in registers and whose groups of scales begin with panels."""

    resident: CodedResident

    @staticmethod
    def why_not(encoded: EncodedTensor, n: int, x_dtype: str, shared_limit: int) -> str:
        """See :class:`Product`."""
        if n > MAX_COLUMNS:
            return f"{n} columns are more than {MAX_COLUMNS}"
        macros = tensor_macros(encoded, mask=True)
        if not macros["UNROLLED"]:
            return "a warp cannot keep this code's window in registers"
        if 2 * ROWS % int(macros["DISTINCT"]):
            return f"taps repeat after {macros['DISTINCT']} steps, which do not divide {2 * ROWS}"
        shift = ScaleOrder.of(encoded.layout, encoded.group_size, encoded.bits).shift(encoded.layout)
        if shift < 2:
            return f"scales change within 128 columns or a panel: group_size {encoded.group_size}"
        return ""

    def main(self, n: int) -> Step:
        """See :class:`Binary`."""
        resident, layout = self.resident, self.resident.layout
        self.n_parts = layout.n_panels
        shift = resident.packed.scale_order.shift(layout)
        macros = resident.macros | coded_macros(resident.n_planes, shift, n, self.precision)
        launch = coded_launch(layout, macros, self.device.n_multiprocessors)
        return Kernel.of("coded_product", macros), launch

    def operands(self) -> tuple[int, int, int, int]:
        """See :class:`Binary`."""
        return self.resident.layout.panel_chunks, PANEL_CHUNKS, 1, 1

    def main_values(
        self, n: int, activations: np.uint64, units: np.uint64, mask: np.uint64
    ) -> tuple[Any, ...]:
        """See :class:`Binary`."""
        resident = self.resident
        return (
            *(*resident.order, resident.store.pointer("code"), mask, *resident.scales),
            *(np.int64(n), activations, units),
        )


def coded_macros(
    n_planes: int, group_shift: int, n: int, precision: str = PRECISIONS[0]
) -> dict[str, int | str]:
    """How ``coded_product`` is specialised for ``n`` columns, besides the tensor."""
    groups = group_shift < PANEL_SHIFT
    return {
        **digit_macros(precision, often=groups),
        "GROUP_SHIFT": group_shift,
        "BLOCKS": 8 if n_planes > MAX_NARROW or (groups and n > 1) else 12,
        "SOON": 8 if groups or n > 1 else ROWS,
        "AHEAD": AHEAD,
        "ONE": int(n == 1),
    }


def coded_launch(layout: Layout, macros: Macros, n_multiprocessors: int) -> Launch:
    """All blocks that run at once, fewer where warps would have less than 16 visits."""
    visits, words = layout.n_panels * layout.rows, int(macros["PLANES"]) + int(macros["MASK"])
    grid = max(1, min(n_multiprocessors * int(macros["BLOCKS"]), -(-visits // ROWS)))
    return Launch(grid=(grid, 1, 1), block=32, shared_bytes=4 * ROWS * PANEL_CHUNKS * words)
