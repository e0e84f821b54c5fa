"""Memory: peak above the input while a large tensor, or a file of many, is encoded, each case in its own process.

The process imports xorpack and loads the input, then resets its peak (writes 5 to /proc/self/clear_refs);
what it reaches from there on less what it held is the figure. Loading compiled kernels counts. A file is not loaded: it
is read, and written, a tensor for each thread at a time.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np

import xorpack
from benchmarks.measure import Checks, Row
from xorpack.decoders import cpu

CASES = (("bcq", 1, True), ("bcq", 2, True), ("lossless", 1, False), ("lossless", 2, False))
FILE_JOBS, FILE_SHAPE, FILE_TENSORS = (1, 2), (4096, 14336), 42
"""A file of 4.9 GB, of matrices as a language model of 8 G weights has them, bfloat16."""

SPARSITY, BITS = 0.9, 2
KEPT_ABOVE = 1.6448536
"""Normal weights beyond this magnitude: a tenth."""


def run(quick: bool) -> Iterator[Row]:
    """Rows of this theme."""
    size = 4096 if quick else 16384
    for mode, jobs, judged in CASES[::2] if quick else CASES:
        name = f"quantize + encode, S {SPARSITY}, q {BITS}" if mode == "bcq" else "encode losslessly, S 0.9"
        what = f"peak memory above the input, {name}, {size} x {size} float32, jobs {jobs}"
        if not Path("/proc/self/status").exists():
            yield Row(what=what, note="needs /proc")
            continue
        command = [sys.executable, "-m", "benchmarks.memory", mode, str(jobs), str(size)]
        found = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
        Checks.held += 1
        note = f"of which {found['held']:.2f} GB is the result; {found['seconds']:.1f} s"
        peak = [found["peak"]]
        yield Row(what=what, samples=peak, unit="GB", digits=3, at_most=1.0 if judged else None, note=note)

    for jobs in FILE_JOBS[:1] if quick else FILE_JOBS:
        n = FILE_TENSORS // 14 if quick else FILE_TENSORS
        size = 2 * n * FILE_SHAPE[0] * FILE_SHAPE[1] / 1e9
        what = f"peak memory above what is read, encode a file of {size:.1f} GB, S {SPARSITY}, q {BITS}, jobs {jobs}"
        command = [sys.executable, "-m", "benchmarks.memory", "file", str(jobs), str(n)]
        found = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
        Checks.held += 1
        read = jobs * size / n
        note = f"{n} tensors, {read:.2f} GB at a time; {found['seconds']:.0f} s"
        yield Row(what=what, samples=[found["peak"] - read], unit="GB", digits=3, at_most=0.6, note=note)


def _load(size: int, mode: str) -> np.ndarray:
    """The input, made in blocks of rows so that it is the peak. Zeros are +0: -0.0 would count as kept."""
    weight = np.empty((size, size), np.float32)
    for first in range(0, size, 256):
        block = np.random.default_rng(first).standard_normal((256, size), np.float32)
        if mode == "lossless":
            block[np.abs(block) <= KEPT_ABOVE] = 0
        weight[first : first + 256] = block
    return weight


def status(field: str) -> float:
    """A field of /proc/self/status in GB (10^9 bytes)."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1]) * 1024 / 1e9
    raise KeyError(field)


def forget_peak() -> float:
    """Begin to count the peak anew; GB that the process holds now."""
    before = status("VmRSS")
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:  # not allowed: what was loaded was the peak until now, by a block of rows
        before = max(before, status("VmHWM"))
    return before


def child(mode: str, jobs: int, size: int) -> None:
    """One case: print its figures as JSON, after checking that it decodes."""
    import time

    weight = _load(size, mode)
    before = forget_peak()
    began = time.perf_counter()
    quantized = None
    if mode == "bcq":
        quantized = xorpack.quantize(weight, bits=BITS, sparsity=SPARSITY, jobs=jobs)
    encoded = xorpack.encode(weight if quantized is None else quantized, jobs=jobs)
    spent, peak = time.perf_counter() - began, status("VmHWM") - before
    for first in range(0, size, 1024):
        if quantized is None:
            same = (
                cpu.decode_rows(encoded, first, first + 1024).tobytes()
                == weight[first : first + 1024].tobytes()
            )
        else:
            planes = cpu.decode_planes(encoded, first, first + 1024)[1]
            same = np.array_equal(planes, quantized.planes[:, first : first + 1024])
        Checks.require(same, f"rows from {first} decode to something else")
    held = sum(encoded.section_bytes().values()) / 1e9
    print(json.dumps({"peak": peak, "held": held, "seconds": spent}))


def file_child(jobs: int, n: int) -> None:
    """A file of ``n`` matrices, encoded: print the figures as JSON, after checking every byte."""
    import tempfile
    import time

    import ml_dtypes

    from xorpack.files import safetensors_file
    from xorpack.files.safetensors_file import StoredTensor

    class Block(StoredTensor):
        """One matrix, made of the same rows again and again."""

        def __init__(self, rows: np.ndarray, seed: int) -> None:
            super().__init__("BF16", FILE_SHAPE, rows)
            self.n_bytes = 2 * FILE_SHAPE[0] * FILE_SHAPE[1]
            self.seed = seed

        def blocks(self) -> Iterator[np.ndarray]:
            for first in range(0, FILE_SHAPE[0], 256):
                yield np.roll(self._data, self.seed * 1000 + first)

    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder, "m.safetensors"), Path(folder, "x.safetensors")
        rows = np.random.default_rng(0).standard_normal((256, FILE_SHAPE[1]), np.float32)
        flat = rows.astype(ml_dtypes.bfloat16).reshape(-1).view(np.uint8)
        tensors: dict[str, StoredTensor] = {f"layers.{k}.weight": Block(flat, 2 * k) for k in range(n)}
        safetensors_file.write(source, tensors, safetensors_file.header_bytes(tensors, {}))
        before = forget_peak()
        began = time.perf_counter()
        xorpack.encode_checkpoint(source, target, bits=BITS, sparsity=SPARSITY, jobs=jobs)
        spent, peak = time.perf_counter() - began, status("VmHWM") - before
        found = xorpack.open(target)
        Checks.require(len(found) == n, f"{len(found)} of {n} tensors are encoded")
        for name in found:
            assert found[name].n_weights  # its bytes are checked when it is read
    print(json.dumps({"peak": peak, "seconds": spent}))


if __name__ == "__main__" and sys.argv[1] == "file":
    file_child(int(sys.argv[2]), int(sys.argv[3]))
elif __name__ == "__main__":
    child(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
