"""Start-up: processor seconds of a first command, that finds no compiled kernels, and of a second.

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
from pathlib import Path
from typing import Any

from benchmarks.data import NOT_INSTALLED, model_directory
from benchmarks.measure import Row

COMMANDS = {
    "--sparsity .9": ["--sparsity", ".9"],
    "--rate 2": ["--rate", "2"],
}


def run(quick: bool) -> Iterator[Row]:
    """Rows of this theme."""
    helping = [_processor_seconds(["-m", "xorpack", "--help"]) for _ in range(2 if quick else 7)]
    yield Row(what="xorpack --help", samples=helping, unit="s", at_most=0.15)
    model = model_directory()
    for what, options in COMMANDS.items():
        name = f"xorpack encode all-MiniLM-L6-v2 {what}, nothing compiled"
        goal = 6 if "--sparsity" in options else None  # a trellis's search alone takes longer
        if model is None:
            yield Row(what=name, at_most=goal, unit="s", note=NOT_INSTALLED)
            continue
        with tempfile.TemporaryDirectory() as place:
            command = [
                "-m",
                "benchmarks.startup",
                "encode",
                str(model),
                f"{place}/out",
                "--jobs",
                "1",
                *options,
            ]
            seconds = [_processor_seconds([*command, "--overwrite"], place) for _ in range(2)]
            listed = Path(place, "listed").read_text().splitlines()
        yield Row(what=name, samples=seconds[:1], unit="s", at_most=goal, note="; ".join(listed[:4]))
        yield Row(what=name.replace("nothing", "all"), samples=seconds[1:], unit="s")


def _processor_seconds(command: list[str], place: str | None = None) -> float:
    """Of a program; its standard output, of the first one for a ``place``, goes to a file there."""
    environment = dict(os.environ) if place is None else {**os.environ, "NUMBA_CACHE_DIR": f"{place}/kernels"}
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(
        [sys.executable, *command], env=environment, check=True, capture_output=True, text=True
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if place is not None and not Path(place, "listed").exists():
        Path(place, "listed").write_text(done.stderr)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


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
