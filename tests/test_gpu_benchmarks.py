"""The benchmark of a GPU where there is none: on the kernels' text on the CPU, with a driver that is made up."""

from __future__ import annotations

import ctypes
import types
from fractions import Fraction

import host_device
import numpy as np
import pytest

from benchmarks.gpu import cases, correctness, encoding, energy, goals, peers, products, stack
from benchmarks.gpu.timing import Timer

on_cpu = pytest.mark.skipif(
    host_device.COMPILER is None, reason="no C++ compiler: kernels are not run on the CPU"
)


class Clock:
    """A timer whose calls take a millisecond each."""

    stream = None

    def seconds(self, calls, *, graph=True):
        for call in calls:
            call(self.stream)
        return [1e-3]

    def repeat(self, calls, seconds):
        return round(seconds / 1e-3)


def driver(**failing):
    """NVML with a counter that goes up by 500 mJ with each look at it, and calls that fail."""
    count = [0]

    def handle(bus, to):
        assert bus == b"0000:01:00.0"
        return failing.get("handle", 0)

    def total(device, to):
        count[0] += 500
        ctypes.cast(to, ctypes.POINTER(ctypes.c_ulonglong))[0] = count[0]
        return failing.get("energy", 0)

    return types.SimpleNamespace(
        nvmlInit_v2=lambda: failing.get("init", 0),
        nvmlDeviceGetHandleByPciBusId_v2=handle,
        nvmlDeviceGetTotalEnergyConsumption=total,
    )


def test_energy_of_a_call():
    meter = energy.Meter(driver(), "0000:01:00.0")
    assert meter.reason == ""
    assert meter.per_call(Clock(), [], seconds=2.0) == pytest.approx(0.5 / 2000)


@pytest.mark.parametrize("what", ["init", "handle", "energy"])
def test_a_driver_that_does_not_count(what):
    assert energy.Meter(driver(**{what: 3}), "0000:01:00.0").reason.endswith("fails with error 3")


def test_no_driver_is_a_reason(monkeypatch):
    def absent(name):
        raise OSError(f"{name}: not here")

    monkeypatch.setattr(energy.ctypes, "CDLL", absent)
    assert energy.meter(None) == "libnvidia-ml.so.1: not here"
    bench = types.SimpleNamespace(meter="no counter")
    assert products._energy(bench, "energy", [], []).note == "not measured: no counter"


class Stream:
    """A stream of CuPy: what is done on it is counted, captured or not."""

    def __init__(self, non_blocking=True):
        self.done = 0

    def __enter__(self):
        return self

    def __exit__(self, *_):
        return None

    def synchronize(self):
        return None

    def begin_capture(self):
        self.begun = self.done

    def end_capture(self):
        captured, self.done = self.done - self.begun, self.begun

        def launch(stream):
            stream.done += captured

        return types.SimpleNamespace(launch=launch)


def test_a_timer_runs_calls_twice_then_as_a_graph():
    event = types.SimpleNamespace(record=lambda stream: None, synchronize=lambda: None)
    cuda = types.SimpleNamespace(
        Stream=Stream,
        Device=lambda: types.SimpleNamespace(id=0, synchronize=lambda: None),
        Event=lambda: event,
        get_elapsed_time=lambda begin, end: 8.0,
        runtime=types.SimpleNamespace(getDeviceProperties=lambda number: {"l2CacheSize": 1 << 20}),
    )
    timer = Timer(types.SimpleNamespace(cuda=cuda), 3)

    def call(stream):
        stream.done += 1

    assert timer.seconds([call, call]) == [0.004] * 3
    assert timer.stream.done == 2 * (2 + 1 + 3)
    assert timer.seconds([call, call], graph=False) == [0.004] * 3
    assert timer.stream.done == 2 * 2 * (2 + 1 + 3)
    before = timer.stream.done
    n = timer.repeat([call, call], 0.01)
    assert n > 0
    assert timer.stream.done - before == n + 4


def bench(device):
    found = types.SimpleNamespace(target=device, timer=Clock(), jobs=1)
    found.cupy = types.SimpleNamespace(empty=np.empty)
    found.load = lambda encoded, copies: [host_device.load(encoded)]
    found.activations = lambda n, cols: np.ones((n, cols), np.float16)
    return found


@on_cpu
def test_a_stack_of_layers(monkeypatch):
    monkeypatch.setattr(stack, "SHAPES", ((64, 256), (32, 128)))
    monkeypatch.setattr(stack, "check_decode", lambda *_: None)
    monkeypatch.setattr(stack, "blas_calls", lambda bench, weights, x: [lambda stream: None])
    rows = list(stack.run(bench(None), quick=True))
    assert [row.samples for row in rows] == [[pytest.approx(125)], [pytest.approx(125)], [pytest.approx(1)]]
    assert rows[-1].what in {row.what for row in goals.unmeasured()["a stack of layers"]}


@on_cpu
def test_encoding(monkeypatch):
    device = host_device.HostDevice()
    monkeypatch.setattr("xorpack.cuda.device.device", lambda number: device)
    monkeypatch.setattr(encoding, "RATES", {2.0: 100.0})
    monkeypatch.setattr(encoding, "ROWS", 32)
    monkeypatch.setattr(encoding, "COLS", 33)
    rows = list(encoding.run(bench(device), quick=False))
    assert rows[0].what == goals.unmeasured()["encoding"][0].what
    assert rows[0].samples == [pytest.approx(32 * 33 / 1e3)]
    assert len(rows) == 2 + len(encoding.CODES)
    assert all(row.samples for row in rows)


def test_others_that_are_not_there_say_so():
    rows = list(peers.run(bench(None), 64, 256))
    assert len(rows) == len(peers.PEERS)
    assert all(row.note.startswith("not run: ") and not row.samples for row in rows)


EXACT = {
    "S .9, q 2": lambda: cases.synthetic(cases.Case(rows=256, cols=12288, sparsity=0.9, bits=2)),
    "S .5, q 3": lambda: cases.synthetic(cases.Case(rows=256, cols=12288, sparsity=0.5, bits=3)),
    "trellis": lambda: cases.trellis(cases.TrellisCase(rows=256, cols=12288, rate=Fraction(2), at_least=0)),
}


@on_cpu
@pytest.mark.parametrize("name", EXACT)
def test_products_are_no_worse_than_in_float32(name):
    """By the kernels' text. But where a row prunes an activation that is 100 times as large as those it keeps."""
    encoded = EXACT[name]()
    tensor = host_device.load(encoded)
    for kind in goals.ACTIVATIONS:
        pruned = name == "S .9, q 2" and kind == "outliers of 100"
        found = correctness.error_ratio(encoded, tensor, np.ascontiguousarray, kind)
        assert found <= (2 if pruned else 1), kind
