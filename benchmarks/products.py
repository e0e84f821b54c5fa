"""Products on the CPU: by the code itself, beside OpenBLAS by the dense float32 weights."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

import xorpack
from benchmarks.data import random_bcq, random_weight
from benchmarks.measure import Checks, Row, interleaved, ratios
from xorpack.encoded import EncodedTensor
from xorpack.encoding.quantize.trellis_design import design, exact_rate
from xorpack.product import PRECISIONS, PreparedProduct
from xorpack.tensors import TrellisTensor

BCQ = ((0.9, 2, (1.6, 3.0)), (0.5, 3, (1.0, 1.5)))
"""Sparsity, planes, and the goals: OpenBLAS' time over ours by float32 and int8, on one core."""

RATES = (1, 2, 3, 4)
WINDOW = 12

SMOLLM2 = {(576, 576): 60, (192, 576): 60, (1536, 576): 60, (576, 1536): 30, (49152, 576): 1}
"""Matrices of SmolLM2-135M that a token is multiplied by: shapes, and how many there are."""

Calls = Sequence[Callable[[], object]]


def run(quick: bool) -> Iterator[Row]:
    """Rows of this theme."""
    size, n = (2048, 5) if quick else (4096, 21)
    variables = sorted(name for name in os.environ if name.startswith(("OPENBLAS_", "OMP_")))
    Checks.require(not variables, f"unset {variables}: OpenBLAS is to run as it does by default")
    for sparsity, bits, goals in BCQ:
        where = f"{size} x {size}, S {sparsity}, q {bits}"
        yield from _square(where, partial(_bcq, size, sparsity, bits), goals, n)
        yield from _symbols(where, size, sparsity, bits, n)
    for rate in RATES:
        yield from _square(
            f"{size} x {size}, trellis {rate}", partial(_trellis, size, size, rate), (None, None), n
        )
    for rate in RATES[1:]:
        yield from _model(rate, max(3, n // 3), quick)


def _bcq(size: int, sparsity: float, bits: int) -> EncodedTensor:
    return xorpack.encode(random_bcq(size, sparsity, bits), mask_codec="bitmap", jobs=2)


def _trellis(rows: int, cols: int, rate: int, seed: int = 0) -> EncodedTensor:
    """Random code: a product takes as long by any."""
    rng = np.random.default_rng([seed, rows, cols, rate])
    found = design(exact_rate(rate), WINDOW)
    code = rng.integers(0, 1 << 32, (found.network.n_stored(rows), -(-cols // 32)), dtype=np.uint32)
    scales = rng.integers(0, 60, (rows, 1)).astype(np.uint8)
    a = np.array(found.a, np.float32)
    tensor = TrellisTensor(
        shape=(rows, cols), dtype="F32", network=found.network, code=code, a=a, scales=scales
    )
    return xorpack.encode(tensor)


def _square(
    where: str, make: Callable[[], EncodedTensor], goals: tuple[float | None, float | None], n: int
) -> Iterator[Row]:
    *ours, dense = _on_one_core(_against_blas, make, n)
    for precision, seconds, goal in zip(PRECISIONS, ours, goals, strict=True):
        yield Row(
            what=f"matvec, {where}: time of sgemv / ours by {precision}, one core",
            samples=ratios(dense, seconds),
            unit="x",
            at_least=goal,
            note=f"ours {1e3 * min(seconds):.2f} ms, sgemv {1e3 * min(dense):.2f} ms at best",
        )
    product, _, x = _case(make())
    one, two = interleaved([partial(product.matvec, x, jobs=jobs) for jobs in (1, 2)], n)
    yield Row(what=f"matvec, {where}: 2 threads over 1", samples=ratios(one, two), unit="x", at_least=1.8)


def _symbols(where: str, size: int, sparsity: float, bits: int, n: int) -> Iterator[Row]:
    """Codes that are fitted to normal weights, their symbols under a prefix code, beside the same as planes."""
    *seconds, dense = _on_one_core(_symbols_and_planes, size, sparsity, bits, n)
    for k, precision in enumerate(PRECISIONS):
        own, planes = seconds[k], seconds[2 + k]
        each = zip(("symbols", "planes", "sgemv"), (own, planes, dense), strict=True)
        best = ", ".join(f"{what} {1e3 * min(samples):.2f} ms" for what, samples in each) + " at best"
        for what, other in (("planes", planes), ("sgemv", dense)):
            yield Row(
                what=f"matvec with symbols, {where}: time of {what} / ours by {precision}, one core",
                samples=ratios(other, own),
                unit="x",
                note=best,
            )


def _symbols_and_planes(size: int, sparsity: float, bits: int, n: int) -> list[list[float]]:
    """Seconds of products with symbols, in each precision, then of planes, then of the dense weights."""
    tensor = xorpack.quantize(random_weight(size), bits=bits, sparsity=sparsity, group_size=0)
    calls: list[Callable[[], object]] = []
    for field in ("auto", "none"):
        product, weights, x = _case(xorpack.encode(tensor, mask_codec="bitmap", field=field))
        calls += [partial(product.matvec, x, precision=precision) for precision in PRECISIONS]
    calls.append(partial(np.matmul, weights, x))
    interleaved(calls, 2)
    return interleaved(calls, n)


def _case(encoded: EncodedTensor) -> tuple[PreparedProduct, NDArray[np.float32], NDArray[np.float32]]:
    """A checked product, the dense weights, and what to multiply by."""
    product, decoded = encoded.product(), xorpack.decode(encoded)
    weights = decoded if isinstance(decoded, np.ndarray) else decoded.dequantize()
    x = np.random.default_rng(1).standard_normal(encoded.cols, np.float32)
    error = np.abs(product.matvec(x) - weights @ x).max()
    Checks.require(bool(error <= 1e-5 * (np.abs(weights) @ np.abs(x)).max()), f"a product differs by {error}")
    return product, weights, x


def _against_blas(make: Callable[[], EncodedTensor], n: int) -> list[list[float]]:
    """Seconds of products, ours in each precision and that of the dense weights."""
    product, weights, x = _case(make())
    own = [partial(product.matvec, x, precision=precision) for precision in PRECISIONS]
    calls: Calls = (*own, partial(np.matmul, weights, x))
    interleaved(calls, 2)
    return interleaved(calls, n)


def _on_one_core(work: Callable[..., Any], *arguments: Any) -> Any:
    """The result of ``work`` in a process that knows of one core only, OpenBLAS in it too."""
    cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(cores)})
    try:
        with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
            return pool.submit(work, *arguments).result()
    finally:
        os.sched_setaffinity(0, cores)


def _model(rate: int, n: int, quick: bool) -> Iterator[Row]:
    """All products of a token, each by weights of its own, that no cache holds."""
    many = {shape: min(count, 3) for shape, count in SMOLLM2.items()} if quick else SMOLLM2
    cases = [_case(_trellis(*shape, rate, seed)) for shape, count in many.items() for seed in range(count)]

    def ours(jobs: int) -> None:
        for product, _, x in cases:
            product.matvec(x, jobs=jobs)

    def dense() -> None:
        for _, weights, x in cases:
            np.matmul(weights, x)

    one, two, blas = interleaved([partial(ours, 1), partial(ours, 2), dense], n)
    where = f"a token's {len(cases)} products in SmolLM2-135M, trellis {rate}"
    cores = len(os.sched_getaffinity(0))
    best = f"ours {1e3 * min(two):.1f} ms, 1 thread {1e3 * min(one):.1f} ms, sgemv {1e3 * min(blas):.1f} ms at best"
    yield Row(
        what=f"{where}: time of sgemv on {cores} cores / ours, 2 threads",
        samples=ratios(blas, two),
        unit="x",
        at_least=1,
        note=best,
    )
    yield Row(
        what=f"{where}: 2 threads over 1",
        samples=ratios(one, two),
        unit="x",
    )
