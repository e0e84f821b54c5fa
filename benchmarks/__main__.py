"""Run benchmarks: ``python -m benchmarks [NAMES...] [--quick] [--output FILE.json]``."""

from __future__ import annotations

import argparse
import importlib
import sys
import time
from pathlib import Path

from rich.console import Console

from benchmarks import report
from benchmarks.measure import CheckError, Checks, Row

THEMES = ("rates", "masks", "encoders", "peers", "decoding", "analysis", "end_to_end", "memory")
OUTPUT = Path(__file__).parent / "results" / "cpu.json"


def main() -> int:
    """Exit code 1 if a check failed; goals that are missed are only shown."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Goals beside measurements.")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(THEMES)}; default: all")
    parser.add_argument("--quick", action="store_true", help="smaller tensors and fewer samples")
    parser.add_argument("--list", action="store_true", help="name the benchmarks and what they are")
    parser.add_argument(
        "--output",
        type=Path,
        help="JSON file, with goals.md beside it; a full run that is not quick has results/cpu.json",
    )
    options = parser.parse_args()
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
    busy: dict[str, float] = {}
    themes: dict[str, list[Row]] = {}
    failed = False
    for name in options.names or THEMES:
        began, others = time.perf_counter(), report.others_cpu_seconds()
        rows = themes[name] = []
        try:
            for row in importlib.import_module(f"benchmarks.{name}").run(options.quick):
                rows.append(row)
                print(f"{row.what}: {row.measured}", file=sys.stderr, flush=True)
        except CheckError as error:
            failed = True
            rows.append(Row(what=f"{name}: stopped", note=f"check failed: {error}"))
        spent = time.perf_counter() - began
        if others is not None:
            busy[name] = round(max(0.0, (report.others_cpu_seconds() or 0.0) - others) / spent, 2)
        print(f"-- {name}: {spent:.0f} s, others {busy.get(name, '-')} cores", file=sys.stderr, flush=True)
    rows = themes.setdefault("identity", [])
    exact = [0.0 if failed else 100.0]
    what = "decode(encode(x)) identical, E after corrections"
    rows.append(Row(what=what, samples=exact, unit="%", at_least=100, note=f"{Checks.held} checks held"))

    about["others_cores"] = busy
    console.print(report.table(themes))
    flags = " --quick" if options.quick else ""
    output = options.output
    if output is None and not options.quick and not options.names:
        output = OUTPUT
    if output is not None:
        output.parent.mkdir(parents=True, exist_ok=True)
        output.write_text(report.as_json(themes, about, flags), encoding="utf-8")
        markdown = output.with_name("goals.md")
        markdown.write_text(report.as_markdown(themes, about, flags), encoding="utf-8")
        print(f"wrote {output} and {markdown}")
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
