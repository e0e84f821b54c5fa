"""What a run encodes, what it leaves out and why, and what it refuses because it would be wrong without a word."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from safetensors.numpy import save_file
from samples import pruned

import xorpack
from xorpack.checkpoint import Settings
from xorpack.cli.commands import cli
from xorpack.errors import DataError, ParameterError


def weights(**more: Any) -> dict[str, np.ndarray[Any, Any]]:
    return {"layers.0.mlp.weight": pruned((96, 256), 0.0), "layers.0.mlp.bias": pruned((96,), 0.0), **more}


def directory(root: Path, config: Any, **more: Any) -> Path:
    root.mkdir()
    save_file(weights(**more), root / "model.safetensors")
    (root / "config.json").write_text(json.dumps(config))
    return root


QUANTIZED: list[dict[str, Any]] = [
    {"quantization_config": {"quant_method": "gptq", "bits": 4}},
    {"text_config": {"quantization_config": {"quant_method": "fp8"}}},
    {"compression_config": {"format": "pack-quantized"}},
]
SCALES = {"layers.0.q.weight_scale": pruned((96, 64), 0.0), "layers.0.q.qzeros": np.ones((8, 64), np.int32)}


@pytest.mark.parametrize("config", QUANTIZED, ids=lambda c: next(iter(c)))
def test_what_another_tool_quantized_is_only_kept(config, tmp_path) -> None:
    source = directory(tmp_path / "m", config, **SCALES)
    for call in (
        lambda: xorpack.encode_checkpoint(source, tmp_path / "x"),
        lambda: xorpack.encode_checkpoint(source, tmp_path / "x", sparsity=0.5, include=["mlp"]),
        lambda: xorpack.encode_checkpoint(source, tmp_path / "x", dry_run=True),
        lambda: xorpack.prune_checkpoint(source, tmp_path / "x", sparsity=0.5),
        lambda: xorpack.report_checkpoint(source, settings=Settings(bits=3)),
    ):
        with pytest.raises(
            ParameterError, match=r"m is quantized already \(.*_config of config.json.*--lossless"
        ):
            call()
    assert [path.name for path in tmp_path.iterdir()] == ["m"]
    report = xorpack.report_checkpoint(source)
    assert report.advice[0].startswith("It is quantized already")
    assert not any("--bits" in advice for advice in report.advice)
    done = xorpack.encode_checkpoint(source, tmp_path / "x", lossless=True)
    assert list(done.accounts) == ["layers.0.mlp.weight"]
    assert done.left_out["layers.0.q.weight_scale"].why == "scale of quantized weights"
    xorpack.decode_checkpoint(tmp_path / "x", tmp_path / "y")
    assert (tmp_path / "y" / "model.safetensors").read_bytes() == (source / "model.safetensors").read_bytes()
    assert json.loads((tmp_path / "y" / "config.json").read_text()) == config


def test_a_file_alone_shows_by_its_names_that_it_is_quantized(tmp_path) -> None:
    source = tmp_path / "m.safetensors"
    for name in ("weight_scale", "weight_scale_inv", "qweight", "g_idx", "scales", "SCB", "weight.absmax"):
        save_file(weights(**{f"layers.0.q.{name}": pruned((96, 64), 0.0)}), source)
        with pytest.raises(ParameterError, match=rf"quantized already \(tensor 'layers.0.q.{name}'\)"):
            xorpack.encode_checkpoint(source, tmp_path / "x")
    for config in ({}, {"quantization_config": None}, {"quantization_config": {}}):
        root = directory(tmp_path / str(len(list(tmp_path.iterdir()))), config)
        xorpack.encode_checkpoint(root, root.with_suffix(".x"))


MIXED = {
    "output.weight": pruned((50, 64), 0.0), "layers.0.mlp.gate.weight": pruned((8, 64), 0.0),
    "layers.0.counts": np.arange(6).reshape(2, 3), "layers.0.small.weight": pruned((8, 8), 0.0),
}  # fmt: skip
WHY = {
    "output.weight": "head", "layers.0.mlp.gate.weight": "router of experts", "layers.0.counts": "of type I64",
    "layers.0.small.weight": "would not become smaller", "layers.0.mlp.bias": "bias",
}  # fmt: skip


def run(*arguments: Any) -> str:
    command = [sys.executable, "-m", "xorpack", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def test_what_is_left_out_is_said(tmp_path) -> None:
    source = tmp_path / "m.safetensors"
    save_file(weights(**MIXED), source)
    for dry_run in (True, False):
        report = xorpack.encode_checkpoint(source, tmp_path / "x", dry_run=dry_run)
        assert {name: found.why for name, found in report.left_out.items()} == WHY
        assert list(report.accounts) == list(report.seconds) == ["layers.0.mlp.weight"]
    assert report.left_out["output.weight"].n_bytes == 50 * 64 * 4
    text = run("encode", source, tmp_path / "y")
    for name, why in WHY.items():
        assert re.search(rf"^{why} +1 +0\.\d\d MiB +{re.escape(name)} *$", text, re.MULTILINE), text
    pruned_report = xorpack.prune_checkpoint(source, tmp_path / "z", sparsity=0.5)
    assert pruned_report.left_out["output.weight"].why == "head"
    assert "router of experts" in run("prune", source, tmp_path / "u", "--sparsity", 0.5)
    carried = {found.name: found.why for found in xorpack.report_checkpoint(source).carried}
    assert carried == {name: why for name, why in WHY.items() if name != "layers.0.small.weight"}
    text = run("report", source)
    assert "router of experts" in text
    assert "1 tensors are so small that they would be carried" in text


@pytest.mark.parametrize("lossless", [True, False])
def test_many_small_tensors_do_not_grow(lossless, tmp_path) -> None:
    source = tmp_path / "m.safetensors"
    save_file({f"layers.{i}.w": pruned((8, 8), 0.5, seed=i) for i in range(200)}, source)
    report = xorpack.encode_checkpoint(source, tmp_path / "x", lossless=lossless)
    assert not report.accounts
    assert {found.why for found in report.left_out.values()} == {"would not become smaller"}
    grown = (tmp_path / "x").stat().st_size - source.stat().st_size
    assert grown < 200 * 110 + 500  # a checksum and a name each
    xorpack.decode_checkpoint(tmp_path / "x", tmp_path / "y")
    assert (tmp_path / "y").read_bytes() == source.read_bytes()
    assert xorpack.verify_checkpoint(tmp_path / "x", against=source).n_identical == 200


def test_what_is_carried_is_what_takes_fewer_bytes(tmp_path) -> None:
    for rows in range(8, 40, 4):
        source, file = tmp_path / f"{rows}", tmp_path / f"{rows}.x"
        save_file({"a.weight": pruned((rows, 32), 0.5), "b.weight": pruned((256, 256), 0.5)}, source)
        found = xorpack.encode_checkpoint(source, file, bits=2)
        encoded = xorpack.encode_checkpoint(source, tmp_path / "other", bits=2, include=["b"], overwrite=True)
        alone = encoded.stored_bytes
        if "a.weight" in found.accounts:
            assert found.stored_bytes < alone
        else:
            assert found.stored_bytes == alone
    assert len(found.accounts) == 2


def test_the_dry_run_sees_the_mask_that_is_made(tmp_path) -> None:
    source = tmp_path / "m.safetensors"
    save_file(weights(), source)
    options = {"sparsity": 0.9, "mask_codec": "bmf"}
    dry = xorpack.encode_checkpoint(source, tmp_path / "x", dry_run=True, **options)
    real = xorpack.encode_checkpoint(source, tmp_path / "x", **options)
    assert dry.total.n_kept == real.total.n_kept
    assert abs(real.total.sparsity - 0.9) < 0.001


def test_a_chosen_mask_of_weights_that_are_pruned_already(tmp_path) -> None:
    source = tmp_path / "m.safetensors"
    save_file({"layer.weight": pruned((256, 512), 0.9)}, source)
    for sparsity in (0.5, 0.8, 0.95):
        for dry_run in (True, False):
            with pytest.raises(DataError, match=r"weights are 0 already; of the others, factors of .* keep"):
                xorpack.encode_checkpoint(
                    source, tmp_path / "x", sparsity=sparsity, mask_codec="bmf", dry_run=dry_run
                )
        with pytest.raises(DataError, match="0 already"):
            xorpack.prune_checkpoint(source, tmp_path / "x", sparsity=sparsity, method="bmf")
    save_file({"layer.weight": pruned((256, 512), 0.0)}, source)
    xorpack.prune_checkpoint(source, tmp_path / "p", sparsity=0.9, method="bmf")
    report = xorpack.encode_checkpoint(tmp_path / "p", tmp_path / "x", sparsity=0.5, mask_codec="bmf")
    assert abs(report.total.sparsity - 0.9) < 0.01  # its zeros stay, as those of any pruned weights


USELESS = [
    ({"lossless": True, "group_size": 128}, "group_size contradicts lossless"),
    ({"lossless": True, "group_size": 0}, "group_size contradicts lossless"),
    ({"lossless": True, "bits": 2}, "bits contradicts lossless"),
    ({"lossless": True, "method": "alternating"}, "method contradicts lossless"),
    ({"lossless": True, "scale_dtype": "float16"}, "scale_dtype contradicts lossless"),
    ({"lossless": True, "scope": "tensor"}, "scope contradicts lossless"),
    ({"lossless": True, "outliers": 3.0}, "outliers contradicts lossless"),
    ({"bits": 2, "outliers": 3.0}, "outliers is of a trellis"),
    ({"scope": "global"}, "scope is of a sparsity"),
    ({"scope": "tensor"}, "scope is of a sparsity"),
    ({"rank": 2}, "rank and mask_bits are for mask_codec bmf"),
    ({"mask_bits": 0.2, "mask_codec": "block"}, "rank and mask_bits are for mask_codec bmf"),
    ({"positive_zeros": True}, "positive_zeros is for lossless"),
    (
        {"payload": "packed", "mask_codec": "cascade"},
        "mask codec cascade is of the XOR code, and payload packed is asked for",
    ),
    ({"payload": "packed", "rate": 2.0}, "payload is of planes, and rate asks for a trellis"),
    ({"payload": "xor", "max_size": 10**9}, "payload is of planes, and max_size asks for a trellis"),
    ({"symbols": "entropy", "rate": 2.0}, "symbols is of binary codes, and rate asks for a trellis"),
    ({"symbols": "entropy", "lossless": True}, "symbols is of binary codes; lossless elements have"),
    ({"symbols": "entropy", "payload": "packed"}, "symbols entropy is of the XOR code, and bits are packed"),
    ({"symbols": "entropy", "prefer": "speed"}, "symbols entropy is of the XOR code, and bits are packed"),
    ({"prefer": "speed", "mask_codec": "block"}, "prefer chooses a mask codec, and block is asked for"),
    ({"prefer": "size", "mask_codec": "bitmap"}, "prefer chooses a mask codec, and bitmap is asked for"),
]


@pytest.mark.parametrize(("options", "message"), USELESS, ids=lambda x: str(x)[:50])
def test_options_that_cannot_apply_are_refused(options, message, tmp_path) -> None:
    save_file(weights(), tmp_path / "m")
    with pytest.raises(ParameterError, match=message):
        xorpack.encode_checkpoint(tmp_path / "m", tmp_path / "x", **options)
    arguments = []
    for name, value in options.items():
        flag = "--" + {"mask_codec": "mask"}.get(name, name).replace("_", "-")
        arguments += [flag] if value is True else [flag, str(value)]
    done = CliRunner().invoke(cli, ["encode", str(tmp_path / "m"), str(tmp_path / "x"), *arguments])
    assert isinstance(done.exception, ParameterError)
    assert re.match(message, str(done.exception))
    assert [path.name for path in tmp_path.iterdir()] == ["m"]


def test_the_same_of_prune_and_report(tmp_path) -> None:
    save_file(weights(), tmp_path / "m")
    with pytest.raises(ParameterError, match="scope tensor contradicts method n:m"):
        xorpack.prune_checkpoint(tmp_path / "m", tmp_path / "x", method="n:m", pattern=(2, 4), scope="tensor")
    with pytest.raises(ParameterError, match="rank and mask_bits are for method bmf"):
        xorpack.prune_checkpoint(tmp_path / "m", tmp_path / "x", sparsity=0.5, rank=2)
    done = CliRunner().invoke(cli, ["report", str(tmp_path / "m"), "--overwrite"])
    assert "--overwrite is for --output" in str(done.exception)


def test_group_sizes_by_sparsity(tmp_path) -> None:
    save_file(weights(**{"layers.0.sparse.weight": pruned((96, 256), 0.85)}), tmp_path / "m")
    report = xorpack.encode_checkpoint(tmp_path / "m", tmp_path / "x")
    dry = xorpack.encode_checkpoint(tmp_path / "m", tmp_path / "y", dry_run=True)
    opened = xorpack.open(tmp_path / "x")
    assert opened["layers.0.mlp.weight"].group_size == 64
    assert opened["layers.0.sparse.weight"].group_size == 0
    for name, account in report.accounts.items():
        assert account.section_bytes["scales"] == dry.accounts[name].section_bytes["scales"]
    what_if = xorpack.report_checkpoint(tmp_path / "m")
    assert {t.name: t.group_size for t in what_if.tensors} == {n: t.group_size for n, t in opened.items()}
    becoming = {(b.sparsity, b.bits): b.bits_per_weight for b in what_if.becoming}
    assert becoming[0.5, 2] == pytest.approx(1 + 0.5 * 2 + 2 * 16 / 128)
    assert becoming[0.9, 2] == pytest.approx(0.469 + 0.1 * 2 + 2 * 16 / 256, abs=1e-3)


@pytest.mark.parametrize(
    ("options", "outliers"),
    [
        ({"rate": 2.0}, 3), ({"rate": 1.5}, 3), ({"rate": 1.0}, True), ({"rate": 2.5}, True),
        ({"rate": 2.5, "outliers": 2.5}, 2.5), ({"rate": 2.0, "outliers": False}, False),
    ],
)  # fmt: skip
def test_where_outliers_begin(options, outliers, tmp_path) -> None:
    """At about 2 bits a checkpoint's large weights are kept, as models need it; a dry run counts them."""
    weight = np.random.default_rng(1).standard_t(6, (128, 96)).astype(np.float32)
    save_file({"layers.0.mlp.weight": weight}, tmp_path / "m")
    xorpack.encode_checkpoint(tmp_path / "m", tmp_path / "x", **options)
    expected = xorpack.quantize(weight, method="trellis", rate=options["rate"], outliers=outliers)
    with xorpack.open(tmp_path / "x") as opened:
        tensor = opened["layers.0.mlp.weight"]
        assert np.array_equal(xorpack.decode(tensor).positions, expected.positions)
        dry = xorpack.encode_checkpoint(tmp_path / "m", tmp_path / "y", dry_run=True, **options)
        found = dry.accounts["layers.0.mlp.weight"].section_bytes["outliers"]
        assert found == tensor.section_bytes().get("outliers", 0)
