"""The compressed form on a device, and the launches that decode it. What :class:`GpuTensor` is built on."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xorpack.code.layout import Layout
from xorpack.code.network import XorNetwork
from xorpack.decoders.gpu import fields, masks, plan
from xorpack.decoders.gpu.arrays import TYPES
from xorpack.decoders.gpu.device import Device
from xorpack.decoders.gpu.order import VISIT_PADDING, order_values, tap_table
from xorpack.decoders.gpu.packed import Packed
from xorpack.decoders.gpu.passes import Pass, Prelude
from xorpack.decoders.gpu.plan import Launch
from xorpack.decoders.gpu.sources import Kernel, Macros
from xorpack.encoded import EncodedTensor
from xorpack.tensors import DTYPES

Step = tuple[Kernel, Launch]


class Resident:
    """Arrays of a :class:`Packed` on ``device``, as arguments of kernels.

    Attributes:
        arrays: the tensor's own, by name.
        shared_bytes: constants that it shares with other tensors, by name.
        order: of the planes' code, as kernels take it.
    """

    def __init__(self, encoded: EncodedTensor, packed: Packed, device: Device) -> None:
        self.encoded, self.packed, self.device = encoded, packed, device
        self.arrays = {name: device.upload(array) for name, array in packed.arrays.items() if array.size}
        self.shared_bytes: dict[Hashable, int] = {}
        layout, network = encoded.layout, encoded.network
        self.order = order_values(layout, network, encoded.m_lane)
        self.macros = plan.tensor_macros(encoded, mask=packed.mask_form in masks.CODECS)
        self.code = (self.pointer("code"), self.taps(network))
        self.scales = (self._scale_pointer(), *packed.scale_order.values())
        self.corrections = tuple(self.pointer(name) for name in ("starts", "entries", "values"))
        self.n_planes = encoded.code.shape[0]
        self.mask_bytes = 4 * (layout.n_panels * layout.rows + VISIT_PADDING) * layout.panel_chunks
        coded = packed.mask_form in masks.CODECS and not self.is_zero
        self._mask = masks.CODECS[packed.mask_form].plan(self) if coded else Prelude()
        self._field = Prelude() if encoded.field is None else fields.prelude(self, encoded.field)
        self._decode_kernels: dict[str, tuple[Kernel, Kernel]] = {}

    @property
    def is_zero(self) -> bool:
        """Whether every weight is pruned, or there is none."""
        return self.packed.mask_form == "zeros" or not self.encoded.rows * self.encoded.cols

    def pointer(self, name: str) -> np.uint64:
        """Of an array of the tensor; 0 where it has none."""
        return np.uint64(self.device.pointer(self.arrays[name]) if name in self.arrays else 0)

    def constant(self, key: Hashable, make: Callable[[], NDArray[Any]]) -> np.uint64:
        """Pointer to a constant that tensors share."""
        array = self.device.constant(key, make)
        self.shared_bytes[key] = int(array.nbytes)
        return np.uint64(self.device.pointer(array))

    def taps(self, network: XorNetwork) -> np.uint64:
        """Pointer to a network's taps."""
        return self.constant(network, lambda: tap_table(network).reshape(-1))

    def _scale_pointer(self) -> np.uint64:
        """Of the first row index, behind the padding."""
        pointer = self.pointer("scales")
        if not pointer:
            return pointer
        return np.uint64(int(pointer) + self.packed.scale_order.padding * self.arrays["scales"].itemsize)

    def decode_launch(self, layout: Layout, n_rows: int, n_planes: int) -> Launch:
        """Of a kernel that decodes ``n_rows`` row indices of all panels of ``layout``."""
        limits = self.device.n_multiprocessors, self.device.shared_limit
        return plan.decode_launch(layout, n_rows, n_planes, *limits)

    # The mask

    def flip_passes(self, starts: str, entries: str, words: str) -> list[Pass]:
        """The pass that inverts listed bits of the workspace ``words``; none where nothing is listed."""
        if entries not in self.arrays:
            return []
        n, n_lists = self.arrays[entries].size, self.arrays[starts].size - 1
        args = (self.pointer(starts), np.int64(n_lists), self.pointer(entries), np.int64(n), words)
        return [Pass(kernel=Kernel.of("flip", {}), launch=plan.flat_launch(n), args=args)]

    def mask(self, stream: Any) -> np.uint64:
        """The mask's words in order of visits, decoded into the stream's workspace first where they are coded."""
        self._run(self._mask, stream)
        if not self._mask.passes:
            return self.pointer("mask")
        return np.uint64(self.device.workspace(stream, "mask", self.mask_bytes))

    def prelude(self) -> tuple[list[Step], dict[str, int]]:
        """Kernels that run before those of a call, and the workspaces that they fill."""
        both = (self._mask, self._field)
        steps = [(each.kernel, each.launch) for prelude in both for each in prelude.passes]
        return steps, {**self._mask.workspaces, **self._field.workspaces}

    def _run(self, prelude: Prelude, stream: Any) -> None:
        if prelude.clear:
            size = prelude.workspaces[prelude.clear]
            self.device.fill_zero(self.device.workspace(stream, prelude.clear, size), size, stream)
        for each in prelude.passes:
            self._launch(each, prelude, stream)

    def _launch(self, each: Pass, prelude: Prelude, stream: Any) -> None:
        def value(arg: np.generic | str) -> np.generic:
            if isinstance(arg, str):
                return np.uint64(self.device.workspace(stream, arg, prelude.workspaces[arg]))
            return arg

        self.device.launch(each.kernel, each.launch, tuple(map(value, each.args)), stream)

    # Planes and elements

    def words_kernel(self) -> Kernel:
        """Of the coded planes."""
        return Kernel.of("decode_words", self.macros)

    def decode_words(self, to: int, stream: Any) -> None:
        """All coded planes, row-major, ANDed with the mask."""
        mask = self.mask(stream)
        launch = self.decode_launch(self.encoded.layout, self.encoded.rows, self.n_planes)
        args = (*self.order, *self.code, mask, np.uint64(to))
        self.device.launch(self.words_kernel(), launch, args, stream)

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

    def ready(self, stream: Any) -> np.uint64:
        """:meth:`mask`, with all else that :meth:`decode` needs before its first call on ``stream``."""
        self._run(self._field, stream)
        return self.mask(stream)

    def decode_steps(self, dtype: str, n_rows: int) -> list[Step]:
        """Kernels that :meth:`decode` launches for ``n_rows`` row indices."""
        dense, correct = self.decode_kernels(dtype)
        steps = [(dense, self.decode_launch(self.encoded.layout, n_rows, self.n_planes))]
        if self.encoded.field is not None:
            steps.append(fields.symbols_step(self, n_rows))
        if self.packed.n_corrections:
            steps.append((correct, plan.flat_launch(self.packed.n_corrections)))
        return steps

    def decode(
        self, to: int, dtype: str, mask: np.uint64, first: int, last: int, by_index: bool, stream: Any
    ) -> None:
        """Elements of row indices ``first .. last - 1``: at their index from ``first``, or at their row.

        ``mask``: from :meth:`ready`.
        """
        dense, correct = self.decode_kernels(dtype)
        span = (np.int64(first), np.int64(last), np.int64(by_index), np.uint64(to))
        launch = self.decode_launch(self.encoded.layout, last - first, self.n_planes)
        self.device.launch(dense, launch, (*self.order, *self.code, mask, *self.scales, *span), stream)
        if self.encoded.field is not None:
            self._launch(fields.symbols_pass(self, self.encoded.field, mask, span), self._field, stream)
        n = self.packed.n_corrections
        if n:
            args = (*self.order, *self.scales, *self.corrections, np.int64(n), *span)
            self.device.launch(correct, plan.flat_launch(n), args, stream)
