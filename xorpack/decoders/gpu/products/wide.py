"""The algorithm ``wide``: 256 columns at a time, by asynchronous tensor cores (``kernels/wide.cu``)."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, ClassVar

import numpy as np

from xorpack.cuda.arrays import TYPES, ArrayView
from xorpack.cuda.launches import Launch
from xorpack.cuda.sources import Kernel
from xorpack.decoders.gpu.products.product import Product
from xorpack.decoders.gpu.resident import Step
from xorpack.encoded import EncodedTensor

COLUMNS = 256
"""Columns of activations at a time."""
ROWS = 128
"""Rows of a block."""
THREADS = 384
QUAD = 128
"""Columns of the weight that a step takes."""
STAGE_BYTES = 32 << 10
"""Activations of half a step."""
SHARED_BYTES = 227 << 10
"""Shared memory that a block can have (CUDA C++ programming guide, compute capability 9.0)."""
START_QUADS = 8
"""Quads in whose time a block begins, stores its sums, and these are added up: by counted bytes, not measured."""


class Wide(Product):
    """Weights rounded to the type of the activations.

    Attributes:
        PAIRS: how ``wide_activations`` orders columns.
        part_quads: quads of columns of a partial sum.
    """

    NAME: ClassVar[str] = "wide"
    PAIRS: ClassVar[bool]

    @staticmethod
    def why_not(encoded: EncodedTensor, n: int, x_dtype: str, shared_limit: int) -> str:
        """See :class:`Product`."""
        if x_dtype == "F32":
            return "activations are float32: weights would be rounded to 16 bits"
        if -(-n // COLUMNS) > 65535:
            return f"{n} columns are more than {COLUMNS * 65535}"
        if shared_limit < SHARED_BYTES:
            return f"{SHARED_BYTES} bytes of shared memory are needed, the device has {shared_limit}"
        return ""

    @property
    def step_quads(self) -> int:
        """Quads that no two parts share."""
        return 1

    @abstractmethod
    def main(self, dtype: str) -> tuple[Kernel, int]:
        """The kernel that multiplies, and its shared memory in bytes."""

    @abstractmethod
    def main_values(self, mask: np.uint64) -> tuple[Any, ...]:
        """Arguments of that kernel up to the activations."""

    @abstractmethod
    def gains(self) -> tuple[np.uint64, np.uint64]:
        """Gains of columns, float16 or null, and a power of two that none is above, the bits of a float32."""

    def set_up(self, n: int, dtype: str) -> list[Step]:
        """See :class:`Product`."""
        layout, passes = self.resident.layout, max(1, -(-n // COLUMNS))
        self._quads = max(1, -(-layout.cols // QUAD))
        blocks = max(1, -(-layout.rows // ROWS))
        self.part_quads = part_quads(
            self._quads, self.step_quads, blocks * passes, self.device.n_multiprocessors
        )
        self.n_parts = -(-self._quads // self.part_quads)
        self.workspace["activations"] = 2 * STAGE_BYTES * self._quads * passes
        kernel, shared_bytes = self.main(dtype)
        fill = Kernel.of("wide_activations", {"X": TYPES.index(dtype), "PAIRS": int(self.PAIRS)})
        self._steps = (
            (fill, Launch.of_threads(4096 * self._quads * passes)),
            (kernel, Launch(grid=(blocks, self.n_parts, passes), block=THREADS, shared_bytes=shared_bytes)),
        )
        return list(self._steps)

    def multiply(self, x: ArrayView, partial: int, mask: np.uint64, stream: Any) -> None:
        """See :class:`Product`."""
        self.launch(x, self.main_values(mask), partial, stream)

    def launch(self, x: ArrayView, values: tuple[Any, ...], out: int, stream: Any) -> None:
        """Order activations, and multiply to ``out`` by the kernel with arguments ``values``."""
        target, (fill, main) = self.device, self._steps
        activations = np.uint64(target.workspace(stream, "activations", self.workspace["activations"]))
        n, cols, passes = x.shape[0], self.resident.layout.cols, main[1].grid[2]
        seen = np.int64(x.strides[0]), np.int64(n), np.int64(cols), np.int64(self._quads)
        target.launch(
            *fill, (np.uint64(x.pointer), *self.gains(), *seen, np.int64(passes), activations), stream
        )
        span = np.int64(n), np.int64(self._quads), np.int64(self.part_quads)
        target.launch(*main, (*values, activations, *span, np.uint64(out)), stream)


def part_quads(quads: int, step: int, blocks: int, n_multiprocessors: int) -> int:
    """Quads of a part, whole steps of ``step``: those that make the rounds of all blocks shortest.

    A multiprocessor has one block at a time.
    """

    def cost(part: int) -> int:
        return -(-blocks * -(-quads // part) // n_multiprocessors) * (part + START_QUADS)

    steps = -(-quads // step)
    parts = range(1, min(steps, 4 * n_multiprocessors) + 1)
    return min((step * -(-steps // n) for n in parts), key=cost)
