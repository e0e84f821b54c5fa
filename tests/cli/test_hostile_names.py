"""Names that are markup, control sequences or formulas: shown as they are, by every command and format."""

from __future__ import annotations

import csv
import html.parser
import io
import json
import re
import sys

import numpy as np
import pytest
from safetensors.numpy import save_file
from samples import pruned

import xorpack
from xorpack import escape
from xorpack.cli import main

NAMES = [
    "[/x].weight", "[bold]y[/bold].weight", "[link=http://a.b]z.weight", "a\x1b[2J\r\x07\x9b.weight",
    "b\u202e\u2028.weight", "c|d\n# e\n<script>alert(1)</script>.weight", "=1+1|'x'!A0.weight", "+f.weight",
    "-g.weight", "@h.weight",
    "$\\frac$.weight", "i*j_k`l~m&amp;.weight", "http://n.weight", "\ttab.weight", "{0}.weight",
]  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A checkpoint and its encoding, in a folder whose name is as bad."""
    root = tmp_path_factory.mktemp("x") / "[bold]\x1b[1m|<i>$(id)"
    root.mkdir()
    tensors = {name: pruned((64, 96), 0.5, seed=i) for i, name in enumerate(NAMES)}
    save_file({**tensors, "[/v].bias": np.ones(3, np.float32)}, root / "m.safetensors")
    xorpack.encode_checkpoint(root / "m.safetensors", root / "x.safetensors")
    return root


def run(capfd, monkeypatch, *arguments) -> str:
    monkeypatch.setattr(sys, "argv", ["xorpack", *map(str, arguments)])
    with pytest.raises(SystemExit) as stopped:
        main()
    out, err = capfd.readouterr()
    assert (stopped.value.code, err) == (0, "")
    return out


def only_lines(text: str) -> list[str]:
    """Lines of printable text."""
    lines = text.rstrip("\n").split("\n")
    assert all(line.isprintable() for line in lines), [line for line in lines if not line.isprintable()]
    return lines


def test_every_command(folder, tmp_path, capfd, monkeypatch) -> None:
    plain, encoded = folder / "m.safetensors", folder / "x.safetensors"
    for i, command in enumerate((
        ["encode", plain, "OUT"], ["encode", plain, "OUT", "--lossless"], ["encode", plain, "OUT", "--dry-run"],
        ["prune", plain, "OUT", "--sparsity", 0.5], ["info", encoded], ["report", plain, "--top", 0],
        ["report", encoded, "--top", 0], ["decode", encoded, "OUT"], ["verify", encoded, "--against", plain],
    )):  # fmt: skip
        arguments = [tmp_path / f"{i}[o]\x1b" if a == "OUT" else a for a in command]
        text = "\n".join(only_lines(run(capfd, monkeypatch, *arguments)))
        if command[0] not in ("decode", "verify"):
            for name in NAMES:
                assert escape.printable(name).strip() in text, (command, name)


def test_errors_are_one_line(folder, capfd, monkeypatch) -> None:
    array = np.full((4, 64), np.nan, np.float32)
    save_file({NAMES[5]: array}, folder / "nan.safetensors")
    for arguments in (["encode", folder / "nan.safetensors", folder / "y"], ["info", folder / "\x1b\n[/x]"],
                      ["decode", folder / "m.safetensors", folder / "y"]):  # fmt: skip
        monkeypatch.setattr(sys, "argv", ["xorpack", *map(str, arguments)])
        with pytest.raises(SystemExit) as stopped:
            main()
        out, err = capfd.readouterr()
        assert (stopped.value.code, out) == (1, "")
        assert len(only_lines(err)) == 1


@pytest.mark.parametrize("source", ["m.safetensors", "x.safetensors"])
def test_every_format_of_a_report(folder, source, capfd, monkeypatch) -> None:
    def report(form: str) -> str:
        return run(capfd, monkeypatch, "report", folder / source, "--format", form, "--top", 0)

    assert set(json.loads(report("json"))["tensors"]) == set(NAMES)
    assert report("json").isascii()
    rows = list(csv.reader(io.StringIO(report("csv"))))
    assert {row[0] for row in rows[1:]} == {escape.csv(name) for name in NAMES}
    assert not any(cell.lstrip().startswith(escape.FORMULA) for row in rows for cell in row)

    text = report("markdown")
    assert "<script" not in re.sub(r"\\<", "", text)
    table = [line for line in only_lines(text) if "weight" in line and line.startswith("| ")]
    assert len({len(re.findall(r"(?<!\\)\|", line)) for line in table if ".weight" in line}) == 1
    assert all(f"| {escape.markdown(name)} |" in text for name in NAMES)

    parser = Cells()
    parser.feed(report("html"))
    assert set(map(escape.printable, NAMES)) <= parser.texts
    assert parser.tags.count("script") == 1
    assert all(text.replace("\n", "").isprintable() for text in parser.texts)


class Cells(html.parser.HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.texts: set[str] = set()
        self.tags: list[str] = []

    def handle_starttag(self, tag, attributes) -> None:
        self.tags.append(tag)

    def handle_data(self, data) -> None:
        self.texts.add(data)


def test_a_study_of_such_weights(capfd) -> None:
    from rich.console import Console

    from studies import render
    from studies.table import Grid

    grid = Grid(
        title="[/t]", columns=("[/c]", "n"), rows=[(name, "1") for name in NAMES], n_keys=1, notes=["[/n]"]
    )
    for table in render.terminal(grid, 80):
        Console(width=80).print(table)
    shown = "\n".join(only_lines(capfd.readouterr().out))
    assert all(escape.printable(name) in shown for name in (*NAMES, "[/t]", "[/c]"))
    lines = only_lines(render.markdown(grid))
    assert all(f"| {escape.markdown(name)} | 1 |" in lines for name in NAMES)


def test_commands_to_copy_are_quoted(folder) -> None:
    text = " ".join(xorpack.report_checkpoint(folder / "m.safetensors").advice)
    assert "xorpack encode '/" in text
    assert "$(id)/m.safetensors' OUT" in text


def test_the_progress_bar(folder, tmp_path, capfd, monkeypatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")  # as on a terminal
    monkeypatch.setattr(
        sys, "argv", ["xorpack", "encode", str(folder / "m.safetensors"), str(tmp_path / "x")]
    )
    with pytest.raises(SystemExit) as stopped:
        main()
    shown = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]|\r", "", capfd.readouterr().err)
    assert stopped.value.code == 0
    assert "encode" in shown
    assert all(line.isprintable() for line in shown.split("\n"))
