"""``xorpack info``."""

from __future__ import annotations

import json
from pathlib import Path

import click

from xorpack.analysis import tables
from xorpack.cli.common import MAX_WEIGHTS, make_console, rewritten_note, say


@click.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print everything as JSON.")
@click.option("--speed", is_flag=True, help="Decode everything and show how fast.")
@MAX_WEIGHTS
def info(file: Path, as_json: bool, speed: bool, max_weights: int | None) -> None:
    """Show what FILE (or model directory) holds, by tensor and part, beside the entropy bounds."""
    from xorpack.checkpoint import open_checkpoint

    checkpoint = open_checkpoint(file, verify=False, max_weights=max_weights)
    description = checkpoint.info()
    measured = checkpoint.speed() if speed else None
    if measured is not None:
        description["seconds"] = {"mask": measured.mask, "mask_and_planes": measured.planes}
    if as_json:
        click.echo(json.dumps(description, indent=2))
        return
    console = make_console()
    console.print(tables.accounts(checkpoint.accounts(), width=console.width))
    for line in tables.summary(description):
        say(line)
    for name in description["rewritten"]:
        say(rewritten_note(name))
    if measured is not None:
        say(tables.speed(measured))
