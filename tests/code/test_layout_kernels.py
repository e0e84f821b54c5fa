"""The order of coding as kernels walk it is that of ``Layout.word_index``."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numba import njit

from xorpack.code import layout_kernels
from xorpack.code.layout import Layout

NAMES = ("visit", "place_of", "next_place", "chunk_of", "step_of")
visit, place_of, next_place, chunk_of, step_of = (getattr(layout_kernels, name) for name in NAMES)


@njit
def walk(rows, chunks, lanes, n_steps, row_stride, panel_chunks, n_sub, index, steps):
    """``index`` (steps, lanes): words at every step; ``steps`` (rows, chunks): where each word is decoded."""
    for t in range(len(index)):
        p, r, k = visit(t, rows, lanes, row_stride, n_sub)
        for lane in range(lanes):
            chunk = chunk_of(p, k, chunks, panel_chunks)
            index[t, lane] = r * chunks + chunk if chunk >= 0 else -1
            k = next_place(k, lanes, n_sub)
    for p in range(-(-chunks // max(panel_chunks, 1))):
        for i in range(rows):
            for c in range(n_sub):
                k = place_of(c, i, lanes, n_sub)
                for _ in range(lanes):
                    chunk = chunk_of(p, k, chunks, panel_chunks)
                    if chunk >= 0:
                        steps[i * row_stride % rows, chunk] = step_of(p, i, c, rows, n_sub)
                    k = next_place(k, lanes, n_sub)


@pytest.mark.parametrize("kernel", [walk, walk.py_func], ids=["jit", "python"])
@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    rows=st.integers(1, 40),
    cols=st.integers(1, 2200),
    lanes=st.integers(1, 32),
    n_kept=st.integers(1, 10_000),
)
def test_kernels_walk_as_the_layout_says(kernel: Any, rows: int, cols: int, lanes: int, n_kept: int) -> None:
    layout = Layout.choose(rows, cols, n_kept, lanes=lanes)
    t = np.arange(layout.n_segments * layout.n_steps)
    index = np.empty((t.size, layout.lanes), np.int64)
    steps = np.full((rows, layout.chunks), -1)
    kernel(*layout.params(), index, steps)
    expected = layout.word_index(t)
    assert (index == expected).all()
    found = np.empty(rows * layout.chunks, np.int64)
    found[expected[expected >= 0]] = np.nonzero(expected >= 0)[0]
    assert (steps.reshape(-1) == found).all()
