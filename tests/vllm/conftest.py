"""Encoded directories, and vLLM where it is installed; tests that need it are skipped without, each by itself."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from safetensors.numpy import save_file

import xorpack
import xorpack.vllm

Make = Callable[..., Path]


def array(name: str, shape: tuple[int, ...]) -> NDArray[np.float32]:
    """A tensor that its name tells from all others."""
    return np.random.default_rng(list(name.encode())).standard_normal(shape, np.float32)


@pytest.fixture
def make(tmp_path: Path) -> Make:
    """What encodes a model directory of random tensors of given shapes; 2-bit BCQ if nothing else is asked for."""

    def encoded(shapes: dict[str, tuple[int, ...]], config: Any = None, **options: Any) -> Path:
        source, to = tmp_path / "source", tmp_path / "encoded"
        source.mkdir()
        save_file({name: array(name, shape) for name, shape in shapes.items()}, source / "model.safetensors")
        (source / "config.json").write_text(json.dumps(config or {"model_type": "llama"}))
        xorpack.encode_checkpoint(source, to, **(options or {"bits": 2}))
        return to

    return encoded


@pytest.fixture(scope="session")
def vllm() -> None:
    """The plug-in, registered; skips without it: a folder of this name, as this one, is not it."""
    spec = find_spec("vllm")
    if spec is None or spec.origin is None:
        pytest.skip("needs vLLM: make vllm")
    xorpack.vllm.register()


@pytest.fixture
def alone(vllm: None, tmp_path: Path) -> Iterator[None]:
    """One process and one device, so that layers of vLLM can be made outside of an engine."""
    from vllm.config import VllmConfig, set_current_vllm_config
    from vllm.distributed import parallel_state

    with set_current_vllm_config(VllmConfig()):
        parallel_state.init_distributed_environment(1, 0, f"file://{tmp_path / 'meeting'}", 0, "gloo")
        parallel_state.initialize_model_parallel(1, 1)
        yield
        parallel_state.destroy_model_parallel()
        parallel_state.destroy_distributed_environment()
