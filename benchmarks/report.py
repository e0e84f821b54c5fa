"""What a run leaves behind: a table on the screen, JSON with every sample, the results as Markdown."""

from __future__ import annotations

import datetime
import importlib.metadata
import json
import os
import platform
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.table import Table

from benchmarks.measure import Row

PACKAGES = ("xorpack", "numpy", "numba", "llvmlite", "zstandard", "constriction")
COLUMNS = ("what", "goal", "measured", "spread", "met")

RESULTS = Path(__file__).parent / "results"
PAGE = Path(__file__).parents[1] / "docs" / "results.md"

Themes = Mapping[str, Sequence[Row]]


def environment() -> dict[str, Any]:
    """What the figures depend on."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {
        "date": datetime.date.today().isoformat(),
        "commit": _commit(),
        "machine": f"{_cpu()}, {cores} cores",
        "python": platform.python_version(),
        "versions": {name: version(name) for name in PACKAGES},
    }


def others_cpu_seconds() -> float | None:
    """CPU time since boot that went to anything but this process and its children that have ended."""
    stat = Path("/proc/stat")
    if not stat.exists():
        return None
    user, nice, system, _, _, irq, softirq, steal = (int(x) for x in stat.read_text().split()[1:9])
    spent = os.times()
    own = spent.user + spent.system + spent.children_user + spent.children_system
    return (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK") - own


def version(name: str) -> str:
    """The version of an installed package, ``-`` where there is none."""
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return "-"


def _cpu() -> str:
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _commit() -> str:
    def git(*arguments: str) -> str:
        command = ["git", "-C", str(Path(__file__).parent), *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    try:
        changed = git("status", "--porcelain", "--", "../xorpack")
        return git("rev-parse", "--short", "HEAD") + (" with changes" if changed else "")
    except (OSError, subprocess.CalledProcessError):
        return "-"


def cells(row: Row) -> tuple[str, str, str, str, str]:
    """A row as text, in the order of :data:`COLUMNS`."""
    return row.what, row.goal, row.measured, row.spread, row.met


def table(themes: Themes) -> Table:
    """The table that a run ends with."""
    found = Table(box=None, pad_edge=False)
    for name in COLUMNS:
        found.add_column(name, justify="left" if name == "what" else "right", overflow="fold")
    for rows in themes.values():
        for row in rows:
            style = {"no": "bold red", "yes": "green"}.get(row.met)
            found.add_row(*cells(row), style=style)
        found.add_section()
    return found


def as_theme(rows: Sequence[Row], about: Mapping[str, Any], command: str) -> dict[str, Any]:
    """A theme of a run as JSON, samples included."""
    return {
        **about,
        "command": command,
        "rows": [
            {
                **dict(zip(COLUMNS, cells(row), strict=True)),
                "unit": row.unit,
                "samples": [float(f"{sample:.6g}") for sample in row.samples],
                "note": row.note,
            }
            for row in rows
        ],
    }


def saved(name: str) -> dict[str, Any]:
    """Themes of ``results/NAME.json``; none where there is no such file."""
    file = RESULTS / f"{name}.json"
    return dict(json.loads(file.read_text(encoding="utf-8"))) if file.exists() else {}


def save(name: str, themes: Mapping[str, Any]) -> None:
    """Put themes into ``results/NAME.json``, beside those of earlier runs, and write ``docs/results.md`` anew."""
    found = {file.stem: saved(file.stem) for file in sorted(RESULTS.glob("*.json"))}
    found[name] = {**found.get(name, {}), **themes}
    RESULTS.mkdir(parents=True, exist_ok=True)
    (RESULTS / f"{name}.json").write_text(json.dumps(found[name], indent=2) + "\n", encoding="utf-8")
    PAGE.parent.mkdir(parents=True, exist_ok=True)
    PAGE.write_text(as_markdown(found), encoding="utf-8")
    print(f"wrote {RESULTS / name}.json and {PAGE}")


def as_markdown(results: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> str:
    """All that has been measured, for people: a section for every theme of every results file."""
    themes = {theme: found for file in results.values() for theme, found in file.items()}
    rows = [(theme, row) for theme, found in themes.items() for row in found["rows"]]
    judged = [row["met"] for _, row in rows if row["met"] in ("yes", "no")]
    lines = [
        "# Results: goals and measurements",
        "",
        "Written by `python -m benchmarks --save` and `python -m benchmarks.gpu`; do not edit. Medians; spread is "
        "lowest .. highest (samples). Every speed stands behind a check that the result is right.",
        "",
        f"{judged.count('yes')} of {len(judged)} goals are met.",
    ]
    missed = [(theme, row) for theme, row in rows if row["met"] == "no"]
    if missed:
        lines += ["", "| theme | missed | goal | measured |", "|---|---|---|---|"]
        lines += [f"| {theme} | {row['what']} | {row['goal']} | {row['measured']} |" for theme, row in missed]
    for theme, found in themes.items():
        versions = ", ".join(f"{name} {version}" for name, version in found["versions"].items())
        lines += [
            "",
            f"## {theme}",
            "",
            f"{found['date']}, commit {found['commit']}, {found['machine']}, Python {found['python']}, {versions}.",
            "",
            f"| {' | '.join(COLUMNS)} | note | command |",
            f"|{'---|' * (len(COLUMNS) + 2)}",
        ]
        for row in found["rows"]:
            note = row["note"] if row["samples"] else ""
            text = " | ".join(row[name] for name in COLUMNS)
            lines.append(f"| {text} | {note} | `{found['command']}` |")
    return "\n".join(lines) + "\n"
