"""The algorithm ``tensor_cores``: fragments decoded in registers (``kernels/matmul.cu``). For batches."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from xorpack.code.layout import Layout
from xorpack.cuda.arrays import TYPES, ArrayView
from xorpack.cuda.launches import Launch
from xorpack.cuda.sources import Kernel
from xorpack.decoders.gpu.launches import TILE_ROWS, tile_bytes
from xorpack.decoders.gpu.products.product import Product
from xorpack.decoders.gpu.resident import CodedResident, Step
from xorpack.encoded import EncodedTensor
from xorpack.tensors import n_groups

MATMUL_WARPS = 8
FRAGMENT_BYTES = 4 * 9 * 512
"""Shared memory for 8 columns of one part of the activations of a panel."""


class TensorCores(Product):
    """Unrounded values; float32 activations in three parts of 16 bits."""

    NAME: ClassVar[str] = "tensor_cores"

    resident: CodedResident

    @staticmethod
    def why_not(encoded: EncodedTensor, n: int, x_dtype: str, shared_limit: int) -> str:
        """See :class:`Product`."""
        if n_groups(encoded.cols, encoded.group_size) > 1 and encoded.group_size % 128:
            return f"scales change within 128 columns: group_size {encoded.group_size} is no multiple of 128"
        shared = matmul_shared(encoded.code.shape[0], 1, 1, n_parts_of(x_dtype))
        if shared > shared_limit:
            return f"{shared} bytes of shared memory are needed, the device has {shared_limit}"
        if -(-n // 8) > 65535:
            return f"{n} columns are more than {8 * 65535}"
        return ""

    def set_up(self, n: int, dtype: str) -> list[Step]:
        """See :class:`Product`."""
        resident, layout = self.resident, self.resident.encoded.layout
        limits = self.device.n_multiprocessors, self.device.shared_limit
        chosen = matmul_plan(layout, resident.n_planes, n, n_parts_of(dtype), *limits)
        self.n_parts = chosen.splits
        extra = {"X": TYPES.index(dtype), "TILES": chosen.tiles, "WARPS": chosen.launch.block // 32}
        shift = resident.packed.scale_order.shift(layout)
        self._main = Kernel.of("matmul", resident.macros | extra | {"GROUP_SHIFT": shift}), chosen.launch
        return [self._main]

    def multiply(self, x: ArrayView, partial: int, mask: np.uint64, stream: Any) -> None:
        """See :class:`Product`."""
        resident, (kernel, launch) = self.resident, self._main
        args = (
            *(*resident.order, *resident.code, mask, *resident.scales, np.uint64(x.pointer)),
            *(np.int64(x.strides[0]), np.int64(x.shape[0]), np.uint64(partial)),
        )
        self.device.launch(kernel, launch, args, stream)


def n_parts_of(dtype: str) -> int:
    """16-bit parts of an activation."""
    return 3 if dtype == "F32" else 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Matmul:
    """How ``matmul`` runs: groups of 8 columns a pass, parts of the sum over panels, launch."""

    tiles: int
    splits: int
    launch: Launch


def matmul_shared(n_planes: int, warps: int, tiles: int, parts: int) -> int:
    """Shared memory of a block of ``matmul`` in bytes; ``parts``: 16-bit parts of an activation."""
    return warps * tile_bytes(n_planes) + tiles * parts * FRAGMENT_BYTES


def matmul_plan(
    layout: Layout, n_planes: int, n: int, parts: int, n_multiprocessors: int, shared_limit: int
) -> Matmul:
    """Choose as many warps and columns as fit, and at least two blocks a multiprocessor, by cutting the panels."""
    warps, tiles = MATMUL_WARPS, 4
    while tiles > 1 and (8 * tiles >= 2 * n or matmul_shared(n_planes, warps, tiles, parts) > shared_limit):
        tiles //= 2
    while warps > 1 and matmul_shared(n_planes, warps, tiles, parts) > shared_limit:
        warps //= 2
    row_blocks = max(1, -(-layout.rows // (TILE_ROWS * warps)))
    passes = max(1, -(-n // (8 * tiles)))
    wanted = -(-2 * n_multiprocessors // (row_blocks * passes))
    splits = max(1, min(layout.n_panels, wanted))
    shared = matmul_shared(n_planes, warps, tiles, parts)
    launch = Launch(grid=(row_blocks, splits, passes), block=32 * warps, shared_bytes=shared)
    return Matmul(tiles=tiles, splits=splits, launch=launch)
