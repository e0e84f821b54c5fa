"""The command line's group: one module per command, imported when the command is asked for."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module

import click

from xorpack._version import __version__

COMMANDS: Mapping[str, str] = {
    "encode": "Encode a safetensors file or a model directory.",
    "decode": "Make plain safetensors of what was encoded.",
    "verify": "Check every byte of what was encoded.",
    "info": "Show what an encoded file or directory holds.",
    "report": "Say how far every byte is from the limit.",
    "compress": "Calibrate, fit, encode and measure a language model in one go.",
    "calibrate": "Run a model over a text, for weights that fit its activations.",
    "tune": "Train the scales of an encoded model towards the dense one.",
    "prune": "Set the least weights of a model to zero.",
    "doctor": "Show whether the GPU decoder can run here.",
}
"""Names of the commands, those of their modules too, in the order in which help shows them, and a line on each."""


class _Lazy(click.Group):
    """A group that imports a command's module for that command alone: numba takes half a second to load."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Names of the commands, in the order of :data:`COMMANDS`."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command of this name."""
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = getattr(import_module(f"xorpack.cli.{cmd_name}"), cmd_name)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the commands into the group's help without importing any."""
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


@click.group(cls=_Lazy, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="xorpack")
def cli() -> None:
    """Store pruned, quantized checkpoints at the entropy limit, exactly."""
