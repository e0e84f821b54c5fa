"""Directories that other tools quantized: smaller with --lossless, and the very files come back."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from click.testing import CliRunner
from safetensors.numpy import save_file

import xorpack
from benchmarks import prequantized
from xorpack.analysis.report import render
from xorpack.cli.commands import cli
from xorpack.errors import ParameterError
from xorpack.files.container import EncodedFile
from xorpack.files.safetensors_file import StoredTensor, header_bytes
from xorpack.files.safetensors_file import write as write_file

CODED = {"gptq": "qweight", "awq-like": "weight_packed", "fp8": "weight"}
BITS = {"gptq": 2 * 3.45, "awq-like": 2 * 3.72, "fp8": 6.7}
"""What an octet of each takes at the most."""


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A model of two layers, quantized by each of the tools."""
    root = tmp_path_factory.mktemp("prequantized")
    (root / "dense").mkdir()
    rng = np.random.default_rng(0)
    weights = {
        f"model.layers.{i}.{name}.weight": rng.standard_normal((256, 640)).astype(np.float32)
        for i in range(2)
        for name in ("q_proj", "up_proj")
    }
    norm = {"model.norm.weight": np.ones(640, np.float32), "lm_head.weight": np.ones((64, 640), np.float32)}
    save_file(weights | norm, root / "dense" / "model.safetensors")
    (root / "dense" / "config.json").write_text('{"model_type": "llama"}\n')
    for form in prequantized.FORMS:
        prequantized.write(root / "dense", root / form, form)
    return {form: root / form for form in prequantized.FORMS}


@pytest.fixture(scope="module")
def encoded(sources: dict[str, Path]) -> dict[str, Path]:
    found = {form: source.with_name(f"{form}.x") for form, source in sources.items()}
    for form, path in found.items():
        xorpack.encode_checkpoint(sources[form], path, lossless=True)
    return found


forms = pytest.mark.parametrize("form", CODED)


