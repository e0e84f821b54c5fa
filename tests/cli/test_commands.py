"""The group of commands: what it lists is there, and help loads nothing else."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import click
import pytest

import xorpack.cli
from xorpack.cli.commands import COMMANDS, cli


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_is_what_its_module_is_called(name: str) -> None:
    command = cli.get_command(click.Context(cli), name)
    assert command is not None
    assert command.name == name
    assert command.help


def test_every_module_with_a_command_is_listed() -> None:
    folder = Path(xorpack.cli.__file__).parent
    found = {path.stem for path in folder.glob("*.py") if "@click.command" in path.read_text()}
    assert found == set(COMMANDS)


def test_an_unknown_command_is_refused() -> None:
    with pytest.raises(click.UsageError, match="No such command 'encoed'"):
        cli.main(["encoed"], standalone_mode=False)


def test_help_is_shown_before_anything_large_is_loaded() -> None:
    script = """
import sys
sys.argv = ["xorpack", "--help"]
from xorpack.cli import main
try:
    main()
except SystemExit as end:
    assert not end.code
assert not {"numpy", "numba", "torch", "rich"} & set(sys.modules), sorted(sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert all(line in done.stdout for line in COMMANDS.values())
