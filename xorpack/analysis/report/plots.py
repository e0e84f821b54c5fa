"""Figures of a report as SVG, drawn by matplotlib where it is installed."""

from __future__ import annotations

import importlib.util
import io
import re
import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np

from xorpack import escape
from xorpack.analysis.accounting import PAYLOAD
from xorpack.analysis.report.contents import Report, TensorReport
from xorpack.analysis.report.view import bound, labels

COLOURS = {
    "code": "#0072B2",
    "corrections": "#D55E00",
    "field": "#CC79A7",
    "mask": "#56B4E9",
    "outliers": "#F0E442",
    "scales": "#E69F00",
    "gains": "#999999",
    "starts": "#666666",
    "bound": "#000000",
    "total": "#009E73",
}
"""Okabe and Ito's, which colour-blind readers tell apart."""

MAX_LABELS = 48
"""Tensors up to which each has its name on the axis."""


def available() -> bool:
    """Whether matplotlib is installed."""
    return importlib.util.find_spec("matplotlib") is not None


def figures(report: Report) -> Iterator[tuple[str, str]]:
    """``(caption, svg)`` of every figure that the report has data for."""
    if not report.tensors:
        return
    if report.kind == "encoded":
        yield "Bits per weight by part, tensor by tensor, against the bound", _svg(stacked(report))
        yield "Overhead by tensor: size / bound", _svg(overhead(report))
        yield "E by network: care bits that the network gets wrong, by sparsity", _svg(efficiency(report))
    else:
        yield "What the tensors would take, bits per weight, by bounds", _svg(stacked(report))
    if report.density:
        caption = "Where the kept weights are: share kept, rows by columns, of the masks furthest from i.i.d."
        yield caption, _svg(maps(report))


def _figure(width: float, height: float) -> Any:
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def _svg(figure: Any) -> str:
    import matplotlib as mpl

    out = io.StringIO()
    with (
        warnings.catch_warnings(),
        mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": "xorpack", "font.size": 9}),
    ):
        warnings.filterwarnings("ignore", "Glyph")  # text stays text: the browser has the font
        figure.savefig(out, format="svg", metadata={"Date": None, "Creator": None})
    svg = re.sub(r"^.*?(?=<svg)", "", out.getvalue(), flags=re.DOTALL)
    return re.sub(r'(<svg[^>]*?) width="[^"]*" height="[^"]*"', r"\1", svg, count=1)


def _label_tensors(axes: Any, tensors: tuple[TensorReport, ...]) -> None:
    if len(tensors) <= MAX_LABELS:
        shown = labels([t.name for t in tensors], 34)
        axes.set_xticks(range(len(tensors)), map(escape.mathtext, shown), rotation=90, fontsize=7)
    else:
        axes.set_xlabel("tensor, in the order of the checkpoint")
    axes.set_xlim(-0.6, len(tensors) - 0.4)
    axes.spines[["top", "right"]].set_visible(False)


def _height(report: Report) -> float:
    return 4.4 if len(report.tensors) <= MAX_LABELS else 3.2


def stacked(report: Report) -> Any:
    """Bits per weight by part, tensor by tensor, against the bound."""
    figure = _figure(11, _height(report))
    axes = figure.subplots()
    x, bottom = np.arange(len(report.tensors)), np.zeros(len(report.tensors))
    for part in (*PAYLOAD, "mask", "scales", "gains"):
        sizes = np.array([t.account.per_weight(t.account.section_bytes[part]) for t in report.tensors])
        if sizes.any():
            axes.bar(x, sizes, 0.85, bottom=bottom, color=COLOURS[part], label=part, linewidth=0)
        bottom += sizes
    limits = [bound(t.account) for t in report.tensors]
    axes.hlines(limits, x - 0.45, x + 0.45, color=COLOURS["bound"], linewidth=1.4, label="bound")
    axes.set_ylabel("bits per weight")
    _label_tensors(axes, report.tensors)
    figure.legend(loc="outside upper center", ncols=6, frameon=False)
    return figure


def overhead(report: Report) -> Any:
    """Size / bound of every tensor."""
    figure = _figure(11, _height(report))
    axes = figure.subplots()
    series = {
        "payload": (COLOURS["code"], "o", [t.account.payload_overhead for t in report.tensors]),
        "mask": (COLOURS["mask"], "s", [t.account.mask_overhead for t in report.tensors]),
        "total": (COLOURS["total"], "D", [t.account.total_overhead for t in report.tensors]),
    }
    for label, (colour, marker, values) in series.items():
        known = [(i, v) for i, v in enumerate(values) if v is not None]
        if known:
            axes.plot(*zip(*known, strict=True), marker, color=colour, label=label, markersize=4)
    axes.axhline(1, color=COLOURS["bound"], linewidth=1.2, label="bound")
    axes.set_ylabel("size / bound")
    _label_tensors(axes, report.tensors)
    figure.legend(loc="outside upper center", ncols=4, frameon=False)
    return figure


def efficiency(report: Report) -> Any:
    """Share of care bits that networks get wrong, by sparsity."""
    figure = _figure(11, 3.2)
    axes = figure.subplots()
    networks = sorted({t.network for t in report.tensors})
    colours = [c for name, c in COLOURS.items() if name != "bound"]
    for index, network in enumerate(networks):
        points = [
            (t.account.sparsity, max(1 - t.account.efficiency, 1e-7))
            for t in report.tensors
            if t.network == network
        ]
        colour, marker = colours[index % len(colours)], "osD^v<>"[index // len(colours) % 7]
        axes.plot(*zip(*points, strict=True), marker, color=colour, label=network, markersize=4)
    shown = [t.account.sparsity for t in report.tensors]
    axes.set_xlim(min(shown) - 0.05, max(shown) + 0.05)
    axes.set_yscale("log")
    axes.set_xlabel("sparsity")
    axes.set_ylabel("1 - E  (0 is drawn at 1e-7)")
    axes.spines[["top", "right"]].set_visible(False)
    if len(networks) <= 12:
        figure.legend(loc="outside right upper", frameon=False, fontsize=7)
    return figure


def maps(report: Report) -> Any:
    """Density maps side by side."""
    n = len(report.density)
    figure = _figure(3.1 * n + 0.6, 3.5)
    all_axes = figure.subplots(1, n, squeeze=False)[0]
    most = max(float(found.max(initial=0)) for found in report.density.values())
    titles = labels(list(report.density), 34)
    for axes, title, (name, found) in zip(all_axes, titles, report.density.items(), strict=True):
        shape = next(t.shape for t in report.tensors if t.name == name)
        rows, cols = shape[0], int(np.prod(shape[1:]))
        image = axes.imshow(
            found, cmap="cividis", vmin=0, vmax=most or 1, aspect="auto", extent=(0, cols, rows, 0)
        )
        axes.set_title(escape.mathtext(title), fontsize=8)
        axes.set_xlabel("column")
    all_axes[0].set_ylabel("row")
    figure.colorbar(image, ax=list(all_axes), label="share kept")
    return figure
