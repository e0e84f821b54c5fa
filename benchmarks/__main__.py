"""Run benchmarks: ``python -m benchmarks [NAMES...] [--quick] [--save]``."""

from __future__ import annotations

import argparse
import importlib
import sys
import time
from typing import Any

from rich.console import Console

from benchmarks import report
from benchmarks.measure import CheckError, Checks, Row

THEMES = (
    "rates",
    "masks",
    "encoders",
    "peers",
    "prequantized",
    "decoding",
    "products",
    "analysis",
    "end_to_end",
    "startup",
    "memory",
    "scale",
    "distortion",
    "trellises",
    "inference",
    "flexor",
)


def main() -> int:
    """Exit code 1 if a check failed; goals that are missed are only shown."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Goals beside measurements.")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(THEMES)}; default: all")
    parser.add_argument("--quick", action="store_true", help="smaller tensors and fewer samples")
    parser.add_argument("--list", action="store_true", help="name the benchmarks and what they are")
    parser.add_argument(
        "--save", action="store_true", help="put the results into results/cpu.json and docs/results.md"
    )
    options = parser.parse_args()
    if options.save and options.quick:
        parser.error("results of a quick run are not saved: its sizes are not those that goals were set for")
    for name in options.names:
        if name not in THEMES:
            parser.error(f"{name!r} is not one of {', '.join(THEMES)}")
    if options.list:
        for name in THEMES:
            summary = (importlib.import_module(f"benchmarks.{name}").__doc__ or "").splitlines()[0]
            print(f"{name:12} {summary}")
        return 0

    console = Console(width=None if sys.stdout.isatty() else 200)
    about = report.environment()
    themes: dict[str, list[Row]] = {}
    saved: dict[str, Any] = {}
    failed = False
    for name in options.names or THEMES:
        began, others, held = time.perf_counter(), report.others_cpu_seconds(), Checks.held
        rows = themes[name] = []
        try:
            for row in importlib.import_module(f"benchmarks.{name}").run(options.quick):
                rows.append(row)
                print(f"{row.what}: {row.measured}", file=sys.stderr, flush=True)
        except CheckError as error:
            failed = True
            rows.append(Row(what=f"{name}: stopped", note=f"check failed: {error}"))
        if Checks.held > held:
            what = "decode(encode(x)) identical, E after corrections"
            rows.append(
                Row(
                    what=what,
                    samples=[100.0],
                    unit="%",
                    at_least=100,
                    note=f"{Checks.held - held} checks held",
                )
            )
        spent, busy = time.perf_counter() - began, "not known"
        if others is not None:
            busy = f"{max(0.0, (report.others_cpu_seconds() or 0.0) - others) / spent:.2f}"
        print(f"-- {name}: {spent:.0f} s, others {busy} cores", file=sys.stderr, flush=True)
        machine = f"{about['machine']} (others kept {busy} of them busy)"
        saved[name] = report.as_theme(rows, {**about, "machine": machine}, f"python -m benchmarks {name}")
    console.print(report.table(themes))
    if options.save and not failed:
        report.save("cpu", saved)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
