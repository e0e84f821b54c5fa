"""Run tables: take cells from the cache, measure the others, show and keep what was found."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import xorpack
from xorpack.analysis.study import alexnet, blocks, figures, masks, networks, planes, render, windows
from xorpack.analysis.study.cache import Cache
from xorpack.analysis.study.table import Cell, Grid, Outcome, Result, Scope, Table
from xorpack.analysis.study.weights import Weights
from xorpack.atomic import atomic_file
from xorpack.errors import DestinationError, ParameterError

TABLES: Mapping[str, Table] = {
    module.TABLE.name: module.TABLE for module in (networks, masks, blocks, planes, alexnet, windows)
}
"""All tables there are."""

FULL_SEEDS, QUICK_SEEDS = 3, 2

JSON_FILE, MARKDOWN_FILE = "study.json", "study.md"

Progress = Callable[[str, int, int], None]
"""Called when a cell is done: its table, its share of the work, all work (estimated milliseconds)."""


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
            f"Printed by `xorpack study`, xorpack {xorpack.__version__}, {self.scope.seeds} seeds a cell{quick}. "
            "± is half of the range over the seeds.",
        ]
        if weights is not None:
            lines += ["", f"Real weights: {weights.describe()}."]
        for name in self.outcomes:
            table = TABLES[name]
            lines += ["", f"## {name}: {table.title}", "", table.about, ""]
            if figures:
                lines += [f"![{table.title}]({name}.svg)", ""]
            lines += ["\n".join(render.markdown(grid) for grid in self.grids(name)).rstrip()]
        return "\n".join(lines) + "\n"


def select(names: Sequence[str]) -> list[Table]:
    """The tables of these names, all if there are none.

    Raises:
        ParameterError: a name is unknown.
    """
    for name in names:
        if name not in TABLES:
            raise ParameterError(f"table {name!r} is not one of {', '.join(TABLES)}")
    return [table for name, table in TABLES.items() if not names or name in names]


def run(
    names: Sequence[str] = (),
    *,
    quick: bool = False,
    seeds: int | None = None,
    model: str | Path | None = None,
    cache: str | Path | None = None,
    fresh: bool = False,
    jobs: int = 1,
    progress: Progress | None = None,
) -> Study:
    """Measure tables.

    Args:
        names: of :data:`TABLES`; none means all.
        quick: fewer and smaller cells, under a minute on one core.
        seeds: random draws per cell; default 3, or 2 if quick.
        model: a checkpoint, plain safetensors, for tables that know real weights.
        cache: directory in which cells are kept and from which they are taken; None keeps nothing.
        fresh: measure even what the cache has.
        jobs: threads. What is found does not depend on it.
        progress: told of every cell that is done.

    Raises:
        ParameterError: an unknown name, a number out of its range.
        FileNotFoundError, FormatError, DataError: the model, see :meth:`Weights.open`.
        DestinationError: the cache cannot be written.
    """
    tables = select(names)
    if seeds is None:
        seeds = QUICK_SEEDS if quick else FULL_SEEDS
    if not 1 <= seeds <= 1000:
        raise ParameterError(f"seeds = {seeds} is outside 1..1000")
    if jobs < 1:
        raise ParameterError(f"jobs = {jobs} is less than 1")
    store = Cache(None if cache is None else Path(cache))
    weights = None if model is None else Weights.open(model)
    scope = Scope(quick=quick, seeds=seeds, weights=weights)
    work = [(table, cell) for table in tables for cell in table.plan(scope)]
    total = sum(_milliseconds(cell) for _, cell in work)
    results: dict[int, Result] = {}
    missing = []
    for number, (table, cell) in enumerate(work):
        found = None if fresh else store.load(table, cell.params)
        if found is None:
            missing.append(number)
        else:
            results[number] = found
            if progress is not None:
                progress(table.name, _milliseconds(cell), total)

    def measure(number: int) -> tuple[Result, float]:
        table, cell = work[number]
        began = time.perf_counter()
        result = table.measure(cell.params, weights)
        return result, time.perf_counter() - began

    for number, (result, seconds) in _all(measure, missing, jobs):
        table, cell = work[number]
        store.store(table, cell.params, result, seconds)
        results[number] = result
        if progress is not None:
            progress(table.name, _milliseconds(cell), total)
    outcomes: dict[str, list[Outcome]] = {table.name: [] for table in tables}
    for number, (table, cell) in enumerate(work):
        outcomes[table.name].append(Outcome(cell.params, results[number]))
    n_reused = len(work) - len(missing)
    return Study(scope=scope, outcomes=outcomes, n_reused=n_reused, n_measured=len(missing))


def _milliseconds(cell: Cell) -> int:
    return 1 + round(1000 * cell.seconds)


def _all(
    call: Callable[[int], tuple[Result, float]], numbers: Sequence[int], jobs: int
) -> Iterator[tuple[int, tuple[Result, float]]]:
    """``(number, call(number))`` as they are done; an interruption waits for those that run, no more."""
    if jobs == 1:
        for number in numbers:
            yield number, call(number)
        return
    with ThreadPoolExecutor(jobs) as pool:
        running: dict[Future[tuple[Result, float]], int] = {
            pool.submit(call, number): number for number in numbers
        }
        try:
            while running:
                for future in wait(running, return_when=FIRST_COMPLETED).done:
                    yield running.pop(future), future.result()
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def check_output(directory: Path, names: Sequence[str], *, overwrite: bool) -> None:
    """Raise DestinationError unless :func:`write` can write there: asked before anything is measured."""
    if directory.exists() and not directory.is_dir():
        raise DestinationError(f"output {directory} is not a directory")
    place = directory if directory.is_dir() else directory.absolute().parent
    if not place.is_dir():
        raise DestinationError(f"output {directory}: {place} is not a directory")
    if not os.access(place, os.W_OK | os.X_OK):
        raise DestinationError(f"output {directory}: no permission to write in {place}")
    taken = [name for name in _files(names) if (directory / name).exists()]
    if taken and not overwrite:
        raise DestinationError(f"output {directory} holds {taken[0]}; remove it or ask to overwrite it")


def _files(names: Sequence[str]) -> list[str]:
    pictures = [f"{table.name}.{form}" for table in select(names) for form in figures.FORMATS]
    return [JSON_FILE, MARKDOWN_FILE, *pictures]


def write(study: Study, directory: Path, *, overwrite: bool = False) -> list[str]:
    """Write study.json, study.md and, if matplotlib is installed, a figure per table; their names.

    Raises:
        DestinationError: the directory cannot be written, or holds such files.
    """
    check_output(directory, list(study.outcomes), overwrite=overwrite)
    directory.mkdir(exist_ok=True)
    pictures = figures.available()
    document = json.dumps(study.as_dict(), indent=1, ensure_ascii=False) + "\n"
    texts = {JSON_FILE: document, MARKDOWN_FILE: study.markdown(figures=pictures)}
    for name, text in texts.items():
        with atomic_file(directory / name, overwrite=overwrite) as path:
            path.write_text(text, encoding="utf-8")
    written = list(texts)
    for table in study.outcomes if pictures else ():
        figure = study.figure(table)
        for form in figures.FORMATS:
            with atomic_file(directory / f"{table}.{form}", overwrite=overwrite) as path:
                figures.save(figure, path, form)
            written.append(f"{table}.{form}")
    return written
