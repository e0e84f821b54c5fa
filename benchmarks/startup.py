"""Start-up: seconds by the clock, and of processors, of a first command, that finds no kernels, and of a second.

``python -m benchmarks.startup encode MODEL OUT ...`` runs a command of xorpack and lists what was compiled meanwhile,
with the seconds of each without, and with, what it calls. An empty ``NUMBA_CACHE_DIR`` makes it the first one.
"""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from typing import Any, NamedTuple

from benchmarks.data import NOT_INSTALLED, model_directory
from benchmarks.measure import Row

COMMANDS = {
    "--sparsity .9": ["--sparsity", ".9"],
    "--rate 2": ["--rate", "2"],
}


def run(quick: bool) -> Iterator[Row]:
    """Rows of this theme."""
    helping = [_seconds(["-m", "xorpack", "--help"]).processors for _ in range(2 if quick else 7)]
    yield Row(what="xorpack --help", samples=helping, unit="s", at_most=0.15)
    model = model_directory()
    for name, options in COMMANDS.items():
        goal = 6 if "--sparsity" in options else None  # a trellis's search alone takes longer
        if model is None:
            what = f"xorpack encode all-MiniLM-L6-v2 {name}, nothing compiled: by the clock"
            yield Row(what=what, at_most=goal, unit="s", note=NOT_INSTALLED)
            continue
        with tempfile.TemporaryDirectory() as place:
            command = ["encode", str(model), f"{place}/out", "--overwrite", *options]
            first, second = (_seconds(["-m", "xorpack", *command], f"{place}/kernels") for _ in range(2))
            one_job = ["-m", "benchmarks.startup", *command, "--jobs", "1"]
            alone = _seconds(one_job, f"{place}/others")
        for kind, found, note in (
            (f"nothing compiled, {os.cpu_count()} cores", first, ""),
            (f"all compiled, {os.cpu_count()} cores", second, ""),
            ("nothing compiled, --jobs 1", alone, "; ".join(alone.listed[:4])),
        ):
            what = f"xorpack encode all-MiniLM-L6-v2 {name}, {kind}"
            at_most = goal if found is first else None
            yield Row(
                what=f"{what}: by the clock", samples=[found.clock], unit="s", at_most=at_most, note=note
            )
            yield Row(what=f"{what}: of processors", samples=[found.processors], unit="s")


class _Seconds(NamedTuple):
    """What a program took, and the lines of its standard error."""

    clock: float
    processors: float
    listed: list[str]


def _seconds(command: list[str], kernels: str | None = None) -> _Seconds:
    """Run a program of Python's and what it starts, with compiled kernels kept in ``kernels``."""
    environment = dict(os.environ) if kernels is None else {**os.environ, "NUMBA_CACHE_DIR": kernels}
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    done = subprocess.run(
        [sys.executable, *command], env=environment, check=True, capture_output=True, text=True
    )
    clock, after = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    processors = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return _Seconds(clock, processors, done.stderr.splitlines())


def main() -> None:
    """Run a command of xorpack; on standard error, what was compiled, what took longest first."""
    from numba.core import event

    from xorpack.cli import main as command

    class Compiled(event.Listener):
        """Seconds of each function that is compiled."""

        def __init__(self) -> None:
            self.running: list[list[float]] = []
            self.found: list[tuple[float, float, str]] = []

        def on_start(self, event: Any) -> None:
            """See :class:`event.Listener`."""
            self.running.append([time.process_time(), 0.0])

        def on_end(self, event: Any) -> None:
            """See :class:`event.Listener`."""
            began, inner = self.running.pop()
            spent = time.process_time() - began
            if self.running:
                self.running[-1][1] += spent
            function = event.data["dispatcher"].py_func
            self.found.append((spent - inner, spent, f"{function.__module__}.{function.__qualname__}"))

    compiled = Compiled()
    event.register("numba:compile", compiled)
    try:
        command()
    finally:
        total = sum(own for own, _, _ in compiled.found)
        print(f"{total:.1f} s to compile {len(compiled.found)} functions", file=sys.stderr)
        for own, whole, name in sorted(compiled.found, reverse=True):
            print(f"{own:.2f} s, {whole:.2f} s with what it calls: {name}", file=sys.stderr)


if __name__ == "__main__":
    main()
