"""Grids as text: a rich table for a terminal, GitHub's Markdown for a file."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Literal

from rich.table import Table as RichTable
from rich.text import Text

from xorpack.analysis.study.table import Grid


def terminal(grid: Grid, width: int) -> Iterator[RichTable]:
    """Tables without lines that fit ``width`` columns: several if need be, the key columns in each.

    Headings and cells may break between words, never within.
    """
    keys = list(range(grid.n_keys))
    piece, used = keys, sum(_least(grid, k) + 1 for k in keys)
    room = width + 1 - used
    for k in range(grid.n_keys, len(grid.columns)):
        if room < _least(grid, k) + 1 and piece != keys:
            yield _table(grid, piece)
            piece, room = keys, width + 1 - used
        piece = [*piece, k]
        room -= _least(grid, k) + 1
    yield _table(grid, piece)


def _table(grid: Grid, columns: Sequence[int]) -> RichTable:
    table = RichTable(title=grid.title, title_justify="left", box=None, pad_edge=False, padding=(0, 1, 0, 0))
    for k in columns:
        left = k == 0 and not _numeric(row[0] for row in grid.rows)
        justify: Literal["left", "right"] = "left" if left else "right"
        table.add_column(grid.columns[k], justify=justify, min_width=_least(grid, k), no_wrap=k == 0)
    for row in grid.rows:
        table.add_row(*(Text(row[k]) for k in columns))  # as it stands: a name may hold brackets
    return table


def _least(grid: Grid, k: int) -> int:
    """Width of a column that breaks no word; the first column's cells do not break at all."""
    cells = [row[k] for row in grid.rows]
    words = [word for text in (grid.columns[k], *(cells if k else ())) for word in text.split()]
    return max(map(len, [*words, *(() if k else cells)]))


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
