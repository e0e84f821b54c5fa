"""``xorpack compress``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from xorpack.analysis import tables
from xorpack.cli.common import DST, EXCLUDE, JOBS, OVERWRITE, Size, make_console, progress_bar, say


class Percent(click.ParamType[float]):
    """A share such as 10%, or 0.1."""

    name = "percent"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """See :class:`click.ParamType`."""
        text = str(value).strip()
        try:
            found = float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
        except ValueError:
            self.fail(f"{value!r} is not a share such as 10%", param, ctx)
        if not 0 < found < 10:
            self.fail(f"{value!r} is not between 0% and 1000%; a tenth is 10%, or 0.1", param, ctx)
        return found


@click.command()
@click.argument("model", type=click.Path(path_type=Path))
@DST
@click.option(
    "--calibration",
    type=click.Path(path_type=Path),
    default=None,
    metavar="TEXT",
    help="A text of the kind that the model is for; an eighth of it, at its end, is kept apart to measure with.",
)
@click.option(
    "--target-bits",
    type=float,
    default=None,
    help="Bits per weight of all encoded tensors together, records too.",
)
@click.option(
    "--max-size", type=Size(), default=None, help="Or the size of all safetensors files: 40MB, 1.5GiB."
)
@click.option(
    "--rate",
    type=float,
    default=None,
    help="Or stored bits per kept weight, 0.03 to 6, the same for all tensors.",
)
@click.option(
    "--max-perplexity-increase",
    type=Percent(),
    default=None,
    metavar="PERCENT",
    help="Or the smallest model whose perplexity is at most so much above the dense one's: 10%. Takes up to 4 fits.",
)
@click.option(
    "--stats",
    type=click.Path(path_type=Path),
    default=None,
    metavar="FILE",
    help="What calibrate wrote; if it is not there it is written and kept, so that another run need not calibrate.",
)
@click.option(
    "--quality",
    type=click.Path(path_type=Path),
    default=None,
    metavar="TEXT",
    help="Another text to measure with.",
)
@click.option(
    "--sequences",
    type=click.IntRange(min=1),
    default=None,
    help="Pieces of the text to calibrate with, at the most; default: 128.",
)
@click.option("--length", type=click.IntRange(min=2), default=None, help="Tokens of a piece; default: 1024.")
@click.option(
    "--memory", type=Size(), default=None, help="Of the sums of calibration held at a time, default: 2GiB."
)
@click.option(
    "--guided",
    is_flag=True,
    help="Weigh by gradients of the loss on TEXT: a better fit; calibration takes twice the time.",
)
@click.option(
    "--sequential",
    is_flag=True,
    help="Let each layer make up for those before it, already compressed; the model runs once more, over TEXT.",
)
@click.option("--sparsity", type=float, default=None, help="Prune this fraction first; default: nothing.")
@click.option("--include", multiple=True, metavar="PATTERN", help="Encode only these tensors.")
@EXCLUDE
@JOBS
@OVERWRITE
@click.option(
    "--resume",
    is_flag=True,
    help="Go on with what a killed run had calibrated and encoded, keep it if this one is stopped. With --stats.",
)
def compress(
    model: Path,
    dst: Path,
    include: tuple[str, ...],
    exclude: tuple[str, ...],
    jobs: int,
    overwrite: bool,
    **options: Any,
) -> None:
    """Make MODEL, a directory, as small as asked for and as good as that allows, and say what it lost.

    Calibrates, chooses a rate for each tensor, fits, encodes, verifies, and measures the perplexity before and after.
    Needs PyTorch and transformers: pip install "xorpack[hf]".
    """
    from xorpack.compression import compress_checkpoint

    report = compress_checkpoint(
        model,
        dst,
        include=include,
        exclude=exclude,
        jobs=jobs,
        overwrite=overwrite,
        show=progress_bar,
        say=say,
        **{name: value for name, value in options.items() if value is not None},
    )
    make_console().print(
        tables.compressed(
            report.encoded.total,
            (report.encoded.source_bytes, report.encoded.stored_bytes),
            (report.dense, report.perplexity),
            [(phase.name, phase.seconds, phase.n_bytes) for phase in report.phases],
        )
    )
    if report.text is not None:
        say(f"perplexity of {report.text}")
    say(*tables.fitted(report.encoded.output_errors, len(report.encoded.accounts)))
    say(*(f"note: {note}" for note in report.notes), err=True)
