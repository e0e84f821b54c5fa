"""The Viterbi search of a tensor's columns, 32 at a time: integer targets, levels and weights for the kernel."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from xorpack.code.trellis import TrellisNetwork
from xorpack.code.trellis_kernels import expand_trellis
from xorpack.code.words import Words, unpack
from xorpack.encoding.quantize.trellis_kernels import search_kernel
from xorpack.tensors import as_matrix
from xorpack.vector.threads import for_each

if TYPE_CHECKING:
    from xorpack.cuda.device import Device
    from xorpack.encoding.quantize.trellis_gpu import DeviceSearch

UNIT = 6500.0
"""Integers for one standard deviation, at the most."""

LARGEST = 32000.0
"""Largest level and target, as an integer."""

MARGIN = 1.0
"""Standard deviations beyond the largest level to which a target is clipped."""

FINE_RATE = 2.6
"""Stored bits per kept weight from which errors are so small that differences are taken 4 times finer."""

EDGE_WINDOWS = 4
"""Windows after which the past of a path is taken not to matter."""

SURVIVOR_BYTES = 1 << 26
"""Bytes of the survivors that a thread keeps, about."""

EVEN = 0.95
"""Ratio of the least to the largest weight of an error from which all are taken as equal."""

FULL = 32767


class Search:
    """A search with everything that does not depend on the columns.

    Args:
        weight: any shape.
        a: float64 (q,), for weights of variance 1.
        scales: float64 (rows, n_groups).
        gains: float64 (cols,).
        group: columns that share a scale.
        care: uint32 (rows, chunks): weights whose error counts.
        importance: float32 (rows or 1, cols).
        balance: power of the scales by which errors count: 1 for their own size, 0 for what they are beside the scale.
        fine: whether errors are small.
    """

    def __init__(
        self,
        *,
        weight: NDArray[Any],
        network: TrellisNetwork,
        a: NDArray[np.float64],
        scales: NDArray[np.float64],
        gains: NDArray[np.float64],
        group: int,
        care: Words,
        importance: NDArray[np.float32],
        balance: float = 1.0,
        fine: bool,
    ) -> None:
        rows, self.cols = as_matrix(weight.shape)
        self.rows, self.network, self.group = rows, network, group
        self.matrix = weight.reshape(rows, self.cols)
        self.scales, self.gains, self.care, self.importance, self.fine = scales, gains, care, importance, fine
        self.balance = balance
        levels = network.levels(a)
        reach = float(np.abs(levels).max()) + MARGIN
        self.unit = min(UNIT, LARGEST / reach)
        self.limit = reach * self.unit
        self._schedule()
        self.states: NDArray[np.int16] = np.rint(levels * self.unit).astype(np.int16)
        self._arrange(self.states)

    def _schedule(self) -> None:
        ends = np.concatenate([[0], self.network.ends(self.rows)])
        new = np.diff(ends)
        self.firsts = np.flatnonzero(new)
        self.new_bits = new[self.firsts]
        self.counts = np.diff(np.append(self.firsts, self.rows))
        n_steps = len(self.firsts)
        m = int(ends[-1])
        self.edge = -(-EDGE_WINDOWS * self.network.window * n_steps // m)
        step_bytes = max((1 << self.network.window - n) // 8 * n for n in np.unique(self.new_bits).tolist())
        self.capacity = max(min(n_steps, SURVIVOR_BYTES // step_bytes), 5 * self.edge + 1)

    def _arrange(self, levels: NDArray[np.int16]) -> None:
        """Levels by dropped bits first; a table for each row of a period, and for rows of the last step that differ."""
        window = self.network.window
        dropped = np.repeat(np.roll(self.new_bits, -1), self.counts)
        table: dict[tuple[int, int], int] = {}
        self.tables = np.empty(self.rows, np.int64)
        arranged = []
        for r in range(self.rows):
            key = r % self.network.n_out, int(dropped[r])
            if key not in table:
                table[key] = len(table) << window
                arranged.append(levels[key[0]].reshape(-1, 1 << key[1]).T.reshape(-1))
            self.tables[r] = table[key]
        self.levels = np.concatenate(arranged)

    def run(self, code: Words, chunks: Iterable[int], jobs: int, device: Device | None = None) -> None:
        """Search the columns of ``chunks`` and write their words of ``code`` (m, all chunks).

        On ``device``, if there is one and columns are neither so short that more than one pass around them is needed,
        nor so long that survivors are decided on the way. The searches of several threads run there side by side.
        """
        if device is not None and self.edge <= len(self.firsts) <= self.capacity and self.is_long:
            with device.beside():
                self.on(device).run(self.columns, code, chunks, jobs)
            return

        def work(chunk: int) -> None:
            search_kernel(
                *self.columns(chunk), self.fine, self.firsts, self.new_bits, self.counts, self.tables, self.levels,
                self.network.window, self.edge, self.capacity, code, chunk,
            )  # fmt: skip

        for_each(work, chunks, jobs)

    @property
    def is_long(self) -> bool:
        """Whether columns have too many stored bits to try them all, as the kernel has it."""
        return self.network.n_stored(self.rows) >= max(self.network.window, 13)

    def on(self, device: Device) -> DeviceSearch:
        """This search on a device."""
        from xorpack.encoding.quantize.trellis_gpu import DeviceSearch

        return DeviceSearch(
            device=device,
            network=self.network,
            levels=self.states,
            firsts=self.firsts,
            new_bits=self.new_bits,
            rows=self.rows,
            edge=self.edge,
            fine=self.fine,
        )

    def columns(self, chunk: int) -> tuple[NDArray[np.int16], NDArray[np.int16], bool]:
        """Targets and shares (n, rows) of a chunk's columns as the kernels take them, and whether they are weighted."""
        x, weights = self._columns(chunk)
        targets = np.clip(np.rint(x * self.unit), -self.limit, self.limit).astype(np.int16)
        largest = weights.max(axis=0, initial=0)
        relative = weights / np.where(largest > 0, largest, 1)
        weighted = bool((relative[weights > 0] < EVEN).any())
        shares = np.where(weights > 0, np.maximum(np.rint(relative * FULL), 1) if weighted else FULL, 0)
        return np.ascontiguousarray(targets.T), np.ascontiguousarray(shares.T.astype(np.int16)), weighted

    def arguments(self) -> tuple[Any, ...]:
        """What a kernel that searches columns of its own making takes."""
        return (
            self.unit,
            self.limit,
            self.fine,
            self.firsts,
            self.new_bits,
            self.counts,
            self.tables,
            self.levels,
            self.network.window,
            self.edge,
            self.capacity,
        )

    def equations(self, code: Words, chunk: int) -> NDArray[np.float64]:
        """Normal equations (q, q + 1) of ``a`` over the columns of a chunk."""
        x, weights = self._columns(chunk)
        planes = expand_trellis(self.network, code[:, chunk : chunk + 1], self.rows)
        signs = np.where(unpack(planes, x.shape[1]), 1.0, -1.0).reshape(len(planes), -1)
        weighted = signs * weights.reshape(-1)
        return np.concatenate([weighted @ signs.T, (weighted @ x.reshape(-1))[:, None]], axis=1)

    def _columns(self, chunk: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Weights over scale and gain, and what their squared errors count, (rows, n) both."""
        columns = np.arange(32 * chunk, min(32 * chunk + 32, self.cols))
        stripe = self.matrix[:, columns[0] : columns[-1] + 1].astype(np.float64)
        scales = self.scales[:, columns // self.group]
        gains = self.gains[columns]
        divisor = scales * gains
        x = np.divide(stripe, divisor, out=np.zeros_like(stripe), where=divisor > 0)
        cares = unpack(self.care[:, chunk : chunk + 1], len(columns))
        size: NDArray[np.float64] = divisor
        if self.balance != 1:
            size = np.where(divisor > 0, scales**self.balance * gains, 0.0)
        return x, size * size * self.importance[:, columns] * cares
