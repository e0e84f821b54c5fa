"""Reports as text for a terminal, and as Markdown."""

from __future__ import annotations

import io
import textwrap
from collections.abc import Iterator

from rich.console import Console
from rich.table import Table

from xorpack import escape
from xorpack.analysis.report.contents import Options, Report
from xorpack.analysis.report.view import View, labels
from xorpack.analysis.report.views import ALL, ENCODED, PAYLOAD, headline, views

SUMS = (PAYLOAD, ENCODED, ALL)
ADVICE = "What costs most, and what could be done"


def as_text(report: Report, options: Options) -> str:
    """Lines and aligned tables, at most ``options.width`` columns wide where names allow."""
    out = io.StringIO()
    console = Console(
        file=out,
        force_jupyter=False,
        width=options.width,
        force_terminal=options.colour,
        no_color=not options.colour,
        highlight=False,
    )
    lines = [
        line for text in headline(report) for line in textwrap.wrap(escape.printable(text), options.width)
    ]
    console.print("\n".join(lines), markup=False, soft_wrap=True)
    for index, view in enumerate(views(report, options)):
        title = textwrap.fill(view.title, options.width)
        console.print(f"\n{title}", markup=False, style="italic", soft_wrap=True)
        console.print(_table(view, options.width))
        if view.note:
            for line in textwrap.wrap(view.note, options.width):
                console.print(line, markup=False, style="dim", soft_wrap=True)
        if index == 0 and report.advice:
            console.print(f"\n{ADVICE}", markup=False, style="italic")
            for text in _numbered(report, options.width):
                console.print(text, markup=False, soft_wrap=True)
    return out.getvalue()


def _numbered(report: Report, width: int) -> Iterator[str]:
    for number, text in enumerate(report.advice, 1):
        lead = f"{number}. "
        yield textwrap.fill(
            escape.printable(text),
            max(width, 20),
            initial_indent=lead,
            subsequent_indent=" " * len(lead),
            break_long_words=False,
            break_on_hyphens=False,
        )


def _table(view: View, width: int) -> Table:
    shown = _fitting(view, width)
    table = Table(
        box=None,
        pad_edge=False,
        show_footer=view.total is not None,
        header_style="bold",
        footer_style="bold",
    )
    first = max(8, width - sum(2 + _width(view, i) for i in shown[1:]))
    for i in shown:
        name = view.columns[i]
        left = i == 0 or name in view.words
        table.add_column(
            name,
            footer=view.total[i] if view.total else "",
            justify="left" if left else "right",
            no_wrap=True,
        )
    names = labels(
        [*map(escape.printable, (row[0] for row in view.rows))], first, [*map(escape.printable, view.names)]
    )
    for name, row in zip(names, view.rows, strict=True):
        cells = map(escape.rich, (name, *(row[i] for i in shown[1:])))
        table.add_row(*cells, style="bold" if row[0] in SUMS else None)
    return table


def _fitting(view: View, width: int) -> list[int]:
    shown = list(range(len(view.columns)))
    for name in view.optional:
        if _needed(view, shown) <= width:
            break
        shown = [i for i in shown if view.columns[i] != name]
    return shown


def _needed(view: View, shown: list[int]) -> int:
    return min(_width(view, 0), 30) + sum(2 + _width(view, i) for i in shown[1:])


def _width(view: View, i: int) -> int:
    rows = [*view.rows, view.total] if view.total else view.rows
    return max([len(view.columns[i]), *(len(row[i]) for row in rows)])


def as_markdown(report: Report, options: Options) -> str:
    """The same for a README or an issue."""
    lines = ["# Compression report", ""]
    lines += [f"{escape.markdown(line)}  " for line in headline(report)]
    for index, view in enumerate(views(report, options)):
        lines += ["", f"## {escape.markdown(view.title)}", ""]
        lines.append("| " + " | ".join(view.columns) + " |")
        left = [i == 0 or name in view.words for i, name in enumerate(view.columns)]
        lines.append("|" + "|".join("---" if is_left else "--:" for is_left in left) + "|")
        for row in [*view.rows, *([view.total] if view.total else [])]:
            strong = row[0] in SUMS or row is view.total
            cells = [
                f"**{escape.markdown(cell)}**" if strong and cell else escape.markdown(cell) for cell in row
            ]
            lines.append("| " + " | ".join(cells) + " |")
        if view.note:
            lines += ["", escape.markdown(view.note)]
        if index == 0 and report.advice:
            lines += ["", f"## {ADVICE}", ""]
            lines += [f"{number}. {escape.markdown(text)}" for number, text in enumerate(report.advice, 1)]
    return "\n".join(lines) + "\n"
