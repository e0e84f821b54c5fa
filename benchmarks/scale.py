"""Large checkpoints: what a task costs beside its work, joining, going on with a killed run; processor time.

Seconds are those of processors, of this process, which other programs on the machine change little. With dask it holds
the client and the scheduler, not the worker: what it spends on a task bounds how many workers it can feed.
"""

from __future__ import annotations

import os
import pickle
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack
from importlib.util import find_spec
from pathlib import Path

import numpy as np

import xorpack
from benchmarks.measure import Checks, Row
from benchmarks.memory import status
from xorpack.checkpoint.encode import EncodingRun
from xorpack.checkpoint.plan import CheckpointPlan
from xorpack.checkpoint.settings import Settings
from xorpack.checkpoint.source import plain_tensors
from xorpack.files import container, model, safetensors_file
from xorpack.files.safetensors_file import StoredTensor

SMALL, LARGE = (64, 64), (2048, 2048)
ADAPTERS = ((64, 64), (64, 256))
"""Shapes of the small tensors whose time is shown; at these planes and sparsities:"""
SETTINGS = ((2, 0.9), (3, 0.5))
JOINED_BYTES, EXPERT = 1 << 28, (7168, 2048)
OPTIONS = {"bits": 2, "sparsity": 0.9}


class _StoppedError(Exception):
    """Ends a run when all of its tensors are done."""


def run(quick: bool) -> Iterator[Row]:
    """Rows of this theme."""
    n_small, n_large = (64, 4) if quick else (512, 16)
    with ExitStack() as stack:
        place = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        small, large = _write(place / "small", SMALL, n_small), _write(place / "large", LARGE, n_large)
        ways: dict[str, str | None] = {"one thread": None}
        if find_spec("distributed"):
            from distributed import LocalCluster

            local = LocalCluster(n_workers=1, threads_per_worker=1, dashboard_address=":0", memory_limit=0)
            ways["a process of dask"] = stack.enter_context(local).scheduler_address
        for what, scheduler in ways.items():
            _encode(large, place / "warm", scheduler)
            seconds = []
            for source, n in ((small, n_small), (large, n_large)):
                began = time.process_time()
                written = _encode(source, place / f"{source.name} {what}", scheduler)
                seconds.append((time.process_time() - began) / n)
            same = written.read_bytes() == (place / f"{large.name} one thread").read_bytes()
            Checks.require(same, f"{what} writes other bytes")
            if scheduler is None:
                rate = LARGE[0] * LARGE[1] / seconds[1] / 1e6
                shape = f"{LARGE[0]} x {LARGE[1]} float16, q {OPTIONS['bits']}, S {OPTIONS['sparsity']}"
                yield Row(what=f"quantize, encode, check, write {shape}", samples=[rate], unit="M weights/s")
            name = f"a task of {SMALL[0]} x {SMALL[1]} weights, {what}"
            yield Row(what=name, samples=[1e3 * seconds[0]], unit="ms")
        yield from _adapters(place, 64 if quick else 512)
        yield _joined(place)
        yield from _planned(place / "huge", 4 if quick else 60)
        yield from _resumed(large, place, n_large)


def _adapters(place: Path, n: int) -> Iterator[Row]:
    """Milliseconds of a small tensor, and of as many weights of a large one."""
    large = _write(place / "one", LARGE, 1)
    for shape in ADAPTERS:
        small = _write(place / "adapters", shape, n)
        for bits, sparsity in SETTINGS:
            how = {"bits": bits, "sparsity": sparsity, "overwrite": True}
            seconds = []
            for source in (small, large):
                xorpack.encode_checkpoint(source, place / "warm", **how)
                began = time.process_time()
                xorpack.encode_checkpoint(source, place / "warm", **how)
                seconds.append(time.process_time() - began)
            share = seconds[1] * (shape[0] * shape[1]) / (LARGE[0] * LARGE[1])
            what = f"{shape[0]} x {shape[1]} float16, q {bits}, S {sparsity}, a tensor of {n} in a file"
            note = f"{1e3 * share:.2f} ms for as many weights of {LARGE[0]} x {LARGE[1]}"
            yield Row(what=what, samples=[1e3 * seconds[0] / n], unit="ms", note=note)


