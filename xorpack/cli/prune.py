"""``xorpack prune``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from xorpack.analysis import tables
from xorpack.cli.common import DST, EXCLUDE, JOBS, OVERWRITE, SCOPE, SRC, make_console, progress_bar, say
from xorpack.errors import ParameterError


@click.command()
@SRC
@DST
@click.option("--sparsity", type=float, default=None, help="Prune this fraction of the weights.")
@click.option(
    "--method",
    type=click.Choice(["magnitude", "n:m", "bmf"]),
    default=None,
    help="The largest weights; N of every M; a mask of low-rank factors. Default: n:m with --pattern, else magnitude.",
)
@click.option("--pattern", metavar="N:M", default=None, help="Keep the N largest of every M inputs, as 2:4.")
@SCOPE
@click.option("--rank", type=click.IntRange(min=1), default=None, help="bmf: patterns of a tile; default: 2.")
@click.option(
    "--mask-bits", type=float, default=None, help="bmf: bits per weight of the mask; default: 0.18."
)
@click.option(
    "--importance",
    type=click.Path(path_type=Path),
    default=None,
    metavar="FILE",
    help="Tensors of the same names and shapes, whose magnitudes decide in place of the weights'.",
)
@click.option(
    "--include", multiple=True, metavar="PATTERN", help="Prune only these: module names, or re:EXPRESSION."
)
@EXCLUDE
@JOBS
@OVERWRITE
@click.option("--dry-run", is_flag=True, help="Choose and report, write nothing.")
def prune(
    src: Path,
    dst: Path,
    method: str | None,
    pattern: str | None,
    importance: Path | None,
    include: tuple[str, ...],
    exclude: tuple[str, ...],
    jobs: int,
    overwrite: bool,
    dry_run: bool,
    **options: Any,
) -> None:
    """Set weights of SRC, a .safetensors file or a model directory, to 0 and write DST, of the same kind.

    Fine-tune what comes out with your usual tools, then encode it: xorpack keeps the zeros that it finds.
    """
    from xorpack.checkpoint.prune import prune_checkpoint

    options |= {"method": method or (None if pattern is None else "n:m"), "pattern": _parse(pattern)}
    with progress_bar("prune") as progress:
        report = prune_checkpoint(
            src,
            dst,
            importance=importance,
            include=include,
            exclude=exclude,
            jobs=jobs,
            overwrite=overwrite,
            dry_run=dry_run,
            progress=progress,
            **{name: value for name, value in options.items() if value is not None},
        )
    console = make_console()
    console.print(tables.pruned(report.tensors, report.total, width=console.width))
    console.print(tables.left_out(report.left_out, width=console.width))
    if dry_run:
        say("dry run: nothing was written")


def _parse(pattern: str | None) -> tuple[int, int] | None:
    if pattern is None:
        return None
    n, colon, m = pattern.partition(":")
    if not (colon and n.isascii() and m.isascii() and n.isdigit() and m.isdigit()):
        raise ParameterError(f"pattern {pattern!r} is not two numbers, as 2:4")
    return int(n), int(m)
