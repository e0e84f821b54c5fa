"""What a first encode compiles aside is what it calls, and only the command line asks for it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from numba.core.sigutils import normalize_signature
from safetensors.numpy import save_file

import xorpack
from xorpack.checkpoint import encode as module
from xorpack.checkpoint.first_kernels import first_kernels
from xorpack.checkpoint.settings import Settings
from xorpack.cli.encode import encode
from xorpack.vector import gf2_bytes

KINDS: dict[str, dict[str, Any]] = {
    "bcq": {"sparsity": 0.9},
    "trellis": {"rate": 2},
    "lossless": {"lossless": True},
}


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """Some matrices like those of a Transformer: columns and rows differ in size."""
    rng = np.random.default_rng(0)
    weights = {
        f"layers.{k}.dense.weight": (
            rng.standard_normal((384, 384)) * rng.gamma(2, size=384) * rng.gamma(2, size=(384, 1))
        ).astype(np.float32)
        for k in range(2)
    }
    path = tmp_path / "model.safetensors"
    save_file(weights, path)
    return path


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("fast", [True, False])
def test_every_kernel_listed_is_called(
    model: Path, tmp_path: Path, kind: str, fast: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if fast and not gf2_bytes.is_fast():
        pytest.skip("no GFNI")
    monkeypatch.setattr(gf2_bytes, "is_fast", lambda: fast)
    xorpack.encode_checkpoint(model, tmp_path / "out.safetensors", **KINDS[kind])
    unused = [
        kernel
        for kernel in first_kernels(Settings(**KINDS[kind]))
        if normalize_signature(kernel.signature)[0] not in kernel.find().signatures
    ]
    assert not unused, "python -m tools.first_kernels writes the list anew"


def test_only_a_command_that_encodes_here_starts_processes(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[int, int]] = []
    monkeypatch.setattr(module, "compile_missing", lambda kernels, n: asked.append((len(kernels), n)))
    out = str(tmp_path / "out.safetensors")

    def run(*arguments: str) -> int:
        return CliRunner().invoke(encode, [str(model), *arguments, "--overwrite"]).exit_code

    xorpack.encode_checkpoint(model, out, jobs=2)
    assert run(out, "--dry-run") == 0
    assert run(out, "--include", "nothing") != 0
    assert asked == []
    assert run(out, "--jobs", "3") == 0
    assert run(out, "--jobs", "1", "--prefer", "speed") == 0
    assert asked == [(len(first_kernels(Settings())), 3), (0, 1)]
