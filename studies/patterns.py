"""What is encoded: masks and planes from fixed seeds."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from xorpack.code.words import Words, pack
from xorpack.encoding.quantize.pruning import magnitude_mask

STRUCTURES = ("i.i.d.", "rows", "columns", "rows+columns")
"""Masks of weights whose scales differ by row, by column, by both, or not at all."""

SCALE_SIGMA = 0.5
"""Standard deviation of the logarithm of those scales."""


def generator(*key: int | str) -> np.random.Generator:
    """Random numbers that depend on all of ``key``."""
    numbers = [part if isinstance(part, int) else int.from_bytes(part.encode(), "little") for part in key]
    return np.random.default_rng(numbers)


def random_planes(rng: np.random.Generator, q: int, mask: Words) -> Words:
    """uint32 (q, *mask.shape): random bits where the mask is 1, else 0."""
    return rng.integers(0, 1 << 32, (q, *mask.shape), np.uint32) & mask


def iid_ring(rng: np.random.Generator, n_steps: int, density: float, n_streams: int = 32) -> Words:
    """Mask of a ring, uint32 (n_steps, 1): every bit of the low ``n_streams`` is kept with that probability."""
    bits = np.zeros((n_steps, 32), np.bool_)
    bits[:, :n_streams] = rng.random((n_steps, n_streams), np.float32) < density
    return pack(bits)


def exact_ring(rng: np.random.Generator, n_steps: int, n_kept: int, n_streams: int = 32) -> Words:
    """Mask of a ring, uint32 (n_steps, 1): exactly ``n_kept`` bits of the low ``n_streams``, anywhere.

    An i.i.d. mask whose number of kept bits is given: what is stored per care bit is not left to chance.
    """
    flat = np.zeros(n_steps * n_streams, np.bool_)
    flat[rng.choice(flat.size, n_kept, replace=False, shuffle=False)] = True
    bits = np.zeros((n_steps, 32), np.bool_)
    bits[:, :n_streams] = flat.reshape(n_steps, n_streams)
    return pack(bits)


def fixed_ring(
    rng: np.random.Generator, n_blocks: int, n_out: int, n_kept: int, n_streams: int = 32
) -> Words:
    """Mask of a ring, uint32 (n_blocks * n_out, 1): exactly ``n_kept`` of each block of each stream."""
    order = rng.random((n_blocks, n_out, n_streams), np.float32).argsort(axis=1)
    bits = np.zeros((n_blocks, n_out, 32), np.bool_)
    np.put_along_axis(bits[..., :n_streams], order[:, :n_kept], True, axis=1)
    return pack(bits.reshape(n_blocks * n_out, 32))


def structured_weight(rng: np.random.Generator, structure: str, rows: int, cols: int) -> NDArray[np.float32]:
    """Normal weights (rows, cols) with lognormal scales by row and column, as ``structure`` says."""
    weight = rng.standard_normal((rows, cols), np.float32)
    if "rows" in structure:
        weight *= _scales(rng, (rows, 1))
    if "columns" in structure:
        weight *= _scales(rng, (1, cols))
    return weight


def structured_mask(rng: np.random.Generator, structure: str, rows: int, cols: int, sparsity: float) -> Words:
    """The mask that magnitude pruning makes of :func:`structured_weight`."""
    return magnitude_mask(structured_weight(rng, structure, rows, cols), sparsity)


def _scales(rng: np.random.Generator, shape: tuple[int, int]) -> NDArray[Any]:
    scales: NDArray[Any] = np.exp(SCALE_SIGMA * rng.standard_normal(shape, np.float32))
    return scales
