"""``xorpack tune``."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from xorpack.cli.common import JOBS, progress_bar, say

if TYPE_CHECKING:
    from xorpack.tuning.run import Look


@click.command()
@click.argument("encoded", type=click.Path(path_type=Path))
@click.argument("out", type=click.Path(path_type=Path), required=False)
@click.option(
    "--teacher",
    type=click.Path(path_type=Path),
    required=True,
    metavar="DENSE",
    help="The directory of the dense model.",
)
@click.option(
    "--text", type=click.Path(path_type=Path), required=True, help="To train on; a tenth is held out."
)
@click.option(
    "--delta",
    type=click.Path(path_type=Path),
    default=None,
    metavar="FILE",
    help="Instead of OUT: write scales and gains alone, for xorpack.torch.load_scales.",
)
@click.option(
    "--state",
    type=click.Path(path_type=Path),
    default=None,
    metavar="FILE",
    help="Go on from this file, if it is there; it is written at every look at the held-out text.",
)
@click.option("--steps", type=click.IntRange(min=1), default=None, help="Default: 200.")
@click.option(
    "--learning-rate",
    type=float,
    default=None,
    help="The highest, in units of each tensor's root mean square; default: 0.01.",
)
@click.option("--batch", type=click.IntRange(min=1), default=None, help="Sequences of a step; default: 8.")
@click.option(
    "--length", type=click.IntRange(min=2), default=None, help="Tokens of a sequence; default: 512."
)
@click.option(
    "--seed", type=click.IntRange(min=0), default=None, help="Of the order of sequences; default: 0."
)
@JOBS
@click.option("--overwrite", is_flag=True, help="Replace OUT or FILE if it exists.")
def tune(encoded: Path, out: Path | None, overwrite: bool, jobs: int, **options: Any) -> None:
    """Train scales, gains, norms and biases of ENCODED, a directory, on what the dense model says of a text.

    Codes and masks stay as they are: OUT differs from ENCODED in a few small tensors. Needs PyTorch and transformers:
    pip install "xorpack[hf]".
    """
    from xorpack.tuning.run import tune as run

    with progress_bar("tune") as progress:
        report = run(
            encoded,
            out,
            overwrite=overwrite,
            jobs=jobs,
            told=_say,
            progress=progress,
            **{name: value for name, value in options.items() if value is not None},
        )
    say(
        f"{out or options['delta']}: {report.n_parameters} numbers of {report.n_weights} encoded weights and "
        f"{report.n_vectors} norms and biases, trained on {report.n_sequences - report.n_held_out} sequences of "
        f"{report.length} tokens, products in {report.dtype}",
        f"divergence from the dense model on {report.n_held_out} held-out sequences, nats per token: "
        f"{report.first_loss:.4f} before, {report.best_loss:.4f} at best, {report.written_loss:.4f} as written",
    )


def _say(look: Look) -> None:
    trained = "" if math.isnan(look.training_loss) else f", training {look.training_loss:.4f}"
    say(f"step {look.step}: held out {look.loss:.4f}{trained}", err=True)
