"""What figures share: colours, markers, the bound, a legend beside the data; and writing them.

matplotlib is optional and imported when a figure is made. Figures are drawn without its global state.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

COLORS = ("#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9", "#000000", "#F0E442")
"""Okabe and Ito's palette, which colour-blind readers can tell apart."""

MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")

LINES = ("-", "--", "-.", ":")

SETTINGS = {
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.grid": True,
    "grid.alpha": 0.25,
    "font.size": 9.0,
    "svg.hashsalt": "xorpack",
    "svg.fonttype": "path",
}

FORMATS = ("png", "svg")


def available() -> bool:
    """Whether matplotlib is installed."""
    try:
        import matplotlib  # noqa: F401
    except ImportError:
        return False
    return True


def make(draw: Callable[[Any], None], size: tuple[float, float]) -> Any:
    """A matplotlib figure of ``size`` inches, drawn by ``draw``.

    Raises:
        ImportError: matplotlib is not installed.
    """
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    with matplotlib.rc_context(SETTINGS):
        figure = Figure(figsize=size, layout="constrained")
        FigureCanvasAgg(figure)
        draw(figure)
    return figure


def save(figure: Any, path: Path, format_name: str) -> None:
    """Write a figure as ``png`` or ``svg``; the same figure gives the same bytes."""
    import matplotlib

    metadata = {"Date": None} if format_name == "svg" else {"Software": None}
    with matplotlib.rc_context(SETTINGS):
        figure.savefig(path, format=format_name, dpi=120, metadata=metadata)


def png(figure: Any) -> bytes:
    """A figure as the bytes of a small PNG, for a notebook."""
    import matplotlib

    buffer = io.BytesIO()
    with matplotlib.rc_context(SETTINGS):
        figure.savefig(buffer, format="png", dpi=80, metadata={"Software": None})
    return buffer.getvalue()


def panels(figure: Any, n: int, *, columns: int = 2, **options: Any) -> list[Any]:
    """``n`` axes in rows of ``columns``."""
    columns = min(columns, n)
    axes = figure.subplots(-(-n // columns), columns, squeeze=False, **options).reshape(-1)
    for ax in axes[n:]:
        ax.set_axis_off()
    return list(axes[:n])


def style(number: int, *, line: bool = True) -> dict[str, Any]:
    """Colour, marker and line of the series of that number."""
    look = {"color": COLORS[number % len(COLORS)], "marker": MARKERS[number % len(MARKERS)], "markersize": 4}
    return look | {"linestyle": LINES[number // len(COLORS) % len(LINES)] if line else "none"}


def bound(ax: Any, value: float, label: str) -> None:
    """A horizontal line that nothing can be below."""
    ax.axhline(value, color="0.2", linestyle="--", linewidth=1, label=label)


def legend(figure: Any, ax: Any, *, columns: int = 6) -> None:
    """One legend for all panels, below them."""
    handles, labels = ax.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=min(columns, len(labels)), frameon=False)


def legend_below(ax: Any, *, columns: int = 4) -> None:
    """The legend of one panel, below it."""
    labels = ax.get_legend_handles_labels()[1]
    place = {"loc": "upper center", "bbox_to_anchor": (0.5, -0.15)}
    ax.legend(ncols=min(columns, len(labels)), frameon=False, **place)
