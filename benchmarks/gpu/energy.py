"""Energy of products, as the driver counts it (NVML): of the whole card, idle parts and memory included."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from types import ModuleType
from typing import Any

from benchmarks.gpu.timing import Call, Timer

SECONDS = 2.0
"""Length of a measurement: the counter moves some ten times a second."""


class Meter:
    """The counter of one GPU.

    Attributes:
        reason: why there is none; "" where there is.
    """

    def __init__(self, library: Any, bus: str) -> None:
        """``library``: NVML; ``bus``: the GPU's place on the PCI bus."""
        self._library, self._device, self.reason = library, ctypes.c_void_p(), ""
        steps = (
            ("nvmlInit_v2", ()),
            ("nvmlDeviceGetHandleByPciBusId_v2", (bus.encode(), ctypes.byref(self._device))),
        )
        for name, arguments in steps:
            if status := getattr(library, name)(*arguments):
                self.reason = f"{name} fails with error {status}"
                return
        self.joules()

    def joules(self) -> float:
        """Since the driver was loaded."""
        found = ctypes.c_ulonglong()
        status = self._library.nvmlDeviceGetTotalEnergyConsumption(self._device, ctypes.byref(found))
        if status:
            self.reason = f"nvmlDeviceGetTotalEnergyConsumption fails with error {status}"
        return found.value / 1e3

    def per_call(self, timer: Timer, calls: Sequence[Call], seconds: float = SECONDS) -> float:
        """Joules of one of ``calls``, repeated for about so long."""
        timer.repeat(calls, seconds / 10)
        before = self.joules()
        n = timer.repeat(calls, seconds)
        return (self.joules() - before) / n


def meter(cupy: ModuleType) -> Meter | str:
    """The meter of CuPy's current GPU, or why there is none."""
    try:
        library = ctypes.CDLL("libnvidia-ml.so.1")
    except OSError as error:
        return str(error)
    found = Meter(library, cupy.cuda.runtime.deviceGetPCIBusId(cupy.cuda.Device().id))
    return found.reason or found
