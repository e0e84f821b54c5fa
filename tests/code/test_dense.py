"""Elements to planes and back, for patterns that arithmetic would not preserve."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest

from xorpack.code import dense
from xorpack.code.words import pack


@pytest.mark.parametrize("dtype", [np.uint8, np.int8, np.float16, ml_dtypes.bfloat16, np.float32])
@pytest.mark.parametrize("shape", [(3, 70), (1, 1), (2, 64), (0, 3), (3, 0)])
def test_planes_split_and_join(dtype: Any, shape: tuple[int, int]) -> None:
    size = np.dtype(dtype).itemsize
    whole = np.random.default_rng(2).integers(0, 256, (*shape, size), np.uint8).view(f"<u{size}")[..., 0]
    patterns = {1: [0, 0x80, 0xFF], 2: [0, 0x8000, 0x7FC1, 0xFE01], 4: [0, 1 << 31, 0x7FC00001, 0xFF800001]}[
        size
    ]
    whole.reshape(-1)[: len(patterns)] = patterns[: whole.size]
    mask, planes = dense.split_planes(whole.view(dtype))
    assert np.array_equal(mask, pack(whole != 0))
    for k, plane in enumerate(planes):
        assert np.array_equal(plane, pack(whole >> k & 1 == 1))
    out = np.full(shape, 0xAB, whole.dtype).view(dtype)
    dense.join_planes(planes, out)
    assert out.tobytes() == whole.tobytes()
