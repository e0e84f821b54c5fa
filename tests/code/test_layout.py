"""The order of coding: every word has one place, and the choice keeps its bounds."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xorpack.code import layout as module
from xorpack.code.layout import Layout
from xorpack.errors import ParameterError

SHAPES = [
    (0, 0),
    (0, 40),
    (40, 0),
    (1, 1),
    (1, 32),
    (1, 5000),
    (2, 33),
    (3, 64),
    (5000, 1),
    (7, 31 * 32),
    (7, 32 * 32),
    (7, 33 * 32),
    (13, 33 * 32 - 5),
    (10, 65 * 32),
    (101, 97 * 32),
    (64, 384),
    (1000, 17),
    (384, 1536),
]


def check_bijection(layout: Layout) -> None:
    steps = np.arange(layout.n_segments * layout.n_steps, dtype=np.int64)
    index = layout.word_index(steps)
    assert index.shape == (steps.size, layout.lanes)
    present = index[index >= 0]
    assert (np.sort(present) == np.arange(layout.rows * layout.chunks)).all()
    assert (index >= -1).all()
    assert (index[layout.total_steps :] == -1).all()


def check_bounds(layout: Layout, n_kept: int) -> None:
    assert 1 <= layout.lanes <= 32
    assert layout.lanes & (layout.lanes - 1) == 0
    words = layout.rows * layout.chunks
    if words == 0:
        assert (layout.lanes, layout.n_steps, layout.n_segments, layout.total_steps) == (1, 0, 0, 0)
        return
    assert 1 <= layout.row_stride <= layout.rows
    assert math.gcd(layout.row_stride, layout.rows) == 1
    assert 1 <= layout.n_steps <= layout.total_steps
    assert (layout.n_segments - 1) * layout.n_steps < layout.total_steps
    assert layout.total_steps <= layout.n_segments * layout.n_steps
    assert layout.lanes * layout.total_steps >= words
    assert layout.ring_words < module.MAX_RING_WORDS + layout.lanes
    if layout.lanes > 1:
        assert max(n_kept, 1) / 32 >= layout.lanes * module.MIN_LANE_CODE
        assert layout.lanes < 2 * layout.panel_chunks
    slots = layout.total_steps * layout.lanes
    stored = layout.ring_words * n_kept / 32 / words
    assert stored <= 1.6 * module.RING_CODE * max(slots / words, 1)


@pytest.mark.parametrize(("rows", "cols"), SHAPES)
@pytest.mark.parametrize("share", [0.0, 0.02, 0.5, 1.0])
@pytest.mark.parametrize("lanes", [None, 1, 2, 3, 8, 32])
def test_every_word_is_coded_once(rows: int, cols: int, share: float, lanes: int | None) -> None:
    n_kept = int(share * rows * cols)
    layout = Layout.choose(rows, cols, n_kept, lanes=lanes)
    check_bijection(layout)
    assert (layout.rows, layout.cols) == (rows, cols)
    if lanes is None:
        check_bounds(layout, n_kept)
    elif rows * cols:
        assert layout.lanes == lanes


@pytest.mark.parametrize("n_kept", [0, 4096 * 11008 // 10, 4096 * 11008])
def test_a_large_matrix_is_coded_once(n_kept: int) -> None:
    layout = Layout.choose(4096, 11008, n_kept)
    check_bijection(layout)
    check_bounds(layout, n_kept)
    if n_kept:
        assert layout.lanes == 32
        assert layout.n_segments > 1


@settings(derandomize=True, deadline=None, max_examples=200)
@given(
    rows=st.integers(1, 60),
    cols=st.integers(1, 3000),
    lanes=st.integers(1, 32),
    n_steps=st.integers(1, 700),
    data=st.data(),
)
def test_any_layout_is_a_bijection(
    rows: int, cols: int, lanes: int, n_steps: int, data: st.DataObject
) -> None:
    stride = data.draw(st.sampled_from([s for s in range(1, rows + 1) if math.gcd(s, rows) == 1] or [1]))
    check_bijection(Layout(rows=rows, cols=cols, lanes=lanes, n_steps=n_steps, row_stride=stride))


@settings(derandomize=True, deadline=None, max_examples=300)
@given(rows=st.integers(0, 1 << 20), cols=st.integers(0, 1 << 18), share=st.floats(0, 1))
def test_choice_keeps_its_bounds(rows: int, cols: int, share: float) -> None:
    n_kept = int(share * rows * cols)
    check_bounds(Layout.choose(rows, cols, n_kept), n_kept)


def test_word_index_is_the_equations_of_the_module() -> None:
    layout = Layout(rows=9, cols=70 * 32 - 3, lanes=5, n_steps=50, row_stride=4)
    rows, chunks, lanes, _, stride, panel_chunks, n_sub = layout.params()
    assert (chunks, panel_chunks, n_sub, layout.n_panels) == (70, 24, 5, 3)
    index = layout.word_index(np.arange(layout.total_steps, dtype=np.int64))
    for t in range(layout.total_steps):
        c, i, p = t % n_sub, t // n_sub % rows, t // n_sub // rows
        for lane in range(lanes):
            k = (c * lanes + lane + i) % (n_sub * lanes)
            chunk = p * panel_chunks + k
            absent = k >= panel_chunks or chunk >= chunks
            assert index[t, lane] == (-1 if absent else i * stride % rows * chunks + chunk)


def test_word_index_takes_steps_of_any_shape() -> None:
    layout = Layout.choose(12, 500, 1000)
    steps = np.arange(6, dtype=np.int64).reshape(2, 3)
    assert layout.word_index(steps).shape == (2, 3, layout.lanes)
    assert (layout.word_index(steps).reshape(6, -1) == layout.word_index(steps.ravel())).all()


@pytest.mark.parametrize("rows", [97, 384, 1000, 4096, 11008, 30030])
def test_every_stretch_of_steps_samples_all_rows(rows: int) -> None:
    stride = Layout.choose(rows, 64, rows).row_stride
    for begin in (0, rows // 3, rows - rows // 8):
        visited = np.arange(begin, begin + rows // 8) * stride % rows
        per_band = np.bincount(visited * 8 // rows, minlength=8)
        assert abs(per_band * 64 / rows - 1).max() <= 0.1 + 150 / rows


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"lanes": 0}, "lanes = 0 is outside 1..32"),
        ({"lanes": 33}, "lanes = 33 is outside 1..32"),
        ({"rows": -1}, "must not be negative"),
        ({"cols": -1}, "must not be negative"),
        ({"n_steps": -1}, "must not be negative"),
        ({"n_steps": 0}, "n_steps = 0 for a tensor that has weights"),
        ({"row_stride": 0}, "row_stride 0 is not coprime to 10 rows"),
        ({"row_stride": 4}, "row_stride 4 is not coprime to 10 rows"),
        ({"row_stride": -3}, "row_stride -3 is not coprime"),
    ],
)
def test_bounds(change: dict[str, int], message: str) -> None:
    good = {"rows": 10, "cols": 100, "lanes": 4, "n_steps": 5, "row_stride": 3}
    Layout(**good)
    with pytest.raises(ParameterError, match=message):
        Layout(**{**good, **change})


@pytest.mark.parametrize("rows", [0, 1, 2, 12, 64])
def test_rows_are_visited_by_strides_of_at_most_all_of_them(rows: int) -> None:
    """Kernels multiply the stride, unchecked: one that is too large ends outside their memory."""
    for stride in (1, rows - 1, rows, rows + 1, 2 * rows + 1, (1 << 40) + 1, (1 << 63) + 1):
        fine = 1 <= stride <= max(rows, 1) and math.gcd(stride, rows or 1) == 1
        if rows == 0 and stride < 1:
            continue
        if fine:
            Layout(rows=rows, cols=40, lanes=1, n_steps=1, row_stride=stride)
        else:
            with pytest.raises(ParameterError, match=f"row_stride {stride} is"):
                Layout(rows=rows, cols=40, lanes=1, n_steps=1, row_stride=stride)
    with pytest.raises(ParameterError, match="n_steps = 1073741825 is more than"):
        Layout(rows=rows, cols=40, lanes=1, n_steps=(1 << 30) + 1, row_stride=1)
