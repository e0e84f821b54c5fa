"""``xorpack encode``."""

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
@click.option(
    "--bits", type=click.IntRange(1, 8), default=None, help="Planes of a quantized weight; default: 2."
)
@click.option("--lossless", is_flag=True, help="Keep every value bit for bit instead of quantizing.")
@click.option("--positive-zeros", is_flag=True, help="With --lossless: store -0.0 as +0.0, pruned.")
@click.option(
    "--sparsity", type=float, default=None, help="Prune this fraction; default: keep the zeros there are."
)
@SCOPE
@click.option(
    "--group-size", type=click.IntRange(min=0), default=0, help="Inputs that share scales; default: the row."
)
@click.option(
    "--method",
    type=click.Choice(["alternating", "greedy"]),
    default="alternating",
    show_default=True,
    help="How scales are fitted.",
)
@click.option(
    "--scale-dtype",
    type=click.Choice(["float16", "float32"]),
    default="float16",
    show_default=True,
    help="Type of the scales.",
)
@click.option(
    "--mask",
    "mask_codec",
    type=click.Choice(["auto", "bitmap", "cascade", "block", "bmf"]),
    default="auto",
    show_default=True,
    help="How the mask is stored.",
)
@click.option("--rank", type=click.IntRange(min=1), default=None, help="With --mask bmf: patterns of a tile.")
@click.option(
    "--mask-bits",
    type=float,
    default=None,
    help="With --mask bmf: bits per weight of the mask; default: 0.18.",
)
@click.option(
    "--prefer",
    type=click.Choice(["size", "speed"]),
    default="size",
    show_default=True,
    help="What to minimize where there is a choice: size, or the time to encode and decode (bitmaps, no prefix codes).",
)
@click.option(
    "--include", multiple=True, metavar="PATTERN", help="Encode only these: module names, or re:EXPRESSION."
)
@EXCLUDE
@JOBS
@OVERWRITE
@click.option("--dry-run", is_flag=True, help="Read and check, estimate sizes, write nothing.")
def encode(
    src: Path,
    dst: Path,
    bits: int | None,
    lossless: bool,
    include: tuple[str, ...],
    exclude: tuple[str, ...],
    jobs: int,
    overwrite: bool,
    dry_run: bool,
    **options: Any,
) -> None:
    """Encode SRC, a .safetensors file or a model directory, to DST."""
    from xorpack.checkpoint import Settings, encode_checkpoint

    if lossless and bits is not None:
        raise ParameterError("--bits contradicts --lossless, which keeps all bits")
    with progress_bar("encode") as progress:
        report = encode_checkpoint(
            src,
            dst,
            settings=Settings(lossless=lossless, bits=bits or 2, **options),
            include=include,
            exclude=exclude,
            jobs=jobs,
            overwrite=overwrite,
            dry_run=dry_run,
            progress=progress,
        )
    console = make_console()
    console.print(
        tables.accounts(report.accounts, report.seconds, estimated=report.estimated, width=console.width)
    )
    say(*tables.closing_lines(report.source_bytes, report.stored_bytes, report.n_parameters, report.total))
    share = report.n_negative_zeros / max(report.total.n_weights, 1)
    if share > 0.01:
        say(
            f"note: {100 * share:.1f} % of the encoded weights are -0.0, as weights multiplied by a mask are; each is "
            "kept as a weight. --positive-zeros stores them as +0.0, which compares equal, and makes the file smaller.",
            err=True,
        )
    if dry_run:
        say("dry run: sizes are estimates, nothing was written")
