"""Encoding holds a tensor at a time, however many a file has, and writes what encoding all at once would."""

from __future__ import annotations

import json
import time
import weakref
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file
from samples import pruned
from threadpoolctl import threadpool_info

import xorpack
from xorpack.checkpoint import shards, task
from xorpack.files import container
from xorpack.files.atomic import OUT
from xorpack.files.container import EncodedFile


def write_shards(root: Path, n_shards: int = 2, each: int = 4) -> Path:
    """A directory of shards of several small matrices, a vector and an embedding in the first."""
    root.mkdir()
    weight_map = {}
    for i in range(n_shards):
        held = {f"layers.{i}.{k}.weight": pruned((96, 128), 0.8, seed=10 * i + k) for k in range(each)}
        held[f"layers.{i}.norm.weight"] = pruned((96,), 0.0, np.float16)
        if i == 0:
            held["embed_tokens.weight"] = pruned((40, 64), 0.0)
        shard = f"model-{i + 1:05}-of-{n_shards:05}.safetensors"
        save_file(held, root / shard, metadata={"format": "pt"})
        weight_map |= dict.fromkeys(held, shard)
    (root / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
    (root / "config.json").write_text('{"a": 1}\n')
    return root


@pytest.mark.parametrize("options", [{"lossless": True}, {"bits": 2}, {"rate": 1.5}])
def test_parts_joined_are_the_file_written_at_once(tmp_path: Path, options: dict[str, Any]) -> None:
    arrays = {
        "z.weight": pruned((64, 160), 0.8),
        "a.counts": np.arange(12, dtype=np.int64),
        "b.weight": pruned((96, 128), 0.7, np.float16),
        "c.weight": pruned((2, 3), 0.5),  # would not become smaller
    }
    save_file(arrays, tmp_path / "m.safetensors", metadata={"format": "pt"})
    xorpack.encode_checkpoint(tmp_path / "m.safetensors", tmp_path / "x.safetensors", jobs=2, **options)
    file = EncodedFile(tmp_path / "x.safetensors")
    assert sorted(file) == ["b.weight", "z.weight"]
    container.write(
        tmp_path / "y.safetensors",
        {name: file[name] for name in file.order if name in file},
        {name: file.load_carried(name) for name in file.order if name in file.carried},
        order=file.order,
        metadata=file.metadata,
        settings=file.settings,
    )
    assert (tmp_path / "x.safetensors").read_bytes() == (tmp_path / "y.safetensors").read_bytes()


@pytest.mark.parametrize("jobs", [1, 2])
def test_no_more_tensors_are_held_than_threads_encode(
    tmp_path: Path, jobs: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    held: list[weakref.ref[Any]] = []
    most = []
    encode = task.encode

    def watched(*arguments: Any, **options: Any) -> Any:
        most.append(sum(code() is not None for code in held))
        encoded = encode(*arguments, **options)
        held.append(weakref.ref(encoded.code))
        return encoded

    monkeypatch.setattr(task, "encode", watched)
    source = write_shards(tmp_path / "m", n_shards=1, each=12)
    xorpack.encode_checkpoint(source, tmp_path / "x", jobs=jobs)
    assert len(most) == 12
    assert max(most) < jobs + 1
    assert not any(code() is not None for code in held)


def test_a_file_is_joined_when_its_tensors_are_done_and_its_parts_go(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = write_shards(tmp_path / "m", n_shards=2, each=2)
    encode = shards.encode_part

    def waits(task: Any, path: Path) -> Any:
        """Encode the last tensor when the first file stands, and nothing else is left of it."""
        end = time.monotonic() + 60
        while task.name == "layers.1.1.weight" and sorted(p.name for p in path.parent.iterdir()) != ["2"]:
            assert time.monotonic() < end
            time.sleep(0.01)
        if task.name == "layers.1.1.weight":
            (joined,) = (path.parents[1] / OUT).iterdir()
            assert set(EncodedFile(joined)) == {"layers.0.0.weight", "layers.0.1.weight"}
        return encode(task, path)

    monkeypatch.setattr(shards, "encode_part", waits)
    xorpack.encode_checkpoint(source, tmp_path / "x")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["m", "x"]


def test_threads_of_blas_do_not_stand_in_the_way_of_ours(tmp_path: Path) -> None:
    found: list[set[int]] = []

    def threads(*_: Any) -> None:
        found.append({pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"})

    before = threadpool_info()
    xorpack.encode_checkpoint(write_shards(tmp_path / "in"), tmp_path / "out", jobs=2, progress=threads)
    assert found
    assert all(counts == {1} for counts in found)
    assert threadpool_info() == before
