"""A checkpoint encoded on a GPU: the same bytes; and what nothing is to be done for there is refused."""

from __future__ import annotations

import sys

import host_device
import numpy as np
import pytest
from click.testing import CliRunner
from safetensors.numpy import save_file

import xorpack
from xorpack.cli.commands import cli
from xorpack.errors import DeviceError, ParameterError


@pytest.fixture
def source(tmp_path):
    rng = np.random.default_rng(0)
    tensors = {f"layer.{n}.weight": rng.standard_normal((64, 40)).astype(np.float32) for n in range(2)}
    save_file(tensors, tmp_path / "m")
    return tmp_path / "m"


@pytest.mark.skipif(host_device.COMPILER is None, reason="no C++ compiler: kernels are not run on the CPU")
@pytest.mark.parametrize(
    ("options", "kernels"),
    [
        ({"rate": 2.0}, ["trellis_search", "trellis_words"]),
        ({"bits": 1, "sparsity": 0.5}, ["ring_equations", "ring_eliminate", "ring_solve"]),
        ({"rate": 2.0, "sparsity": 0.5, "prefer": "speed"}, ["trellis_search", "trellis_words"]),
    ],
    ids=["trellis", "XOR code", "trellis, bitmap"],
)
def test_same_bytes(source, tmp_path, monkeypatch, options, kernels):
    device = host_device.HostDevice()
    monkeypatch.setattr("xorpack.cuda.device.device", lambda number: [device][number])
    xorpack.encode_checkpoint(source, tmp_path / "x", **options)
    assert device.launched == []
    arguments = ["encode", source, tmp_path / "y", "--device", "cuda:0"]
    arguments += [part for name, value in options.items() for part in (f"--{name}", value)]
    done = CliRunner().invoke(cli, [*map(str, arguments)])
    assert done.exit_code == 0, done.output
    assert set(device.launched) == {*kernels}
    assert (tmp_path / "x").read_bytes() == (tmp_path / "y").read_bytes()


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"rate": 2, "device": "gpu"}, ParameterError, "device 'gpu' is not cpu, cuda or cuda:NUMBER"),
        ({"prefer": "speed", "device": "cuda"}, ParameterError, "the XOR code, and bits are packed"),
        (
            {"lossless": True, "payload": "packed", "device": "cuda"},
            ParameterError,
            "the XOR code, and bits are packed",
        ),
        ({"rate": 2, "device": "cuda", "hessian": "h"}, ParameterError, "hessian fits one after another"),
        ({"rate": 2, "device": "cuda"}, DeviceError, "needs CuPy"),
        ({"lossless": True, "device": "cuda"}, DeviceError, "needs CuPy"),
    ],
)
def test_what_is_refused_before_anything_is_written(source, tmp_path, monkeypatch, options, error, message):
    monkeypatch.setitem(sys.modules, "cupy", None)
    with pytest.raises(error, match=message):
        xorpack.encode_checkpoint(source, tmp_path / "x", **options)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["m"]
