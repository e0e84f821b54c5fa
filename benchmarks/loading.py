"""Loading and running an encoded language model in transformers beside the dense one.

``python -m benchmarks.loading DENSE ENCODED``.

Each load is a process of its own, in turns, in which transformers is imported before the clock starts. A dense file is
only mapped by ``from_pretrained``, and read when a weight is used: so all weights are read once, and time is taken
before and after. Then it generates some tokens, one at a time; a token's time is the median. Memory is what the process
then holds beyond what it held before (``VmRSS``), and what the buffers of encoded weights take.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any

from rich.console import Console

from benchmarks import report
from benchmarks.measure import CheckError, Row
from benchmarks.memory import status

PACKAGES = ("torch", "transformers")

PROMPT, TOKENS = 8, 32
"""Tokens that are given, and that are generated."""


def main() -> int:
    """Print the table; exit code 1 if the models do not answer alike."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.loading", description=__doc__)
    parser.add_argument("dense", help="a directory that transformers loads")
    parser.add_argument("encoded", help="what xorpack encode made of it")
    parser.add_argument("--samples", type=int, default=5, help="loads of each; default: 5")
    parser.add_argument("--threads", type=int, help="of PyTorch; default: its own")
    parser.add_argument("--save", action="store_true", help="into results/loading.json and docs/results.md")
    options = parser.parse_args()
    rows = list(run(options.dense, options.encoded, options.samples, options.threads))
    for row in rows:
        print(f"{row.what}: {row.measured} ({row.note})", file=sys.stderr)
    Console(width=None if sys.stdout.isatty() else 200).print(report.table({"loading": rows}))
    if options.save:
        about = report.environment()
        about["versions"] |= {name: report.version(name) for name in PACKAGES}
        command = "python -m benchmarks.loading DENSE ENCODED --save"
        report.save("loading", {"loading": report.as_theme(rows, about, command)})
    return 0


def run(dense: str, encoded: str, samples: int, threads: int | None = None) -> Iterator[Row]:
    """Rows of both."""
    found: list[tuple[Any, Any]] = [
        (_measured(dense, threads), _measured(encoded, threads)) for _ in range(samples)
    ]
    plain, ours = found[-1]
    if not ours["weights"]:
        raise CheckError(f"{encoded} has no encoded weight")
    for key, what in (
        ("ready", "to load a model and to read its weights once"),
        ("cpu", "of processors for that"),
        ("seconds", "to load a model"),
    ):
        ratios = [b[key] / a[key] for a, b in found]
        dense_time, time_encoded = (
            f"{min(one[key] for one in each):.2f} s" for each in zip(*found, strict=True)
        )
        goal = 1.5 if key == "ready" else None
        note = f"{dense_time} dense, {time_encoded} encoded"
        yield Row(what=f"time {what}, over that of the dense one", samples=ratios, at_most=goal, note=note)
    yield Row(
        what="tokens per second, one at a time, over those of the dense model",
        samples=[a["token"] / b["token"] for a, b in found],
        unit="x",
        at_least=1.0,
        note=f"{1e3 * min(a['token'] for a, _ in found):.0f} ms dense, "
        f"{1e3 * min(b['token'] for _, b in found):.0f} ms encoded, {ours['threads']} threads",
    )
    yield Row(
        what="encoded weights in buffers over their bytes in the file",
        samples=[ours["buffers"] / ours["stored"]],
        digits=4,
        at_most=1.02,
        note=f"{ours['weights']} weights, {ours['buffers'] / 1e6:.1f} MB; dense {ours['dense'] / 1e6:.1f} MB",
    )
    saved = [a["held"] - b["held"] for a, b in found]
    yield Row(
        what="memory of the process that encoding saves, over what it saves in the file",
        samples=[bytes_saved / (ours["dense"] - ours["stored"]) for bytes_saved in saved],
        at_least=0.98,
        note=f"{plain['held'] / 1e6:.0f} MB dense, {ours['held'] / 1e6:.0f} MB encoded",
    )


def _measured(path: str, threads: int | None) -> Any:
    command = [
        sys.executable,
        "-m",
        "benchmarks.loading",
        "--one",
        path,
        *([str(threads)] if threads else []),
    ]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def _one(path: str, threads: int | None = None) -> None:
    """Load one model and print what it took."""
    import torch
    import transformers

    import xorpack
    import xorpack.hf
    from xorpack.torch import XorWeight

    torch.set_num_threads(threads or torch.get_num_threads())
    transformers.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    transformers.LlamaForCausalLM  # noqa: B018  # imported when it is first asked for
    before, began, used = status("VmRSS"), time.perf_counter(), time.process_time()
    model = xorpack.hf.load(path, dtype=torch.float32)
    seconds = time.perf_counter() - began
    for tensor in (*model.parameters(), *model.buffers()):
        tensor.view(-1).view(torch.uint8)[::512].sum()
    ready, cpu, after = time.perf_counter() - began, time.process_time() - used, status("VmRSS")
    token = _generate(model)
    weights = {name: module for name, module in model.named_modules() if isinstance(module, XorWeight)}
    stored = 0
    if weights:
        stored = sum(sum(t.section_bytes().values()) for t in xorpack.open(Path(path)).values())
    buffers: Sequence[int] = [b.nbytes for module in weights.values() for b in module.buffers()]
    dense = sum(module.numel() * module.dtype.itemsize for module in weights.values())
    found = {
        "seconds": seconds,
        "ready": ready,
        "cpu": cpu,
        "token": token,
        "threads": torch.get_num_threads(),
        "held": (after - before) * 1e9,
        "weights": len(weights),
        "buffers": sum(buffers),
        "stored": stored,
        "dense": dense,
    }
    print(json.dumps(found))


def _generate(model: Any) -> float:
    """Seconds for a token, the median."""
    import torch

    times: list[float] = []

    def note(tokens: Any, scores: Any, **rest: Any) -> Any:
        times.append(time.perf_counter())
        return torch.zeros(len(tokens), dtype=torch.bool)

    how = {
        "max_new_tokens": TOKENS,
        "min_new_tokens": TOKENS,
        "do_sample": False,
        "stopping_criteria": [note],
    }
    model.eval().generate(torch.arange(1, 1 + PROMPT)[None], **how)
    return median(b - a for a, b in pairwise(times[1:]))


if __name__ == "__main__":
    if sys.argv[1:2] == ["--one"]:
        _one(sys.argv[2], *map(int, sys.argv[3:]))
    else:
        sys.exit(main())
