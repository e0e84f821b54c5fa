"""Trellises searched on a GPU: the kernels alone, and a whole quantization, whose rest is the CPU's; XOR codes, too."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import numpy as np

from benchmarks.gpu import goals
from benchmarks.gpu.products import Bench
from benchmarks.measure import Checks, Row
from xorpack.code.layout import Layout
from xorpack.code.words import n_chunks, pack, popcount
from xorpack.encoding.plan import default_network
from xorpack.encoding.quantize.trellis import quantize_trellis
from xorpack.encoding.quantize.trellis_design import design, exact_rate
from xorpack.encoding.quantize.trellis_search import FINE_RATE, Search
from xorpack.encoding.rings.elimination import encode_ring
from xorpack.encoding.rings.elimination_gpu import DeviceRings
from xorpack.encoding.rings.gather import PlaneSource

ROWS, COLS = 4096, 8192
CHECKED = 64
"""Columns that are compared with what the CPU finds."""
CODES = ((0.5, 3), (0.9, 2))
"""Sparsities and planes of XOR codes."""
RUNS = 5
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
    for sparsity, bits in CODES:
        yield _elimination(bench, 2 * shape[0], 2 * shape[1], sparsity, bits)


def _elimination(bench: Bench, rows: int, cols: int, sparsity: float, bits: int) -> Row:
    """All rings of a matrix of random planes, at the rate that is right for most."""
    rng, n_bytes = np.random.default_rng(0), rows * -(-cols // 32) * 4
    mask = pack(rng.random((rows, cols), np.float32) >= sparsity)
    planes = np.frombuffer(rng.bytes(bits * n_bytes), np.uint32).reshape(bits, *mask.shape) & mask
    source, n_kept = PlaneSource(mask, planes), popcount(mask)
    network, layout = default_network(n_kept, rows * cols), Layout.choose(rows, cols, n_kept)
    m_lane = network.n_code_words(
        layout.n_steps, 1.01 * n_kept / (32 * layout.ring_words * layout.n_segments)
    )
    rings, seconds = DeviceRings(bench.target, network, source, layout), []
    for _ in range(RUNS):
        began = time.perf_counter()
        found = list(rings.encode(range(layout.n_segments), m_lane))
        seconds.append(time.perf_counter() - began)
    wanted = encode_ring(network, *source.ring(layout, 0), m_lane)
    same = all(np.array_equal(a, b) for a, b in zip(found[0], wanted, strict=True))
    Checks.require(same, f"elimination at S {sparsity}: the GPU's code is not the CPU's")
    return Row(
        what=f"elimination of all rings, S {sparsity}, {bits} bits, {rows} x {cols}",
        samples=[n_kept / s / 1e6 for s in seconds],
        unit="M kept weights/s",
        digits=0,
        note=f"{layout.n_segments} rings side by side, codes downloaded",
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
