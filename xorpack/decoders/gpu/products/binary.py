"""The algorithm ``binary``: decoded words as operands of binary tensor cores. One way for each kind of code."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, ClassVar

import numpy as np

from xorpack.cuda.arrays import TYPES, ArrayView
from xorpack.cuda.launches import Launch
from xorpack.cuda.sources import Kernel, Macros
from xorpack.decoders.gpu.products.product import Product
from xorpack.decoders.gpu.resident import Step

MAX_COLUMNS = 8
DIGITS = {
    ("float32", False): (3, 1),
    ("float32", True): (2, 2),
    ("fast", False): (2, 1),
    ("fast", True): (1, 4),
}
"""Products and copies (``kernels/binary.cu``) by precision, and whether sums are joined so often that fewer of them are
worth more products."""


class Binary(Product):
    """Unrounded values and activations of 24 bits, ``fast`` of 16 (``kernels/binary.cu``), a panel a part."""

    NAME: ClassVar[str] = "binary"

    @abstractmethod
    def main(self, n: int) -> Step:
        """The kernel that multiplies; sets ``n_parts``."""

    @abstractmethod
    def operands(self) -> tuple[int, int, int, int]:
        """Chunks of a panel, places for them, those of a lane that lie side by side, columns at a time."""

    @abstractmethod
    def main_values(
        self, n: int, activations: np.uint64, units: np.uint64, mask: np.uint64
    ) -> tuple[Any, ...]:
        """Arguments of the kernel up to where its sums go."""

    def set_up(self, n: int, dtype: str) -> list[Step]:
        """See :class:`Product`."""
        self._main = self.main(n)
        _, places, run, columns = self.operands()
        panels = -(-n // columns) * columns * self.n_parts
        main = dict(self._main[0].macros)
        digits = {name: int(main[name]) for name in ("PRODUCTS", "COPIES")}
        self.workspace["activations"] = panels * places // 8 * digits["PRODUCTS"] * digits["COPIES"] * 32 * 8
        self.workspace["units"] = panels * 4 * 4
        macros = {"PANEL": places, "RUN": run, "COLUMNS": columns}
        self._digits = digits_step(self.n_parts, n, macros | digits)
        return [self._digits, self._main]

    def multiply(self, x: ArrayView, partial: int, mask: np.uint64, stream: Any) -> None:
        """See :class:`Product`."""
        target = self.device
        activations = np.uint64(target.workspace(stream, "activations", self.workspace["activations"]))
        units = np.uint64(target.workspace(stream, "units", self.workspace["units"]))
        panel = (np.int64(self.resident.layout.cols), np.int64(self.operands()[0]))
        seen = (np.uint64(x.pointer), np.int64(TYPES.index(x.dtype)), np.int64(x.strides[0]))
        gains = self.resident.store.pointer("gains")
        target.launch(*self._digits, (*panel, gains, *seen, activations, units), stream)
        values = self.main_values(x.shape[0], activations, units, mask)
        target.launch(*self._main, (*values, np.uint64(partial)), stream)


def digit_macros(precision: str, *, often: bool) -> dict[str, int]:
    """How activations are cut into digits, see :data:`DIGITS`."""
    products, copies = DIGITS[precision, often]
    return {"PRODUCTS": products, "COPIES": copies}


def digits_step(n_panels: int, n: int, macros: Macros) -> Step:
    """The kernel that makes operands of ``n`` columns, as its ``macros`` say."""
    places = int(macros["PANEL"])
    launch = Launch(grid=(n_panels, n, 1), block=32 * places, shared_bytes=4 * places)
    return Kernel.of("digits", macros), launch
