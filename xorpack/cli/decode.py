"""``xorpack decode``."""

from __future__ import annotations

from pathlib import Path

import click

from xorpack.analysis import tables
from xorpack.cli.common import JOBS, MAX_WEIGHTS, OVERWRITE, SCHEDULER, WORKERS, Place, progress_bar, say


@click.command()
@click.argument("src", type=Place(urls=True))
@click.argument("dst", type=Place(urls=True))
@MAX_WEIGHTS
@JOBS
@OVERWRITE
@SCHEDULER
@WORKERS
def decode(
    src: str | Path,
    dst: str | Path,
    max_weights: int | None,
    jobs: int,
    overwrite: bool,
    scheduler: str | None,
    workers: int | None,
) -> None:
    """Decode SRC, which xorpack encoded, to plain safetensors at DST."""
    from xorpack.checkpoint import decode_checkpoint

    with progress_bar("decode") as progress:
        n_bytes = decode_checkpoint(
            src,
            dst,
            jobs=jobs,
            overwrite=overwrite,
            max_weights=max_weights,
            scheduler=scheduler,
            workers=workers,
            progress=progress,
        )
    say(f"decoded to {dst}: {tables.mebibytes(n_bytes)}, every checksum holds")
