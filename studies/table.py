"""What a table of the study is made of: cells to measure, and ways to show what was measured."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from studies.weights import Weights

Params = Mapping[str, Any]
"""What a cell is: JSON values, seeds included. The same parameters give the same result."""

Result = Mapping[str, Any]
"""What was measured: JSON values, no times."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scope:
    """How much is asked of a table.

    Attributes:
        quick: fewer and smaller cells.
        seeds: random draws per cell; their spread is shown.
        weights: a checkpoint's matrices, for tables that know real weights.
    """

    quick: bool = False
    seeds: int = 3
    weights: Weights | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """One thing to measure. ``seconds``: a rough estimate, for the progress bar."""

    params: Params
    seconds: float = 0.1


@dataclass(frozen=True, slots=True)
class Outcome:
    """A cell that was measured."""

    params: Params
    result: Result


@dataclass(frozen=True, slots=True, kw_only=True)
class Grid:
    """Rows of text under headings.

    Attributes:
        n_keys: leading columns that say what a row is; repeated where a terminal is too narrow for all.
        brief: printed on a terminal too, not only in the Markdown file.
    """

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    notes: Sequence[str] = field(default=())
    n_keys: int = 1
    brief: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """A table of the study.

    Attributes:
        name: on the command line and of its figure's file.
        title: one line.
        about: what is measured, in which units, and the source.
        module: where it is defined; its text is part of the key of cached cells.
        plan: the cells.
        measure: what one cell gives.
        grids: outcomes as text.
        draw: outcomes into a matplotlib figure that is handed in.
        size: of that figure, in inches.
    """

    name: str
    title: str
    about: str
    module: str
    plan: Callable[[Scope], list[Cell]]
    measure: Callable[[Params, Weights | None], Result]
    grids: Callable[[Sequence[Outcome]], list[Grid]]
    draw: Callable[[Any, Sequence[Outcome]], None]
    size: tuple[float, float] = (9.0, 4.5)
