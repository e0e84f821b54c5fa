"""A run that was killed is gone on with: the same bytes in the end, nothing done twice, nothing foreign taken over."""

from __future__ import annotations

import fcntl
import json
import logging
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file
from samples import pruned

import xorpack
from xorpack.checkpoint import journal, shards
from xorpack.checkpoint.settings import Settings
from xorpack.errors import DestinationError, ParameterError, SourceError
from xorpack.files import atomic

N_TENSORS = 9


def write_source(root: Path) -> Path:
    """Three shards of three matrices, one of which would not become smaller, and a vector each."""
    root.mkdir()
    weight_map = {}
    for i in range(3):
        held = {f"layers.{i}.{k}.weight": pruned((96, 128), 0.8, seed=10 * i + k) for k in range(2)}
        held[f"layers.{i}.small.weight"] = pruned((2, 3), 0.5, seed=i)
        held[f"layers.{i}.norm.weight"] = pruned((96,), 0.0, np.float16)
        shard = f"model-{i + 1:05}-of-00003.safetensors"
        save_file(held, root / shard, metadata={"format": "pt"})
        weight_map |= dict.fromkeys(held, shard)
    (root / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
    (root / "config.json").write_text('{"a": 1}\n')
    (root / "sub").mkdir()
    (root / "sub" / "link").symlink_to("../config.json")
    return root


def contents(root: Path) -> dict[str, bytes]:
    return {str(p.relative_to(root)): p.read_bytes() for p in sorted(root.rglob("*")) if p.is_file()}


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_source(tmp_path_factory.mktemp("source") / "m")


@pytest.fixture(scope="module")
def whole(source: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """What a run that nothing stops writes."""
    target = tmp_path_factory.mktemp("whole") / "x"
    xorpack.encode_checkpoint(source, target)
    return contents(target)


class StoppedError(Exception):
    """What stops a run in the middle."""


def stop(source: Path, target: Path, after: int, **options: Any) -> Path:
    """Begin a run, stop it when ``after`` tensors are done, and give its workspace."""
    done = []

    def progress(name: str, *_: object) -> None:
        done.append(name)
        if len(done) == after:
            raise StoppedError

    with pytest.raises(StoppedError):
        xorpack.encode_checkpoint(source, target, resume=True, progress=progress, **options)
    (work,) = target.parent.glob(f".{target.name}.*{atomic.WORK}")
    return work


@pytest.fixture
def encoded(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Names of the tensors that are encoded from here on."""
    names: list[str] = []
    encode = shards.encode_tensor

    def watched(task: Any) -> Any:
        names.append(task.name)
        return encode(task)

    monkeypatch.setattr(shards, "encode_tensor", watched)
    return names


@pytest.mark.parametrize("after", [1, 4, N_TENSORS])
def test_what_is_finished_is_not_done_again(
    source: Path, whole: dict[str, bytes], tmp_path: Path, after: int, encoded: list[str]
) -> None:
    stop(source, tmp_path / "x", after)
    first = set(encoded)
    encoded.clear()
    report = xorpack.encode_checkpoint(source, tmp_path / "x", resume=True)
    assert contents(tmp_path / "x") == whole
    assert len(encoded) <= N_TENSORS - after
    assert first | set(encoded) == {f"layers.{i}.{k}.weight" for i in range(3) for k in ("0", "1", "small")}
    assert os.listdir(tmp_path) == ["x"]
    again = xorpack.encode_checkpoint(source, tmp_path / "y")
    assert (report.accounts, report.distortions, report.left_out, report.stored_bytes) == (
        again.accounts,
        again.distortions,
        again.left_out,
        again.stored_bytes,
    )


@pytest.mark.parametrize(
    "options",
    [
        {"lossless": True},
        {"target_bits": 3.0},
        {"sparsity": 0.9, "scope": "global", "mask_codec": "bitmap"},
        {"bits": 3, "symbols": "entropy"},
    ],
)
def test_other_settings_and_a_single_file(tmp_path: Path, options: dict[str, Any]) -> None:
    arrays = {f"{k}.weight": pruned((96, 128), 0.7, seed=k) for k in range(3)}
    save_file(arrays, tmp_path / "m.safetensors")
    xorpack.encode_checkpoint(tmp_path / "m.safetensors", tmp_path / "y.safetensors", **options)
    stop(tmp_path / "m.safetensors", tmp_path / "x.safetensors", 2, **options)
    report = xorpack.encode_checkpoint(
        tmp_path / "m.safetensors", tmp_path / "x.safetensors", resume=True, **options
    )
    assert (tmp_path / "x.safetensors").read_bytes() == (tmp_path / "y.safetensors").read_bytes()
    assert list(report.accounts) == list(arrays)


def test_what_is_damaged_is_done_again(
    source: Path, whole: dict[str, bytes], tmp_path: Path, encoded: list[str]
) -> None:
    work = stop(source, tmp_path / "x", 5)
    (part, *_) = sorted((work / shards.PARTS).iterdir())
    data = bytearray(part.read_bytes())
    data[-100] ^= 1
    part.write_bytes(data)
    (file,) = (work / atomic.OUT).iterdir()
    file.write_bytes(file.read_bytes()[:-1])
    with open(work / journal.NAME, "ab") as lines:
        lines.write(b'{"tensor":"layers.2.1.weight","acc')  # killed here
    encoded.clear()
    xorpack.encode_checkpoint(source, tmp_path / "x", resume=True)
    assert contents(tmp_path / "x") == whole
    assert {"layers.0.0.weight", "layers.0.1.weight", "layers.1.0.weight"} <= set(encoded)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"bits": 3}, "begun with bits 2, not 3"),
        ({"symbols": "entropy"}, "begun with symbols 'planes', not 'entropy'"),
        ({"prefer": "speed"}, "begun with prefer 'size', not 'speed'"),
        ({"exclude": ("layers.1.0",)}, r"begun with exclude \[\], not \['layers.1.0'\]"),
    ],
)
def test_a_journal_of_other_settings_is_refused_and_stays(
    source: Path, whole: dict[str, bytes], tmp_path: Path, options: dict[str, Any], message: str
) -> None:
    work = stop(source, tmp_path / "x", 2)
    before = contents(work)
    with pytest.raises(ParameterError, match=rf"{work.name} was {message}; .*without --resume"):
        xorpack.encode_checkpoint(source, tmp_path / "x", resume=True, **options)
    assert contents(work) == before
    xorpack.encode_checkpoint(source, tmp_path / "x", resume=True)
    assert contents(tmp_path / "x") == whole


def test_the_order_of_patterns_is_a_setting(tmp_path: Path) -> None:
    """The first that matches counts."""
    rates = {"a": 1.0, "b": 3.0}, {"b": 3.0, "a": 1.0}
    first, second = (journal.identity(Settings(rate=2.0, rates=each), (), (), [], []) for each in rates)
    journal.Journal(tmp_path, first)
    journal.Journal(tmp_path, first)
    with pytest.raises(ParameterError, match=r"begun with rates \{'a': 1\.0, 'b': 3\.0\}, not \{'b'"):
        journal.Journal(tmp_path, second)


def test_a_journal_of_another_version_is_refused(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stop(source, tmp_path / "x", 2)
    monkeypatch.setattr(journal, "__version__", "9.9")
    with pytest.raises(ParameterError, match=r"begun with version of xorpack '.*', not '9\.9'"):
        xorpack.encode_checkpoint(source, tmp_path / "x", resume=True)


def test_a_source_that_changed_is_named(tmp_path: Path) -> None:
    source = write_source(tmp_path / "m")
    stop(source, tmp_path / "x", 4)
    shard = source / "model-00002-of-00003.safetensors"
    data, time = shard.read_bytes(), shard.stat().st_mtime_ns
    os.utime(shard, ns=(time, time + 1))
    with pytest.raises(SourceError, match=rf"{shard.name} changed since .* another time of change; "):
        xorpack.encode_checkpoint(source, tmp_path / "x", resume=True)
    shard.write_bytes(data.replace(b"norm", b"mron"))
    (source / "model.safetensors.index.json").unlink()
    with pytest.raises(SourceError, match=rf"{shard.name} changed since"):
        xorpack.encode_checkpoint(source, tmp_path / "x", resume=True)
    shard.unlink()
    with pytest.raises(SourceError, match=rf"{shard.name} is no longer there since"):
        xorpack.encode_checkpoint(source, tmp_path / "x", resume=True)


def test_without_it_the_next_run_removes_what_was_left(
    source: Path,
    whole: dict[str, bytes],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    encoded: list[str],
) -> None:
    work = stop(source, tmp_path / "x", 4)
    encoded.clear()
    with caplog.at_level(logging.WARNING):
        xorpack.encode_checkpoint(source, tmp_path / "x")
    assert f"removed {work}" in caplog.text
    assert len(encoded) == N_TENSORS
    assert contents(tmp_path / "x") == whole
    assert os.listdir(tmp_path) == ["x"]


def test_an_interrupt_says_what_is_kept(source: Path, tmp_path: Path) -> None:
    def progress(*_: object) -> None:
        raise KeyboardInterrupt

    with pytest.raises(
        KeyboardInterrupt, match=r"finished is kept in .*/\.x\..*\.xorpack-work, to be resumed"
    ):
        xorpack.encode_checkpoint(source, tmp_path / "x", resume=True, progress=progress)
    with pytest.raises(KeyboardInterrupt, match=r"^$"):
        xorpack.encode_checkpoint(source, tmp_path / "x", progress=progress)
    assert os.listdir(tmp_path) == []


def test_without_it_an_error_leaves_nothing(source: Path, tmp_path: Path) -> None:
    def progress(*_: object) -> None:
        raise StoppedError

    with pytest.raises(StoppedError):
        xorpack.encode_checkpoint(source, tmp_path / "x", progress=progress)
    assert os.listdir(tmp_path) == []


def test_two_runs_to_one_destination(source: Path, tmp_path: Path) -> None:
    work = stop(source, tmp_path / "x", 2)
    lock = os.open(work, os.O_RDONLY)
    fcntl.flock(lock, fcntl.LOCK_EX)
    with pytest.raises(DestinationError, match=r"another run is writing it, in .*wait until that ends"):
        xorpack.encode_checkpoint(source, tmp_path / "x", resume=True)
    os.close(lock)
    xorpack.encode_checkpoint(source, tmp_path / "x", resume=True)


def test_a_dry_run_resumes_nothing(source: Path, tmp_path: Path) -> None:
    with pytest.raises(ParameterError, match="dry_run"):
        xorpack.encode_checkpoint(source, tmp_path / "x", resume=True, dry_run=True)


KILL = """
import os, random, shutil, signal, sys, time
from pathlib import Path
import xorpack
source, target, moments = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])

def contents():
    return {str(p.relative_to(target)): p.read_bytes() for p in sorted(target.rglob("*")) if p.is_file()}

def encode(**options):
    xorpack.encode_checkpoint(source, target, jobs=2, **options)

encode()
expected = contents()
shutil.rmtree(target)
began = time.monotonic()
encode()
spent = time.monotonic() - began
shutil.rmtree(target)
at, killed, left = random.Random(1), 0, 0
for moment in range(moments):
    resume = moment % 4 != 3
    for _ in range(2):  # killed, and killed again
        pid = os.fork()
        if not pid:
            encode(resume=resume)
            os._exit(0)
        time.sleep(at.uniform(0, spent))
        os.kill(pid, signal.SIGKILL)
        killed += os.waitpid(pid, 0)[1] == signal.SIGKILL
        if target.exists():
            break
    left += len(os.listdir(target.parent))
    if not target.exists():
        encode(resume=resume)
    assert contents() == expected, moment
    if os.listdir(target.parent) != [target.name]:  # killed between its last rename and its end
        shutil.rmtree(target)
        encode()
    assert os.listdir(target.parent) == [target.name], moment
    shutil.rmtree(target)
print(killed, left)
"""


def test_killed_at_any_moment(source: Path, tmp_path: Path) -> None:
    """In a process of its own, which forks: ``MOMENTS=30`` in the environment asks for more."""
    moments = os.environ.get("MOMENTS", "6")
    (tmp_path / "place").mkdir()
    command = [sys.executable, "-W", "ignore", "-c", KILL, source, tmp_path / "place" / "x", moments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stderr
    killed, left = map(int, done.stdout.split())
    assert killed >= int(moments) // 2
    assert left >= int(moments) // 2
