"""What a run leaves behind: a table on the screen, JSON with every sample, the goals as Markdown."""

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

PACKAGES = ("xorpack", "numpy", "numba", "llvmlite", "zstandard")
COLUMNS = ("what", "goal", "measured", "spread", "met")

Themes = Mapping[str, Sequence[Row]]


def environment() -> dict[str, Any]:
    """What the figures depend on."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {
        "date": datetime.date.today().isoformat(),
        "commit": _commit(),
        "cpu": _cpu(),
        "cores": cores,
        "python": platform.python_version(),
        "versions": {name: _version(name) for name in PACKAGES},
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


def _version(name: str) -> str:
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


def _busy(cores: Mapping[str, float]) -> str:
    return ", ".join(f"{theme} {busy:.2f}" for theme, busy in cores.items()) or "not known"


def as_json(themes: Themes, about: Mapping[str, Any], options: str) -> str:
    """Everything, samples included."""
    rows = [
        {
            "theme": theme,
            "what": row.what,
            "goal": row.goal,
            "unit": row.unit,
            "measured": row.measured,
            "spread": row.spread,
            "met": row.met,
            "samples": [float(f"{sample:.6g}") for sample in row.samples],
            "note": row.note,
            "command": f"python -m benchmarks {theme}{options}",
        }
        for theme, rows in themes.items()
        for row in rows
    ]
    return json.dumps({**about, "rows": rows}, indent=2) + "\n"


def as_markdown(themes: Themes, about: Mapping[str, Any], options: str) -> str:
    """The same table for people, with notes."""
    versions = ", ".join(f"{name} {version}" for name, version in about["versions"].items())
    lines = [
        "# Goals and measurements",
        "",
        f"Written by `python -m benchmarks{options}`; do not edit. Medians; spread is lowest .. highest (samples).",
        "",
        f"{about['date']}, commit {about['commit']}, {about['cpu']}, {about['cores']} cores, "
        f"Python {about['python']}, {versions}; cores that others kept busy meanwhile: {_busy(about['others_cores'])}.",
    ]
    for theme, rows in themes.items():
        lines += ["", f"## {theme}", "", f"`python -m benchmarks {theme}{options}`", ""]
        lines += ["| what | goal | measured | spread | met | note |", "|---|---|---|---|---|---|"]
        lines += [f"| {' | '.join(cells(row))} | {row.note if row.samples else ''} |" for row in rows]
    return "\n".join(lines) + "\n"
