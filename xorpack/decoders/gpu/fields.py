"""Fields of lossless tensors on the device: the plane of depths is decoded into a workspace, then the symbols."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xorpack.code.layout import Layout
from xorpack.cuda.launches import Launch
from xorpack.cuda.sources import Kernel
from xorpack.decoders.gpu import depth_planes
from xorpack.decoders.gpu.order import is_skewed
from xorpack.decoders.gpu.passes import Argument, Pass, Prelude
from xorpack.decoders.gpu.store import Store
from xorpack.fields.field import Field, FieldCode

PLANE = "field plane"
"""The workspace."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class DeviceField:
    """The field of a tensor.

    Attributes:
        field: as it is stored.
        layout, order: of the tensor's planes; the order as kernels take it.
        itemsize: bytes of an element.
        masked: whether a mask is an array of words.
    """

    field: Field
    layout: Layout
    order: tuple[np.generic, ...]
    itemsize: int
    masked: bool

    def arrays(self) -> dict[str, NDArray[Any]]:
        """What to upload, by name."""
        field = self.field
        wrong = field.load_corrections().positions
        found = depth_planes.arrays("field", field.coded.code, wrong, field.layout)
        return found | {"field_runs": code_table(field.code), "field_symbols": field.load_symbols()}

    def prelude(self, store: Store) -> Prelude:
        """The plane, into the workspace :data:`PLANE`."""
        field = self.field
        passes = depth_planes.passes(store, "field", field.layout, field.m_lane, PLANE)
        return Prelude(
            passes=passes, workspaces={PLANE: depth_planes.n_bytes(field.layout)} if passes else {}
        )

    def symbols_pass(self, store: Store, mask: np.uint64, span: tuple[np.generic, ...]) -> Pass:
        """Over the elements of ``span``, as decode_dense takes it: first and last row index, by_index, out."""
        code = self.field.code
        numbers = (code.low, code.width, code.n_raw, code.n_depths, depth_planes.stride(code.n_depths))
        n_runs = store.arrays["field_runs"].shape[0]
        plane: Argument = PLANE if self.field.layout.total_steps else np.uint64(0)
        args: tuple[Argument, ...] = (
            *(*self.order, plane, mask),
            *(store.pointer("field_runs"), store.pointer("field_symbols")),
            *map(np.int64, (n_runs, *numbers, math.prod(code.parts(self.layout.cols)))),
            *span,
        )
        kernel, launch = self.symbols_step(int(span[1]) - int(span[0]))
        return Pass(kernel=kernel, launch=launch, args=args)

    def symbols_step(self, n_rows: int) -> tuple[Kernel, Launch]:
        """Kernel and launch over that many row indices."""
        macros = {"SKEW": int(is_skewed(self.layout)), "MASK": int(self.masked), "LOSSLESS": self.itemsize}
        return Kernel.of("decode_field", macros), Launch.of_warps(n_rows * self.layout.n_panels)


def code_table(code: FieldCode) -> NDArray[np.uint32]:
    """uint32 (runs, 2): one run a length that occurs."""
    runs, start, rank = [], 0, 0
    for i, n in enumerate(code.counts):
        free = code.n_depths - i
        if n:
            runs.append((start, free, rank))
        start, rank = start + (n << free), rank + n
    return depth_planes.code_tables([runs], code.max_length).reshape(-1, 2)
