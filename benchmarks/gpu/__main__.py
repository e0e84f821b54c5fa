"""``python -m benchmarks.gpu [--quick] [--jobs N]``: a table last, under 8 minutes."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

from rich.console import Console

from benchmarks import report
from benchmarks.gpu import decoding, encoding, peers, products, stack
from benchmarks.gpu.cases import CASES, TRELLIS, Case, TrellisCase
from benchmarks.gpu.timing import Timer
from benchmarks.measure import CheckError, Checks, Row
from xorpack.cuda.device import CudaDevice, device, import_cupy
from xorpack.errors import DeviceError

SECONDS = 420
"""After that no new part begins."""


def main() -> int:
    """0; 1 without a GPU or where a check failed. Goals that are missed are only shown."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description=__doc__)
    parser.add_argument(
        "--quick", action="store_true", help="the smallest shapes, few samples, nothing written"
    )
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="threads of checks on the CPU")
    options = parser.parse_args()
    try:
        target, cupy = device(), import_cupy()
    except DeviceError as error:
        print(f"benchmarks.gpu: {error}", file=sys.stderr)
        return 1
    began = time.perf_counter()
    about = report.environment()
    about |= hardware(cupy, target)
    about["machine"] += (
        f"; {about['gpu']}, driver {about['driver']}, CUDA {about['cuda']}, CuPy {about['cupy']}"
    )
    bench = products.Bench(cupy, target, Timer(cupy, 5 if options.quick else 30), options.jobs)
    themes: dict[str, list[Row]] = {"device": [_bandwidth(bench)]}
    failed = False
    for name, part in parts(bench, options.quick):
        rows = themes.setdefault(name, [])
        if time.perf_counter() - began > SECONDS:
            rows.append(Row(what=f"{name}: a part", note=f"left out: {SECONDS} s were over"))
            continue
        try:
            for row in part():
                rows.append(row)
                print(f"{row.what}: {row.measured}", file=sys.stderr, flush=True)
        except (CheckError, DeviceError) as error:
            failed = failed or isinstance(error, CheckError)
            rows.append(Row(what=f"{name}: stopped", note=str(error)))
            print(f"{name}: stopped: {error}", file=sys.stderr, flush=True)
        cupy.get_default_memory_pool().free_all_blocks()
    exact = [0.0 if failed else 100.0]
    what = "decode bit-identical, products within float32 rounding, runs identical"
    themes["correctness"] = [
        Row(what=what, samples=exact, unit="%", at_least=100, note=f"{Checks.held} checks held")
    ]
    about |= {"seconds": round(time.perf_counter() - began), "clocks_after": _clocks()}
    if not options.quick and not failed:
        command = "python -m benchmarks.gpu"
        report.save(
            "gpu", {f"GPU: {name}": report.as_theme(rows, about, command) for name, rows in themes.items()}
        )
    print(" ".join(f"{key} {value}" for key, value in about.items() if key in HARDWARE))
    Console(width=None if sys.stdout.isatty() else 200).print(report.table(themes))
    return int(failed)


def parts(bench: products.Bench, quick: bool) -> Iterator[tuple[str, Callable[[], Iterator[Row]]]]:
    """What is measured, the goals first."""

    def product(case: Case | TrellisCase, batches: tuple[int, ...], csr: bool) -> Callable[[], Iterator[Row]]:
        return lambda: products.run(bench, case, batches, csr=csr)

    chosen = CASES[-1:] if quick else CASES
    yield "first call", lambda: decoding.compilation(bench)
    for number, case in enumerate(chosen):
        csr = bool(case.group) and (case.rows, case.cols) in ((28672, 8192), (14336, 4096))
        batches = (1, 8, 256) if number == 0 else (1, 8)
        yield "products", product(case, batches, csr)
    for trellis in TRELLIS[-1:] if quick else TRELLIS:
        yield "products", product(trellis, (1, 8, 16, 64, 256), False)
    yield "a stack of layers", lambda: stack.run(bench, quick=quick)
    yield "encoding", lambda: encoding.run(bench, quick=quick)
    yield "decoding", lambda: decoding.run(bench, chosen[0])
    yield "masks", lambda: decoding.masks(bench, 1024 if quick else 4096)
    for case in chosen[:2]:
        yield "dense BCQ", lambda case=case: products.dense_bcq(bench, case)
    yield "others", lambda: peers.run(bench, chosen[0].rows, chosen[0].cols)


HARDWARE = ("gpu", "driver", "cuda", "cupy", "clocks", "clocks_after", "seconds", "commit")


def hardware(cupy: ModuleType, target: CudaDevice) -> dict[str, Any]:
    """What the figures depend on."""
    runtime = cupy.cuda.runtime
    return {
        "gpu": target.name,
        "compute_capability": ".".join(map(str, target.compute_capability)),
        "driver": runtime.driverGetVersion(),
        "cuda": runtime.runtimeGetVersion(),
        "cupy": cupy.__version__,
        "clocks": _clocks(),
    }


def _clocks() -> str:
    """Clocks of multiprocessors and memory in MHz, as nvidia-smi tells them; "-" without it."""
    query = [
        "nvidia-smi",
        "--query-gpu=clocks.sm,clocks.mem,temperature.gpu,power.draw",
        "--format=csv,noheader",
    ]
    try:
        return subprocess.run(query, capture_output=True, text=True, check=True, timeout=10).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return "-"


def _bandwidth(bench: products.Bench) -> Row:
    samples = [b / 1e9 for b in bench.bandwidth]
    return Row(what="copy in device memory, read + written", samples=samples, unit="GB/s", digits=0)


if __name__ == "__main__":
    sys.exit(main())
