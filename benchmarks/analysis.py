"""Analysis: every byte accounted for, nothing below its bound, AlexNet's layers, real ANS, large reports."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

import xorpack
from benchmarks.data import NOT_INSTALLED, model_directory, model_matrices, random_bcq, random_weight
from benchmarks.measure import Checks, Row, check_decodes, interleaved
from xorpack.analysis import coders
from xorpack.analysis.accounting import Account
from xorpack.analysis.comparison import compare
from xorpack.analysis.mask_models import MaskBounds, MaskCounts
from xorpack.checkpoint.report import report_checkpoint
from xorpack.code import words
from xorpack.encoded import EncodedTensor
from xorpack.files import container
from xorpack.tensors import BCQTensor

ALEXNET = ((4096, 9216), (4096, 4096), (1000, 4096))
"""Fully connected layers, output x input."""

FITTED = ((0.5, 3), (0.9, 2))
"""Sparsity and planes of codes that are fitted to weights."""

COPIES = 64
"""Tensors of 4096 x 4096 that make a file of a billion weights."""


def run(quick: bool) -> Iterator[Row]:
    """Rows of this theme."""
    yield _nothing_beats_its_bound(4 if quick else 24)
    yield _alexnet(ALEXNET[-1:] if quick else ALEXNET)
    yield from _against_ans(1024 if quick else 4096)
    yield from _fitted_against_ans(quick)
    with tempfile.TemporaryDirectory() as scratch:
        if not Path("/proc/self/status").exists():
            yield Row(what="xorpack report of large files", note="needs /proc")
            return
        yield from _large(Path(scratch), 4 if quick else COPIES)
        yield _many(Path(scratch), 50 if quick else 500)


def _nothing_beats_its_bound(n_seeds: int) -> Row:
    lowest = []
    for seed in range(n_seeds):
        sparsity, bits = ((0.5, 3), (0.8, 2), (0.9, 1), (0.95, 2))[seed % 4]
        tensor = random_bcq(1024, sparsity, bits, seed=seed)
        encoded = xorpack.encode(tensor)
        check_decodes(encoded, tensor)
        account = Account.of(encoded)
        found = (account.payload_overhead, account.mask_overhead, account.total_overhead)
        lowest.append(min(x for x in found if x is not None))
    what = "least overhead of payload, mask and total, 1024 x 1024, random data"
    return Row(what=what, samples=[min(lowest)], unit="x", digits=4, at_least=1, note=f"{n_seeds} seeds")


def _alexnet(shapes: tuple[tuple[int, int], ...]) -> Row:
    accounts = []
    for shape in shapes:
        rng = np.random.default_rng([91, *shape])
        mask = words.pack(rng.random(shape, np.float32) >= 0.91)
        planes = rng.integers(0, 1 << 32, (1, *mask.shape), np.uint32) & mask
        scales = np.ones((shape[0], 1, 1), np.float16)
        tensor = BCQTensor(shape=shape, dtype="F32", mask=mask, planes=planes, scales=scales)
        encoded = xorpack.encode(tensor, jobs=2)
        check_decodes(encoded, tensor)
        accounts.append(Account.of(encoded))
    total = Account.total(accounts)
    mask = total.per_weight(total.section_bytes["mask"])
    return Row(
        what="payload, AlexNet's FC shapes, 91 % pruned, 1 bit",
        samples=[total.per_weight(total.payload_bytes)],
        unit="bits per weight",
        digits=4,
        at_most=0.0925,
        note=f"bound {(1 - total.sparsity):.4f}; the paper 0.09; mask {mask:.4f}",
    )


def _against_ans(size: int) -> Iterator[Row]:
    tensor = random_bcq(size, 0.9, 2)
    counts = MaskCounts.of([tensor.mask], size)
    yield from _ans_rows(f"i.i.d. {size} x {size}, S 0.9, q 2", [tensor], MaskBounds.of(counts).best[1])
    directory = model_directory()
    if directory is None:
        yield Row(what="all-MiniLM-L6-v2 against ANS", note=NOT_INSTALLED)
        return
    matrices = [xorpack.quantize(matrix, bits=2, sparsity=0.9) for _, matrix in model_matrices(directory)]
    bits = sum(MaskBounds.of(MaskCounts.of([t.mask], t.shape[1])).best[1] for t in matrices)
    yield from _ans_rows("all-MiniLM-L6-v2, S 0.9, q 2", matrices, bits)


def _ans_rows(where: str, tensors: list[BCQTensor], mask_bits: float) -> Iterator[Row]:
    found = compare(tensors)
    Checks.held += len(tensors)
    rows = {row.name: row for row in found.rows}
    ours = rows["xorpack"].bits_per_weight
    scales = 8 * sum(t.scales.nbytes for t in tensors) / found.n_weights
    kept = sum(t.n_kept * t.bits for t in tensors) / found.n_weights
    bound = mask_bits / found.n_weights + kept + scales
    for name in ("ANS, i.i.d. mask", "ANS, mask by rows", "zstd -19, bitmap + values"):
        if name in rows:
            yield Row(
                what=f"size, ours / {name}, {where}",
                samples=[ours / rows[name].bits_per_weight],
                unit="x",
                digits=3,
                note=f"{ours:.4f} / {rows[name].bits_per_weight:.4f} bits per weight; bound {bound:.4f}",
            )


def _fitted_against_ans(quick: bool) -> Iterator[Row]:
    """Codes that were fitted to weights, whose planes say something of each other: a sample by seed, or by layer."""
    if not {name for name in coders.CODERS if name.startswith("ANS")} <= set(coders.available()):
        yield Row(what="fitted codes against ANS", note="not installed: constriction")
        return
    size = 1024 if quick else 4096
    directory = model_directory()
    layers: dict[str, list[np.ndarray[Any, Any]]] = {}
    for name, matrix in () if directory is None else model_matrices(directory):
        layers.setdefault(name.split(".layer.")[1].split(".")[0], []).append(matrix)
    for sparsity, bits in FITTED:
        iid = [[random_weight(size, seed=seed)] for seed in range(1 if quick else 3)]
        yield from _fitted(f"i.i.d. {size} x {size}", iid, sparsity, bits)
        if layers:
            samples = list(layers.values())[: 1 if quick else None]
            yield from _fitted("all-MiniLM-L6-v2, by layer", samples, sparsity, bits)
    if directory is None:
        yield Row(what="fitted codes of all-MiniLM-L6-v2 against ANS", note=NOT_INSTALLED)


def _fitted(
    where: str, samples: list[list[np.ndarray[Any, Any]]], sparsity: float, bits: int
) -> Iterator[Row]:
    sizes, speeds = [], []
    for matrices in samples:
        tensors = [xorpack.quantize(m, bits=bits, sparsity=sparsity, group_size=0) for m in matrices]
        contents = [coders.Content.of(tensor) for tensor in tensors]
        ans = sum(min(coders.ans_iid(c).n_bytes, coders.ans_rows(c).n_bytes) for c in contents)
        calls = [
            lambda field=field, tensors=tensors: [xorpack.encode(t, field=field) for t in tensors]
            for field in ("auto", "none")
        ]
        times = interleaved(calls, 1)
        n_weights = sum(matrix.size for matrix in matrices)
        speeds.append([n_weights / seconds[0] / 1e6 for seconds in times])
        own = []
        for call in calls:
            encoded = call()
            for found, tensor in zip(encoded, tensors, strict=True):
                check_decodes(found, tensor)
            own.append(sum(sum(found.section_bytes().values()) for found in encoded))
        sizes.append([n / ans for n in own])
    case = f"fitted codes, {where}, S {sparsity}, q {bits}"
    for k, (what, goal) in enumerate((("ours with symbols", 1.02), ("ours", None))):
        yield Row(
            what=f"size, {what} / ANS on symbols and mask, {case}",
            samples=[ratio[k] for ratio in sizes],
            unit="x",
            digits=4,
            at_most=goal,
            note="the smaller ANS: one probability for the mask, or one a row; scales of rows in both",
        )
    for k, what in enumerate(("with symbols", "plain")):
        yield Row(what=f"encode, {what}, {case}", samples=[speed[k] for speed in speeds], unit="M weights/s")


def _large(scratch: Path, n_copies: int) -> Iterator[Row]:
    """A file of many tensors; time and memory of the command that reports on it."""
    path = scratch / "large.safetensors"
    encoded = xorpack.encode(random_bcq(4096, 0.9, 2), jobs=2)
    container.write(path, {f"layers.{i}.weight": encoded for i in range(n_copies)}, {})
    n_weights = n_copies * encoded.n_weights
    found = _reported([str(path), "--format", "text", "--output", str(scratch / "large.txt")])
    report = report_checkpoint(path)
    Checks.require(
        sum(part.n_bytes for part in report.parts) == path.stat().st_size, "parts do not sum to the file"
    )
    Checks.require(sum(t.account.n_weights for t in report.tensors) == n_weights, "weights are missing")
    what = f"xorpack report of a file of {n_weights / 1e9:.2f} G weights, {path.stat().st_size >> 20} MiB"
    yield Row(what=f"{what}: time", samples=[found["seconds"]], unit="s", at_most=10)
    yield Row(what=f"{what}: peak memory", samples=[found["peak_mb"]], unit="MB", digits=0, at_most=500)


def _many(scratch: Path, n_tensors: int) -> Row:
    path, page = scratch / "many.safetensors", scratch / "many.html"
    encoded: dict[str, EncodedTensor] = {}
    for i in range(10):
        encoded[str(i)] = xorpack.encode(random_bcq(256, 0.5 + 0.04 * i, 2, seed=i))
    names = [f"model.layers.{i // 7}.block.projection_{i % 7}.weight" for i in range(n_tensors)]
    container.write(path, {name: encoded[str(i % 10)] for i, name in enumerate(names)}, {})
    found = _reported([str(path), "--format", "html", "--output", str(page)])
    Checks.require(
        all(name in page.read_text(encoding="utf-8") for name in names), "a tensor is not on the page"
    )
    what = f"HTML report of {n_tensors} tensors"
    size = page.stat().st_size / 1e6
    return Row(what=what, samples=[size], unit="MB", at_most=5, note=f"{found['seconds']:.1f} s")


_MEASURED = """
import json, sys, time
began = time.perf_counter()
from xorpack.cli.commands import cli
cli.main(sys.argv[1:], standalone_mode=False)
spent = time.perf_counter() - began
with open("/proc/self/status") as status:  # getrusage would count the parent before exec
    peak = next(int(line.split()[1]) for line in status if line.startswith("VmHWM"))
print(json.dumps({"seconds": spent, "peak_mb": peak * 1024 / 1e6}))
"""


def _reported(arguments: list[str]) -> dict[str, float]:
    command = [sys.executable, "-c", _MEASURED, "report", *arguments]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return dict(json.loads(done.stdout.splitlines()[-1]))
