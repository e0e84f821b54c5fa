"""The mask codec ``block``: its plane is decoded into a workspace, its codewords are joined to blocks there."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xorpack.cuda.launches import Launch
from xorpack.cuda.sources import Kernel
from xorpack.decoders.gpu import depth_planes
from xorpack.decoders.gpu.lists import as_words, visit_lists
from xorpack.decoders.gpu.masks.mask import DeviceMask
from xorpack.decoders.gpu.order import is_skewed
from xorpack.decoders.gpu.passes import Argument, Pass, Prelude
from xorpack.decoders.gpu.store import Store
from xorpack.masks import Block
from xorpack.masks.block import prefix
from xorpack.masks.block.codec import width

CLASS_GROUP = 256
"""Rows, or columns, that share the places at which the classes go on."""


class DeviceBlock(DeviceMask[Block]):
    """Classes and the places at which they go on, depths as they are stored, the plane, bits that are wrong."""

    __slots__ = ()

    def arrays(self) -> dict[str, NDArray[Any]]:
        """See :class:`DeviceMask`."""
        mask, code, parts = self.mask, self.mask.code, self.mask.parts
        found: dict[str, NDArray[Any]] = {"raw": as_words(parts.raw)}
        found |= depth_planes.arrays("plane", mask.coded.code, mask.load_wrong().positions, mask.layout)
        for name, data, classes, levels in (
            ("row", parts.row_classes, mask.load_row_classes(), code.row_levels),
            ("col", parts.col_classes, mask.load_col_classes(), code.col_levels),
        ):
            found[f"{name}_classes"] = as_words(data)
            found[f"{name}_starts"] = class_starts(classes, len(levels))
        if mask.n_corrections:
            missed = mask.load_missed().positions
            found["flip_starts"], found["flips"] = visit_lists(self.layout, missed)
        return found

    def prelude(self, store: Store) -> Prelude:
        """See :class:`DeviceMask`."""
        code, plane, layout = self.mask.code, self.mask.layout, self.layout
        workspaces = {
            "mask": self.n_bytes,
            "mask rows": 8 * code.rows,
            "mask levels": 4 * code.n_blocks,
            "mask columns": 4 * code.cols * code.by_column,
            "mask plane": depth_planes.n_bytes(plane),
            "mask joined": 4 * code.rows * layout.chunks * code.by_column,
        }
        passes = [self._tables(store)]
        passes += depth_planes.passes(store, "plane", plane, self.mask.m_lane, "mask plane")
        passes.append(self._join(store))
        if code.by_column:
            launch = Launch.of_warps(layout.n_panels * layout.rows)
            moved: tuple[Argument, ...] = (*self.order, "mask joined", "mask columns", "mask")
            passes.append(Pass(kernel=self._kernel("block_move"), launch=launch, args=moved))
        passes.extend(store.flip_passes("flip_starts", "flips", "mask"))
        target = "mask joined" if code.by_column else "mask"
        used = {name: n_bytes for name, n_bytes in workspaces.items() if n_bytes}
        return Prelude(passes=passes, workspaces=used, clear=target)

    def _tables(self, store: Store) -> Pass:
        code = self.mask.code
        args: list[Argument] = []
        for name, levels, n in (
            ("row", code.row_levels, code.rows),
            ("col", code.col_levels, code.n_col_classes),
        ):
            packed = sum((level & 0xFF) << 8 * c for c, level in enumerate(levels))
            halves = (np.uint64(packed & (1 << 64) - 1), np.uint64(packed >> 64))
            pointers = (store.pointer(f"{name}_classes"), store.pointer(f"{name}_starts"))
            args += [*pointers, np.int64(n), np.int64(width(levels)), *halves, np.int64(len(levels))]
        args += map(np.int64, (code.by_column, code.block, code.n_blocks))
        args += ["mask rows", "mask levels", "mask columns" if code.by_column else np.uint64(0)]
        groups = [-(-n // CLASS_GROUP) for n in (code.rows, code.cols * code.by_column, code.n_blocks)]
        launch = Launch.of_warps(sum(groups))
        return Pass(kernel=self._kernel("block_tables"), launch=launch, args=tuple(args))

    def _join(self, store: Store) -> Pass:
        code = self.mask.code
        n_raw, n_depths = code.depths()
        own = (code.block, code.max_ones)
        table = code_table(*own, code.max_length)
        codes = store.constant(("prefix codes", *own, code.max_length), lambda: table)
        symbols = store.constant(("symbols", *own), lambda: prefix.symbols(*own))
        stride = depth_planes.stride(n_depths)
        numbers = (table.shape[1], code.block, code.max_length, n_raw, n_depths, stride)
        plane: Argument = "mask plane" if n_depths else np.uint64(0)
        args: tuple[Argument, ...] = (
            *(*self.order, plane, store.pointer("raw"), "mask rows", "mask levels", codes, symbols),
            *map(np.int64, (*numbers, *code.parts(), code.n_blocks)),
            "mask joined" if code.by_column else np.uint64(0),
            "mask",
        )
        return Pass(kernel=self._kernel("block_join"), launch=Launch.of_warps(code.rows), args=args)

    def _kernel(self, name: str) -> Kernel:
        """The same macros for all, so that they are one text, which is compiled once."""
        return Kernel.of(name, {"SKEW": int(is_skewed(self.layout))})


def class_starts(classes: NDArray[np.int64], n_classes: int) -> NDArray[np.uint32]:
    """uint32 (groups, n_classes): places at which the items of a class begin, from each group of items on."""
    n_groups = max(1, -(-len(classes) // CLASS_GROUP))
    group = np.arange(len(classes)) // CLASS_GROUP
    counts = np.bincount(group * n_classes + classes, minlength=n_groups * n_classes)
    counts = counts.reshape(n_groups, n_classes)
    first = np.cumsum(counts.sum(axis=0)) - counts.sum(axis=0)
    places: NDArray[np.uint32] = (first + np.cumsum(counts, axis=0) - counts).astype(np.uint32)
    return places


@lru_cache(maxsize=64)
def code_table(block_bits: int, max_ones: int, max_length: int) -> NDArray[np.uint32]:
    """uint32 (levels, runs, 2): the codes of all levels."""
    codes = [
        [(run.start, max_length - run.length, run.rank) for run in runs]
        for runs in (
            prefix.runs(level, block_bits, max_ones, max_length) for level in range(prefix.EMPTY + 1)
        )
    ]
    return depth_planes.code_tables(codes, max_length)