def _resumed(source: Path, place: Path, n: int) -> Iterator[Row]:
    done = []

    def progress(*_: object) -> None:
        done.append(1)
        if len(done) == n:
            raise _StoppedError

    target = place / "resumed"
    try:
        xorpack.encode_checkpoint(source, target, resume=True, progress=progress, **OPTIONS)
    except _StoppedError:
        began = time.process_time()
    xorpack.encode_checkpoint(source, target, resume=True, **OPTIONS)
    spent = time.process_time() - began
    same = target.read_bytes() == (place / f"{source.name} one thread").read_bytes()
    Checks.require(same, "a run that was gone on with writes other bytes")
    yield Row(what="go on where all tensors are finished, a tensor", samples=[1e3 * spent / n], unit="ms")


class _Hole(StoredTensor):
    """A matrix whose bytes are never looked at."""

    def __init__(self) -> None:
        self.dtype, self.shape, self.n_bytes = "BF16", EXPERT, 2 * EXPERT[0] * EXPERT[1]


def _planned(root: Path, n_layers: int) -> Iterator[Row]:
    """A checkpoint of ``n_layers`` times 384 experts of three matrices, in files of one layer that are holes."""
    root.mkdir()
    for layer in range(n_layers):
        names = (f"layers.{layer}.experts.{i}.{k}.weight" for i in range(384) for k in ("up", "gate", "down"))
        tensors: dict[str, StoredTensor] = {name: _Hole() for name in names}
        header = safetensors_file.header_bytes(tensors, {})
        with open(root / f"model-{layer + 1:05}-of-{n_layers:05}.safetensors", "wb") as file:
            file.write(len(header).to_bytes(8, "little") + header)
            file.truncate(8 + len(header) + sum(hole.n_bytes for hole in tensors.values()))
    held, began = status("VmRSS"), time.process_time()
    files = model.find(root).open()
    run = EncodingRun(CheckpointPlan(Settings(**OPTIONS), plain_tensors(files), (), ()), 0)
    tasks = [run.task(name) for name in run.plan.selected]
    spent, held = time.process_time() - began, status("VmRSS") - held
    what = f"open and plan {run.plan.n_weights / 1e12:.2f} T weights in {len(tasks)} tensors"
    yield Row(what=what, samples=[spent], unit="s", note=f"{len(pickle.dumps(tasks[0]))} bytes a task")
    yield Row(what=f"{what}: memory", samples=[1e3 * held], unit="MB")


def _joined(place: Path) -> Row:
    part = {"a.xor_code": StoredTensor("U8", (JOINED_BYTES,), np.ones(JOINED_BYTES, np.uint8))}
    safetensors_file.write(place / "part", part, safetensors_file.header_bytes(part, {}))
    began, wall = time.process_time(), time.perf_counter()
    container.join(place / "joined", {"a": safetensors_file.read(place / "part").tensors}, {})
    spent, wall = time.process_time() - began, time.perf_counter() - wall
    os.unlink(place / "joined")
    note = f"{JOINED_BYTES / wall / 1e9:.1f} GB/s by the clock"
    return Row(what="join parts to a file", samples=[JOINED_BYTES / spent / 1e9], unit="GB/s", note=note)


def _encode(source: Path, target: Path, scheduler: str | None) -> Path:
    xorpack.encode_checkpoint(source, target, scheduler=scheduler, overwrite=True, **OPTIONS)
    return target


def _write(path: Path, shape: tuple[int, int], n: int) -> Path:
    rng = np.random.default_rng(0)
    tensors = {
        f"layers.{k}.weight": StoredTensor.of(rng.standard_normal(shape, np.float32).astype(np.float16))
        for k in range(n)
    }
    safetensors_file.write(path, tensors, safetensors_file.header_bytes(tensors, {}))
    return path
