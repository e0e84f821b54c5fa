"""The algorithm ``tables``: sums of 8 activations looked up (``kernels/matvec.cu``). For few columns."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from xorpack.code.layout import Layout
from xorpack.cuda.arrays import TYPES, ArrayView
from xorpack.cuda.launches import Launch
from xorpack.cuda.sources import Kernel
from xorpack.decoders.gpu.products.product import Product
from xorpack.decoders.gpu.resident import CodedResident, Step
from xorpack.encoded import EncodedTensor
from xorpack.tensors import n_groups


class Tables(Product):
    """Unrounded values, a panel a part."""

    NAME: ClassVar[str] = "tables"

    resident: CodedResident

    @staticmethod
    def why_not(encoded: EncodedTensor, n: int, x_dtype: str, shared_limit: int) -> str:
        """See :class:`Product`."""
        if n_groups(encoded.cols, encoded.group_size) > 1 and encoded.group_size % 32:
            return f"scales change within a word: group_size {encoded.group_size} is no multiple of 32"
        if n > 65535:
            return f"{n} columns are more than 65535"
        if shared_limit < 128 * 448:
            return f"{shared_limit} bytes of shared memory are less than {128 * 448}"
        return ""

    def set_up(self, n: int, dtype: str) -> list[Step]:
        """See :class:`Product`."""
        resident, layout = self.resident, self.resident.encoded.layout
        fields = table_fields(self.device.shared_limit)
        launch = matvec_launch(layout, n, resident.n_planes, self.device.n_multiprocessors, fields)
        self.n_parts = layout.n_panels
        shift = resident.packed.scale_order.shift(layout)
        macros = {"FIELDS": fields, "WARPS": launch.block // 32, "GROUP_SHIFT": shift}
        self._main = Kernel.of("matvec", resident.macros | macros), launch
        return [self._main]

    def multiply(self, x: ArrayView, partial: int, mask: np.uint64, stream: Any) -> None:
        """See :class:`Product`."""
        resident, (kernel, launch) = self.resident, self._main
        args = (
            *(*resident.order, *resident.code, mask, *resident.scales, np.uint64(x.pointer)),
            *(np.int64(TYPES.index(x.dtype)), np.int64(x.strides[0]), np.uint64(partial)),
        )
        self.device.launch(kernel, launch, args, stream)


def table_fields(shared_limit: int) -> int:
    """Fields that the tables cut a word into: 4 of 8 bits where 128 KiB of shared memory are there, else 5."""
    return 4 if shared_limit >= 128 << 10 else 5


def matvec_warps(n_planes: int) -> int:
    """Warps of a block: as many as leave each thread its registers, 128 or 168, without spills."""
    return 16 if n_planes <= 2 else 12


def matvec_launch(layout: Layout, n: int, n_planes: int, n_multiprocessors: int, fields: int) -> Launch:
    """The launch of ``matvec``: a block a multiprocessor, at least 64 visits each."""
    visits = layout.n_panels * layout.rows
    blocks = max(1, min(n_multiprocessors, -(-visits // 64)))
    return Launch(
        grid=(blocks, n, 1),
        block=32 * matvec_warps(n_planes),
        shared_bytes=128 * (1024 if fields == 4 else 448),
    )
