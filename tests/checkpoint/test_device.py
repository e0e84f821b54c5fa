"""A checkpoint whose trellises are searched on a GPU: the same bytes; and what has no search there is refused."""

from __future__ import annotations

import sys

import host_device
import numpy as np
import pytest
from click.testing import CliRunner
from safetensors.numpy import save_file

import xorpack
from xorpack.checkpoint import task
from xorpack.cli.commands import cli
from xorpack.encoding.quantize import trellis
from xorpack.errors import DeviceError, ParameterError


@pytest.fixture
def source(tmp_path):
    rng = np.random.default_rng(0)
    tensors = {f"layer.{n}.weight": rng.standard_normal((64, 40)).astype(np.float32) for n in range(2)}
    save_file(tensors, tmp_path / "m")
    return tmp_path / "m"


@pytest.mark.skipif(host_device.COMPILER is None, reason="no C++ compiler: kernels are not run on the CPU")
def test_same_bytes(source, tmp_path, monkeypatch):
    device = host_device.HostDevice()
    for module in (task, trellis):
        monkeypatch.setattr(module, "find_device", lambda name: device if name == "cuda:0" else None)
    xorpack.encode_checkpoint(source, tmp_path / "x", rate=2.0)
    assert device.launched == []
    arguments = ["encode", source, tmp_path / "y", "--rate", 2, "--device", "cuda:0"]
    done = CliRunner().invoke(cli, [*map(str, arguments)])
    assert done.exit_code == 0, done.output
    assert len(device.launched) == 2 * 2 * (trellis.SAMPLE_TURNS + 1)
    assert (tmp_path / "x").read_bytes() == (tmp_path / "y").read_bytes()


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"rate": 2, "device": "gpu"}, ParameterError, "device 'gpu' is not cpu, cuda or cuda:NUMBER"),
        ({"device": "cuda"}, ParameterError, "device cuda is of a trellis, and no rate"),
        ({"lossless": True, "device": "cuda"}, ParameterError, "device cuda is of a trellis, and no rate"),
        ({"rate": 2, "device": "cuda", "hessian": "h"}, ParameterError, "hessian fits one after another"),
        ({"rate": 2, "device": "cuda"}, DeviceError, "needs CuPy"),
    ],
)
def test_what_is_refused_before_anything_is_written(source, tmp_path, monkeypatch, options, error, message):
    monkeypatch.setitem(sys.modules, "cupy", None)
    with pytest.raises(error, match=message):
        xorpack.encode_checkpoint(source, tmp_path / "x", **options)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["m"]
