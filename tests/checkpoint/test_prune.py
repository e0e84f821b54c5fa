"""Pruning of checkpoints: what is set to zero, what stays, what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from safetensors.numpy import load_file, save_file

import xorpack
from xorpack.checkpoint.prune import PruneSettings
from xorpack.cli.commands import cli
from xorpack.code.words import unpack
from xorpack.errors import DataError, DestinationError, FormatError, ParameterError, XorpackError


def weights(seed: int = 0) -> dict[str, Any]:
    rng = np.random.default_rng(seed)
    return {
        "layer.0.weight": rng.standard_normal((48, 70)).astype(np.float32),
        "layer.0.bias": rng.standard_normal(48).astype(np.float32),
        "layer.1.weight": (3 * rng.standard_normal((20, 8, 3, 3))).astype(np.float16),
        "embedding.weight": rng.standard_normal((10, 16)).astype(np.float32),
        "steps": np.array([1, 2], np.int64),
    }


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "model.safetensors"
    save_file(weights(), path, metadata={"format": "pt", "note": "é"})
    return path


def zeros(array: Any) -> int:
    return int((array == 0).sum())


def test_magnitude_by_tensor(source: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.safetensors"
    report = xorpack.prune_checkpoint(source, out, sparsity=0.75, jobs=2)
    before, after = weights(), load_file(out)
    assert list(report.tensors) == ["layer.0.weight", "layer.1.weight"]
    for name, array in before.items():
        assert (after[name].dtype, after[name].shape) == (array.dtype, array.shape)
        if name not in report.tensors:
            assert (after[name] == array).all()
            continue
        kept = after[name] != 0
        assert zeros(after[name]) == round(0.75 * array.size)
        assert not np.signbit(after[name][~kept]).any()
        assert (after[name][kept] == array[kept]).all()
        assert np.abs(array[kept]).min() >= np.abs(array[~kept]).max()
        found = report.tensors[name]
        assert found.n_kept == kept.sum()
        assert (
            found.kept == pytest.approx(found.best) == pytest.approx(np.abs(array[kept]).astype(float).sum())
        )
    with open(out, "rb") as file:
        header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
    assert header["__metadata__"] == {"format": "pt", "note": "é"}
    assert report.total.n_weights == 48 * 70 + 20 * 72


def test_global_prunes_all_alike(source: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.safetensors"
    report = xorpack.prune_checkpoint(source, out, sparsity=0.8, scope="global")
    after = load_file(out)
    total = sum(after[name].size for name in report.tensors)
    assert sum(zeros(after[name]) for name in report.tensors) == round(0.8 * total)
    assert report.tensors["layer.0.weight"].sparsity > 0.9 > report.tensors["layer.1.weight"].sparsity


@pytest.mark.parametrize(("n", "m"), [(2, 4), (1, 2), (3, 8), (4, 64)])
def test_n_of_m(source: Path, tmp_path: Path, n: int, m: int) -> None:
    out = tmp_path / "out.safetensors"
    xorpack.prune_checkpoint(source, out, method="n:m", pattern=(n, m))
    for name in ("layer.0.weight", "layer.1.weight"):
        before, after = (
            arrays[name].reshape(len(arrays[name]), -1) for arrays in (weights(), load_file(out))
        )
        for first in range(0, before.shape[1], m):
            old, new = (np.abs(part[:, first : first + m]) for part in (before, after))
            assert ((new != 0).sum(axis=1) == min(n, old.shape[1])).all()
            assert (np.sort(new, axis=1)[:, -n:] == np.sort(old, axis=1)[:, -n:]).all()


def test_bmf_and_then_encode(source: Path, tmp_path: Path) -> None:
    out, again = tmp_path / "out.safetensors", tmp_path / "again.safetensors"
    report = xorpack.prune_checkpoint(source, out, sparsity=0.9, method="bmf", mask_bits=0.3)
    for found in report.tensors.values():
        assert 0.89 < found.sparsity < 0.93
        assert 0.5 < found.kept / found.best < 1
    xorpack.encode_checkpoint(out, again, bits=1, mask_codec="bmf", mask_bits=0.3)
    encoded = xorpack.open(again)
    after = load_file(out)
    for name in report.tensors:
        assert encoded[name].mask_codec == "bmf"
        assert 8 * encoded[name].mask.data.size <= 0.3 * after[name].size + 16
        kept = xorpack.decode(encoded[name]).mask
        matrix = after[name].reshape(len(after[name]), -1)
        assert (unpack(kept, matrix.shape[1]) == (matrix != 0)).all()
    xorpack.verify_checkpoint(again, against=out)


def test_encode_prunes_with_factors(source: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.safetensors"
    report = xorpack.encode_checkpoint(
        source, out, sparsity=0.9, bits=1, mask_codec="bmf", mask_bits=0.4, rank=3
    )
    for name, account in report.accounts.items():
        tensor = xorpack.open(out)[name]
        assert tensor.mask_config["rank"] == 3
        assert account.sparsity >= 0.8999
    xorpack.verify_checkpoint(out, against=source)
    dry = xorpack.encode_checkpoint(source, out, sparsity=0.9, bits=1, mask_codec="bmf", dry_run=True)
    assert dry.total.section_bytes["mask"] == pytest.approx(0.18 * dry.total.n_weights / 8, abs=2)


def test_encode_bmf_of_other_masks_is_refused(source: Path, tmp_path: Path) -> None:
    pruned, out = tmp_path / "pruned.safetensors", tmp_path / "out.safetensors"
    xorpack.prune_checkpoint(source, pruned, sparsity=0.5)
    for how in ({"bits": 1}, {"lossless": True}):
        with pytest.raises(ParameterError, match=r"tensor 'layer\.0\.weight': mask codec 'bmf' cannot store"):
            xorpack.encode_checkpoint(pruned, out, mask_codec="bmf", **how)
    assert not out.exists()


def test_importance_decides(source: Path, tmp_path: Path) -> None:
    given = {
        name: np.abs(array[::-1]).astype(np.float32) for name, array in weights().items() if array.ndim > 1
    }
    path, out = tmp_path / "importance.safetensors", tmp_path / "out.safetensors"
    save_file({name: np.ascontiguousarray(array) for name, array in given.items()}, path)
    for how in (
        {"sparsity": 0.6},
        {"method": "n:m", "pattern": (2, 5)},
        {"sparsity": 0.6, "scope": "global"},
    ):
        report = xorpack.prune_checkpoint(source, out, importance=path, overwrite=True, **how)
        after = load_file(out)
        for name, found in report.tensors.items():
            kept = after[name] != 0
            assert found.n_kept == kept.sum()
            assert found.kept == pytest.approx(given[name][kept].astype(float).sum())
            if how == {"sparsity": 0.6}:
                assert given[name][kept].min() >= given[name][~kept].max()


def test_weights_that_are_zero_stay_so(tmp_path: Path) -> None:
    array = weights()["layer.0.weight"]
    array[:, 1::2] = -0.0
    source, importance, out = (tmp_path / f"{name}.safetensors" for name in ("a", "b", "c"))
    save_file({"layer.weight": array}, source)
    save_file({"layer.weight": np.ones_like(array)}, importance)
    for how in ({"sparsity": 0.2}, {"method": "n:m", "pattern": (3, 4)}, {"sparsity": 0.2, "method": "bmf"}):
        for given in (None, importance):
            how["overwrite"] = True
            report = xorpack.prune_checkpoint(source, out, importance=given, **how)
            after = load_file(out)["layer.weight"]
            assert not after[:, 1::2].any()
            assert report.total.n_kept == (after != 0).sum() <= array.size / 2


def test_directory(source: Path, tmp_path: Path) -> None:
    model = tmp_path / "model"
    model.mkdir()
    arrays = weights()
    save_file({k: v for k, v in arrays.items() if "0" in k}, model / "a.safetensors")
    save_file({k: v for k, v in arrays.items() if "0" not in k}, model / "b.safetensors")
    weight_map = {k: "a.safetensors" if "0" in k else "b.safetensors" for k in arrays}
    (model / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    (model / "config.json").write_text('{"a": 1}')
    out = tmp_path / "out"
    report = xorpack.prune_checkpoint(model, out, sparsity=0.5)
    assert sorted(path.name for path in out.iterdir()) == sorted(path.name for path in model.iterdir())
    for name in ("config.json", "model.safetensors.index.json"):
        assert (out / name).read_bytes() == (model / name).read_bytes()
    assert report.total.sparsity == 0.5
    single = tmp_path / "single.safetensors"
    xorpack.prune_checkpoint(source, single, sparsity=0.5)
    whole = load_file(single)
    for shard in ("a", "b"):
        for name, array in load_file(out / f"{shard}.safetensors").items():
            assert (array == whole[name]).all()


def test_threads_give_the_same_bytes(source: Path, tmp_path: Path) -> None:
    for how in ({"sparsity": 0.7}, {"sparsity": 0.9, "method": "bmf"}):
        paths = [tmp_path / f"{jobs}.safetensors" for jobs in (1, 3)]
        for jobs, path in zip((1, 3), paths, strict=True):
            xorpack.prune_checkpoint(source, path, jobs=jobs, overwrite=True, **how)
        assert paths[0].read_bytes() == paths[1].read_bytes()


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ({}, "a sparsity is needed"),
        ({"sparsity": 1.0}, "outside"),
        ({"sparsity": -0.1}, "outside"),
        ({"sparsity": float("nan")}, "outside"),
        ({"method": "n:m"}, "needs one"),
        ({"method": "n:m", "pattern": (4, 2)}, "4:2"),
        ({"method": "n:m", "pattern": (0, 2)}, "0:2"),
        ({"method": "n:m", "pattern": (2, 4), "sparsity": 0.5}, "from the pattern"),
        ({"pattern": (2, 4), "sparsity": 0.5}, "is for method n:m"),
        ({"method": "bmf", "sparsity": 0.5, "scope": "global"}, "contradicts"),
        ({"sparsity": 0.5, "rank": 3}, "for method bmf"),
        ({"sparsity": 0.5, "method": "random"}, "is not one of magnitude, n:m, bmf"),
        ({"sparsity": 0.5, "scope": "layer"}, "is not one of tensor, global"),
        ({"sparsity": 0.9, "method": "bmf", "rank": 49}, "tensor 'layer.0.weight': rank 49 is outside 1..48"),
        ({"sparsity": 0.9, "method": "bmf", "mask_bits": 0.02}, "take 0.03512 at the least"),
        ({"sparsity": 0.5, "include": ["layer.7"]}, "matches none"),
        ({"sparsity": 0.5, "jobs": 0}, "less than 1"),
    ],
)
def test_bad_settings(source: Path, tmp_path: Path, how: dict[str, Any], message: str) -> None:
    with pytest.raises(ParameterError, match=message):
        xorpack.prune_checkpoint(source, tmp_path / "out.safetensors", **how)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model.safetensors"]


def test_bad_inputs(source: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.safetensors"
    good = {name: array for name, array in weights().items() if array.ndim > 1}
    nan = {name: array.copy() for name, array in good.items()}
    nan["layer.1.weight"][3, 2, 1, 0] = np.nan
    path = tmp_path / "importance.safetensors"
    cases: list[tuple[dict[str, Any], type[XorpackError], str]] = [
        ({**good, "layer.0.weight": good["layer.0.weight"].T.copy()}, ParameterError, r"of shape \[70, 48\]"),
        (
            {**good, "layer.0.weight": good["layer.0.weight"].astype(np.int64)},
            ParameterError,
            "importance is I64",
        ),
        ({"layer.0.weight": good["layer.0.weight"]}, ParameterError, "'layer.1.weight': no importance"),
        (nan, DataError, "layer.1.weight.*nan at flat position 237"),
    ]
    for arrays, error, message in cases:
        save_file(arrays, path)
        with pytest.raises(error, match=message):
            xorpack.prune_checkpoint(source, out, sparsity=0.5, importance=path)
    save_file(nan, path)
    for how in ({"sparsity": 0.5}, {"method": "n:m", "pattern": (2, 4)}, {"sparsity": 0.5, "method": "bmf"}):
        with pytest.raises(DataError, match=r"'layer\.1\.weight': .*nan at flat position 237"):
            xorpack.prune_checkpoint(path, out, **how)
    with pytest.raises(FileNotFoundError):
        xorpack.prune_checkpoint(source, out, sparsity=0.5, importance=tmp_path / "none.safetensors")
    with pytest.raises(DestinationError, match="exists"):
        xorpack.prune_checkpoint(source, path, sparsity=0.5)
    with pytest.raises(ParameterError, match="lies in the source"):
        xorpack.prune_checkpoint(source, source, sparsity=0.5, overwrite=True)
    with pytest.raises(ParameterError, match="not both"):
        xorpack.prune_checkpoint(source, out, settings=PruneSettings(sparsity=0.5), sparsity=0.5)
    assert not out.exists()
    xorpack.encode_checkpoint(source, out)
    with pytest.raises(FormatError, match="encoded by xorpack already"):
        xorpack.prune_checkpoint(out, tmp_path / "again.safetensors", sparsity=0.5)


def test_command_line(source: Path, tmp_path: Path) -> None:
    out, run = tmp_path / "out.safetensors", CliRunner()
    result = run.invoke(cli, ["prune", str(source), str(out), "--pattern", "2:4", "--dry-run"])
    assert result.exit_code == 0, result.output
    assert "total of 2" in result.output
    assert "dry run" in result.output
    assert not out.exists()
    result = run.invoke(
        cli, ["prune", str(source), str(out), "--sparsity", "0.9", "--method", "bmf", "--mask-bits", "0.3"]
    )
    assert result.exit_code == 0, result.output
    assert zeros(load_file(out)["layer.0.weight"]) >= 0.9 * 48 * 70
    for pattern in ("2", "2:x", ":", "²:4"):
        bad = run.invoke(cli, ["prune", str(source), str(tmp_path / "b"), "--pattern", pattern])
        assert isinstance(bad.exception, ParameterError)
        assert "not two numbers" in str(bad.exception)
