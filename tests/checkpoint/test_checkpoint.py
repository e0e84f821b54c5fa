"""Checkpoints: files and model directories, there and back."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file
from samples import pruned, same

import xorpack
from xorpack.errors import (
    DataError,
    DestinationError,
    FormatError,
    MismatchError,
    ParameterError,
    SelfCheckError,
)
from xorpack.files.atomic import atomic_directory, atomic_file
from xorpack.files.model import GUARD, mark_config, unmark_config


def tensors(seed=0):
    return {
        "model.embed_tokens.weight": pruned((40, 64), 0.0, seed=seed),
        "model.layers.0.mlp.weight": pruned((96, 160), 0.8, seed=seed),
        "model.layers.0.mlp.bias": pruned((96,), 0.0, seed=seed),
        "model.layers.0.norm.weight": pruned((96,), 0.0, np.float16, seed=seed),
        "model.layers.1.conv.weight": pruned((16, 8, 3, 3), 0.6, ml_dtypes.bfloat16, seed=seed),
        "model.layers.1.counts": np.arange(12, dtype=np.int64).reshape(3, 4),
        "model.layers.1.empty.weight": np.zeros((0, 4), np.float32),
        "lm_head.weight": pruned((40, 64), 0.0, seed=seed + 1),
    }


SELECTED = ["model.layers.0.mlp.weight", "model.layers.1.conv.weight"]


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "model.safetensors"
    save_file(tensors(), path, metadata={"format": "pt", "note": 'é "quoted"'})
    return path


@pytest.fixture
def directory(tmp_path):
    root = tmp_path / "model"
    (root / "onnx").mkdir(parents=True)
    everything = tensors()
    names = list(everything)
    weight_map = {}
    for i, part in enumerate((names[:3], names[3:])):
        shard = f"model-0000{i + 1}-of-00002.safetensors"
        save_file({name: everything[name] for name in part}, root / shard, metadata={"format": "pt"})
        weight_map |= dict.fromkeys(part, shard)
    size = sum(array.nbytes for array in everything.values())
    index = {"metadata": {"total_size": size}, "weight_map": dict(sorted(weight_map.items()))}
    (root / "model.safetensors.index.json").write_text(json.dumps(index, indent=2, sort_keys=True) + "\n")
    (root / "config.json").write_text('{\n  "hidden": 64,\n  "name": "}"\n}\n')
    (root / "vocab.txt").write_bytes(b"\x00\xffa")
    (root / "onnx" / "other.safetensors").write_bytes(b"not touched")
    return root


def contents(root: Path) -> dict[str, bytes]:
    return {str(p.relative_to(root)): p.read_bytes() for p in sorted(root.rglob("*")) if p.is_file()}


def test_a_lossless_file_comes_back_byte_for_byte(file, tmp_path):
    before = file.read_bytes()
    report = xorpack.encode_checkpoint(file, tmp_path / "x.safetensors", lossless=True)
    assert list(report.accounts) == [name for name in report.accounts if name in SELECTED]
    assert set(report.accounts) == set(SELECTED)
    assert report.stored_bytes == (tmp_path / "x.safetensors").stat().st_size
    n = xorpack.decode_checkpoint(tmp_path / "x.safetensors", tmp_path / "y.safetensors")
    assert (tmp_path / "y.safetensors").read_bytes() == before == file.read_bytes()
    assert n == len(before)


def test_a_lossless_directory_comes_back_byte_for_byte(directory, tmp_path):
    before = contents(directory)
    xorpack.encode_checkpoint(directory, tmp_path / "x", lossless=True, jobs=2)
    stored = contents(tmp_path / "x")
    assert set(stored) == {*before, "README.md"}
    config = json.loads(stored["config.json"])
    assert config["quantization_config"]["quant_method"] == "xorpack"
    index = json.loads(stored["model.safetensors.index.json"])
    for shard in set(index["weight_map"].values()):
        held = load_file(tmp_path / "x" / shard)
        assert {name for name, where in index["weight_map"].items() if where == shard} == set(held)
    xorpack.decode_checkpoint(tmp_path / "x", tmp_path / "y", jobs=2)
    assert contents(tmp_path / "y") == before == contents(directory)


def test_quantized_tensors_are_what_quantize_gives(file, tmp_path):
    target = tmp_path / "x.safetensors"
    xorpack.encode_checkpoint(file, target, bits=3, sparsity=0.9, group_size=32, exclude=["conv"])
    opened = xorpack.open(target)
    name = "model.layers.0.mlp.weight"
    assert list(opened) == [name]
    expected = xorpack.quantize(tensors()[name], bits=3, sparsity=0.9, group_size=32)
    assert same(xorpack.decode(opened[name]), expected)
    xorpack.decode_checkpoint(target, tmp_path / "y.safetensors")
    decoded = load_file(tmp_path / "y.safetensors")
    assert same(decoded[name], expected.dequantize())
    for other, array in tensors().items():
        if other != name:
            assert same(decoded[other], array)


def test_a_pruned_checkpoint_keeps_its_own_zeros(file, tmp_path):
    report = xorpack.encode_checkpoint(file, tmp_path / "x.safetensors")
    array = tensors()["model.layers.0.mlp.weight"]
    account = report.accounts["model.layers.0.mlp.weight"]
    assert account.n_kept == np.count_nonzero(array)


def test_global_scope_prunes_exactly_over_all_tensors(file, tmp_path):
    report = xorpack.encode_checkpoint(file, tmp_path / "x.safetensors", sparsity=0.95, scope="global")
    assert report.total.n_kept == report.total.n_weights - round(0.95 * report.total.n_weights)


def test_verify_against(file, tmp_path):
    target = tmp_path / "x.safetensors"
    xorpack.encode_checkpoint(file, target, bits=4, include=["mlp"], exclude=["re:.*bias"])
    report = xorpack.verify_checkpoint(target, against=file, jobs=2)
    assert (report.n_tensors, report.n_carried, report.n_identical) == (1, 7, 7)
    assert 0 < report.errors["model.layers.0.mlp.weight"] < 0.2
    other = tmp_path / "other.safetensors"
    save_file(tensors(seed=5), other)
    with pytest.raises(MismatchError, match="0 in the source are not"):
        xorpack.verify_checkpoint(target, against=other)
    save_file({"a": np.zeros(3, np.float32)}, other)
    with pytest.raises(MismatchError, match="only one of"):
        xorpack.verify_checkpoint(target, against=other)


def test_weights_multiplied_by_a_mask_have_negative_zeros(tmp_path):
    rng = np.random.default_rng(2)
    kept = rng.random((64, 256)) < 0.1
    array = rng.standard_normal(kept.shape).astype(np.float32) * kept
    array[0, 0] = np.nan
    save_file({"layer.weight": array}, tmp_path / "m")
    exact = xorpack.encode_checkpoint(tmp_path / "m", tmp_path / "exact", lossless=True)
    small = xorpack.encode_checkpoint(tmp_path / "m", tmp_path / "small", lossless=True, positive_zeros=True)
    assert exact.n_negative_zeros == np.count_nonzero((array == 0) & np.signbit(array)) > 6000
    assert small.n_negative_zeros == 0
    assert small.total.n_kept == kept.sum() + (not kept[0, 0])
    assert small.stored_bytes < exact.stored_bytes
    assert xorpack.verify_checkpoint(tmp_path / "exact", against=tmp_path / "m").n_identical == 1
    assert xorpack.verify_checkpoint(tmp_path / "small", against=tmp_path / "m").n_identical == 1
    with pytest.raises(ParameterError, match="is for lossless"):
        xorpack.encode_checkpoint(tmp_path / "m", tmp_path / "x", positive_zeros=True)


def test_threads_do_not_change_the_file(file, tmp_path):
    for jobs in (1, 4):
        xorpack.encode_checkpoint(file, tmp_path / f"{jobs}.safetensors", bits=2, sparsity=0.7, jobs=jobs)
    assert (tmp_path / "1.safetensors").read_bytes() == (tmp_path / "4.safetensors").read_bytes()


def test_a_dry_run_writes_nothing_and_estimates_well(file, tmp_path):
    options = {"bits": 3, "sparsity": 0.5, "include": ["mlp.weight"]}
    before = contents(tmp_path)
    estimate = xorpack.encode_checkpoint(file, tmp_path / "x.safetensors", dry_run=True, **options)
    assert contents(tmp_path) == before
    real = xorpack.encode_checkpoint(file, tmp_path / "x.safetensors", **options)
    assert estimate.estimated
    assert not real.estimated
    assert abs(estimate.stored_bytes - real.stored_bytes) < 0.2 * real.stored_bytes


def test_what_is_not_to_be_encoded_is_refused(file, tmp_path):
    cases = [
        ({"sparsity": 1.0}, ParameterError, r"sparsity = 1\.0"),
        ({"sparsity": float("nan")}, ParameterError, "sparsity = nan"),
        ({"bits": 9}, ParameterError, "bits = 9"),
        ({"lossless": True, "sparsity": 0.5}, ParameterError, "contradicts lossless"),
        ({"group_size": -1}, ParameterError, "group_size = -1"),
        ({"scope": "row"}, ParameterError, "scope 'row'"),
        ({"jobs": 0}, ParameterError, "jobs = 0"),
        ({"include": ["nowhere"]}, ParameterError, "'nowhere' matches none"),
        ({"exclude": ["re:["]}, ParameterError, "not a regular expression"),
        ({"include": ["counts"]}, ParameterError, "types that cannot be encoded"),
        ({"exclude": ["model"]}, ParameterError, "no tensor to encode"),
    ]
    for options, error, message in cases:
        with pytest.raises(error, match=message):
            xorpack.encode_checkpoint(file, tmp_path / "x.safetensors", **options)
    assert [p.name for p in tmp_path.iterdir()] == ["model.safetensors"]


def test_nan_is_named_and_lossless_takes_it(tmp_path):
    array = pruned((8, 64), 0.5)
    array[3, 5] = np.nan
    source = tmp_path / "m.safetensors"
    save_file({"layer.weight": array}, source)
    with pytest.raises(DataError, match=r"'layer\.weight'.*nan"):
        xorpack.encode_checkpoint(source, tmp_path / "x.safetensors")
    assert [p.name for p in tmp_path.iterdir()] == ["m.safetensors"]
    xorpack.encode_checkpoint(source, tmp_path / "x.safetensors", lossless=True)


def test_what_does_not_decode_to_what_was_encoded_is_not_written(file, tmp_path, monkeypatch, capfd):
    from xorpack.checkpoint import task as module
    from xorpack.cli import main

    def wrong(array, **options):
        return replace(xorpack.encode(array, **options), content_sha256="0" * 64)

    monkeypatch.setattr(module, "encode", wrong)
    for options in ({}, {"lossless": True}, {"jobs": 2}):
        with pytest.raises(
            SelfCheckError, match=r"tensor 'model\.layers\..*does not decode to what was encoded"
        ):
            xorpack.encode_checkpoint(file, tmp_path / "x.safetensors", **options)
    monkeypatch.setattr("sys.argv", ["xorpack", "encode", str(file), str(tmp_path / "x")])
    with pytest.raises(SystemExit) as stopped:
        main()
    assert stopped.value.code == 1
    assert len(capfd.readouterr().err.splitlines()) == 1
    assert [p.name for p in tmp_path.iterdir()] == ["model.safetensors"]


def test_sources_that_are_no_checkpoints(file, directory, tmp_path):
    target = tmp_path / "out"
    with pytest.raises(FileNotFoundError, match="no such file"):
        xorpack.encode_checkpoint(tmp_path / "nothing", target)
    (tmp_path / "text").write_text("hello, world")
    with pytest.raises(FormatError, match="not a safetensors file"):
        xorpack.encode_checkpoint(tmp_path / "text", target)
    (tmp_path / "bare").mkdir()
    with pytest.raises(FormatError, match=r"without \.safetensors"):
        xorpack.encode_checkpoint(tmp_path / "bare", target)
    (directory / "model-00002-of-00002.safetensors").unlink()
    with pytest.raises(FormatError, match=r"model-00002-of-00002.*missing"):
        xorpack.encode_checkpoint(directory, target)
    with pytest.raises(FormatError, match="not one that xorpack encoded"):
        xorpack.decode_checkpoint(file, target)
    xorpack.encode_checkpoint(file, target)
    with pytest.raises(FormatError, match="already"):
        xorpack.encode_checkpoint(target, tmp_path / "twice")


def test_an_index_cannot_point_elsewhere(directory, tmp_path):
    index = {"weight_map": {"a": "../model.safetensors"}}
    (directory / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(FormatError, match="not the name of a file"):
        xorpack.encode_checkpoint(directory, tmp_path / "x")


def test_destinations_are_safe(file, directory, tmp_path):
    target = tmp_path / "taken"
    target.write_text("precious")
    with pytest.raises(DestinationError, match="exists"):
        xorpack.encode_checkpoint(file, target)
    assert target.read_text() == "precious"
    xorpack.encode_checkpoint(file, target, overwrite=True)
    assert len(xorpack.open(target)) == 2
    with pytest.raises(ParameterError, match="lies in the source"):
        xorpack.encode_checkpoint(directory, directory / "inside")
    with pytest.raises(DestinationError, match="is not a directory"):
        xorpack.encode_checkpoint(file, tmp_path / "no" / "such" / "place")
    xorpack.encode_checkpoint(directory, tmp_path / "d")
    xorpack.encode_checkpoint(directory, tmp_path / "d", lossless=True, overwrite=True)
    assert next(iter(xorpack.open(tmp_path / "d").values())).kind == "lossless"
    assert not [p for p in tmp_path.iterdir() if p.name.startswith(".")]


def test_an_interruption_leaves_everything_as_it_was(tmp_path):
    (tmp_path / "old").write_text("old")

    def interrupted(context, inside):
        with context as path:
            (path / inside).write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted(atomic_file(tmp_path / "old", overwrite=True), "")
    with pytest.raises(KeyboardInterrupt):
        interrupted(atomic_directory(tmp_path / "dir"), "a")
    assert contents(tmp_path) == {"old": b"old"}


def test_somebody_faster_is_not_overwritten(tmp_path):
    def write():
        with atomic_file(tmp_path / "x") as path:
            path.write_text("mine")
            (tmp_path / "x").write_text("theirs")

    with pytest.raises(DestinationError, match="meanwhile"):
        write()
    assert contents(tmp_path) == {"x": b"theirs"}


@pytest.mark.parametrize(
    "text",
    ["{}", '{"a": 1}', '{\n  "a": "}",\n  "b": {"c": []}\n}\n', '{"a": 1}\n\n', "{\n}"],
)
def test_config_text_is_restored(text):
    marked = mark_config(text, {"quant_method": "xorpack", "bits": 2})
    assert json.loads(marked) == {
        **json.loads(text),
        "transformers_weights": GUARD,
        "quantization_config": {"quant_method": "xorpack", "bits": 2},
    }
    assert json.loads(unmark_config(marked)) == json.loads(text)


def test_an_earlier_quantization_config_comes_back():
    text = '{"quantization_config": {"quant_method": "int8"}, "a": 1}'
    marked = mark_config(text, {"quant_method": "xorpack"})
    assert json.loads(marked)["quantization_config"]["original"] == {"quant_method": "int8"}
    assert json.loads(unmark_config(marked)) == json.loads(text)
    assert unmark_config(text) == text
    text = '{"transformers_weights": "a.safetensors", "a": 1}'
    marked = mark_config(text, {"quant_method": "xorpack"})
    assert json.loads(marked)["transformers_weights"] == GUARD
    assert json.loads(unmark_config(marked)) == json.loads(text)
