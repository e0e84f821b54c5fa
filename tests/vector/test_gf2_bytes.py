"""Maps of bytes: compiled code, 64 and 32 bytes at a time, equals the plain numpy bodies."""

from __future__ import annotations

import numpy as np
import pytest
from numba import njit

from xorpack.vector import cpu as cpus
from xorpack.vector import gf2_bytes, gf2_pivots
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
        name, features = cpus.target()
        found = frozenset(each for each in features if not each.startswith("avx512"))
        monkeypatch.setattr(cpus, "target", lambda: (name, found))


@pytest.mark.parametrize(("width", "half"), [(8, 7), (8, 3), (16, 9)])
def test_reduce_rows(cpu, width, half):
    rows = random(8 * width * gf2_bytes.N_GROUPS, np.uint64)
    maps, has = random(64 * width * 4 * 20, np.uint8), random(24, np.uint32) & np.uint32(0xFF00FFFF)
    has[7], has[9] = 0, 0xFF0000FF

    def body(groups, rows, maps, has, shape):
        gf2_bytes.reduce_rows(rows, groups, maps, has, 6, 13, 3, 2 * half, shape)

    out = both(body, np.zeros(8 * rows.size, np.uint8), rows, maps, has, (0,) * width)
    assert not np.array_equal(out[8::8][:40], rows.view(np.uint8)[1:41])


@pytest.mark.parametrize(("width", "n"), [(8, 14), (8, 16), (16, 18)])
def test_put_equation(cpu, width, n):
    patterns = random(50, np.uint32)

    def body(rows, patterns, shape):
        for turn in (0, 1, 31):
            gf2_bytes.put_equation(rows, turn % 29 * len(shape), patterns, 5, n, turn, 7 + turn, shape)

    rows = both(body, np.zeros(3 * width, np.uint64), patterns, (0,) * width).reshape(3, width)
    assert rows[:, -1].tolist() == [7, 8, 38]
    words = rows.view(np.uint32)[:, : 2 * width - 2]
    for k, turn in enumerate((0, 1, 31)):
        turned = [(int(word) << turn | int(word) >> (32 - turn)) & 0xFFFFFFFF for word in patterns[5 : 5 + n]]
        assert words[k, :n].tolist() == turned[: 2 * width - 2]
        assert not words[k, n:].any()


def test_free_bytes(cpu):
    has = np.full(40, 0xFFFFFFFF, np.uint32)
    has[[7, 9, 22, 23]] = 0xFFFF00FF, 0, 0x7FFFFFFF, 0

    def body(out, has):
        out[0] = gf2_bytes.free_bytes(has, 7)

    assert both(body, np.zeros(1, np.uint64), has)[0] == 1 << 1 | 15 << 8 | 1 << 63


@pytest.mark.parametrize("width", [8, 16])
def test_used_bytes(cpu, width):
    n = 8 * gf2_bytes.N_GROUPS
    rows = np.zeros((n, 8 * width), np.uint8)
    rows[1, 0], rows[n - 1, 37], rows[3, 63], rows[3, 8 * width - 1] = 1, 128, 16, 1
    groups = gf2_bytes.sliced(rows)

    def body(out, groups, shape):
        out[0] = gf2_bytes.used_bytes(groups, shape)

    assert both(body, np.zeros(1, np.uint64), groups, (0,) * width)[0] == 1 | 1 << 37 | 1 << 63


