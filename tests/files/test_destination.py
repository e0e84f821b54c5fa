"""Whether an output may be written: never over, around or into what is read, never over what is no checkpoint."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from safetensors.numpy import save_file

import xorpack
from xorpack.cli.commands import cli
from xorpack.errors import DestinationError, ParameterError
from xorpack.files import model
from xorpack.files.destination import check_destination


def write_model(root: Path) -> Path:
    root.mkdir(parents=True)
    weight = np.arange(64 * 32, dtype=np.float32).reshape(64, 32) % 3
    save_file({"l.weight": weight}, root / "model.safetensors")
    (root / "config.json").write_text('{"a": 1}')
    return root


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A folder that holds a model and something that is nobody's business; an encoded model; an importance."""
    write_model(tmp_path / "work" / "model")
    (tmp_path / "work" / "precious.txt").write_text("x")
    (tmp_path / "home").mkdir()
    xorpack.encode_checkpoint(tmp_path / "work" / "model", tmp_path / "work" / "encoded", lossless=True)
    return tmp_path


def everything(root: Path) -> dict[str, bytes | None]:
    return {
        str(path.relative_to(root)): path.read_bytes() if path.is_file() else None
        for path in sorted(root.rglob("*"))
    }


COMMANDS: dict[str, Callable[[Path, Path], object]] = {
    "encode": lambda place, to: xorpack.encode_checkpoint(place / "work" / "model", to, overwrite=True),
    "decode": lambda place, to: xorpack.decode_checkpoint(place / "work" / "encoded", to, overwrite=True),
    "prune": lambda place, to: xorpack.prune_checkpoint(
        place / "work" / "model", to, sparsity=0.9, overwrite=True
    ),
}


@pytest.mark.parametrize("command", COMMANDS)
def test_what_is_read_is_never_replaced(place: Path, command: str) -> None:
    read = place / "work" / ("encoded" if command == "decode" else "model")
    (place / "link").symlink_to(read)
    before = everything(place)
    for to in (
        place / "work",
        place,
        read,
        read / "model.safetensors",
        place / "link" / ".." / ".." / "work",
    ):
        with pytest.raises(ParameterError, match=r"destination .* (holds|lies in the source) "):
            COMMANDS[command](place, to)
    with pytest.raises(ParameterError, match="lies in the source"):
        COMMANDS[command](place, place / "link" / "new")
    assert everything(place) == before


def test_the_first_report_of_this_fault(place: Path) -> None:
    """``encode work/model work --overwrite`` once removed the source and all that lay beside it."""
    before = everything(place)
    done = CliRunner().invoke(
        cli, ["encode", str(place / "work" / "model"), str(place / "work"), "--overwrite"]
    )
    assert isinstance(done.exception, ParameterError)
    assert everything(place) == before


def test_what_links_point_to_is_not_replaced(place: Path) -> None:
    blobs, snapshot = place / "blobs", place / "snapshot"
    blobs.mkdir()
    snapshot.mkdir()
    for name in ("model.safetensors", "config.json"):
        (place / "work" / "model" / name).rename(blobs / name)
        (snapshot / name).symlink_to(Path("..") / "blobs" / name)
    assert model.looks_like_checkpoint(blobs) == ""
    for to in (blobs, blobs / "config.json", blobs / "model.safetensors"):
        with pytest.raises(ParameterError, match=r"holds|lies in"):
            xorpack.encode_checkpoint(snapshot, to, overwrite=True)
    middle = place / "middle"  # a link to a link: the one in between would be lost
    middle.mkdir()
    (middle / "model.safetensors").symlink_to(blobs / "model.safetensors")
    (place / "model.safetensors").symlink_to(middle / "model.safetensors")
    with pytest.raises(ParameterError, match="holds"):
        xorpack.encode_checkpoint(place / "model.safetensors", middle, overwrite=True)
    xorpack.encode_checkpoint(snapshot, place / "out", lossless=True)
    xorpack.decode_checkpoint(place / "out", place / "back")
    assert (place / "back" / "model.safetensors").read_bytes() == (blobs / "model.safetensors").read_bytes()


