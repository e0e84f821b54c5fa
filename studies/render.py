"""Grids as text: a rich table for a terminal, GitHub's Markdown for a file."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Literal

from rich.table import Table as RichTable
from rich.text import Text

from studies.table import Grid
from xorpack import escape


def terminal(grid: Grid, width: int) -> Iterator[RichTable]:
    """Tables without lines that fit ``width`` columns: several if need be, the key columns in each.

    Headings and cells may break between words, never within.
    """
    grid = replace(
        grid,
        title=escape.printable(grid.title),
        columns=[*map(escape.printable, grid.columns)],
        rows=[[*map(escape.printable, row)] for row in grid.rows],
    )
    keys = list(range(grid.n_keys))
    piece = keys
    for k in range(grid.n_keys, len(grid.columns)):
        if piece != keys and sum(_least(grid, column) + 1 for column in [*piece, k]) > width + 1:
            yield _table(grid, piece, width)
            piece = keys
        piece = [*piece, k]
    yield _table(grid, piece, width)


def _table(grid: Grid, columns: Sequence[int], width: int) -> RichTable:
    table = RichTable(
        title=Text(grid.title), title_justify="left", box=None, pad_edge=False, padding=(0, 1, 0, 0)
    )
    widths = {k: _least(grid, k) for k in columns}
    left = width + 1 - sum(w + 1 for w in widths.values())
    for wanted in (_cells_width, _full_width):  # whole cells first, then whole headings
        for k in columns:
            more = max(0, min(left, wanted(grid, k) - widths[k]))
            widths[k] += more
            left -= more
    for k in columns:
        numeric = k > 0 or _numeric(row[0] for row in grid.rows)
        justify: Literal["left", "right"] = "right" if numeric else "left"
        table.add_column(Text(grid.columns[k]), justify=justify, width=widths[k], no_wrap=k == 0)
    for row in grid.rows:
        table.add_row(*(Text(row[k]) for k in columns))
    return table


def _cells_width(grid: Grid, k: int) -> int:
    return max(len(row[k]) for row in grid.rows)


def _full_width(grid: Grid, k: int) -> int:
    return max(len(grid.columns[k]), _cells_width(grid, k))


def _least(grid: Grid, k: int) -> int:
    """Width of a column that breaks no word; the first column's cells do not break at all."""
    cells = [row[k] for row in grid.rows]
    words = [word for text in (grid.columns[k], *(cells if k else ())) for word in text.split()]
    return max(map(len, [*words, *(() if k else cells)]))


def markdown(grid: Grid) -> str:
    """A heading, the table, and its notes."""
    lines = [
        f"### {escape.markdown(grid.title)}",
        "",
        _line(grid.columns),
        "|" + " --- |" * len(grid.columns),
    ]
    lines += [_line(row) for row in grid.rows]
    if grid.notes:
        lines += ["", *(f"- {escape.markdown(note)}" for note in grid.notes)]
    return "\n".join(lines) + "\n"


def _numeric(cells: Iterable[str]) -> bool:
    return all(cell.replace(".", "", 1).isdigit() for cell in cells)


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(escape.markdown(cell) for cell in cells) + " |"
