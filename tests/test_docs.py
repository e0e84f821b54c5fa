"""README and docs: their Python runs, their commands parse, their links lead somewhere, every word is explained."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import click
import pytest
from safetensors.numpy import save_file
from samples import pruned

from xorpack.cli.commands import cli

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def blocks(page, language):
    return re.findall(
        rf"^```{language}\n(.*?)^```$", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL
    )


@pytest.mark.parametrize("page", [PAGES[0], ROOT / "docs" / "index.md"], ids=lambda page: page.name)
def test_the_first_example_runs(page, tmp_path, monkeypatch):
    (source,) = blocks(page, "python")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "model").mkdir()
    save_file({"layer.0.weight": pruned((64, 96), 0.0)}, tmp_path / "model" / "model.safetensors")
    exec(compile(source, page.name, "exec"), {})
    assert (tmp_path / "back" / "model.safetensors").is_file()


def commands():
    """Every command of xorpack that a page shows, in a block or inline."""
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        for line in re.findall(r"^\$ (xorpack .*)$", text, re.MULTILINE) + re.findall(
            r"`(xorpack [^`]*)`", text
        ):
            yield pytest.param(line, id=f"{page.name}: {line}"[:70])


def named(name):
    command = cli.get_command(click.Context(cli), name)
    assert command is not None, name
    return command


@pytest.mark.parametrize("line", list(commands()))
def test_a_command_parses(line):
    _, name, *arguments = shlex.split(line, comments=True)
    command = named(name)
    known = {option for parameter in command.params for option in parameter.opts}
    assert {argument for argument in arguments if argument.startswith("--")} <= known
    if any(argument.isupper() for argument in arguments):  # whole, not only named
        command.make_context(name, list(arguments))


def test_what_does_not_parse_is_seen():
    with pytest.raises(click.UsageError, match="--lossy"):
        named("encode").make_context("encode", ["MODEL", "OUT", "--lossy"])


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_to_files(page):
    for target in re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text(encoding="utf-8")):
        if "://" not in target:
            assert (page.parent / target).exists(), target


WORDS = (
    "care", "code", "correction", "depth", "field", "lane", "level", "mask", "network", "panel", "plane", "ring",
    "section", "segment", "skew", "step", "tap", "turn", "visit", "window", "word",
)  # fmt: skip


def test_every_word_of_the_order_of_coding_is_in_the_glossary():
    text = (ROOT / "docs" / "glossary.md").read_text(encoding="utf-8")
    found = {
        term.partition(",")[0].lower() for term in re.findall(r"^\*\*(.*)\*\*\n:   \S", text, re.MULTILINE)
    }
    assert set(WORDS) <= found
