"""``xorpack calibrate``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from xorpack.cli.common import Size, progress_bar, say


@click.command()
@click.argument("model", type=click.Path(path_type=Path))
@click.argument("text", type=click.Path(path_type=Path))
@click.option(
    "--output",
    "-o",
    type=click.Path(path_type=Path),
    required=True,
    metavar="STATS",
    help="The file to write.",
)
@click.option(
    "--sequences",
    type=click.IntRange(min=1),
    default=None,
    help="Pieces of the text at the most; default: 128.",
)
@click.option("--length", type=click.IntRange(min=2), default=None, help="Tokens of a piece; default: 1024.")
@click.option(
    "--memory",
    type=Size(),
    default=None,
    help="Of the sums held at a time, default: 2GiB. Where they take more, the model runs several times.",
)
@click.option(
    "--no-gradients",
    "gradients",
    flag_value=False,
    default=None,
    help="Leave out what the loss says of the layers, by which budgets are divided: it takes memory.",
)
@click.option(
    "--guided",
    is_flag=True,
    help="Weigh inputs and outputs by gradients of the loss on TEXT: a model that predicts tokens, and twice the time.",
)
@click.option("--overwrite", is_flag=True, help="Replace STATS if it exists.")
@click.option(
    "--resume",
    is_flag=True,
    help="Go on with the sums of a run to STATS that was killed; keep those of this one if it is stopped.",
)
def calibrate(model: Path, text: Path, output: Path, overwrite: bool, **options: Any) -> None:
    """Run MODEL, a directory, over TEXT, and write what its linear layers are given, for encode --hessian.

    Needs PyTorch and transformers: pip install "xorpack[hf]".
    """
    from xorpack.calibration.run import calibrate as run

    with progress_bar("calibrate") as progress:
        report = run(
            model,
            text,
            output,
            overwrite=overwrite,
            progress=progress,
            **{name: value for name, value in options.items() if value is not None},
        )
    say(
        f"{output}: {report.n_matrices} Hessians of {report.n_layers} layers,"
        f"{' guided,' if options['guided'] else ''} from {report.n_sequences} sequences of "
        f"{report.length} tokens, {report.n_bytes / 1e6:.1f} MB"
    )
    say(*(f"note: {note}" for note in report.notes), err=True)
