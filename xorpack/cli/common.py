"""What commands share: arguments, options, the console, the progress bar."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from xorpack import escape
from xorpack.files.url import is_url

_UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9}


class Count(click.ParamType[int]):
    """A number of weights such as 300000, 300k, 4M."""

    name = "count"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """See :class:`click.ParamType`."""
        found = re.fullmatch(r"(\d+)([kmg]?)", str(value), re.IGNORECASE)
        if found is None or int(found[1]) == 0:
            self.fail(f"{value!r} is not a number of weights such as 300000, 300k or 4M", param, ctx)
        return int(found[1]) * _UNITS[found[2].lower()]


class Size(click.ParamType[int]):
    """A number of bytes such as 40MB, 1.5GiB, 40000000."""

    name = "size"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """See :class:`click.ParamType`."""
        found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*(?:([kmgt]?)(i?)b)?", str(value).strip(), re.IGNORECASE)
        if found is None or float(found[1]) == 0:
            self.fail(f"{value!r} is not a size such as 40MB, 1.5GiB or 40000000", param, ctx)
        unit = 1024 if found[3] else 1000
        return int(float(found[1]) * unit ** " kmgt".index((found[2] or " ").lower()))


class Place(click.Path):
    """A path, or a URL where those are taken."""

    def __init__(self, *, urls: bool = False) -> None:
        """``urls``: whether they are."""
        super().__init__(path_type=Path)
        self.urls = urls

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """See :class:`click.ParamType`."""
        if not is_url(value):
            return super().convert(value, param, ctx)
        if not self.urls:
            self.fail(f"{value}: this command takes no URLs; copy it to a disk first", param, ctx)
        return value


class PatternRate(click.ParamType[tuple[str, float]]):
    """A pattern of tensors' names and a rate, such as embeddings=3."""

    name = "rate"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, float]:
        """See :class:`click.ParamType`."""
        pattern, _, rate = str(value).rpartition("=")
        try:
            found = float(rate)
        except ValueError:
            found = 0.0
        if not pattern or not found:
            self.fail(f"{value!r} is not a pattern and a rate such as embeddings=3", param, ctx)
        return pattern, found


MAX_WEIGHTS = click.option(
    "--max-weights",
    type=Count(),
    default=None,
    metavar="N",
    help="Accept a file that declares as many weights, however small it is: 300M, 4G.",
)
JOBS = click.option(
    "--jobs", type=click.IntRange(min=1), default=os.cpu_count() or 1, help="Threads; default: all cores."
)
SCHEDULER = click.option(
    "--scheduler",
    metavar="ADDRESS",
    default=None,
    help="Let the workers of a dask cluster do it, tcp://HOST:PORT; they see what is read and written under the same "
    "paths.",
)
WORKERS = click.option(
    "--workers",
    type=click.IntRange(min=1),
    default=None,
    help="The same by so many processes of this machine, with --jobs threads together.",
)
OVERWRITE = click.option("--overwrite", is_flag=True, help="Replace DST if it exists.")
SRC = click.argument("src", type=Place())
SCOPE = click.option(
    "--scope",
    type=click.Choice(["tensor", "global"]),
    default=None,
    help="Prune each tensor to the sparsity, or all together; default: tensor.",
)
EXCLUDE = click.option("--exclude", multiple=True, metavar="PATTERN", help="Leave these out.")
DST = click.argument("dst", type=Place())


def make_console(*, pipe_width: int = 160) -> Console:
    """Standard output for tables."""
    console = Console()
    # A pipe has no width: keep whole rows together there.
    return console if console.is_terminal else Console(width=pipe_width)


def say(*lines: str, err: bool = False) -> None:
    """Print lines that may hold names of tensors or files; ``err``: on standard error."""
    for line in lines:
        click.echo(escape.printable(line), err=err)


def rewritten_note(file: str | Path) -> str:
    """What is said of a file that :attr:`xorpack.Checkpoint.rewritten` holds."""
    return f"note: {file}: another tool rewrote its header; carried tensors have no checksums"


@contextmanager
def progress_bar(verb: str) -> Iterator[Callable[[str, int, int], None]]:
    """A bar on a terminal's standard error; yields what tells it of every tensor that is done."""
    columns = (
        TextColumn(verb),
        BarColumn(),
        TextColumn("{task.percentage:3.0f} %"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.description}", markup=False),
    )
    console = Console(stderr=True)
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("", total=None)

        def update(name: str, n_weights: int, total: int) -> None:
            bar.update(task, description=escape.printable(name), total=total, advance=n_weights)

        yield update
