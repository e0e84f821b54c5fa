"""Trellis tensors on a device: one code for all planes, rows in their own order. Kernels: ``kernels/trellis*.cu``."""

from __future__ import annotations

import struct
from typing import Any

import numpy as np

from xorpack.code.trellis import TrellisNetwork
from xorpack.cuda.arrays import TYPES
from xorpack.cuda.device import Device
from xorpack.cuda.launches import Launch
from xorpack.cuda.sources import Kernel, trellis_macros
from xorpack.decoders.gpu.launches import TILE_ROWS
from xorpack.decoders.gpu.order import is_skewed, reciprocal
from xorpack.decoders.gpu.packed import Packed
from xorpack.decoders.gpu.resident import Resident, Step
from xorpack.encoded import EncodedTensor
from xorpack.tensors import n_groups


class TrellisResident(Resident):
    """A trellis tensor, as arguments of kernels.

    Attributes:
        network: how planes come from the code.
        macros: of kernels that work on the weights.
        weights: arguments ``XP_WEIGHTS`` of kernels.
        outlier_unit: what outliers are multiplied by, the bits of a float32.
    """

    def __init__(self, encoded: EncodedTensor, packed: Packed, device: Device) -> None:
        super().__init__(encoded, packed, device)
        tensor, store = encoded.trellis(None), self.store
        rows, cols = encoded.rows, encoded.cols
        self.network: TrellisNetwork = tensor.network
        self.macros = trellis_macros(tensor.network) | {
            "SCALE": int(tensor.scales.dtype.itemsize == 2),
            "MASK": int(packed.mask is not None),
            "SKEW": int(is_skewed(self.layout)),
        }
        group = tensor.group_size or max(cols, 1)
        self.weights = (
            *(np.int64(rows), np.int64(cols), np.int64(self.layout.chunks)),
            *(store.pointer("code"), np.int64(len(tensor.code)), store.pointer("scales")),
            *(np.int64(group), np.int64(n_groups(cols, tensor.group_size)), np.uint64(reciprocal(group))),
            *(store.pointer("a"), store.pointer("gains")),
        )
        bits = struct.unpack("<I", struct.pack("<f", tensor.outlier_unit))[0]
        self.outlier_unit = np.uint64(bits)

    def _decode_kernels(self, dtype: str) -> tuple[Kernel, Kernel]:
        types = {"OWN": TYPES.index(self.encoded.dtype), "ELEMENT": TYPES.index(dtype)}
        macros = self.macros | types
        return Kernel.of("trellis_decode", macros), Kernel.of("trellis_outliers", macros)

    def _decode_launch(self, n_rows: int) -> Launch:
        return Launch.of_warps(-(-n_rows // TILE_ROWS) * self.layout.n_panels)

    def decode_steps(self, dtype: str, n_rows: int) -> list[Step]:
        """See :class:`Resident`."""
        decode, outliers = self._decode_kernels(dtype)
        steps = [(decode, self._decode_launch(n_rows))]
        if self.packed.n_corrections:
            steps.append((outliers, Launch.of_threads(self.packed.n_corrections)))
        return steps

    def decode(
        self, to: int, dtype: str, mask: np.uint64, first: int, last: int, by_index: bool, stream: Any
    ) -> None:
        """See :class:`Resident`. A row's index is the row, and a call that does not go by index is for all rows."""
        layout = self.layout
        steps = self.decode_steps(dtype, last - first)
        span = (np.int64(first), np.int64(last), np.uint64(to))
        panels = (np.int64(layout.panel_chunks), np.int64(layout.n_panels))
        args: list[tuple[np.generic, ...]] = [(*self.weights, mask, *panels, *span)]
        listed = (*self.corrections, np.int64(self.packed.n_corrections), self.outlier_unit)
        args.append((np.int64(layout.rows), np.int64(layout.cols), *listed, *span))
        for (kernel, launch), values in zip(steps, args, strict=False):
            self.device.launch(kernel, launch, values, stream)

    def finish_kernel(self) -> Kernel:
        """See :class:`Resident`."""
        return Kernel.of("trellis_finish", self.macros)

    def finish_values(
        self, partial: int, n_parts: int, part_cols: int, corrects: bool
    ) -> tuple[np.generic, ...]:
        """See :class:`Resident`."""
        return (
            *(*self.weights, np.uint64(partial), np.int64(n_parts), np.int64(part_cols)),
            *(*self.corrections, np.int64(0 if corrects else self.packed.n_corrections), self.outlier_unit),
        )
