"""Maps of bytes: compiled code, 64 and 32 bytes at a time, equals the plain numpy bodies."""

from __future__ import annotations

import numpy as np
import pytest
from numba import njit

from xorpack.vector import gf2_bytes
from xorpack.vector.aligned import aligned as aligned_words

rng = np.random.default_rng(5)


def aligned(n, dtype):
    size = n * np.dtype(dtype).itemsize
    return aligned_words(-(-size // 4)).view(np.uint8)[:size].view(dtype)


def random(n, dtype):
    words = aligned(n, dtype)
    words[:] = rng.integers(0, np.iinfo(dtype).max, n, dtype, endpoint=True)
    return words


def both(body, out, *arguments):
    """Run ``body`` plain and compiled on copies of ``out``; they must agree."""
    plain, compiled = out.copy(), aligned(out.size, out.dtype)
    compiled[:] = out
    assert body(plain, *arguments) == njit(body)(compiled, *arguments)
    assert np.array_equal(plain, compiled)
    return plain


@pytest.fixture(
    params=[
        pytest.param("host", marks=pytest.mark.skipif(not gf2_bytes.is_fast(), reason="a CPU without GFNI")),
        pytest.param("avx2", marks=pytest.mark.skipif(not gf2_bytes.is_fast(), reason="a CPU without GFNI")),
    ]
)
def cpu(request, monkeypatch):
    if request.param == "avx2":
        found = frozenset(name for name in gf2_bytes.features() if not name.startswith("avx512"))
        monkeypatch.setattr(gf2_bytes, "features", lambda: found)


@pytest.mark.parametrize(("width", "half"), [(8, 7), (8, 3), (16, 9)])
def test_reduce_rows(cpu, width, half):
    rows = random(8 * width * gf2_bytes.n_groups(width), np.uint64)
    maps, has = random(64 * width * 4 * 20, np.uint8), random(24, np.uint32) & np.uint32(0xFF00FFFF)
    has[7], has[9] = 0, 0xFF0000FF

    def body(groups, rows, maps, has, shape):
        gf2_bytes.reduce_rows(rows, groups, maps, has, 6, 13, 3, 2 * half, shape)

    out = both(body, np.zeros(8 * rows.size, np.uint8), rows, maps, has, (0,) * width)
    assert not np.array_equal(out[8::8][:40], rows.view(np.uint8)[1:41])


@pytest.mark.parametrize(("width", "q"), [(8, 1), (8, 20), (16, 64)])
def test_put_equation(cpu, width, q):
    pattern, words = random(2 * width, np.uint32), np.zeros(-(-q // 16) * 16, np.uint32)
    words[:q] = random(q, np.uint32)

    def body(rows, pattern, words, shape):
        for turn in (0, 1, 31):
            gf2_bytes.put_equation(rows, turn % 29 * len(shape), pattern, turn, words, shape)

    rows = both(body, np.zeros(3 * width, np.uint64), pattern, words, (0,) * width)
    last = [int(rows[k * width + width - 1]) for k in range(3)]
    assert last == [sum((int(word) >> turn & 1) << k for k, word in enumerate(words)) for turn in (0, 1, 31)]


def test_a_map_of_a_pivot_clears_its_bit():
    width, shape = 8, (0,) * 8
    rows, maps = random(8, np.uint64), aligned(64 * width, np.uint8)
    rows[0] |= np.uint64(1 << 13)
    gf2_bytes.add_to_map(maps, 0, rows, 0, 1 << 5, 1, shape)
    groups, several = np.ones(64 * width * 2, np.uint8), np.zeros((16, width), np.uint64)
    several[[0, 3]] = rows
    has = np.array([0xFF00], np.uint32)
    gf2_bytes.reduce_rows(several.reshape(-1), groups, np.concatenate([maps] * 4), has, 0, 1, 0, 14, shape)
    assert not groups.any()


@pytest.mark.parametrize("width", [8, 16])
def test_join_groups(cpu, width):
    groups = random(64 * width * gf2_bytes.n_groups(width), np.uint8)

    def body(rows, groups, shape):
        gf2_bytes.join_groups(groups, rows, shape)

    rows = both(body, np.zeros(groups.size // 8, np.uint64), groups, (0,) * width)
    assert rows.view(np.uint8)[8 * width + 5] == groups[8 * 5 + 1]  # byte 5 of row 1


@pytest.mark.parametrize("width", [8, 16])
def test_used_slots(cpu, width):
    rows = random(3 * width, np.uint64)
    rows.view(np.uint32)[2 * width + np.array([0, 3, 15])] = 0

    def body(rows, shape):
        return gf2_bytes.used_slots(rows, len(shape), shape)

    both(body, rows, (0,) * width)
    assert body(rows, (0,) * width) == (1 << 2 * width) - 1 - 1 - 8 - (1 << 15)


@pytest.mark.parametrize("width", [8, 16])
def test_clear_column(cpu, width):
    rows = random(6 * width, np.uint64)

    def body(rows, shape):
        gf2_bytes.clear_column(rows, 1, 5, 3, 37, shape)

    out = both(body, rows, (0,) * width).reshape(6, width)
    set_before = rows.reshape(6, width)[:, 3] >> np.uint64(37) & np.uint64(1)
    changed = (out != rows.reshape(6, width)).any(axis=1)
    assert np.array_equal(changed[2:5], set_before[2:5] == 1)
    assert not changed[[0, 1, 5]].any()


@pytest.mark.parametrize("width", [8, 16])
@pytest.mark.parametrize("fresh", [0, 1])
def test_add_to_map(cpu, width, fresh):
    def body(maps, rows, fresh, shape):
        gf2_bytes.add_to_map(maps, 64 * len(shape), rows, len(shape), 0b10110, fresh, shape)

    maps, rows = random(3 * 64 * width, np.uint8), random(2 * width, np.uint64)
    out = both(body, maps, rows, fresh, (0,) * width)
    assert np.array_equal(out[: 64 * width], maps[: 64 * width])


@pytest.mark.parametrize("width", [8, 16])
def test_solve_byte(cpu, width):
    def body(maps, solved, shape):
        return gf2_bytes.solve_byte(maps, 64 * len(shape), solved, len(shape), shape)

    both(body, random(2 * 64 * width, np.uint8), random(2 * width, np.uint64), (0,) * width)
