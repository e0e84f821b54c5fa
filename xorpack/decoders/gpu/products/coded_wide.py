"""The algorithm ``wide`` for planes that are coded one by one (``kernels/coded_wide.cu``)."""

from __future__ import annotations

import math
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from xorpack.cuda.arrays import TYPES
from xorpack.cuda.sources import Kernel
from xorpack.decoders.gpu.launches import tensor_macros
from xorpack.decoders.gpu.products.wide import SHARED_BYTES, STAGE_BYTES, Wide
from xorpack.decoders.gpu.resident import CodedResident
from xorpack.encoded import EncodedTensor
from xorpack.tensors import n_groups

BARRIER_BYTES = 128
TILE_BYTES = 8 * 16 * 36 * 4
"""Of all warps, for a plane or the mask."""
STAGES = (3, 6)
"""At the least, which keep the tensor cores busy, and at the most."""
MAX_WINDOWS = 3
"""Planes whose windows registers hold beside sums and operands."""
EASY_PLANES = 2
"""Planes with which four products have registers at once, not two."""


class CodedWide(Wide):
    """Sums of scales rounded to the type of the activations; groups of scales of a multiple of 128 columns."""

    CORRECTS: ClassVar[bool] = True
    PAIRS: ClassVar[bool] = True

    resident: CodedResident

    @staticmethod
    def why_not(encoded: EncodedTensor, n: int, x_dtype: str, shared_limit: int) -> str:
        """See :class:`Product`."""
        reason = Wide.why_not(encoded, n, x_dtype, shared_limit)
        if reason:
            return reason
        if n_groups(encoded.cols, encoded.group_size) > 1 and encoded.group_size % 128:
            return f"scales change within 128 columns: group_size {encoded.group_size} is no multiple of 128"
        if encoded.layout.panel_chunks % 4:
            return f"panels of {encoded.layout.panel_chunks} chunks, no multiple of 4"
        macros = tensor_macros(encoded, mask=True)
        n_planes = encoded.code.shape[0]
        if macros["UNROLLED"] and int(macros["WINDOW"]) > 1 and n_planes > MAX_WINDOWS:
            return f"windows of {n_planes} planes, more than {MAX_WINDOWS}, leave no registers for sums"
        if _stages(n_planes) < STAGES[0]:
            return f"tiles of {n_planes} planes leave no shared memory for activations"
        return ""

    def main(self, dtype: str) -> tuple[Kernel, int]:
        """See :class:`Wide`."""
        resident = self.resident
        encoded = resident.encoded
        assert encoded.scales is not None
        self._unit = _unit(encoded.scales)
        special, shared_bytes = specialised(resident.n_planes, n_groups(encoded.cols, encoded.group_size))
        macros = resident.macros | {"X": TYPES.index(dtype)} | special
        self.corrects = (
            resident.n_planes == encoded.bits
        )  # what is wrong in a constant plane is not in the tiles
        return Kernel.of("coded_wide", macros), shared_bytes

    @property
    def step_quads(self) -> int:
        """See :class:`Wide`."""
        return max(1, self.resident.layout.panel_chunks // 4)

    def gains(self) -> tuple[np.uint64, np.uint64]:
        """See :class:`Wide`."""
        return np.uint64(0), np.uint64(0)

    def main_values(self, mask: np.uint64) -> tuple[Any, ...]:
        """See :class:`Wide`."""
        resident = self.resident
        n_corrections = resident.packed.n_corrections if self.corrects else 0
        corrections = *resident.corrections, np.int64(n_corrections)
        return (*resident.order, *resident.code, mask, *resident.scales, *corrections, self._unit)


def specialised(n_planes: int, groups: int) -> tuple[dict[str, int], int]:
    """Macros of ``coded_wide`` for coded planes and groups of scales of a row, and its shared memory in bytes."""
    stages = _stages(n_planes)
    macros = {
        "STAGES": stages,
        "GROUP": 4 if n_planes <= EASY_PLANES else 2,
        "ROW_SCALES": int(groups == 1),
    }
    return macros, _before(n_planes) + stages * STAGE_BYTES


def _before(n_planes: int) -> int:
    return BARRIER_BYTES + (max(n_planes, 1) + 1) * TILE_BYTES


def _stages(n_planes: int) -> int:
    return min(STAGES[1], (SHARED_BYTES - _before(n_planes)) // STAGE_BYTES)


def _unit(scales: NDArray[np.floating[Any]]) -> np.uint64:
    """Bits of a float32: the least power of two that no scale is above, which float32 has with its inverse."""
    most = float(np.abs(scales.astype(np.float64)).max(initial=0.0))
    power = math.ceil(math.log2(most)) if most else 0
    return np.uint64(np.float32(2.0 ** min(max(power, -120), 120)).view(np.uint32))
