"""Large checkpoints: what a task costs beside its work, workers beside threads, joining, going on, a kill."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack
from importlib.util import find_spec
from pathlib import Path

import numpy as np

import xorpack
from benchmarks.measure import Checks, Row
from xorpack.files import safetensors_file
from xorpack.files.safetensors_file import StoredTensor

SMALL, LARGE = (64, 64), (2048, 2048)
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

            local = LocalCluster(n_workers=1, threads_per_worker=1, dashboard_address=None, memory_limit=0)
            ways["a process of dask"] = stack.enter_context(local).scheduler_address
        for what, scheduler in ways.items():
            seconds = []
            _encode(large, place / "warm", scheduler)
            for source, n in ((small, n_small), (large, n_large)):
                began = time.perf_counter()
                written = _encode(source, place / f"{source.name} {what}", scheduler)
                seconds.append((time.perf_counter() - began) / n)
            same = written.read_bytes() == (place / f"{large.name} one thread").read_bytes()
            Checks.require(same, f"{what} writes other bytes")
            name = f"a task of {SMALL[0]} x {SMALL[1]} weights, {what}"
            yield Row(what=name, samples=[1e3 * seconds[0]], unit="ms")
            rate = LARGE[0] * LARGE[1] / seconds[1] / 1e6
            yield Row(what=f"encode {LARGE[0]} x {LARGE[1]}, {what}", samples=[rate], unit="M weights/s")
        yield from _resumed(large, place, n_large)


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
        began = time.perf_counter()
    xorpack.encode_checkpoint(source, target, resume=True, **OPTIONS)
    spent = time.perf_counter() - began
    Checks.require(
        target.read_bytes() == (place / f"{source.name} one thread").read_bytes(), "gone on with: other bytes"
    )
    yield Row(
        what="go on with a run that had finished all tensors: check and join",
        samples=[target.stat().st_size / spent / 1e6],
        unit="MB/s",
        note=f"{target.stat().st_size / 1e6:.1f} MB",
    )


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
