"""The compressed form on a device, and the launches that decode it: what products are built on."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import numpy as np

from xorpack.cuda.arrays import TYPES
from xorpack.cuda.device import Device
from xorpack.cuda.launches import Launch
from xorpack.cuda.sources import Kernel, Macros
from xorpack.decoders.gpu import launches
from xorpack.decoders.gpu.order import coded_order
from xorpack.decoders.gpu.packed import Packed
from xorpack.decoders.gpu.passes import Prelude
from xorpack.decoders.gpu.store import Store
from xorpack.elements import Lossless
from xorpack.encoded import EncodedTensor

Step = tuple[Kernel, Launch]


class Resident(ABC):
    """A :class:`Packed` on ``device``, as arguments of kernels.

    Attributes:
        store: its arrays.
        layout: the order in which weights are visited.
        corrections: arguments of kernels.
    """

    def __init__(self, encoded: EncodedTensor, packed: Packed, device: Device) -> None:
        self.encoded, self.packed, self.device = encoded, packed, device
        self.store = store = Store(device, packed.arrays)
        self.layout = packed.layout
        self.corrections = tuple(store.pointer(name) for name in ("starts", "entries", "values"))
        self._mask = Prelude() if packed.mask is None else packed.mask.prelude(store)
        self._field = Prelude() if packed.field is None else packed.field.prelude(store)

    @property
    def is_zero(self) -> bool:
        """Whether every weight is pruned, or there is none."""
        return self.encoded.n_kept == 0

    def mask(self, stream: Any) -> np.uint64:
        """The mask's words in order of visits, decoded into the stream's workspace first where they are coded."""
        self.store.run(self._mask, stream)
        if not self._mask.passes:
            return self.store.pointer("mask")
        return np.uint64(self.device.workspace(stream, "mask", self._mask.workspaces["mask"]))

    def prelude(self) -> tuple[list[Step], dict[str, int]]:
        """Kernels that run before those of a call, and the workspaces that they fill."""
        both = (self._mask, self._field)
        steps = [(each.kernel, each.launch) for prelude in both for each in prelude.passes]
        return steps, {**self._mask.workspaces, **self._field.workspaces}

    def ready(self, stream: Any) -> np.uint64:
        """:meth:`mask`, with all else that :meth:`decode` needs before its first call on ``stream``."""
        self.store.run(self._field, stream)
        return self.mask(stream)

    # Elements and products

    @abstractmethod
    def decode_steps(self, dtype: str, n_rows: int) -> list[Step]:
        """Kernels that :meth:`decode` launches for ``n_rows`` row indices."""

    @abstractmethod
    def decode(
        self, to: int, dtype: str, mask: np.uint64, first: int, last: int, by_index: bool, stream: Any
    ) -> None:
        """Elements of row indices ``first .. last - 1``: at their index from ``first``, or at their row.

        ``mask``: from :meth:`ready`.
        """

    @abstractmethod
    def finish_kernel(self) -> Kernel:
        """What adds up the partial sums of a product."""

    @abstractmethod
    def finish_values(
        self, partial: int, n_parts: int, part_cols: int, corrects: bool
    ) -> tuple[np.generic, ...]:
        """Its arguments up to x.

        Args:
            partial: where the sums are.
            n_parts: sums of an output.
            part_cols: see :class:`xorpack.decoders.gpu.products.product.Product`.
            corrects: sums are of corrected weights already.
        """


class CodedResident(Resident):
    """Planes that are coded one by one.

    Attributes:
        order: of the planes' code, as kernels take it.
        macros: of kernels that work on the weights.
        code, scales: arguments of kernels.
        n_planes: planes that are coded.
    """

    def __init__(self, encoded: EncodedTensor, packed: Packed, device: Device) -> None:
        super().__init__(encoded, packed, device)
        store, lies = self.store, packed.scale_order
        self.order = coded_order(encoded.coded)
        self.macros = launches.tensor_macros(encoded, mask=packed.mask is not None)
        self.code = (store.pointer("code"), store.taps(encoded.network))
        self.scales = (store.pointer("scales", lies.padding), *lies.values())
        self.n_planes = encoded.code.shape[0]
        self._decode_kernels: dict[str, tuple[Kernel, Kernel]] = {}

    def finish_kernel(self) -> Kernel:
        """See :class:`Resident`."""
        return Kernel.of("finish", self.macros)

    def finish_values(
        self, partial: int, n_parts: int, part_cols: int, corrects: bool
    ) -> tuple[np.generic, ...]:
        """See :class:`Resident`."""
        n_corrections = 0 if corrects else self.packed.n_corrections
        return (
            *(*self.order, *self.scales, np.uint64(partial), np.int64(n_parts)),
            *(*self.corrections, np.int64(n_corrections)),
        )

    def words_kernel(self) -> Kernel:
        """The kernel that decodes the coded planes."""
        return Kernel.of("decode_words", self.macros)

    def decode_words(self, to: int, stream: Any) -> None:
        """All coded planes, row-major, ANDed with the mask."""
        mask = self.mask(stream)
        launch = self.store.decode_launch(self.layout, self.encoded.rows, self.n_planes)
        args = (*self.order, *self.code, mask, np.uint64(to))
        self.device.launch(self.words_kernel(), launch, args, stream)

    def decode_kernels(self, dtype: str) -> tuple[Kernel, Kernel]:
        """decode_dense and correct_dense for elements of ``dtype``."""
        if dtype not in self._decode_kernels:
            macros: Macros = self.macros
            if isinstance(self.encoded.elements, Lossless):
                macros = {**macros, "LOSSLESS": self.encoded.matrix_dtype.itemsize}
            else:
                own, element = TYPES.index(self.encoded.dtype), TYPES.index(dtype)
                macros = {**macros, "LOSSLESS": 0, "OWN": own, "ELEMENT": element}
            pair = Kernel.of("decode_dense", macros), Kernel.of("correct_dense", macros)
            self._decode_kernels[dtype] = pair
        return self._decode_kernels[dtype]

    def decode_steps(self, dtype: str, n_rows: int) -> list[Step]:
        """See :class:`Resident`."""
        dense, correct = self.decode_kernels(dtype)
        steps = [(dense, self.store.decode_launch(self.layout, n_rows, self.n_planes))]
        if self.packed.field is not None:
            steps.append(self.packed.field.symbols_step(n_rows))
        if self.packed.n_corrections:
            steps.append((correct, Launch.of_threads(self.packed.n_corrections)))
        return steps

    def decode(
        self, to: int, dtype: str, mask: np.uint64, first: int, last: int, by_index: bool, stream: Any
    ) -> None:
        """See :class:`Resident`."""
        dense, correct = self.decode_kernels(dtype)
        span = (np.int64(first), np.int64(last), np.int64(by_index), np.uint64(to))
        launch = self.store.decode_launch(self.layout, last - first, self.n_planes)
        self.device.launch(dense, launch, (*self.order, *self.code, mask, *self.scales, *span), stream)
        if self.packed.field is not None:
            symbols = self.packed.field.symbols_pass(self.store, mask, span)
            self.store.launch(symbols, self._field.workspaces, stream)
        n = self.packed.n_corrections
        if n:
            args = (*self.order, *self.scales, *self.corrections, np.int64(n), *span)
            self.device.launch(correct, Launch.of_threads(n), args, stream)
