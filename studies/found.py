"""What a study found: as text, figures and JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import xorpack
from studies import figures, render
from studies.registry import TABLES
from studies.table import Grid, Outcome, Scope
from xorpack import escape


@dataclass(frozen=True, slots=True, kw_only=True)
class Study:
    """Outcomes by table.

    Attributes:
        scope: how much was asked for.
        outcomes: table name to its cells, in the order of the plan.
        n_reused, n_measured: cells that came from the cache, and others.
    """

    scope: Scope
    outcomes: Mapping[str, Sequence[Outcome]]
    n_reused: int
    n_measured: int

    def grids(self, name: str) -> list[Grid]:
        """A table as text."""
        return TABLES[name].grids(self.outcomes[name])

    def figure(self, name: str) -> Any:
        """A table as a matplotlib figure.

        Raises:
            ImportError: matplotlib is not installed.
        """
        table = TABLES[name]
        return figures.make(lambda figure: table.draw(figure, self.outcomes[name]), table.size)

    def png(self, name: str) -> bytes:
        """The figure, small, for a notebook."""
        return figures.png(self.figure(name))

    def text(self, name: str) -> str:
        """The brief grids of a table in Markdown, for a notebook."""
        return "\n".join(render.markdown(grid) for grid in self.grids(name) if grid.brief)

    def as_dict(self) -> dict[str, Any]:
        """Everything, for JSON. No times, so that the same study gives the same bytes."""
        weights = self.scope.weights
        return {
            "xorpack": xorpack.__version__,
            "quick": self.scope.quick,
            "seeds": self.scope.seeds,
            "model": None if weights is None else weights.describe(),
            "tables": {
                name: {
                    "title": TABLES[name].title,
                    "about": TABLES[name].about,
                    "cells": [{"params": dict(o.params), "result": o.result} for o in outcomes],
                    "grids": [
                        {"title": g.title, "columns": g.columns, "rows": g.rows, "notes": g.notes}
                        for g in self.grids(name)
                    ],
                }
                for name, outcomes in self.outcomes.items()
            },
        }

    def markdown(self, *, figures: bool = False) -> str:
        """All tables; with links to the figures beside the file if asked for."""
        weights = self.scope.weights
        quick = ", --quick: smaller and fewer cells" if self.scope.quick else ""
        lines = [
            "# A study of XOR codes for pruned weights",
            "",
            f"Printed by `python -m studies`, xorpack {xorpack.__version__}, {self.scope.seeds} seeds a cell{quick}. "
            "± is half of the range over the seeds.",
        ]
        if weights is not None:
            lines += ["", f"Real weights: {escape.markdown(weights.describe())}."]
        for name in self.outcomes:
            table = TABLES[name]
            lines += ["", f"## {name}: {table.title}", "", table.about, ""]
            if figures:
                lines += [f"![{table.title}]({name}.svg)", ""]
            lines += ["\n".join(render.markdown(grid) for grid in self.grids(name)).rstrip()]
        return "\n".join(lines) + "\n"
