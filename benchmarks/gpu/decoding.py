"""Decoding to words and weights beside the copy bandwidth; compilation of the first call."""

from __future__ import annotations

import time
from collections.abc import Iterator
from statistics import median
from typing import Any

import numpy as np

import xorpack
from benchmarks.data import random_bcq
from benchmarks.gpu import cases, goals, products
from benchmarks.gpu.cases import Case
from benchmarks.gpu.correctness import check_product
from benchmarks.gpu.products import Bench
from benchmarks.measure import Checks, Row
from xorpack.cuda.sources import OPTIONS
from xorpack.decoders import cpu


def run(bench: Bench, case: Case) -> Iterator[Row]:
    """decode_words and decode_dense of one case."""
    cupy, timer = bench.cupy, bench.timer
    encoded = cases.synthetic(case)
    (tensor,) = bench.load(encoded, copies=1)
    words = cupy.full((case.bits, case.rows, encoded.layout.chunks), 0xA5A5A5A5, np.uint32)
    tensor.decode_words(out=words)
    for row in (0, case.rows // 2, case.rows - 8):
        mask = encoded.load_mask(cpu.expand, row, row + 8)
        wanted = cpu.expand(encoded.coded, row, row + 8, mask)
        Checks.require(words[:, row : row + 8].get().tobytes() == wanted.tobytes(), f"words of rows {row}..")
    weights = cupy.empty(encoded.shape, np.float16)

    def to_words(stream: Any) -> None:
        tensor.decode_words(out=words, stream=stream)

    def to_weights(stream: Any) -> None:
        tensor.decode("F16", out=weights, stream=stream)

    for name, call, n_bytes, least in (
        ("decode_words", to_words, words.nbytes, 50),
        ("decode to fp16", to_weights, weights.nbytes, None),
    ):
        seconds = timer.seconds([call] * 2)
        share = [100 * n_bytes / s / median(bench.bandwidth) for s in seconds]
        yield Row(
            what=f"{name}, bytes written, {case.name}",
            samples=share,
            unit="% of the copy bandwidth",
            digits=0,
            at_least=least,
            note=f"{median(seconds) * 1e6:.0f} us",
        )


def masks(bench: Bench, size: int) -> Iterator[Row]:
    """Products with masks that are decoded in the call, beside the bitmap."""
    tensor, base = random_bcq(size, 0.9, 2), 0.0
    x, out = bench.activations(1, size), bench.cupy.empty((1, size), np.float16)
    for codec in ("bitmap", "cascade", "block"):
        encoded = xorpack.encode(tensor, mask_codec=codec, jobs=bench.jobs)
        copies = bench.load(encoded)
        check_product(bench.cupy, encoded, copies[0], x, "tables")
        copies[0].prepare(1, "F16", stream=bench.timer.stream, algorithm="tables")
        seconds = bench.timer.seconds(products.calls(copies, x, out, "tables"))
        base = base or median(seconds)
        yield Row(
            what=f"tables, batch 1, {size} x {size}, S 0.9, q 2, mask {codec}",
            samples=[s * 1e6 for s in seconds],
            unit="us",
            digits=1,
            note=f"{median(seconds) / base:.2f} x the bitmap's; {copies[0].memory()['total']} bytes",
        )


def compilation(bench: Bench) -> Iterator[Row]:
    """Kernels of a product, compiled with no cache; those that are one text once."""
    for codec in ("bitmap", "block"):
        (tensor,) = bench.load(xorpack.encode(random_bcq(1024, 0.9, 2), mask_codec=codec), copies=1)
        began = time.perf_counter()
        for source in {kernel.source() for kernel, _ in tensor.kernels(1, "F16")}:
            bench.cupy.RawModule(code=f"// {time.time_ns()}\n{source}", options=OPTIONS).compile()
        spent = time.perf_counter() - began
        yield Row(what=goals.first_call(codec), samples=[spent], unit="s", at_most=3)
