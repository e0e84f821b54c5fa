"""The compressed form on a device, and the launches that decode it. What :class:`GpuTensor` is built on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from xorpack.decoders.gpu import plan
from xorpack.decoders.gpu.arrays import TYPES
from xorpack.decoders.gpu.device import Device
from xorpack.decoders.gpu.order import order_values
from xorpack.decoders.gpu.packed import GROUP_PADDING, ROW_GROUP, VISIT_PADDING, Packed
from xorpack.decoders.gpu.plan import Launch
from xorpack.decoders.gpu.sources import Kernel, Macros
from xorpack.encoded import EncodedTensor
from xorpack.tensors import DTYPES

Step = tuple[Kernel, Launch]


class Resident:
    """Arrays of a :class:`Packed` on ``device``, as arguments of kernels."""

    def __init__(self, encoded: EncodedTensor, packed: Packed, device: Device) -> None:
        self.encoded, self.packed, self.device = encoded, packed, device
        self.arrays = {name: device.upload(array) for name, array in packed.arrays.items() if array.size}
        layout, network = encoded.layout, encoded.network
        self.order = order_values(layout, network, encoded.m_lane)
        self.macros = plan.tensor_macros(encoded, mask=packed.mask_form in ("bitmap", "cascade"))
        self.code = (self._pointer("code"), self._pointer("taps"))
        self.scales = (self._scale_pointer(), *packed.scale_order.values())
        self.corrections = tuple(self._pointer(name) for name in ("starts", "entries", "values"))
        self.n_planes = encoded.code.shape[0]
        self.mask_bytes = 4 * (layout.n_panels * layout.rows + VISIT_PADDING) * layout.panel_chunks
        self._mask_steps = self._plan_mask() if packed.mask_form == "cascade" else []
        self._last_order: Sequence[np.generic] = ()
        if self._mask_steps:
            self._last_order = order_values(layout, network, encoded.mask_config["m_last"])
        self._decode_kernels: dict[str, tuple[Kernel, Kernel]] = {}

    @property
    def is_zero(self) -> bool:
        """Whether every weight is pruned, or there is none."""
        return self.packed.mask_form == "zeros" or not self.encoded.rows * self.encoded.cols

    def _pointer(self, name: str) -> np.uint64:
        return np.uint64(self.device.pointer(self.arrays[name]) if name in self.arrays else 0)

    def _scale_pointer(self) -> np.uint64:
        """Of the first row index, behind the padding."""
        pointer = self._pointer("scales")
        if not pointer:
            return pointer
        padding = VISIT_PADDING * self.packed.scale_order.row + GROUP_PADDING * self.encoded.bits
        return np.uint64(int(pointer) + padding * self.arrays["scales"].itemsize)

    def decode_launch(self, n_rows: int, n_planes: int) -> Launch:
        """Of a kernel that decodes ``n_rows`` row indices of all panels."""
        limits = self.device.n_multiprocessors, self.device.shared_limit
        return plan.decode_launch(self.encoded.layout, n_rows, n_planes, *limits)

    # The mask

    def _plan_mask(self) -> list[Step]:
        encoded, config = self.encoded, self.encoded.mask_config
        passes = (
            ("mask_candidates", encoded.m_lane, config["n_filters"]),
            ("mask_last", config["m_last"], 1),
        )
        steps = []
        for name, m_lane, n_planes in passes:
            macros = plan.coded_macros(encoded.layout, encoded.network, m_lane, n_planes)
            steps.append((Kernel.of(name, macros), self.decode_launch(encoded.rows, n_planes)))
        if "flips" in self.arrays:
            macros["WIDE"] = int(self.packed.arrays["flips"].itemsize == 8)
            steps.append((Kernel.of("mask_flip", macros), plan.flat_launch(config["n_corrections"])))
        return steps

    def mask(self, stream: Any) -> np.uint64:
        """The mask's words in order of visits; a cascade is decoded into the stream's workspace first."""
        if not self._mask_steps:
            return self._pointer("mask")
        mask = np.uint64(self.device.workspace(stream, "mask", self.mask_bytes))
        for kernel, launch in self._mask_steps:
            args: tuple[Any, ...]
            if kernel.name == "mask_candidates":
                args = (*self.order, self._pointer("filters"), self.code[1], mask)
            elif kernel.name == "mask_last":
                args = (*self._last_order, self._pointer("last"), self.code[1], mask)
            else:
                args = (self._pointer("flips"), np.int64(self.encoded.mask_config["n_corrections"]), mask)
            self.device.launch(kernel, launch, args, stream)
        return mask

    def mask_steps(self) -> list[Step]:
        """Kernels that :meth:`mask` launches."""
        return list(self._mask_steps)

    # Planes and elements

    def words_kernel(self) -> Kernel:
        """Of the coded planes."""
        return Kernel.of("decode_words", self.macros)

    def decode_words(self, to: int, stream: Any) -> None:
        """All coded planes, row-major, ANDed with the mask."""
        mask = self.mask(stream)
        launch = self.decode_launch(self.encoded.rows, self.n_planes)
        self.device.launch(
            self.words_kernel(), launch, (*self.order, *self.code, mask, np.uint64(to)), stream
        )

    def decode_kernels(self, dtype: str) -> tuple[Kernel, Kernel]:
        """decode_dense and correct_dense for elements of ``dtype``."""
        if dtype not in self._decode_kernels:
            macros: Macros = self.macros
            if self.encoded.scales is None:
                macros = {**macros, "LOSSLESS": DTYPES[dtype].itemsize}
            else:
                own, element = TYPES.index(self.encoded.dtype), TYPES.index(dtype)
                macros = {**macros, "LOSSLESS": 0, "OWN": own, "ELEMENT": element}
            pair = Kernel.of("decode_dense", macros), Kernel.of("correct_dense", macros)
            self._decode_kernels[dtype] = pair
        return self._decode_kernels[dtype]

    def decode(
        self, to: int, dtype: str, mask: np.uint64, first: int, last: int, by_index: bool, stream: Any
    ) -> None:
        """Elements of row indices ``first .. last - 1``: at their index from ``first``, or at their row."""
        dense, correct = self.decode_kernels(dtype)
        span = (np.int64(first), np.int64(last), np.int64(by_index), np.uint64(to))
        launch = self.decode_launch(last - first, self.n_planes)
        self.device.launch(dense, launch, (*self.order, *self.code, mask, *self.scales, *span), stream)
        n = self.packed.n_corrections
        if n:
            counts = (np.int64(-(-self.encoded.rows // ROW_GROUP)), np.int64(n))
            args = (*self.order, *self.scales, *self.corrections, *counts, *span)
            self.device.launch(correct, plan.flat_launch(n), args, stream)
