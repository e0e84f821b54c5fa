"""An open checkpoint: a mapping, a context manager, files that are let go."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file
from samples import pruned

import xorpack

needs_proc = pytest.mark.skipif(sys.platform != "linux", reason="maps are read from /proc")


@pytest.fixture
def encoded(tmp_path):
    save_file(
        {"a.weight": pruned((64, 96), 0.8), "b.weight": pruned((32, 64), 0.5)}, tmp_path / "m.safetensors"
    )
    xorpack.encode_checkpoint(tmp_path / "m.safetensors", tmp_path / "e.safetensors")
    return tmp_path / "e.safetensors"


def is_held(path):
    """Whether this process maps the file or has it open."""
    links = (os.readlink(link) for link in Path("/proc/self/fd").iterdir() if link.is_symlink())
    return str(path) in Path("/proc/self/maps").read_text() or str(path) in links


@needs_proc
def test_a_block_ends_with_its_files_let_go(encoded):
    with xorpack.open(encoded) as opened:
        assert isinstance(opened, xorpack.Checkpoint)
        assert sorted(opened) == ["a.weight", "b.weight"]
        assert opened["a.weight"].shape == (64, 96)
    assert not is_held(encoded)


@needs_proc
def test_a_tensor_outlives_its_checkpoint(encoded):
    with xorpack.open(encoded) as opened:
        tensor = opened["a.weight"]
        expected = xorpack.decode(tensor).dequantize()
    assert np.array_equal(xorpack.decode(tensor).dequantize(), expected)
    del tensor
    assert not is_held(encoded)


def test_an_error_in_a_block_is_not_swallowed(encoded):
    with pytest.raises(RuntimeError, match="mine"), xorpack.open(encoded) as opened:
        raise RuntimeError("mine")
    with pytest.raises(xorpack.ParameterError, match="was closed"):
        len(opened)


ASKED = {
    "item": lambda opened: opened["a.weight"],
    "names": list,
    "number": len,
    "membership": lambda opened: "a.weight" in opened,
    "path": lambda opened: opened.path_of("a.weight"),
    "accounts": lambda opened: opened.accounts(),
    "info": lambda opened: opened.info(),
    "speed": lambda opened: opened.speed(),
    "entry": lambda opened: opened.__enter__(),
}


@pytest.mark.parametrize("what", ASKED)
def test_a_closed_checkpoint_says_so(what, encoded):
    opened = xorpack.open(encoded)
    opened.accounts()
    opened.close()
    opened.close()
    with pytest.raises(xorpack.ParameterError, match=r"e\.safetensors was closed: open it again"):
        ASKED[what](opened)