def test_a_source_behind_a_linked_folder(place: Path) -> None:
    (place / "far").mkdir()
    (place / "far" / "link").symlink_to(place / "work")
    before = everything(place)
    for to in (place / "work", place / "far"):
        with pytest.raises(ParameterError, match=r"holds .*far/link/model"):
            xorpack.encode_checkpoint(place / "far" / "link" / "model", to, overwrite=True)
    (place / "near").symlink_to(place / "work" / "model")
    with pytest.raises(ParameterError, match=r"holds .*near/model"):
        xorpack.encode_checkpoint(place / "near" / "model.safetensors", place / "work", overwrite=True)
    (place / "near").unlink()
    assert everything(place) == before


def test_importances_are_read_too(place: Path) -> None:
    importance = write_model(place / "importance" / "grads")
    before = everything(place)
    for to in (place / "importance", importance, importance / "config.json", importance / "new"):
        with pytest.raises(ParameterError, match=r"holds|lies in the source"):
            xorpack.prune_checkpoint(
                place / "work" / "model", to, sparsity=0.9, importance=importance, overwrite=True
            )
    assert everything(place) == before


@pytest.mark.parametrize("name", ["model.safetensors", "config.json", "report.json"])
def test_a_report_does_not_replace_what_it_is_about(place: Path, name: str) -> None:
    root = place / "work" / "model"
    before = everything(place)
    command = ["report", str(root), "--format", "json", "--output", str(root / name), "--overwrite"]
    assert isinstance(CliRunner().invoke(cli, command).exception, ParameterError)
    command[1] = str(root / "model.safetensors")
    done = CliRunner().invoke(cli, command)
    if name == "model.safetensors":
        assert isinstance(done.exception, ParameterError)
        assert everything(place) == before


def test_a_directory_is_replaced_only_if_it_looks_like_a_checkpoint(place: Path) -> None:
    source = place / "work" / "model"

    def refused(to: Path, message: str) -> None:
        before = everything(to)
        with pytest.raises(DestinationError, match=message):
            xorpack.encode_checkpoint(source, to, overwrite=True)
        assert everything(to) == before

    other = place / "other"
    other.mkdir()
    (other / "precious").write_text("x")
    refused(other, "does not look like a checkpoint: it holds precious and no .safetensors")
    (other / "model.safetensors").write_text("notes on safetensors")
    refused(other, "not a safetensors file")
    (other / "model.safetensors").write_bytes((source / "model.safetensors").read_bytes())
    refused(other, "holds precious, but neither config.json nor an index")
    (other / "config.json").write_text("{}")
    (other / ".git").mkdir()
    refused(other, r"holds \.git")
    (other / ".git").rmdir()
    xorpack.encode_checkpoint(source, other, overwrite=True)
    assert sorted(path.name for path in other.iterdir()) == ["README.md", "config.json", "model.safetensors"]
    (other / "config.json").unlink()
    (other / "more").write_text("x")
    xorpack.encode_checkpoint(source, other, overwrite=True)  # an encoded file is enough
    (place / "empty").mkdir()
    xorpack.encode_checkpoint(source, place / "empty", overwrite=True)
    assert len(xorpack.open(place / "empty")) == 1


def test_where_one_stands_is_not_replaced(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = write_model(place / "target")
    (target / "inside").mkdir()
    monkeypatch.chdir(target / "inside")
    with pytest.raises(DestinationError, match="the working directory"):
        xorpack.encode_checkpoint(place / "work" / "model", target, overwrite=True)
    monkeypatch.chdir(place)
    monkeypatch.setenv("HOME", str(target))
    with pytest.raises(DestinationError, match="the home directory"):
        xorpack.encode_checkpoint(place / "work" / "model", target, overwrite=True)


def test_it_is_decided_before_anything_is_read(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def read(path: Path) -> None:
        raise AssertionError(f"{path} was opened")

    monkeypatch.setattr("xorpack.files.safetensors_file.read", read)
    for command in COMMANDS.values():
        with pytest.raises(ParameterError):
            command(place, place / "work")


def test_names_beside_one_another_are_no_overlap(place: Path) -> None:
    source = place / "work" / "model"
    check_destination(place / "work" / "model2", inputs=model.find(source).inputs())
    os.link(source / "config.json", place / "hard")  # the same file by another name
    with pytest.raises(ParameterError):
        check_destination(place / "hard", overwrite=True, inputs=model.find(source).inputs())
