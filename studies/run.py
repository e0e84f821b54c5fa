"""Run tables: take cells from the cache, measure the others."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from pathlib import Path

from studies.cache import Cache
from studies.found import Study
from studies.registry import select
from studies.table import Cell, Outcome, Result, Scope
from studies.weights import Weights
from xorpack.errors import ParameterError

FULL_SEEDS, QUICK_SEEDS = 3, 2

MAX_JOBS = 8
"""Threads at the most: the widest cells take nearly 1 GB each (a window of 320 words, all rows of the band)."""

Progress = Callable[[str, int, int], None]
"""Called when a cell is done: its table, its share of the work, all work (estimated milliseconds)."""


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
        jobs: threads, of which at most ``MAX_JOBS`` are used. What is found does not depend on it.
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

    for number, (result, seconds) in _all(measure, missing, min(jobs, MAX_JOBS)):
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
