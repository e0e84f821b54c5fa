"""What the algorithms of a product have in common: columns of partial sums, which a last kernel adds up."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, ClassVar

import numpy as np

from xorpack.code.layout import Layout
from xorpack.cuda.arrays import TYPES, ArrayView
from xorpack.cuda.launches import Launch
from xorpack.decoders.gpu.resident import Resident, Step
from xorpack.encoded import EncodedTensor

PRECISIONS = ("float32", "fast")
"""Of products, see :meth:`xorpack.decoders.gpu.GpuTensor.matmul`."""


class Product(ABC):
    """Products of a tensor by ``n`` columns of a type.

    Attributes:
        NAME: of the algorithm.
        CORRECTS: whether the sums of :meth:`multiply` are of corrected weights already.
        corrects: the same, of this tensor.
        steps: kernels with their launches, in order.
        workspace: bytes of scratch memory by purpose.
        n_parts: partial sums of an output.
        precision: one of :data:`PRECISIONS`, of which ``fast`` is for those that say so.
        finished: :meth:`multiply` gives the product itself.
        part_cols: columns of a part, where its sums are still to be multiplied by the weights' scale; else 0.
    """

    NAME: ClassVar[str]
    CORRECTS: ClassVar[bool] = False

    def __init__(self, resident: Resident, n: int, dtype: str, precision: str = PRECISIONS[0]) -> None:
        """Plan for ``n`` columns of ``dtype``; the algorithm must be one that can run."""
        layout = resident.layout
        self.resident, self.device, self.n_parts = resident, resident.device, 1
        self.corrects = self.CORRECTS
        self.part_cols, self.finished, self.precision = 0, False, precision
        self.steps, self.workspace = resident.prelude()
        self.steps += self.set_up(n, dtype)
        if self.finished:
            return
        self.workspace["partial"] = 4 * n * self.n_parts * layout.rows
        self._finish = (resident.finish_kernel(), finish_launch(layout, n))
        self.steps.append(self._finish)

    @staticmethod
    @abstractmethod
    def why_not(encoded: EncodedTensor, n: int, x_dtype: str, shared_limit: int) -> str:
        """Why the algorithm cannot multiply ``n`` columns of that type; "" where it can."""

    @staticmethod
    def pays(encoded: EncodedTensor) -> bool:
        """Whether ``auto`` takes the algorithm where it can multiply."""
        return True

    @abstractmethod
    def set_up(self, n: int, dtype: str) -> list[Step]:
        """Kernels that :meth:`multiply` launches; sets ``n_parts`` and adds to ``workspace``."""

    @abstractmethod
    def multiply(self, x: ArrayView, partial: int, mask: np.uint64, stream: Any) -> None:
        """Partial sums, float32 (n, n_parts, rows), to ``partial``; ``mask``: from :meth:`Resident.ready`."""

    def complete(self, x: ArrayView, out: ArrayView, mask: np.uint64, stream: Any) -> None:
        """The product, where :attr:`finished`."""
        raise NotImplementedError

    def run(self, x: ArrayView, out: ArrayView, stream: Any) -> None:
        """``out = x W^T``."""
        resident, target = self.resident, self.device
        if self.finished:
            self.complete(x, out, resident.ready(stream), stream)
            return
        partial = target.workspace(stream, "partial", self.workspace["partial"])
        self.multiply(x, partial, resident.ready(stream), stream)
        kernel, launch = self._finish
        args = (
            *resident.finish_values(partial, self.n_parts, self.part_cols, self.corrects),
            *(np.uint64(x.pointer), np.int64(TYPES.index(x.dtype)), np.int64(x.strides[0])),
            *(np.uint64(out.pointer), np.int64(TYPES.index(out.dtype)), np.int64(out.strides[0])),
        )
        target.launch(kernel, launch, args, stream)


def finish_launch(layout: Layout, n: int) -> Launch:
    """The launch of ``finish``."""
    return Launch(grid=(-(-layout.rows // 256), n, 1), block=256)
