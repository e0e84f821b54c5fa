"""URLs: the bytes of paths; what is missing, changes or fails is named, and leaves nothing."""

from __future__ import annotations

import json
import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file
from samples import pruned

import xorpack
from xorpack.analysis.report import render
from xorpack.cli import main
from xorpack.errors import CorruptError, DestinationError, FormatError, ParameterError, SourceError
from xorpack.files.remote import RemoteFile

fsspec = pytest.importorskip("fsspec", reason="needs fsspec (extra dask)")

BUCKET = "memory://bucket"


@pytest.fixture
def source(tmp_path: Path) -> Path:
    root = tmp_path / "model"
    (root / "sub").mkdir(parents=True)
    weight_map = {}
    for i in range(2):
        held = {f"layers.{i}.{k}.weight": pruned((96, 128), 0.8, seed=10 * i + k) for k in range(2)}
        held["embed_tokens.weight" if i else "lm_head.weight"] = pruned((40, 64), 0.0, np.float16, seed=i)
        shard = f"model-{i + 1:05}-of-00002.safetensors"
        save_file(held, root / shard, metadata={"format": "pt"})
        weight_map |= dict.fromkeys(held, shard)
    (root / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
    (root / "config.json").write_text('{"a": 1}\n')
    (root / "sub" / "vocab.txt").write_bytes(b"\x00\xff")
    (root / "pytorch_model.bin").write_bytes(b"PK\x03\x04" + bytes(1000))
    return root


@pytest.fixture
def bucket(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The source in a bucket, and temporary folders in a place that is looked at."""
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    files = fsspec.filesystem("memory")
    files.put(str(source), "/bucket/model", recursive=True)
    yield files
    files.rm("/bucket", recursive=True)
    assert os.listdir(tmp_path / "temporary") == []


def contents(root: Path) -> dict[str, bytes]:
    return {str(p.relative_to(root)): p.read_bytes() for p in sorted(root.rglob("*")) if p.is_file()}


def stored(files: Any, root: str) -> dict[str, bytes]:
    return {name.removeprefix(f"{root}/"): files.cat_file(name) for name in files.find(root)}


def test_the_bytes_are_those_of_paths(source: Path, tmp_path: Path, bucket: Any) -> None:
    xorpack.encode_checkpoint(source, tmp_path / "x")
    expected = contents(tmp_path / "x")
    assert "pytorch_model.bin" not in expected
    xorpack.encode_checkpoint(f"{BUCKET}/model", tmp_path / "y", jobs=2)
    assert contents(tmp_path / "y") == expected
    xorpack.encode_checkpoint(f"{BUCKET}/model/", f"{BUCKET}/z/", target_bits=None)
    assert stored(bucket, "/bucket/z") == expected
    xorpack.encode_checkpoint(source, f"file://{tmp_path}/deep/f")
    assert contents(tmp_path / "deep" / "f") == expected
    shard = "model-00001-of-00002.safetensors"
    xorpack.encode_checkpoint(source / shard, tmp_path / "s.safetensors", lossless=True)
    xorpack.encode_checkpoint(f"{BUCKET}/model/{shard}", f"{BUCKET}/s.safetensors", lossless=True)
    assert bucket.cat_file("/bucket/s.safetensors") == (tmp_path / "s.safetensors").read_bytes()


def test_tensors_are_read_from_where_they_are(
    source: Path, tmp_path: Path, bucket: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing of a safetensors file is fetched but headers and what is asked for."""
    fetched: list[int] = []
    read = RemoteFile.read

    def watched(self: RemoteFile, begin: int, size: int) -> Any:
        fetched.append(size)
        return read(self, begin, size)

    monkeypatch.setattr(RemoteFile, "read", watched)
    xorpack.encode_checkpoint(f"{BUCKET}/model", tmp_path / "x", dry_run=True, include=["layers.0.0"])
    assert set(fetched) == {4 * 96 * 128}


def test_what_is_not_there_or_no_checkpoint(source: Path, tmp_path: Path, bucket: Any) -> None:
    target = tmp_path / "x"
    with pytest.raises(FileNotFoundError, match=f"{BUCKET}/none: no such file"):
        xorpack.encode_checkpoint(f"{BUCKET}/none", target)
    with pytest.raises(ParameterError, match=r"nowhere://a: .*[Pp]rotocol"):
        xorpack.encode_checkpoint("nowhere://a", target)
    bucket.pipe_file("/bucket/model/model-00001-of-00002.safetensors", b"\x80\x02 no safetensors")
    with pytest.raises(FormatError, match=rf"^{BUCKET}/model/model-00001-of-00002.safetensors: a PyTorch"):
        xorpack.encode_checkpoint(f"{BUCKET}/model", target)
    with pytest.raises(DestinationError, match=f"destination {BUCKET}/model exists"):
        xorpack.encode_checkpoint(source, f"{BUCKET}/model")
    with pytest.raises(ParameterError, match="overwrite is of paths"):
        xorpack.encode_checkpoint(source, f"{BUCKET}/model", overwrite=True)
    with pytest.raises(ParameterError, match="lies in the source"):
        xorpack.encode_checkpoint(f"{BUCKET}/model", f"{BUCKET}/model/x")
    assert not target.exists()


def test_a_source_that_changes(tmp_path: Path, bucket: Any) -> None:
    shard = "/bucket/model/model-00002-of-00002.safetensors"
    data = bucket.cat_file(shard)

    def change(*_: object) -> None:
        bucket.pipe_file(shard, data[:-1] + b"x")

    with pytest.raises(SourceError, match=f"memory:/{shard}: changed while it was read"):
        xorpack.encode_checkpoint(f"{BUCKET}/model", tmp_path / "x", progress=change)
    with pytest.raises(SourceError, match=f"memory:/{shard}: became shorter"):
        xorpack.encode_checkpoint(
            f"{BUCKET}/model", tmp_path / "x", progress=lambda *_: bucket.pipe_file(shard, data[:900])
        )
    assert not (tmp_path / "x").exists()


def test_an_upload_that_fails_takes_back_what_it_brought_and_can_be_gone_on_with(
    source: Path, tmp_path: Path, bucket: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    put, done = type(bucket).put_file, []

    def full(self: Any, local: str, name: str, **options: Any) -> None:
        if name.endswith("config.json"):
            raise OSError(28, "No space left on device")
        put(self, local, name, **options)

    with monkeypatch.context() as patched:
        patched.setattr(type(bucket), "put_file", full)
        for resume in (False, True):
            with pytest.raises(
                DestinationError, match=rf"{BUCKET}/z: cannot be written: OSError: .*No space"
            ):
                xorpack.encode_checkpoint(source, f"{BUCKET}/z", resume=resume)
            assert bucket.find("/bucket/z") == []
    with monkeypatch.context() as patched:
        patched.setattr("xorpack.checkpoint.shards.encode_tensor", done.append)
        xorpack.encode_checkpoint(source, f"{BUCKET}/z", resume=True)
    assert done == []
    xorpack.encode_checkpoint(source, tmp_path / "x")
    assert stored(bucket, "/bucket/z") == contents(tmp_path / "x")


def test_the_command_line_takes_them_where_they_are_taken(
    tmp_path: Path, bucket: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for *arguments, code in (
        ("encode", f"{BUCKET}/model", f"{BUCKET}/x", 0),
        ("prune", f"{BUCKET}/model", str(tmp_path / "y"), 2),
    ):
        monkeypatch.setattr(sys, "argv", ["xorpack", *arguments])
        with pytest.raises(SystemExit) as stopped:
            main()
        assert stopped.value.code == code
    assert "this command takes no URLs" in capsys.readouterr().err
    assert bucket.exists("/bucket/x/config.json")


def test_what_was_encoded_is_read_from_urls(source: Path, tmp_path: Path, bucket: Any) -> None:
    xorpack.encode_checkpoint(source, tmp_path / "x", lossless=True)
    bucket.put(str(tmp_path / "x"), "/bucket/x", recursive=True)
    here, there = tmp_path / "x", f"{BUCKET}/x"
    xorpack.decode_checkpoint(there, f"{BUCKET}/y")
    assert stored(bucket, "/bucket/y") == {
        k: v for k, v in contents(source).items() if k != "pytorch_model.bin"
    }
    assert xorpack.verify_checkpoint(there, against=f"{BUCKET}/model", jobs=2) == xorpack.verify_checkpoint(
        here, against=source
    )
    said = render(xorpack.report_checkpoint(there, against=f"{BUCKET}/model", n_maps=1), "json")
    mine = render(xorpack.report_checkpoint(here, against=source, n_maps=1), "json")
    assert said == mine.replace(str(here), there)
    plain = render(xorpack.report_checkpoint(f"{BUCKET}/model"), "json")
    assert plain == render(xorpack.report_checkpoint(source), "json").replace(str(source), f"{BUCKET}/model")
    with pytest.raises(ParameterError, match=f"quality is of models on a disk, and {there} is a URL"):
        xorpack.report_checkpoint(there, quality=source / "config.json")
    data = bytearray(bucket.cat_file("/bucket/x/model-00001-of-00002.safetensors"))
    data[-9] ^= 1
    bucket.pipe_file("/bucket/x/model-00001-of-00002.safetensors", bytes(data))
    for call in (
        lambda: xorpack.verify_checkpoint(there),
        lambda: xorpack.decode_checkpoint(there, tmp_path / "z"),
    ):
        with pytest.raises(CorruptError, match=rf"^{there}/model-00001-of-00002\.safetensors: "):
            call()
    assert sorted(os.listdir(tmp_path)) == ["model", "temporary", "x"]


def test_without_fsspec_it_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "fsspec.core", None)
    with pytest.raises(ParameterError, match=r"URLs need fsspec: pip install 'xorpack\[dask\]'"):
        xorpack.encode_checkpoint("s3://a/b", tmp_path / "x")
