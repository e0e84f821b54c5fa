"""Masks that tests share: crowded, sorted, products of factors."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
from samples import bcq

from xorpack import EncodedTensor, masks
from xorpack.code import words
from xorpack.code.expand import expand
from xorpack.decoders import cpu, reference
from xorpack.masks.bmf import Factors
from xorpack.tensors import BCQTensor

EXPANDS = {"cpu": expand, "reference": reference.expand}


def with_mask(kept: np.ndarray[Any, Any], bits: int = 1) -> BCQTensor:
    """A tensor that keeps the weights of a boolean matrix."""
    dense = bcq(kept.shape, 0.0, bits)
    return replace(dense, mask=words.pack(kept), planes=dense.planes & words.pack(kept))


def crowded(rows: int, cols: int, seed: int = 0, period: int = 0) -> np.ndarray[Any, Any]:
    """A mask whose rows keep from none to all, and whose columns differ; ``period``: from their neighbours."""
    rng = np.random.default_rng(seed)
    if period:
        share = (np.arange(cols) * 3 % period / period) ** 2 * rng.choice([0.1, 0.3, 1.0], rows)[:, None]
        return rng.random((rows, cols)) < share
    share = rng.permutation(np.linspace(0, 1, rows) ** 2)[:, None] * np.where(
        np.arange(cols) // 40 % 2, 0.5, 1
    )
    return rng.random((rows, cols)) < share


def any_factors(seed: int, rows: int, cols: int, rank: int, tile_rows: int, tile_words: int) -> Factors:
    """Random factors of a matrix."""
    rng = np.random.default_rng(seed)
    tile_cols = 32 * tile_words
    left = rng.random((rows, -(-cols // tile_cols), rank)) < 0.4
    right = rng.random((-(-rows // tile_rows), rank, cols)) < 0.3
    return Factors(
        tile_rows=tile_rows, tile_cols=tile_cols, left=left.astype(np.uint8), right=words.pack(right)
    )


def comes_back(encoded: EncodedTensor, tensor: BCQTensor, first: int = 0, last: int | None = None) -> bool:
    """Mask and planes, whole and of rows ``first .. last - 1``, by both decoders."""
    part = tensor.mask[first:last]
    return all(
        np.array_equal(encoded.load_mask(gates), tensor.mask)
        and np.array_equal(encoded.load_mask(gates, first, last), part)
        for gates in EXPANDS.values()
    ) and all(
        np.array_equal(decoder.decode_planes(encoded, first, last)[0], part)
        and np.array_equal(decoder.decode_planes(encoded, first, last)[1], tensor.planes[:, first:last])
        for decoder in (cpu, reference)
    )


def reread(encoded: EncodedTensor, **changes: Any) -> EncodedTensor:
    """``encoded`` with its mask parsed anew, of another ``name``, ``config`` or ``data``."""
    said = {"name": encoded.mask_codec, "config": encoded.mask_config, "data": encoded.mask.data, **changes}
    return replace(encoded, mask=masks.parse(tensor=encoded.coded, **said))


def entropy(density: float) -> float:
    """Bits per weight of an i.i.d. mask."""
    return -density * math.log2(density) - (1 - density) * math.log2(1 - density)
