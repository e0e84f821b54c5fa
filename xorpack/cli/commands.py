"""The command line's group: one module per command."""

from __future__ import annotations

import click

from xorpack._version import __version__
from xorpack.cli.calibrate import calibrate
from xorpack.cli.decode import decode
from xorpack.cli.doctor import doctor
from xorpack.cli.encode import encode
from xorpack.cli.info import info
from xorpack.cli.prune import prune
from xorpack.cli.report import report
from xorpack.cli.verify import verify


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="xorpack")
def cli() -> None:
    """Store pruned, quantized checkpoints at the entropy limit, exactly."""


for command in (prune, calibrate, encode, decode, verify, info, report, doctor):
    cli.add_command(command)
