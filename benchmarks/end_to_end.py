"""End to end: the console command on all-MiniLM-L6-v2, from process start to file."""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from benchmarks.data import NOT_INSTALLED, model_directory
from benchmarks.measure import Checks, Row, interleaved, ratios, seconds
from xorpack import encode_checkpoint

WHAT = "xorpack encode all-MiniLM-L6-v2 --sparsity .9 --bits 2, two cores, command to file"


def run(quick: bool) -> Iterator[Row]:
    """Rows of this theme."""
    model = model_directory()
    if model is None:
        yield Row(what=WHAT, at_most=15, unit="s", note=NOT_INSTALLED)
        return
    with tempfile.TemporaryDirectory() as scratch:
        out = Path(scratch) / "encoded"
        encode = [
            "encode",
            str(model),
            str(out),
            "--sparsity",
            ".9",
            "--bits",
            "2",
            "--jobs",
            "2",
            "--overwrite",
        ]
        line = _xorpack(*encode).splitlines()[-1]
        encoding = [seconds(lambda: _xorpack(*encode)) for _ in range(2 if quick else 7)]
        verify = ["verify", str(out), "--against", str(model), "--jobs", "2"]
        _xorpack(*verify)
        Checks.held += 1
        verifying = [seconds(lambda: _xorpack(*verify)) for _ in range(1 if quick else 5)]
        decoded = Path(scratch) / "decoded"
        decode = ["decode", str(out), str(decoded), "--jobs", "2", "--overwrite"]
        decoding = [seconds(lambda: _xorpack(*decode)) for _ in range(1 if quick else 5)]
        note = re.sub(r"^model size", "model", line)
    yield Row(what=WHAT, samples=encoding, unit="s", at_most=15, note=note)
    yield Row(what="xorpack verify --against it, exit code 0", samples=verifying, unit="s")
    yield Row(what="xorpack decode it", samples=decoding, unit="s")
    yield _two_cores(model, 2 if quick else 7)


def _two_cores(model: Path, n: int) -> Row:
    """The same in one process: tensors side by side."""
    with tempfile.TemporaryDirectory() as scratch:
        outs = [Path(scratch) / str(jobs) for jobs in (1, 2)]
        calls = [
            partial(encode_checkpoint, model, out, sparsity=0.9, bits=2, jobs=jobs, overwrite=True)
            for jobs, out in enumerate(outs, 1)
        ]
        for call in calls:
            call()
        one, two = ((out / "model.safetensors").read_bytes() for out in outs)
        Checks.require(one == two, "bytes depend on the number of threads")
        samples = ratios(*interleaved(calls, n))
    what = "encode_checkpoint all-MiniLM-L6-v2, S 0.9, q 2, two cores / one"
    return Row(what=what, samples=samples, unit="x", at_least=1.8)


def _xorpack(*arguments: str) -> str:
    """What the command prints; raises CalledProcessError unless its exit code is 0."""
    command = Path(sys.executable).with_name("xorpack")
    return subprocess.run([command, *arguments], check=True, capture_output=True, text=True).stdout
