"""The search of a trellis's columns on a GPU: whole numbers as in the search on the CPU, and the same bits.

Its kernels stand with the others, and run on what the GPU decoder runs on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xorpack.code.trellis import TrellisNetwork
from xorpack.code.words import Words
from xorpack.cuda.device import Device
from xorpack.cuda.launches import Launch
from xorpack.cuda.sources import Kernel
from xorpack.vector.threads import for_each

BATCH_WEIGHTS = 1 << 26
"""Weights that are searched between two transfers, about: 4 bytes each."""

SURVIVOR_BYTES = 1 << 32
"""Memory for survivors, about: fewer blocks run at once where columns are long."""

MULTIPROCESSOR_THREADS = 1024
"""Threads that a multiprocessor runs at once: each has 64 registers."""

MULTIPROCESSOR_BLOCKS = 16
"""Blocks that it runs at once, on any GPU."""

WINDOWS_OF_A_THREAD = 4
"""Windows that a thread has in a step, at least where there are so many."""

STAGED = 1024
"""Words of survivors in shared memory on the way back, as XP_STAGED."""


WORDS = Kernel.of("trellis_words", {})

Columns = tuple[NDArray[np.int16], NDArray[np.int16], bool]
"""Targets (n, rows); what squared errors count (n, rows), 0 for don't care; whether any of that is neither 0 nor the
largest."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchPlan:
    """How the search of a network is specialised and launched.

    ``stride``: words of survivors of a step; ``cost_bytes``: of a block's costs where shared memory does not hold them.
    """

    kernel: Kernel
    threads: int
    shared_bytes: int
    cost_bytes: int
    stride: int

    @classmethod
    def of(cls, network: TrellisNetwork, shared_limit: int, *, fine: bool) -> SearchPlan:
        """The plan for a device whose blocks can have ``shared_limit`` bytes of shared memory."""
        window, least, most = (
            network.window,
            max(1, network.n_in // network.n_out),
            -(-network.n_in // network.n_out),
        )
        stride = max((1 << window - n) // 32 * n for n in (least, most))
        threads = min(max((1 << window - most) // WINDOWS_OF_A_THREAD, 32), MULTIPROCESSOR_THREADS)
        cost_bytes = 2 * 2 << window - least
        shared = 4 * (64 + (STAGED if stride <= STAGED else 4))
        held = shared + cost_bytes <= shared_limit
        macros = {"WINDOW": window, "N_IN": network.n_in, "N_OUT": network.n_out, "FINE": int(fine)}
        return cls(
            kernel=Kernel.of("trellis_search", macros | {"THREADS": threads, "GLOBAL": int(not held)}),
            threads=threads,
            shared_bytes=shared + (cost_bytes if held else 0),
            cost_bytes=0 if held else cost_bytes,
            stride=stride,
        )

    def launch(self, n_columns: int, survivor_bytes: int, device: Device) -> Launch:
        """The launch for so many columns, whose blocks have survivors of that size: no more than run at once."""
        by_shared = max(1, (device.shared_limit + 1024) // (self.shared_bytes + 1024))
        at_once = min(MULTIPROCESSOR_THREADS // self.threads, MULTIPROCESSOR_BLOCKS, by_shared)
        by_memory = max(1, SURVIVOR_BYTES // survivor_bytes)
        blocks = min(n_columns, at_once * device.n_multiprocessors, by_memory)
        return Launch(grid=(blocks, 1, 1), block=self.threads, shared_bytes=self.shared_bytes)


class DeviceSearch:
    """A search on a device, with everything that does not depend on the columns.

    Args:
        device: where.
        network: of the tensor.
        levels: int16 (n_out, 2**window), of every state.
        firsts, new_bits: first row and stored bits of each step.
        rows: of the tensor.
        edge: steps after which the past hardly matters.
        fine: whether differences are taken 4 times finer.
    """

    def __init__(
        self,
        *,
        device: Device,
        network: TrellisNetwork,
        levels: NDArray[np.int16],
        firsts: NDArray[np.int64],
        new_bits: NDArray[np.int64],
        rows: int,
        edge: int,
        fine: bool,
    ) -> None:
        self.device, self.rows, self.edge = device, rows, edge
        self.n_steps, self.n_stored = len(firsts), int(new_bits.sum())
        self.plan = SearchPlan.of(network, device.shared_limit, fine=fine)
        self.survivor_bytes = 4 * self.plan.stride * max(self.n_steps, 2 * edge)
        places = np.concatenate([[0], np.cumsum(new_bits)[:-1]])
        self.levels = device.upload(levels)
        self.firsts, self.news, self.places = (
            device.upload(part.astype(np.int32)) for part in (np.append(firsts, rows), new_bits, places)
        )

    def run(self, columns: Callable[[int], Columns], code: Words, chunks: Iterable[int], jobs: int) -> None:
        """Search the columns of ``chunks``, which ``columns`` gives, and write their words of ``code`` (m, all chunks).

        ``jobs``: threads that make columns; the device searches a batch meanwhile.

        Raises:
            DeviceError: out of memory, or another error of CUDA.
        """
        todo = list(chunks)
        n = max(1, BATCH_WEIGHTS // (32 * self.rows))
        searched: tuple[list[int], Any] | None = None
        for begin in range(0, len(todo), n):
            part = todo[begin : begin + n]
            batch = self.gather(columns, part, jobs)
            if searched is not None:
                self._take(*searched, code)
            searched = part, self.launch(*batch, self.device.stream(None))
        if searched is not None:
            self._take(*searched, code)

    def gather(
        self, columns: Callable[[int], Columns], part: list[int], jobs: int
    ) -> tuple[NDArray[np.int16], NDArray[np.int16], NDArray[np.uint32]]:
        """Targets, weights of errors and kinds of all columns of these chunks, 32 of each."""
        targets = np.zeros((32 * len(part), self.rows), np.int16)
        shares = np.zeros_like(targets)
        kinds = np.zeros(len(targets), np.uint32)

        def work(k: int) -> None:
            x, weights, weighted = columns(part[k])
            own = slice(32 * k, 32 * k + len(x))
            targets[own], shares[own] = x, weights
            kinds[own] = np.where(weights.any(1), 2 if weighted else 1, 0)

        for_each(work, range(len(part)), jobs)
        return targets, shares, kinds

    def launch(
        self, targets: NDArray[np.int16], shares: NDArray[np.int16], kinds: NDArray[np.uint32], stream: Any
    ) -> Any:
        """Launch the search of a batch; returns the code (m, chunks), on the device.

        All other memory is given back at once: what gets it next, this thread or another, is behind on the stream.
        """
        device, n, n_steps = self.device, len(targets), self.n_steps
        launch = self.plan.launch(n, self.survivor_bytes, device)
        blocks = launch.grid[0]
        code = device.empty((self.n_stored, n // 32), "U32")
        path = device.empty((-(-n * n_steps // 4),), "U32")
        survivors = device.empty((blocks * self.survivor_bytes // 4,), "U32")
        costs = device.empty((max(1, blocks * self.plan.cost_bytes // 4),), "U32")
        columns = device.upload(targets), device.upload(shares), device.upload(kinds)

        def at(*arrays: Any) -> list[np.uint64]:
            return [np.uint64(device.pointer(array)) for array in arrays]

        sizes = np.int64(n), np.int64(self.rows), np.int64(n_steps), np.int64(self.edge)
        found = at(*columns, self.levels, self.firsts, self.news)
        device.launch(self.plan.kernel, launch, (*found, *sizes, *at(survivors, costs, path)), stream)
        words = *at(path, columns[2], self.news, self.places), np.int64(n), np.int64(n_steps), *at(code)
        device.launch(WORDS, Launch.of_warps(n // 32 * -(-n_steps // 32)), words, stream)
        return code

    def _take(self, part: list[int], found: Any, code: Words) -> None:
        """Write what was found; waits for it."""
        code[:, part] = self.device.download(found)
