"""Checkpoints whose binary codes are under a prefix code: smaller, the same weights, and what is said of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from safetensors.numpy import load_file, save_file

import xorpack
from xorpack.analysis.report import render
from xorpack.checkpoint.report import report_checkpoint
from xorpack.cli.commands import cli
from xorpack.fields.signs import SignField
from xorpack.files.container import EncodedFile

NAMES = ("a.weight", "b.weight", "small.weight")


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("symbols") / "m"
    root.mkdir()
    rng = np.random.default_rng(8)
    shapes = ((256, 512), (512, 256), (8, 40))
    held = {name: rng.standard_normal(shape, np.float32) for name, shape in zip(NAMES, shapes, strict=True)}
    save_file(held | {"a.bias": np.ones(7, np.float32)}, root / "model.safetensors")
    (root / "config.json").write_text(json.dumps({"hidden": 1}))
    return root


@pytest.fixture(scope="module")
def encoded(source: Path) -> Path:
    out = source.parent / "entropy"
    xorpack.encode_checkpoint(source, out, bits=3, sparsity=0.5, symbols="entropy")
    return out


@pytest.fixture(scope="module")
def plain(source: Path) -> Path:
    out = source.parent / "planes"
    xorpack.encode_checkpoint(source, out, bits=3, sparsity=0.5)
    return out


def test_smaller_and_the_same_weights(encoded: Path, plain: Path, tmp_path: Path) -> None:
    mine, theirs = xorpack.open(encoded), xorpack.open(plain)
    assert isinstance(mine["a.weight"].field, SignField)
    assert mine["small.weight"].field is None
    payload = [
        sum(sum(c[name].section_bytes()[part] for part in ("code", "corrections", "field")) for name in NAMES)
        for c in (mine, theirs)
    ]
    assert payload[0] < 0.96 * payload[1]
    for path, name in ((encoded, "x"), (plain, "y")):
        xorpack.decode_checkpoint(path, tmp_path / name)
        assert xorpack.verify_checkpoint(path).n_tensors == 3
    assert {k: v.tobytes() for k, v in load_file(tmp_path / "x/model.safetensors").items()} == {
        k: v.tobytes() for k, v in load_file(tmp_path / "y/model.safetensors").items()
    }


def test_settings_and_versions(encoded: Path, plain: Path) -> None:
    for path, version in ((encoded, 4), (plain, 3)):
        config = json.loads((path / "config.json").read_text())["quantization_config"]
        file = EncodedFile(path / "model.safetensors")
        assert (config["format_version"], file.version) == (version, version)
        assert config.get("symbols") == file.settings.get("symbols") == ("entropy" if version == 4 else None)
    found = xorpack.open(encoded).info()
    assert "counts" in json.dumps(found)


def test_threads_give_the_same_bytes(source: Path, encoded: Path, tmp_path: Path) -> None:
    xorpack.encode_checkpoint(source, tmp_path / "x", bits=3, sparsity=0.5, symbols="entropy", jobs=3)
    name = "model.safetensors"
    assert (tmp_path / "x" / name).read_bytes() == (encoded / name).read_bytes()


def test_the_command_and_its_report(source: Path, encoded: Path, plain: Path, tmp_path: Path) -> None:
    arguments = ["encode", str(source), str(tmp_path / "x"), "--bits", "3", "--sparsity", ".5"]
    done = CliRunner().invoke(cli, [*arguments, "--symbols", "entropy"], catch_exceptions=False)
    assert done.exit_code == 0
    name = "model.safetensors"
    assert (tmp_path / "x" / name).read_bytes() == (encoded / name).read_bytes()
    advice = " ".join(report_checkpoint(plain).advice)
    assert "--symbols entropy would save about" in advice
    assert "most in a.weight, b.weight" in advice
    report = report_checkpoint(encoded / name)
    assert "--symbols" not in " ".join(report.advice)
    parts = {part.name: part.n_bytes for part in report.parts}
    assert sum(parts.values()) == (encoded / name).stat().st_size
    assert parts["field"] == sum(tensor.section_bytes()["field"] for tensor in xorpack.open(encoded).values())
    assert {t.name: bool(t.in_field) for t in report.tensors} == dict(
        zip(NAMES, (True, True, False), strict=True)
    )
    overhead = {t.name: t.account.payload_overhead for t in report.tensors}
    assert overhead["a.weight"] is not None
    assert 1 < overhead["a.weight"] < 1.04
    for form in ("text", "json", "markdown", "html"):
        text: Any = render(report, form)
        assert text


def test_a_dry_run_knows_of_it(source: Path, encoded: Path, tmp_path: Path) -> None:
    settings: dict[str, Any] = {"bits": 3, "sparsity": 0.5, "dry_run": True}
    plain = xorpack.encode_checkpoint(source, tmp_path / "x", **settings).accounts["a.weight"]
    found = xorpack.encode_checkpoint(source, tmp_path / "x", symbols="entropy", **settings).accounts[
        "a.weight"
    ]
    real = xorpack.open(encoded)["a.weight"].section_bytes()
    assert found.payload_bytes < 0.97 * plain.payload_bytes
    assert abs(found.payload_bytes / (real["code"] + real["corrections"] + real["field"]) - 1) < 0.04


def test_packed_tensors_are_not_told_of_it(source: Path, tmp_path: Path) -> None:
    xorpack.encode_checkpoint(source, tmp_path / "x", bits=3, sparsity=0.5, payload="packed")
    assert "--symbols" not in " ".join(report_checkpoint(tmp_path / "x").advice)