@pytest.mark.parametrize("width", [8, 16])
def test_join_groups(cpu, width):
    groups = random(64 * width * gf2_bytes.N_GROUPS, np.uint8)

    def body(rows, groups, shape):
        gf2_bytes.join_groups(groups, rows, shape)

    rows = both(body, np.zeros(groups.size // 8, np.uint64), groups, (0,) * width)
    bits = [int(groups[8 * 5 + 7 - i]) >> (7 - 1) & 1 for i in range(8)]  # byte 5 of row 1
    assert rows.view(np.uint8)[8 * width + 5] == sum(bit << i for i, bit in enumerate(bits))
    again = gf2_bytes.sliced(rows.view(np.uint8).reshape(-1, 8 * width))
    assert np.array_equal(again, groups)


@pytest.mark.parametrize(("width", "first", "ring"), [(8, 3, 56), (8, 53, 56), (16, 70, 72)])
def test_find_pivots(cpu, width, first, ring):
    rows = random(8 * width * gf2_bytes.N_GROUPS, np.uint64)
    table = rows.view(np.uint8).reshape(-1, 8 * width)
    table[2], table[5] = table[1] ^ table[0], 0
    groups = gf2_bytes.sliced(table)

    n = gf2_bytes.N_GROUPS
    places, octets = (first + np.arange(6)) % ring, random(6, np.uint64)
    places[4], octets[4] = places[0], octets[0]

    def body(out, groups, places, octets, shape):
        out[20] = gf2_pivots.find_pivots(groups, places, octets, out, out[16:], shape)

    out = both(body, np.zeros(21, np.uint64), groups, places, octets, (0,) * width)
    taken = int(out[20])
    assert taken >> 48 == (1 << 8 * n) - 1 - 0b100100  # neither the sum of two rows nor nothing
    assert (taken & (1 << 48) - 1).bit_count() == 8 * n - 2
    chosen = np.unpackbits(out[16 : 16 + n * n].view(np.uint8).reshape(n, n, 8, 1), axis=3)
    chosen = chosen.transpose(0, 2, 1, 3).reshape(8 * n, 8 * n)
    assert np.array_equal(
        chosen[[2, 5]], np.eye(8 * n, dtype=np.uint8)[[2, 5]] | [[1, 1] + [0] * (8 * n - 2), [0] * 8 * n]
    )
    assert not np.delete(chosen, [2, 5], axis=0).any()
    maps = aligned(64 * width, np.uint8)
    for k in range(6):
        gf2_pivots.add_to_map(maps, 0, groups, out, k, True, (0,) * width)
        own = maps[8 * places[k] : 8 * places[k] + 8]
        for i in range(8):
            if taken >> 8 * k + i & 1:  # the new pivot is added where this bit is 1 after the old ones were
                assert own[7 - i] == int(octets[k]) >> 8 * (7 - i) & 255 | 1 << i


@pytest.mark.parametrize("width", [8, 16])
@pytest.mark.parametrize("fresh", [False, True])
def test_add_to_map(cpu, width, fresh):
    n = gf2_bytes.N_GROUPS
    rows = random(8 * width * n, np.uint64)
    groups = gf2_bytes.sliced(rows.view(np.uint8).reshape(-1, 8 * width))
    sums = np.zeros(16, np.uint64)
    for b in (1, 2, 5):  # row 3 of the last group, by an odd number of these bits
        sums[8 * n - 7] |= np.uint64(1 << 8 * (7 - b) + 7 - 3)

    def body(maps, groups, sums, fresh, shape):
        gf2_pivots.add_to_map(maps, 64 * len(shape), groups, sums, 1, fresh, shape)

    maps = random(3 * 64 * width, np.uint8)
    out = both(body, maps, groups, sums, fresh, (0,) * width)
    assert np.array_equal(out[: 64 * width], maps[: 64 * width])
    row = rows.reshape(-1, width)[8 * n - 5].view(np.uint8)
    chosen = np.unpackbits(row.reshape(-1, 1), axis=1).reshape(-1) * np.uint8(0b100110)
    before = maps[64 * width : 128 * width] * np.uint8(not fresh)
    assert np.array_equal(out[64 * width : 128 * width], before ^ chosen)


@pytest.mark.parametrize("width", [8, 16])
def test_mix_groups(cpu, width):
    n = gf2_bytes.N_GROUPS
    rows = random(8 * width * n, np.uint64).reshape(-1, width)
    groups = aligned(64 * width * n, np.uint8)
    groups[:] = gf2_bytes.sliced(rows.view(np.uint8))
    mixing = np.zeros(n * n, np.uint64)
    mixing[-1] = 0b1000_0010 << 8 * 4  # of the last group, row 4 becomes the sum of rows 0 and 6

    def body(groups, mixing, shape):
        gf2_pivots.mix_groups(groups, mixing, shape)

    mixed = gf2_bytes.joined(both(body, groups, mixing, (0,) * width), width).view(np.uint64)
    assert np.array_equal(mixed[8 * n - 4], rows[8 * n - 8] ^ rows[8 * n - 2])
    assert not np.delete(mixed, 8 * n - 4, axis=0).any()


@pytest.mark.parametrize("width", [8, 16])
def test_solve_byte(cpu, width):
    def body(maps, solved, shape):
        return gf2_pivots.solve_byte(maps, 64 * len(shape), solved, len(shape), shape)

    both(body, random(2 * 64 * width, np.uint8), random(2 * width, np.uint64), (0,) * width)
