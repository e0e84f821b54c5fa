"""Fields of lossless tensors on the device: the plane of depths is decoded into a workspace, then the symbols."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from xorpack.decoders.gpu import depth_planes, plan
from xorpack.decoders.gpu.passes import Argument, Pass, Prelude
from xorpack.decoders.gpu.sources import Kernel
from xorpack.fields.field import Field, FieldCode

if TYPE_CHECKING:
    from xorpack.decoders.gpu.resident import Resident

PLANE = "field plane"
"""The workspace."""


def arrays(field: Field) -> dict[str, NDArray[Any]]:
    """What to upload, by name."""
    found = depth_planes.arrays("field", field.coded.code, field.load_corrections().positions, field.layout)
    return found | {"field_runs": code_table(field.code), "field_symbols": field.load_symbols()}


def code_table(code: FieldCode) -> NDArray[np.uint32]:
    """uint32 (runs, 2): one run a length that occurs."""
    runs, start, rank = [], 0, 0
    for i, n in enumerate(code.counts):
        free = code.n_depths - i
        if n:
            runs.append((start, free, rank))
        start, rank = start + (n << free), rank + n
    return depth_planes.code_tables([runs], code.max_length).reshape(-1, 2)


def prelude(resident: Resident, field: Field) -> Prelude:
    """The plane, into the workspace :data:`PLANE`."""
    passes = depth_planes.passes(resident, "field", field.layout, field.m_lane, PLANE)
    return Prelude(passes=passes, workspaces={PLANE: depth_planes.n_bytes(field.layout)} if passes else {})


def symbols_pass(resident: Resident, field: Field, mask: np.uint64, span: tuple[np.generic, ...]) -> Pass:
    """Over the elements that ``span`` names, as decode_dense takes it: first and last row index, by_index, out."""
    encoded, code = resident.encoded, field.code
    numbers = (code.low, code.width, code.n_raw, code.n_depths, depth_planes.stride(code.n_depths))
    n_runs = resident.arrays["field_runs"].shape[0]
    args: tuple[Argument, ...] = (
        *(*resident.order, PLANE if field.layout.total_steps else np.uint64(0), mask),
        *(resident.pointer("field_runs"), resident.pointer("field_symbols")),
        *map(np.int64, (n_runs, *numbers, math.prod(code.parts(encoded.cols)))),
        *span,
    )
    kernel, launch = symbols_step(resident, int(span[1]) - int(span[0]))
    return Pass(kernel=kernel, launch=launch, args=args)


def symbols_step(resident: Resident, n_rows: int) -> tuple[Kernel, plan.Launch]:
    """Kernel and launch over that many row indices."""
    macros = {key: resident.macros[key] for key in ("SKEW", "MASK")}
    kernel = Kernel.of("decode_field", macros | {"LOSSLESS": resident.encoded.bits // 8})
    return kernel, plan.warp_launch(n_rows * resident.encoded.layout.n_panels)
