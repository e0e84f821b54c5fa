"""``xorpack report``."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import click

from xorpack.cli.common import (
    JOBS,
    MAX_WEIGHTS,
    SCHEDULER,
    WORKERS,
    Count,
    Place,
    make_console,
    progress_bar,
    say,
)
from xorpack.errors import ParameterError

FORMATS = ("text", "json", "csv", "markdown", "html")
SORTS = ("size", "bits", "overhead", "name", "gain")
TOP = 10
"""Tensors that are listed as text, unless asked otherwise."""

FILE_WIDTH = 120
"""Columns of text that goes to a file."""

MAPS = 4
"""Density maps on an HTML page."""


@click.command()
@click.argument("path", type=Place(urls=True))
@click.option(
    "--format", "form", type=click.Choice(FORMATS), default="text", show_default=True, help="What to print."
)
@click.option("--output", type=click.Path(path_type=Path), help="Write to this file instead of the terminal.")
@click.option("--overwrite", is_flag=True, help="Replace the output if it exists.")
@click.option(
    "--sample",
    type=Count(),
    is_flag=False,
    flag_value="1M",
    default=None,
    metavar="[N]",
    help="Run real coders, and our own, on N weights; without N on 1M.",
)
@click.option("--sort", type=click.Choice(SORTS), help="Worst tensors first, by this.")
@click.option(
    "--top", type=click.IntRange(min=0), help=f"Tensors to list; 0 for all. Default of text: {TOP}."
)
@click.option(
    "--bits", type=click.IntRange(1, 8), help="Of a plain checkpoint: planes to quantize to; default: 2."
)
@click.option("--sparsity", type=float, help="Of a plain checkpoint: as if pruned to this.")
@click.option(
    "--group-size", type=click.IntRange(min=0), help="Of a plain checkpoint: inputs that share scales."
)
@click.option(
    "--include", multiple=True, metavar="PATTERN", help="Of a plain checkpoint: only these tensors."
)
@click.option("--exclude", multiple=True, metavar="PATTERN", help="Of a plain checkpoint: leave these out.")
@click.option(
    "--against",
    type=Place(urls=True),
    default=None,
    metavar="MODEL",
    help="Of an encoded one: show its error against the checkpoint that it was made from, beside the bounds.",
)
@click.option(
    "--hessian",
    type=click.Path(path_type=Path),
    default=None,
    metavar="STATS",
    help="With --against: show the error of what layers give out, from what calibrate wrote, and which would gain most "
    "by a bit more.",
)
@click.option(
    "--quality",
    type=click.Path(path_type=Path),
    default=None,
    metavar="TEXT",
    help="Show a language model's perplexity on this text, and that of --against. Needs the extra hf.",
)
@MAX_WEIGHTS
@JOBS
@SCHEDULER
@WORKERS
def report(
    path: str | Path,
    form: str,
    output: Path | None,
    overwrite: bool,
    sample: int | None,
    sort: str | None,
    top: int | None,
    include: tuple[str, ...],
    exclude: tuple[str, ...],
    max_weights: int | None,
    against: str | Path | None,
    hessian: Path | None,
    quality: Path | None,
    jobs: int,
    scheduler: str | None,
    workers: int | None,
    **judged: Any,
) -> None:
    """Say how far every byte of PATH is from the limit, and what could be done.

    PATH is a file or directory that xorpack encoded, or a plain checkpoint: then, what it could become.
    """
    from xorpack.analysis.report import render
    from xorpack.checkpoint.report import report_checkpoint
    from xorpack.checkpoint.settings import Settings
    from xorpack.files import model
    from xorpack.files.atomic import atomic_file
    from xorpack.files.destination import check_destination
    from xorpack.files.url import is_url

    if output is not None:
        read = [path] if against is None else [path, against]
        inputs = [file for place in read if not is_url(place) for file in model.find(Path(place)).inputs()]
        inputs += [given for given in (quality, hessian) if given is not None]
        check_destination(output, overwrite=overwrite, inputs=inputs)
    elif overwrite:
        raise ParameterError("--overwrite is for --output, which is not given")
    elif form == "html" and sys.stdout.isatty():
        raise ParameterError("an HTML page on a terminal helps nobody: give --output FILE.html")
    given = {name: value for name, value in judged.items() if value is not None}
    with progress_bar("report") as progress:
        found = report_checkpoint(
            path,
            settings=Settings(**given) if given else None,
            include=include,
            exclude=exclude,
            sample=sample,
            n_maps=MAPS if form == "html" else 0,
            max_weights=max_weights,
            against=against,
            hessian=hessian,
            quality=quality,
            jobs=jobs,
            scheduler=scheduler,
            workers=workers,
            progress=progress,
        )
    console = make_console()
    colour = output is None and console.is_terminal and not console.no_color
    if top is None and form == "text":
        top, sort = TOP, sort or "size"
    width = console.width if output is None else FILE_WIDTH
    text = render(found, form, sort=sort, top=top or None, width=width, colour=colour)
    if output is None:
        click.echo(text, nl=False, color=colour)
        return
    with atomic_file(output, overwrite=overwrite) as temporary:
        temporary.write_text(text, encoding="utf-8")
    say(f"wrote {output} ({os.path.getsize(output):,} bytes)")
