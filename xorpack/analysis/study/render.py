"""Grids as text: a rich table for a terminal, GitHub's Markdown for a file."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Literal

from rich.table import Table as RichTable

from xorpack.analysis.study.table import Grid


def terminal(grid: Grid) -> RichTable:
    """A table without lines; headings wrap where the terminal is narrow."""
    table = RichTable(title=grid.title, title_justify="left", box=None, pad_edge=False, padding=(0, 1, 0, 0))
    for number, column in enumerate(grid.columns):
        left = number == 0 and not _numeric(row[0] for row in grid.rows)
        justify: Literal["left", "right"] = "left" if left else "right"
        table.add_column(column, justify=justify, overflow="fold", no_wrap=number == 0)
    for row in grid.rows:
        table.add_row(*row)
    return table


def markdown(grid: Grid) -> str:
    """A heading, the table, and its notes."""
    lines = [f"### {grid.title}", "", _line(grid.columns), _line(["---"] * len(grid.columns))]
    lines += [_line(row) for row in grid.rows]
    if grid.notes:
        lines += ["", *(f"- {note}" for note in grid.notes)]
    return "\n".join(lines) + "\n"


def _numeric(cells: Iterable[str]) -> bool:
    return all(cell.replace(".", "", 1).isdigit() for cell in cells)


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"
