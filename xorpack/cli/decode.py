"""``xorpack decode``."""

from __future__ import annotations

from pathlib import Path

import click

from xorpack.analysis import tables
from xorpack.cli.common import DST, JOBS, MAX_WEIGHTS, OVERWRITE, SRC, progress_bar, say


@click.command()
@SRC
@DST
@MAX_WEIGHTS
@JOBS
@OVERWRITE
def decode(src: Path, dst: Path, max_weights: int | None, jobs: int, overwrite: bool) -> None:
    """Decode SRC, which xorpack encoded, to plain safetensors at DST."""
    from xorpack.checkpoint import decode_checkpoint

    with progress_bar("decode") as progress:
        n_bytes = decode_checkpoint(
            src, dst, jobs=jobs, overwrite=overwrite, max_weights=max_weights, progress=progress
        )
    say(f"decoded to {dst}: {tables.mebibytes(n_bytes)}, every checksum holds")
