"""``python -m studies``."""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path
from typing import Any

import click

import studies
from studies import figures, render
from studies.cache import default_directory
from xorpack import escape
from xorpack.cli import main
from xorpack.cli.common import JOBS, make_console, progress_bar, say
from xorpack.errors import ParameterError


@click.command(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.argument("names", nargs=-1, metavar="[TABLE]...")
@click.option("--list", "as_list", is_flag=True, help="Name the tables and stop.")
@click.option("--quick", is_flag=True, help="Fewer and smaller cells: under a minute.")
@click.option(
    "--seeds", type=click.IntRange(1, 1000), default=None, help="Draws per cell; default: 3, quick 2."
)
@click.option(
    "--model",
    type=click.Path(path_type=Path),
    default=None,
    help="A plain checkpoint, for the tables of real weights (masks, planes).",
)
@click.option(
    "--output",
    type=click.Path(path_type=Path),
    default=None,
    metavar="DIR",
    help="Write study.json, study.md and figures there.",
)
@click.option("--overwrite", is_flag=True, help="Replace the files of an earlier study in DIR.")
@click.option(
    "--cache",
    type=click.Path(path_type=Path),
    default=None,
    metavar="DIR",
    help="Where measured cells are kept; default: in the user's cache directory.",
)
@click.option("--fresh", is_flag=True, help="Measure again what the cache has.")
@JOBS
def study(
    names: tuple[str, ...],
    as_list: bool,
    output: Path | None,
    overwrite: bool,
    cache: Path | None,
    **options: Any,
) -> None:
    """Reproduce the field's tables on synthetic and real weights, beside the bound.

    TABLE is one or several of those that --list names; default: all. An interrupted study goes on
    where it stopped.
    """
    if as_list:
        for table in studies.select(names):
            say(f"{table.name:12}{table.title}")
        return
    if overwrite and output is None:
        raise ParameterError("--overwrite needs --output")
    studies.select(names)
    if output is not None:
        studies.check_output(output, names, overwrite=overwrite, model=options["model"])
    directory = cache or default_directory()
    try:
        with progress_bar("study") as progress:
            found = studies.run(names, cache=directory, progress=progress, **options)
        _print(found, brief=output is None)
        say(f"{found.n_measured} cells measured, {found.n_reused} from {directory}")
        if output is not None:
            written = studies.write(found, output, overwrite=overwrite)
            say(f"{output}: {', '.join(written)}")
            if not figures.available():
                say("no figures: matplotlib is not installed; pip install 'xorpack[report]'")
    except KeyboardInterrupt:
        say(f"xorpack: interrupted; what was measured is in {directory}, run it again to go on", err=True)
        sys.exit(130)


def _print(found: studies.Study, *, brief: bool) -> None:
    """The brief grids of every table; ``brief``: nothing else keeps the others."""
    console = make_console(pipe_width=80)
    show = partial(console.print, highlight=False, markup=False)
    for name in found.outcomes:
        show(f"\n{name}: {studies.TABLES[name].title}", style="bold")
        show(studies.TABLES[name].about)
        grids = found.grids(name)
        for grid in grids:
            if grid.brief:
                show()
                for table in render.terminal(grid, console.width):
                    show(table)
                for note in grid.notes:
                    show(escape.rich(note))
        left_out = sum(not grid.brief for grid in grids)
        if left_out and brief:
            show(f"{left_out} more grid{'s' if left_out > 1 else ''} with --output")
    weights = found.scope.weights
    say("", *([] if weights is None else [f"real weights: {weights.describe()}"]))


if __name__ == "__main__":
    main(lambda: study)
