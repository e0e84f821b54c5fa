"""``xorpack encode``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from xorpack.analysis import tables
from xorpack.cli.common import (
    EXCLUDE,
    JOBS,
    OVERWRITE,
    SCHEDULER,
    SCOPE,
    WORKERS,
    PatternRate,
    Place,
    Size,
    make_console,
    progress_bar,
    say,
)


@click.command()
@click.argument("src", type=Place(urls=True))
@click.argument("dst", type=Place(urls=True))
@click.option(
    "--bits", type=click.IntRange(1, 8), default=None, help="Planes of a quantized weight; default: 2."
)
@click.option(
    "--rate",
    type=float,
    default=None,
    help="Instead of --bits: stored bits per kept weight, 0.03 to 6, of a trellis: the least error for the bytes.",
)
@click.option(
    "--rate-of",
    "rates",
    type=PatternRate(),
    multiple=True,
    metavar="PATTERN=RATE",
    help="With --rate: another rate for tensors that match, embeddings=3 say; they are encoded even if they are "
    "embeddings or heads.",
)
@click.option(
    "--target-bits",
    type=float,
    default=None,
    help="Instead of --rate: bits per weight of all encoded tensors together, everything counted; each gets the rate "
    "that makes the total squared error least.",
)
@click.option(
    "--max-size",
    type=Size(),
    default=None,
    help="The same by the size of all safetensors files: 40MB, 1.5GiB.",
)
@click.option(
    "--hessian",
    type=click.Path(path_type=Path),
    default=None,
    metavar="STATS",
    help="What calibrate wrote: the error that is made least is that of what layers give out, not of their weights.",
)
@click.option(
    "--tp",
    type=click.IntRange(min=1),
    default=None,
    metavar="N",
    help="Cut matrices for vllm serve --tensor-parallel-size N; nothing but vLLM runs them then.",
)
@click.option(
    "--lossless", is_flag=True, default=None, help="Keep every value bit for bit instead of quantizing."
)
@click.option(
    "--positive-zeros", is_flag=True, default=None, help="With --lossless: store -0.0 as +0.0, pruned."
)
@click.option(
    "--sparsity", type=float, default=None, help="Prune this fraction; default: keep the zeros there are."
)
@SCOPE
@click.option(
    "--group-size",
    type=click.IntRange(min=0),
    default=None,
    help="Inputs that share scales, 0 for the row; default of --bits: as many as keep about 64 weights, and the row "
    "from a sparsity of .8 on; of --rate: the row.",
)
@click.option(
    "--method",
    type=click.Choice(["alternating", "greedy"]),
    default=None,
    help="How scales are fitted; default: alternating.",
)
@click.option(
    "--scale-dtype",
    type=click.Choice(["float16", "float32"]),
    default=None,
    help="Type of the scales; default: float16, and float32 for tensors whose scales are too small or large for it.",
)
@click.option(
    "--outliers",
    type=float,
    default=None,
    help="Of a trellis: keep weights beyond so many standard deviations of their row apart, in float16; default: 3 "
    "at 1.5 to 2.5 bits, else where it makes the squared error less for the bytes.",
)
@click.option(
    "--mask",
    "mask_codec",
    type=click.Choice(["auto", "bitmap", "cascade", "block", "bmf", "huffman"]),
    default=None,
    help="How the mask is stored; default: auto.",
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
    default=None,
    help="What to minimize where there is a choice: size, the default, or the time to encode, and to decode on a CPU "
    "(packed bits, bitmaps, no prefix codes).",
)
@click.option(
    "--payload",
    type=click.Choice(["auto", "xor", "packed"]),
    default=None,
    help="How the bits of kept weights are stored: xor, code that a GPU decodes at any place; packed, as small and "
    "faster on a CPU; default: packed with --prefer speed, else xor.",
)
@click.option(
    "--symbols",
    type=click.Choice(["planes", "entropy"]),
    default=None,
    help="Of --bits: entropy stores all signs of a weight together, under a prefix code, where that saves bytes: 1 to "
    "7 % of them, for twice the time of encoding and of products; default: planes, each for itself.",
)
@click.option(
    "--include", multiple=True, metavar="PATTERN", help="Encode only these: module names, or re:EXPRESSION."
)
@EXCLUDE
@JOBS
@OVERWRITE
@click.option(
    "--resume",
    is_flag=True,
    help="Go on with what a run to DST finished before it was killed; keep what is finished if this one is stopped.",
)
@SCHEDULER
@WORKERS
@click.option(
    "--device",
    metavar="DEVICE",
    default="cpu",
    show_default=True,
    help="Where trellises are searched, and XOR codes found: cpu, cuda or cuda:NUMBER; the bytes are the same.",
)
@click.option("--dry-run", is_flag=True, help="Read and check, estimate sizes, write nothing.")
def encode(
    src: str | Path,
    dst: str | Path,
    include: tuple[str, ...],
    exclude: tuple[str, ...],
    jobs: int,
    overwrite: bool,
    resume: bool,
    scheduler: str | None,
    workers: int | None,
    device: str,
    dry_run: bool,
    rates: tuple[tuple[str, float], ...],
    **options: Any,
) -> None:
    """Encode SRC, a .safetensors file or a model directory, to DST; URLs such as s3://BUCKET/MODEL for either."""
    from xorpack.checkpoint import encode_checkpoint

    if rates:
        options["rates"] = dict(rates)
    with progress_bar("encode") as progress:
        report = encode_checkpoint(
            src,
            dst,
            include=include,
            exclude=exclude,
            jobs=jobs,
            overwrite=overwrite,
            dry_run=dry_run,
            resume=resume,
            scheduler=scheduler,
            workers=workers,
            device=device,
            compile_aside=True,
            progress=progress,
            **{name: value for name, value in options.items() if value is not None},
        )
    console = make_console()
    console.print(
        tables.accounts(
            report.accounts,
            report.seconds,
            report.distortions,
            estimated=report.estimated,
            width=console.width,
        )
    )
    console.print(tables.left_out(report.left_out, width=console.width))
    say(*tables.closing_lines(report.source_bytes, report.stored_bytes, report.n_parameters, report.total))
    if report.output_errors:
        say(*tables.fitted(report.output_errors, len(report.accounts)))
    elif note := tables.ruined(report.distortions):
        say(f"note: {note}", err=True)
    share = report.n_negative_zeros / max(report.total.n_weights, 1)
    if share > 0.01:
        say(
            f"note: {100 * share:.1f} % of the encoded weights are -0.0, as weights multiplied by a mask are; each is "
            "kept as a weight. --positive-zeros stores them as +0.0, which compares equal, and makes the file smaller.",
            err=True,
        )
    if dry_run:
        say("dry run: sizes are estimates, nothing was written")