def files_of(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


@forms
def test_there_and_back(sources: Any, encoded: Any, form: str, tmp_path: Path) -> None:
    report = xorpack.verify_checkpoint(encoded[form], against=sources[form], jobs=2)
    assert (report.n_tensors, report.errors) == (4, {})
    xorpack.decode_checkpoint(encoded[form], tmp_path / "back")
    assert files_of(tmp_path / "back") == files_of(sources[form])


@forms
def test_what_is_encoded_and_what_it_takes(sources: Any, encoded: Any, form: str) -> None:
    with xorpack.open(encoded[form]) as checkpoint:
        info = checkpoint.info()
        assert {name.rpartition(".")[2] for name in checkpoint} == {CODED[form]}
        for name in checkpoint:
            tensor = checkpoint[name]
            assert tensor.octets == (1 if form == "fp8" else 4)
            assert 8 * sum(tensor.section_bytes().values()) < BITS[form] * tensor.n_weights
    config = json.loads((encoded[form] / "config.json").read_text())["quantization_config"]
    assert config["format_version"] == info["format_version"] == 4
    assert config["original"]["quant_method"] == prequantized.METHODS[form]
    assert info.get("n_octets", 0) == (0 if form == "fp8" else info["n_weights"])
    assert info["n_weights"] == info["bytes"]["original"]
    scales = {"gptq": "scales", "awq-like": "weight_scale", "fp8": "weight_scale_inv"}[form]
    assert f"model.layers.0.q_proj.{scales}" in EncodedFile(encoded[form] / "model.safetensors").carried


@forms
def test_the_same_bytes_however_they_are_made(sources: Any, encoded: Any, form: str, tmp_path: Path) -> None:
    source, wanted = sources[form], files_of(encoded[form])
    xorpack.encode_checkpoint(source, tmp_path / "jobs", lossless=True, jobs=3)
    xorpack.encode_checkpoint(source, tmp_path / "resumed", lossless=True, resume=True)
    assert files_of(tmp_path / "jobs") == files_of(tmp_path / "resumed") == wanted


def test_workers(sources: Any, encoded: Any, tmp_path: Path) -> None:
    pytest.importorskip("distributed")
    xorpack.encode_checkpoint(sources["gptq"], tmp_path / "x", lossless=True, workers=1)
    assert files_of(tmp_path / "x") == files_of(encoded["gptq"])


@forms
def test_reports_before_and_after(sources: Any, encoded: Any, form: str) -> None:
    before = xorpack.report_checkpoint(sources[form], sample=1 << 16)
    after = xorpack.report_checkpoint(encoded[form], sample=1 << 16)
    planned = {t.name: t for t in before.tensors}
    assert set(planned) == {t.name for t in after.tensors}
    for tensor in after.tensors:
        account, plan = tensor.account, planned[tensor.name].account
        assert account.payload_overhead is not None
        assert 0.999 < account.payload_overhead < 1.03
        assert account.n_octets == plan.n_octets
        assert plan.payload_bound_bits == account.payload_bound_bits
        assert abs(plan.n_bytes / account.n_bytes - 1) < 0.02
    for report in (before, after):
        for style in ("text", "markdown", "json", "csv", "html"):
            assert "q_proj" in render(report, style)
    assert ("is an octet" in render(after, "text")) == (form != "fp8")
    assert before.n_parameters == after.n_parameters


@forms
def test_a_dry_run_says_what_would_become_of_it(sources: Any, form: str, tmp_path: Path) -> None:
    done = CliRunner().invoke(
        cli, ["encode", str(sources[form]), str(tmp_path / "x"), "--lossless", "--dry-run"]
    )
    assert done.exit_code == 0, done.output
    assert ("a weight of packed integers is an octet" in done.output) == (form != "fp8")
    assert not (tmp_path / "x").exists()


@forms
def test_in_a_hurry_they_are_carried(sources: Any, form: str, tmp_path: Path) -> None:
    """Packed bits leave nothing out where nothing is pruned; FP8's upper plane may be constant."""
    report = xorpack.encode_checkpoint(sources[form], tmp_path / "x", lossless=True, prefer="speed")
    assert all(found.n_octets == 0 for found in report.accounts.values())
    xorpack.decode_checkpoint(tmp_path / "x", tmp_path / "y")
    assert files_of(tmp_path / "y") == files_of(sources[form])


@forms
def test_without_lossless_they_are_refused(sources: Any, form: str, tmp_path: Path) -> None:
    with pytest.raises(
        ParameterError, match=r"quantized already .*--lossless .* makes 4-bit weights 8 to 15 %"
    ):
        xorpack.encode_checkpoint(sources[form], tmp_path / "x")


def test_positive_zeros_of_float8(tmp_path: Path) -> None:
    weights = np.random.default_rng(1).standard_normal((64, 512)).astype(ml_dtypes.float8_e4m3fn)
    weights.view(np.uint8)[:, ::3] = 0x80
    path = tmp_path / "m.safetensors"
    tensors = {"a.weight": StoredTensor.of(weights)}
    write_file(path, tensors, header_bytes(tensors, {}))
    kept = xorpack.encode_checkpoint(path, tmp_path / "kept", lossless=True)
    assert kept.negative_zeros == {"a.weight": int((weights.view(np.uint8) == 0x80).sum())}
    report = xorpack.encode_checkpoint(path, tmp_path / "x", lossless=True, positive_zeros=True)
    assert report.total.n_bytes < kept.total.n_bytes
    decoded = xorpack.decode(xorpack.open(tmp_path / "x")["a.weight"]).view(np.uint8)
    assert np.array_equal(decoded, np.where(weights.view(np.uint8) == 0x80, 0, weights.view(np.uint8)))
    assert xorpack.verify_checkpoint(tmp_path / "x", against=path).n_identical == 1
