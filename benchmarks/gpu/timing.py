"""Seconds on the device: CUDA graphs replayed between events, over as many copies as the L2 cache cannot hold."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from types import ModuleType
from typing import Any

import numpy as np

Call = Callable[[Any], None]
"""Launches on the stream that it is given."""

CACHES = 4
"""Bytes of all copies over the size of the L2 cache."""
MAX_COPIES = 64


class Timer:
    """Times calls on a stream of its own."""

    def __init__(self, cupy: ModuleType, n_samples: int) -> None:
        self._cupy = cupy
        self.n_samples = n_samples
        self.stream = cupy.cuda.Stream(non_blocking=True)
        properties = cupy.cuda.runtime.getDeviceProperties(cupy.cuda.Device().id)
        self.l2_bytes = int(properties["l2CacheSize"])

    def copies(self, n_bytes: int) -> int:
        """Copies of something of that size that are to be rotated."""
        return max(2, min(MAX_COPIES, -(-CACHES * self.l2_bytes // max(n_bytes, 1))))

    def seconds(self, calls: Sequence[Call], *, graph: bool = True) -> list[float]:
        """Samples of the mean time of ``calls``, which are run one after another, twice before."""
        replay = self._replay(calls, graph=graph)
        replay()
        samples = []
        for _ in range(self.n_samples):
            begin, end = self._cupy.cuda.Event(), self._cupy.cuda.Event()
            begin.record(self.stream)
            replay()
            end.record(self.stream)
            end.synchronize()
            samples.append(self._cupy.cuda.get_elapsed_time(begin, end) / 1e3 / len(calls))
        return samples

    def repeat(self, calls: Sequence[Call], seconds: float) -> int:
        """Run ``calls`` again and again, for about that long; returns how many calls that were."""
        replay = self._replay(calls, graph=True)
        began, n = time.perf_counter(), 0
        while time.perf_counter() - began < seconds:
            replay()
            self.stream.synchronize()
            n += len(calls)
        return n

    def _replay(self, calls: Sequence[Call], *, graph: bool) -> Callable[[], None]:
        """What runs ``calls``, which were run twice before, on the stream."""
        self._cupy.cuda.Device().synchronize()
        for _ in range(2):
            self._run(calls)
        self.stream.synchronize()
        if not graph:
            return lambda: self._run(calls)
        with self.stream:
            self.stream.begin_capture()
            self._run(calls)
            captured = self.stream.end_capture()
        return lambda: captured.launch(self.stream)

    def _run(self, calls: Sequence[Call]) -> None:
        with self.stream:
            for call in calls:
                call(self.stream)

    def copy_bandwidth(self) -> list[float]:
        """Bytes a second, read and written, of large copies in device memory."""
        n = 1 << 30
        source, target = self._cupy.empty(n, np.uint8), self._cupy.empty(n, np.uint8)

        def copy(stream: Any) -> None:
            self._cupy.cuda.runtime.memcpyAsync(target.data.ptr, source.data.ptr, n, 3, stream.ptr)

        return [2 * n / seconds for seconds in self.seconds([copy] * 4)]
