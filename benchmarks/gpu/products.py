"""Products beside cuBLAS fp16, cuSPARSE CSR and dense BCQ."""

from __future__ import annotations

import gc
import importlib
from collections.abc import Iterator, Sequence
from statistics import median
from types import ModuleType
from typing import Any

import numpy as np

from benchmarks.gpu import cases, goals
from benchmarks.gpu.cases import Case, TrellisCase
from benchmarks.gpu.correctness import check_decode, check_product
from benchmarks.gpu.energy import meter
from benchmarks.gpu.timing import Call, Timer
from benchmarks.measure import Row, ratios
from xorpack.cuda.device import CudaDevice
from xorpack.decoders.gpu import GpuTensor
from xorpack.decoders.gpu.packed import pack
from xorpack.encoded import EncodedTensor


class Bench:
    """What all rows share: device, clock, copy bandwidth in bytes a second."""

    def __init__(self, cupy: ModuleType, target: CudaDevice, timer: Timer, jobs: int) -> None:
        self.cupy, self.target, self.timer, self.jobs = cupy, target, timer, jobs
        self.bandwidth = timer.copy_bandwidth()
        self.meter = meter(cupy)

    def load(self, encoded: EncodedTensor, *, copies: int | None = None) -> list[GpuTensor]:
        """The tensor, as often as the L2 cache cannot hold it."""
        packed = pack(encoded, jobs=self.jobs)
        n_bytes = sum(array.nbytes for array in packed.arrays.values())
        n = copies or self.timer.copies(n_bytes)
        return [GpuTensor(encoded, packed, self.target) for _ in range(n)]

    def activations(self, n: int, cols: int) -> Any:
        """Normal float16 (n, cols)."""
        x = np.random.default_rng([n, cols]).standard_normal((n, cols), np.float32)
        return self.cupy.asarray(x.astype(np.float16))


def run(bench: Bench, case: Case | TrellisCase, batches: Sequence[int], *, csr: bool) -> Iterator[Row]:
    """Rows of one case; every product is checked before it is timed."""
    cupy, timer = bench.cupy, bench.timer
    encoded = cases.synthetic(case) if isinstance(case, Case) else cases.trellis(case)
    tensors = bench.load(encoded)
    check_decode(cupy, encoded, tensors[0])
    memory = tensors[0].memory()
    share = memory["total"] / memory["stored"]
    yield Row(
        what=f"GPU memory / stored bytes, {case.name}",
        samples=[share],
        digits=4,
        at_most=1.01,
        note=f"{memory['total']} bytes on the device",
    )
    weights = _dense_copies(bench, tensors[0])
    for n in batches:
        x = bench.activations(n, case.cols)
        out = cupy.empty((n, case.rows), np.float16)
        blas = timer.seconds(blas_calls(bench, weights, x))
        yield Row(
            what=f"cuBLAS fp16, batch {n}, {case.name}", samples=[s * 1e6 for s in blas], unit="us", digits=1
        )
        fused = (
            ("tables", "tensor_cores", "binary") if isinstance(case, Case) else ("binary", "trellis_tiles")
        )
        for algorithm in (*fused, "wide", "decode"):
            few = algorithm in ("tables", "binary")
            if (few and n > 8) or (algorithm in ("decode", "trellis_tiles") and n < 8):
                continue
            if algorithm == "wide" and (n < 64 or not bench.target.warpgroups):
                continue
            check_product(cupy, encoded, tensors[0], x, algorithm)
            tensors[0].prepare(n, "F16", stream=timer.stream, algorithm=algorithm)
            ours = timer.seconds(calls(tensors, x, out, algorithm))
            yield from _rows(bench, case, n, algorithm, ours, blas, memory["total"])
            if n == 1 and case.cols == 12288:
                both = calls(tensors, x, out, algorithm), blas_calls(bench, weights, x)
                yield _energy(bench, f"energy of {algorithm} over cuBLAS fp16, batch 1, {case.name}", *both)
        if csr and n == 1:
            yield from _csr(bench, case, weights[0], x, tensors, out)
    del tensors, weights
    gc.collect()


