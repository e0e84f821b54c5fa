"""``xorpack verify``."""

from __future__ import annotations

from pathlib import Path

import click

from xorpack.cli.common import (
    JOBS,
    MAX_WEIGHTS,
    SCHEDULER,
    WORKERS,
    Place,
    progress_bar,
    rewritten_note,
    say,
)


@click.command()
@click.argument("file", type=Place(urls=True))
@click.option("--against", type=Place(urls=True), default=None, help="Compare with this checkpoint too.")
@MAX_WEIGHTS
@JOBS
@SCHEDULER
@WORKERS
def verify(
    file: str | Path,
    against: str | Path | None,
    max_weights: int | None,
    jobs: int,
    scheduler: str | None,
    workers: int | None,
) -> None:
    """Check every byte of FILE (or model directory) and that it decodes to what was encoded."""
    from xorpack.checkpoint import verify_checkpoint

    with progress_bar("verify") as progress:
        report = verify_checkpoint(
            file,
            against=against,
            jobs=jobs,
            max_weights=max_weights,
            scheduler=scheduler,
            workers=workers,
            progress=progress,
        )
    for path in report.rewritten:
        say(rewritten_note(path))
    unchecked = f"; carried tensors without one: {report.n_unchecked}" if report.n_unchecked else ""
    say(
        f"{file}: {report.n_tensors} encoded and {report.n_carried} carried tensors, every checksum holds{unchecked}"
    )
    if against is not None:
        say(f"against {against}: {report.n_identical} tensors identical, {len(report.errors)} quantized")
    if report.errors:
        worst = max(report.errors, key=lambda name: report.errors[name])
        mean = sum(report.errors.values()) / len(report.errors)
        say(
            f"relative error of quantized tensors: mean {mean:.3f}, worst {report.errors[worst]:.3f} ({worst})"
        )
