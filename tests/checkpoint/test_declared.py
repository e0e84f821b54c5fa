"""Small files that declare many weights: refused at once, unless they are asked for."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from safetensors.numpy import save_file

import xorpack
from xorpack import masks
from xorpack.checkpoint import opened
from xorpack.cli.commands import cli
from xorpack.code.layout import Layout
from xorpack.code.network import XorNetwork
from xorpack.code.planes import CodedPlanes, StoredPlanes
from xorpack.elements import Lossless
from xorpack.encoded import EncodedTensor
from xorpack.errors import FormatError, ParameterError
from xorpack.files import container


def write_pruned(path: Path, rows: int, cols: int, n_tensors: int = 1) -> Path:
    """Tensors of which nothing is kept, so that they take no bytes."""
    layout = Layout.raw(rows, cols)
    nothing = np.zeros(0, np.uint8)
    code = np.zeros((0, layout.n_segments, 0, layout.lanes), np.uint32)
    coded = CodedPlanes(network=XorNetwork.identity(), layout=layout, code=code)
    tensor = EncodedTensor(
        shape=(rows, cols),
        dtype="I8",
        planes=StoredPlanes(
            bits=8, n_kept=0, coded=coded, constants=(255, 0), n_corrections=0, corrections=nothing
        ),
        mask=masks.parse("constant", {"value": 0}, nothing, coded),
        elements=Lossless(),
        content_sha256="0" * 64,
    )
    container.write(path, {f"l.{i}": tensor for i in range(n_tensors)}, {})
    return path


CALLS: dict[str, Callable[[Path, Path], object]] = {
    "open": lambda path, out: xorpack.open(path).info(),
    "verify": lambda path, out: xorpack.verify_checkpoint(path),
    "report": lambda path, out: xorpack.report_checkpoint(path),
    "decode": lambda path, out: xorpack.decode_checkpoint(path, out),
}


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("size", [(1 << 23, 1 << 24, 1), (1 << 30, 0, 1), (1 << 14, 1 << 13, 3)])
def test_more_weights_than_a_file_can_mean(tmp_path: Path, call: str, size: tuple[int, int, int]) -> None:
    path = write_pruned(tmp_path / "x", *size)
    assert path.stat().st_size < 3000
    began = time.perf_counter()
    declared = max(size[0], 1) * max(size[1], 1) * size[2]
    with pytest.raises(
        FormatError, match=rf"bytes declare {declared} weights, more than {1 << 28}.*--max-weights"
    ):
        CALLS[call](path, tmp_path / "out")
    assert time.perf_counter() - began < 5
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("command", ["info", "verify", "report", "decode"])
def test_they_can_be_allowed(tmp_path: Path, command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(opened, "MIN_DECLARED", 1000)
    monkeypatch.setattr(opened, "DECLARED_PER_BYTE", 1)
    save_file({"l": np.zeros((200, 200), np.int8)}, tmp_path / "m")
    xorpack.encode_checkpoint(tmp_path / "m", tmp_path / "x", lossless=True, include=["l"])
    out = [str(tmp_path / "out")] if command == "decode" else []
    for limit, allowed in (
        ([], False),
        (["--max-weights", "39999"], False),
        (["--max-weights", "40k"], True),
    ):
        done = CliRunner().invoke(cli, [command, str(tmp_path / "x"), *out, *limit])
        assert (done.exception is None) == allowed, done.output
        if not allowed:
            assert "declare 40000 weights" in str(done.exception)
    with pytest.raises(ParameterError, match="max_weights = -1"):
        xorpack.open(tmp_path / "x", max_weights=-1)


def test_what_grows_with_the_file_is_allowed(tmp_path: Path) -> None:
    """A real matrix at a sparsity of .9999 is far from the limit."""
    weight = np.zeros((4096, 8192), np.int8)
    weight.reshape(-1)[::10_000] = 1
    save_file({"l.weight": weight}, tmp_path / "m")
    xorpack.encode_checkpoint(tmp_path / "m", tmp_path / "x", lossless=True)
    assert weight.size < opened.DECLARED_PER_BYTE * (tmp_path / "x").stat().st_size


def test_a_plain_tensor_of_endless_rows_without_weights(tmp_path: Path) -> None:
    entries = {
        "a.weight": {"dtype": "F32", "shape": [1 << 40, 0], "data_offsets": [0, 0]},
        "b.weight": {"dtype": "F32", "shape": [64, 64], "data_offsets": [0, 16384]},
    }
    header = json.dumps(entries).encode()
    data = (np.arange(4096, dtype=np.float32) % 2).tobytes()
    (tmp_path / "m").write_bytes(len(header).to_bytes(8, "little") + header + data)
    xorpack.report_checkpoint(tmp_path / "m")
    report = xorpack.encode_checkpoint(tmp_path / "m", tmp_path / "x", lossless=True)
    assert list(report.accounts) == ["b.weight"]
    xorpack.decode_checkpoint(tmp_path / "x", tmp_path / "y")
    assert (tmp_path / "y").read_bytes() == (tmp_path / "m").read_bytes()