def calls(tensors: Sequence[GpuTensor], x: Any, out: Any, algorithm: str) -> list[Call]:
    """A product by each of the tensors."""

    def one(tensor: GpuTensor) -> Call:
        return lambda stream: tensor.matmul(x, out=out, stream=stream, algorithm=algorithm)

    return [one(tensor) for tensor in tensors]


def _rows(
    bench: Bench,
    case: Case | TrellisCase,
    n: int,
    algorithm: str,
    ours: Sequence[float],
    blas: Sequence[float],
    n_bytes: int,
) -> Iterator[Row]:
    moved = n_bytes + 2 * n * (case.rows + case.cols)
    achieved = 100 * moved / median(ours) / median(bench.bandwidth)
    note = f"{moved} bytes moved at least, {achieved:.0f} % of the copy bandwidth"
    us = [s * 1e6 for s in ours]
    yield Row(what=f"{algorithm}, batch {n}, {case.name}", samples=us, unit="us", digits=1, note=note)
    least = {1: case.at_least, 8: case.at_least_8, 256: goals.LEAST_256}.get(n)
    best = {1: "binary", 8: "binary", 256: "wide" if bench.target.warpgroups else "decode"}
    yield Row(
        what=f"{algorithm} over cuBLAS fp16, batch {n}, {case.name}",
        samples=ratios(blas, ours),
        unit="x",
        at_least=least if algorithm == best.get(n, "decode") else None,
    )


def _energy(bench: Bench, what: str, ours: Sequence[Call], theirs: Sequence[Call]) -> Row:
    if isinstance(bench.meter, str):
        return Row(what=what, note=f"not measured: {bench.meter}")
    mine, blas = (1e3 * bench.meter.per_call(bench.timer, each) for each in (ours, theirs))
    return Row(
        what=what, samples=[mine / blas], unit="x", note=f"{mine:.2f} mJ and {blas:.2f} mJ of the whole card"
    )


def _dense_copies(bench: Bench, tensor: GpuTensor) -> list[Any]:
    first = tensor.decode("F16")
    return [first, *(first.copy() for _ in range(bench.timer.copies(first.nbytes) - 1))]


def blas_calls(bench: Bench, weights: Sequence[Any], x: Any) -> list[Call]:
    """A product by each of dense float16 weights."""
    rows, cols = weights[0].shape
    partial = bench.cupy.empty((x.shape[0], rows), np.float32)
    seen = bench.target.view(x, "x")

    def one(weight: Any) -> Call:
        def call(stream: Any) -> None:
            pointer, to = int(weight.data.ptr), int(partial.data.ptr)
            bench.target.gemm("F16", pointer, seen, to, rows, cols, rows, stream)

        return call

    return [one(weight) for weight in weights]


def _csr(
    bench: Bench, case: Case | TrellisCase, weight: Any, x: Any, tensors: Sequence[GpuTensor], out: Any
) -> Iterator[Row]:
    sparse = importlib.import_module("cupyx.scipy.sparse")
    matrix = sparse.csr_matrix(weight.astype(np.float32))
    vector = x[0].astype(np.float32)
    theirs = bench.timer.seconds([lambda stream: matrix.dot(vector)] * 4, graph=False)
    ours = bench.timer.seconds(calls(tensors, x, out, "binary"), graph=False)
    yield Row(
        what=f"binary over {goals.CSR}, batch 1, {case.name}",
        samples=ratios(theirs, ours),
        unit="x",
        at_least=3,
        note="both without a graph",
    )


def dense_bcq(bench: Bench, case: Case) -> Iterator[Row]:
    """The same kernel on planes that are neither coded nor masked."""
    encoded = cases.dense(case.rows, case.cols, case.bits)
    tensors = bench.load(encoded)
    x = bench.activations(1, case.cols)
    out = bench.cupy.empty((1, case.rows), np.float16)
    check_product(bench.cupy, encoded, tensors[0], x, "tables")
    tensors[0].prepare(1, "F16", stream=bench.timer.stream, algorithm="tables")
    samples = bench.timer.seconds(calls(tensors, x, out, "tables"))
    us = [s * 1e6 for s in samples]
    name = f"{case.rows} x {case.cols}, q {case.bits}"
    yield Row(what=f"dense BCQ, no mask, batch 1, {name}", samples=us, unit="us", digits=1)
