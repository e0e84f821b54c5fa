"""Sources that change while they are read: an error line, never a signal, never a file that is silently wrong."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

import xorpack
from xorpack.checkpoint import decode
from xorpack.errors import SourceError
from xorpack.files import safetensors_file
from xorpack.files.reading import SourceFile


def write_source(path: Path) -> Path:
    rng = np.random.default_rng(3)
    weight = rng.standard_normal((64, 128), dtype=np.float32)
    weight[rng.random(weight.shape) < 0.7] = 0
    save_file({"a.weight": weight, "b.weight": weight[::-1].copy(), "embed": weight[:8].copy()}, path)
    return path


def truncate(path: Path) -> None:
    os.truncate(path, path.stat().st_size - 4096)


def change(path: Path) -> None:
    """Other bytes at the end, where ``embed`` or ``b.weight`` stands, the same size."""
    with open(path, "r+b") as file:
        file.seek(-64, os.SEEK_END)
        file.write(bytes(64))


def shuffle(path: Path) -> None:
    """All data in reverse."""
    data = path.read_bytes()
    n = 8 + int.from_bytes(data[:8], "little")
    path.write_bytes(data[:n] + data[n:][::-1])


def swap(path: Path) -> None:
    copy = path.with_suffix(".copy")
    copy.write_bytes(path.read_bytes())
    copy.replace(path)


def remove(path: Path) -> None:
    path.unlink()


CHANGES = {
    truncate: "changed from [0-9]+ to [0-9]+ bytes",
    change: "changed in place",
    swap: "changed to another file",
    remove: "cannot be read: No such file",
}
COMMANDS: dict[str, Callable[..., Any]] = {
    "encode": lambda source, out, **options: xorpack.encode_checkpoint(source, out, lossless=True, **options),
    "prune": lambda source, out, **options: xorpack.prune_checkpoint(source, out, sparsity=0.9, **options),
    "decode": xorpack.decode_checkpoint,
    "verify": lambda source, out, **options: xorpack.verify_checkpoint(source, **options),
    "report": lambda source, out, **options: xorpack.report_checkpoint(source, **options),
}


@pytest.fixture
def places(tmp_path: Path) -> dict[str, Path]:
    plain = write_source(tmp_path / "m.safetensors")
    encoded = tmp_path / "x.safetensors"
    xorpack.encode_checkpoint(plain, encoded, lossless=True)
    return {name: encoded if name in ("decode", "verify", "report") else plain for name in COMMANDS}


@pytest.mark.parametrize("how", CHANGES, ids=lambda how: how.__name__)
@pytest.mark.parametrize("command", COMMANDS)
def test_a_change_between_two_tensors(
    places: dict[str, Path], tmp_path: Path, command: str, how: Callable[[Path], None]
) -> None:
    source, done = places[command], []

    def progress(*_: object) -> None:
        if not done:
            done.append(how(source))

    with pytest.raises(SourceError, match=rf"{source.name}: {CHANGES[how]}"):
        COMMANDS[command](source, tmp_path / "out", progress=progress)
    assert sorted(path.name for path in tmp_path.iterdir() if path != source) == sorted(
        {"m.safetensors", "x.safetensors"} - {source.name}
    )


@pytest.mark.parametrize("how", CHANGES, ids=lambda how: how.__name__)
@pytest.mark.parametrize("command", ["encode", "prune", "decode"])
def test_a_change_after_everything_is_read(
    places: dict[str, Path],
    tmp_path: Path,
    command: str,
    how: Callable[[Path], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Until the last moment: what would be written is of a source that is no longer there."""
    source, write = places[command], safetensors_file.write

    def late(*arguments: Any, **options: Any) -> Any:
        written = write(*arguments, **options)
        how(source)
        return written

    monkeypatch.setattr(safetensors_file, "write", late)
    monkeypatch.setattr("xorpack.checkpoint.shards.copy_mode", lambda *_: None)
    monkeypatch.setattr("xorpack.checkpoint.prune.copy_mode", lambda *_: None)
    monkeypatch.setattr(
        "xorpack.checkpoint.decode.copy_mode", lambda *_: how(source)
    )  # which writes otherwise
    with pytest.raises(SourceError, match=CHANGES[how]):
        COMMANDS[command](source, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


def test_importances_that_change(places: dict[str, Path], tmp_path: Path) -> None:
    importance = write_source(tmp_path / "importance.safetensors")
    with pytest.raises(SourceError, match=r"importance\.safetensors: changed in place"):
        xorpack.prune_checkpoint(
            places["prune"],
            tmp_path / "out",
            sparsity=0.9,
            importance=importance,
            progress=lambda *_: change(importance),
        )


def test_what_is_written_is_hashed_as_it_is_written(
    places: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Even a change that neither size nor time betrays gives a file whose digests are right."""
    monkeypatch.setattr(SourceFile, "_compare", lambda self, found: None)
    monkeypatch.setattr(SourceFile, "check", lambda self: None)
    out = tmp_path / "out"
    write = safetensors_file.write

    def around(*arguments: Any, **options: Any) -> Any:
        change(places["encode"])
        written = write(*arguments, **options)
        shuffle(places["encode"])
        return written

    with monkeypatch.context() as patched:
        patched.setattr(safetensors_file, "write", around)
        xorpack.encode_checkpoint(places["encode"], out, lossless=True)
    assert xorpack.verify_checkpoint(out).n_carried == 1
    before = out.read_bytes()
    changed = bytearray(before)
    file = xorpack.open(out).files[0]
    changed[before.index(file.carried["embed"].data.tobytes())] ^= 1
    reserve = decode.reserve

    def change_before(*arguments: Any) -> Any:
        out.write_bytes(changed)
        return reserve(*arguments)

    monkeypatch.setattr(decode, "reserve", change_before)
    with pytest.raises(xorpack.errors.CorruptError, match="carried tensor 'embed'"):
        xorpack.decode_checkpoint(out, tmp_path / "back")
    assert not (tmp_path / "back").exists()


READER = """
import os, sys, xorpack
from pathlib import Path
opened = xorpack.open(sys.argv[1], verify=sys.argv[2] == "verify")
os.truncate(sys.argv[1], 4096)
try:
    xorpack.decode(opened["a.weight"])
except xorpack.errors.SourceError as error:
    print(error)
"""


@pytest.mark.parametrize("verify", ["verify", "not"])
def test_an_open_file_that_becomes_shorter_kills_nobody(places: dict[str, Path], verify: str) -> None:
    """In a process of its own: once it ended by SIGBUS."""
    done = subprocess.run(
        [sys.executable, "-c", READER, places["decode"], verify],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "to 4096 bytes while it was read" in done.stdout


def test_a_tensor_that_was_read_is_the_readers_own(places: dict[str, Path]) -> None:
    opened = xorpack.open(places["decode"])
    tensor = opened["a.weight"]
    expected = xorpack.decode(tensor).copy()
    os.truncate(places["decode"], 100)
    assert np.array_equal(xorpack.decode(tensor), expected)


def test_blocks_rows_and_digests(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(safetensors_file, "_BLOCK_BYTES", 1000)
    path = write_source(tmp_path / "m.safetensors")
    for stored in safetensors_file.read(path).tensors.values():
        held = safetensors_file.StoredTensor(stored.dtype, stored.shape, stored.data)
        for one in (stored, held):
            blocks = list(one.blocks())
            assert max(block.size for block in blocks) == 1000
            assert np.array_equal(np.concatenate(blocks), stored.data)
            assert one.sha256() == held.sha256()
            assert np.array_equal(one.rows(3), stored.array().reshape(stored.shape[0], -1)[:3])
            assert one.blank().shape == stored.shape
            assert one.n_bytes == stored.data.size
