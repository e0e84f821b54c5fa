"""Elimination of many rings on a GPU: the codes and corrections of :mod:`xorpack.encoding.rings.elimination`, all bits.

Mask and planes are on the device as they are in memory; equations are gathered there, ring by ring, for every try anew.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xorpack.code.layout import Layout
from xorpack.code.network import XorNetwork
from xorpack.cuda.device import Device
from xorpack.cuda.launches import Launch
from xorpack.cuda.sources import Kernel, tap_table
from xorpack.encoding.rings.elimination import LARGE_RING, GivenUpError, RingCode
from xorpack.encoding.rings.gather import WordSource
from xorpack.errors import ParameterError

WARPS = 8
"""Warps of a ring, as XP_WARPS."""

STATE_WORDS = 48
"""Words of shared memory of all of them, as XP_STATE."""

WIDEST = 16
"""Words of the widest window: what registers hold."""

PIVOT_BYTES = 1 << 33
"""Memory for pivots, about, of each thread that encodes: fewer rings are eliminated at once where they need more."""

ALL = np.iinfo(np.int64).max


def check_window(network: XorNetwork) -> None:
    """Raise ParameterError where a network's window is too wide for a device."""
    if network.window > WIDEST:
        raise ParameterError(
            f"a GPU encodes networks whose window is {WIDEST} words at the most; that of this one is {network.window}"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class RingPlan:
    """How the kernels are specialised: stored words of a ring, its border's or 0, words of a pivot."""

    macros: tuple[tuple[str, int], ...]
    shared_bytes: dict[str, int]
    n_ids: int
    row_words: int
    value_words: int

    @classmethod
    def of(cls, network: XorNetwork, n_planes: int, m: int, *, large: int = LARGE_RING) -> RingPlan:
        """The plan for rings of ``m`` stored words."""
        padded, has_border = -(-network.window // 4) * 4, m < large
        value_words = -(-n_planes // 32)
        row_words = -(-(padded * (1 + has_border) + value_words) // 4) * 4
        macros = {"WINDOW": padded, "BORDER": int(has_border), "PLANES": n_planes}
        return cls(
            macros=tuple(macros.items()),
            shared_bytes={
                "ring_equations": 4 * WARPS,
                "ring_eliminate": 4 * (STATE_WORDS + WARPS * 32 * row_words),
                "ring_solve": 4 * n_planes * (32 + padded),
            },
            n_ids=m if has_border else max(m - network.window, 0),
            row_words=row_words,
            value_words=value_words,
        )

    @property
    def pivot_words(self) -> int:
        """Of a ring."""
        return 32 * self.n_ids * self.row_words

    def steps(self, n_rings: int) -> Iterator[tuple[Kernel, Launch]]:
        """Kernels and their launches: equations, elimination, solution."""
        for name, threads in (("ring_equations", 256), ("ring_eliminate", 32 * WARPS), ("ring_solve", 32)):
            launch = Launch(grid=(n_rings, 1, 1), block=threads, shared_bytes=self.shared_bytes[name])
            yield Kernel.of(name, dict(self.macros)), launch


class DeviceRings:
    """The rings of a tensor on a device.

    Attributes:
        counts: int64, care bits of every ring.

    Raises:
        DeviceError: out of memory, or another error of CUDA.
        ParameterError: a window that is too wide.
    """

    def __init__(self, device: Device, network: XorNetwork, source: WordSource, layout: Layout) -> None:
        check_window(network)
        self.device, self.network, self.layout = device, network, layout
        mask, planes = source.words()
        self.n_planes = len(planes)
        with device.beside():
            self._words = device.upload(mask), device.upload(planes)
            self._taps = device.constant(network, lambda: tap_table(network).reshape(-1))
            self.counts = self._equations(range(layout.n_segments), None)

    def encode(
        self, segments: Sequence[int], m_lane: int, *, most: int | None = None, large: int = LARGE_RING
    ) -> Iterator[RingCode]:
        """Codes of rings, as :func:`~xorpack.encoding.rings.elimination.encode_ring` finds them, in this order.

        Raises:
            GivenUpError: one has ``most`` corrections, or more.
            DeviceError: out of memory, or another error of CUDA.
        """
        plan = RingPlan.of(self.network, self.n_planes, self.layout.lanes * m_lane, large=large)
        at_once = max(1, PIVOT_BYTES // (4 * plan.pivot_words + 1))
        for begin in range(0, len(segments), at_once):
            with self.device.beside():
                found = self._encode(segments[begin : begin + at_once], m_lane, plan, most)
            yield from found

    def _encode(
        self, segments: Sequence[int], m_lane: int, plan: RingPlan, most: int | None
    ) -> list[RingCode]:
        device, n, m = self.device, len(segments), self.layout.lanes * m_lane
        stream, at = device.stream(None), self._pointers
        counts = self.counts[list(segments)]
        ends = np.cumsum(counts)
        n_care = max(int(ends[-1]), 1)
        offsets, on_device = device.upload(ends - counts), device.upload(counts)
        equations, wrong = (
            [device.empty((n_care * words,), "U32") for words in (1, plan.value_words)] for _ in range(2)
        )
        has = device.empty((max(n * plan.n_ids, 1),), "U32")
        pivots = device.empty((max(n * plan.pivot_words, 1),), "U32")
        code, wrongs = device.empty((n, self.n_planes, m), "U32"), device.upload(np.zeros(n, np.int64))
        self._equations(segments, [offsets, *equations])
        device.fill_zero(device.pointer(has), 4 * n * plan.n_ids, stream)
        _, eliminate, solve = plan.steps(n)
        network, layout = self.network, self.layout
        offset_taps, width = network.taps()[0], np.int64(network.window)
        schedule = network.schedule(m_lane, layout.n_steps)
        sizes = (*offset_taps.shape[::-1], network.window, layout.lanes, layout.n_steps, m_lane, *schedule)
        numbers = [np.int64(size) for size in (*sizes, ALL if most is None else most)]
        device.launch(
            *eliminate,
            (*at(*equations, offsets, on_device, self._taps), *numbers, *at(has, pivots, *wrong, wrongs)),
            stream,
        )
        found = device.download(wrongs)
        if most is not None and (found >= most).any():
            raise GivenUpError(f"{found.max()} corrections")
        device.launch(*solve, (*at(has, pivots), width, np.int64(m), *at(code)), stream)
        codes = device.download(code)
        own = [slice(end - n, end - n + some) for end, n, some in zip(ends, counts, found, strict=True)]
        return [
            _ring_code(device, ring, wrong, part, plan.value_words)
            for ring, part in zip(codes, own, strict=True)
        ]

    def _equations(self, segments: Sequence[int], into: Sequence[Any] | None) -> NDArray[np.int64]:
        """Write equations of rings at ``(offsets, where, values)``; or count them."""
        device, n = self.device, len(segments)
        if not n:
            return np.zeros(0, np.int64)
        kernel, launch = next(RingPlan.of(self.network, self.n_planes, 0, large=0).steps(n))
        chosen, counts = device.upload(np.array(segments, np.int64)), device.upload(np.zeros(n, np.int64))
        order = [np.int64(size) for size in self.layout.params()]
        to = [np.uint64(0)] * 3 if into is None else self._pointers(*into)
        args = (*self._pointers(*self._words), *order, *self._pointers(chosen), to[0])
        args += np.int64(into is not None), *to[1:], *self._pointers(counts)
        device.launch(kernel, launch, args, device.stream(None))
        return device.download(counts) if into is None else np.zeros(0, np.int64)

    def _pointers(self, *arrays: Any) -> list[np.uint64]:
        return [np.uint64(self.device.pointer(array)) for array in arrays]


def _ring_code(
    device: Device, code: NDArray[np.uint32], wrong: Sequence[Any], own: slice, value_words: int
) -> RingCode:
    """One ring's: its corrections stand at ``own``, in any order."""
    if own.start == own.stop:
        return RingCode(code, np.zeros(0, np.int64), np.zeros(0, np.uint64))
    where, values = wrong
    positions = device.download(where[own])
    words = device.download(values[own.start * value_words : own.stop * value_words]).reshape(-1, value_words)
    order = np.argsort(positions)
    mends = words.astype(np.uint64) << (np.uint64(32) * np.arange(value_words, dtype=np.uint64))
    return RingCode(code, positions[order].astype(np.int64), np.bitwise_or.reduce(mends, axis=1)[order])
