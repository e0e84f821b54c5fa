"""``xorpack doctor``."""

from __future__ import annotations

import json

import click

from xorpack.cli.common import say


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print everything as JSON.")
def doctor(as_json: bool) -> None:
    """Show whether the GPU decoder can run here: driver, GPU, CuPy, libraries, and the fix for what is missing."""
    from xorpack.decoders.gpu.doctor import diagnose

    diagnosis = diagnose()
    if as_json:
        click.echo(json.dumps(diagnosis.as_json(), indent=2))
        return
    for finding in diagnosis.findings:
        say(f"{'ok' if finding.fine else 'NO':3} {finding.what}: {finding.found}")
        if finding.fix:
            say(f"    fix: {finding.fix}")
    say("what will run")
    for where, what in diagnosis.runs.items():
        say(f"    {where}: {what}")
