"""The README's figure: the same weights in the formats people use, in bits per weight.

    xorpack report OUT --format json --output report.json
    python -m benchmarks.sizes report.json          # draws docs/sizes.svg

``OUT`` is what ``make demo`` encodes. Every bar is a number of that report.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent

NAMES = {
    "dense float16": "dense float16",
    "CSR, 32-bit indices": "CSR, 32-bit indices",
    "dense, packed": "dense, packed 2-bit codes",
    "CSR, 16-bit indices": "CSR, 16-bit indices",
    "bitmap + values": "bitmap + values",
    "relative index, 4 bits": "relative index, 4 bits",
    "xorpack, this file": "xorpack",
    "bound, given mask": "entropy of mask and values",
}
"""Formats of the report that are shown, from the largest, and their names in the figure."""

OURS, OTHERS, BOUND = "#0072B2", "#767676", "#000000"


def draw(report: dict[str, Any]) -> Any:
    """Draw a bar per format; the longest is cut, for float16 is ten times as long as the others."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    mpl.rcParams["svg.hashsalt"] = "xorpack"
    (rows,) = report["formats"].values()
    found = {row["name"]: row["bits_per_weight"] for row in rows}
    bars = [(label, found[name]) for name, label in NAMES.items()][::-1]
    figure = Figure(figsize=(7.2, 3.1), layout="constrained")
    axes = figure.subplots()
    limit = 4.0
    for place, (label, bits) in enumerate(bars):
        colour = {"xorpack": OURS, NAMES["bound, given mask"]: BOUND}.get(label, OTHERS)
        axes.barh(place, min(bits, limit), color=colour, height=0.72)
        beyond = bits > limit
        text = f"{bits:.0f}, off the scale " if beyond else f" {bits:.2f}"
        axes.text(
            min(bits, limit),
            place,
            text,
            va="center",
            ha="right" if beyond else "left",
            color="white" if beyond else "black",
            fontsize=9,
        )
    axes.set_yticks(range(len(bars)), [label for label, _ in bars], fontsize=9)
    axes.set_xlim(0, limit)
    axes.set_xlabel("bits per weight, scales included")
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(axis="y", length=0)
    return figure


def main() -> None:
    """Draw the figure of a report."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.sizes", description=__doc__.splitlines()[0])
    parser.add_argument("report", type=Path, help="what xorpack report OUT --format json printed")
    path = ROOT / "docs" / "sizes.svg"
    figure = draw(json.loads(parser.parse_args().report.read_text(encoding="utf-8")))
    figure.savefig(path, format="svg", metadata={"Date": None})
    text = path.read_text(encoding="utf-8")
    path.write_text("\n".join(line.rstrip() for line in text.splitlines()) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
