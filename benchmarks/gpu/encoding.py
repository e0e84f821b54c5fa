"""Trellises searched on a GPU: the kernels alone, and a whole quantization, whose rest is the CPU's."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import numpy as np

from benchmarks.gpu import goals
from benchmarks.gpu.products import Bench
from benchmarks.measure import Checks, Row
from xorpack.code.words import n_chunks, pack
from xorpack.encoding.quantize.trellis import quantize_trellis
from xorpack.encoding.quantize.trellis_design import design, exact_rate
from xorpack.encoding.quantize.trellis_search import FINE_RATE, Search

ROWS, COLS = 4096, 8192
CHECKED = 64
"""Columns that are compared with what the CPU finds."""
RATES = {2.0: 100.0, 1.0: None, 3.0: None, 0.5: None}
"""Goals of the kernels at the default windows, M weights/s, by rate."""


def run(bench: Bench, *, quick: bool) -> Iterator[Row]:
    """Rows of the theme."""
    shape = (1024, 2048) if quick else (ROWS, COLS)
    weight = np.random.default_rng(0).standard_normal(shape, np.float32)
    for rate, goal in RATES.items():
        search = _search(weight, rate)
        chunks = range(n_chunks(shape[1]))
        found, wanted = (
            np.zeros((search.network.n_stored(shape[0]), len(chunks)), np.uint32) for _ in range(2)
        )
        search.run(found, chunks, bench.jobs, bench.target)
        search.run(wanted, chunks[: CHECKED // 32], bench.jobs)
        same = found[:, : CHECKED // 32].tobytes() == wanted[:, : CHECKED // 32].tobytes()
        Checks.require(same, f"search at R {rate}: the GPU's bits are not the CPU's")
        on_device = search.on(bench.target)
        batch = on_device.gather(search.columns, list(chunks), bench.jobs)

        def kernels(stream: Any, on_device: Any = on_device, batch: Any = batch) -> None:
            on_device.launch(*batch, stream)

        seconds = bench.timer.seconds([kernels], graph=False)
        yield Row(
            what=goals.search(rate, search.network.window),
            samples=[weight.size / s / 1e6 for s in seconds],
            unit="M weights/s",
            digits=0,
            at_least=goal,
            note="with the upload of targets: 4 bytes a weight",
        )
    began = time.perf_counter()
    quantize_trellis(weight, rate=2.0, jobs=bench.jobs, device="cuda")
    spent = time.perf_counter() - began
    yield Row(
        what=f"quantize, trellis R 2, {shape[0]} x {shape[1]}, {bench.jobs} threads and a GPU",
        samples=[weight.size / spent / 1e6],
        unit="M weights/s",
        digits=1,
        note="scales, targets and least squares by the CPU's threads",
    )


def _search(weight: np.ndarray, rate: float) -> Search:
    rows, cols = weight.shape
    chosen = design(exact_rate(rate))
    return Search(
        weight=weight,
        network=chosen.network,
        a=np.array(chosen.a),
        scales=np.ones((rows, 1)),
        gains=np.ones(cols),
        group=cols,
        care=pack(np.ones(weight.shape, np.bool_)),
        importance=np.ones((1, cols), np.float32),
        fine=rate >= FINE_RATE,
    )
