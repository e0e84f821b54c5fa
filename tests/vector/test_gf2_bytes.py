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


def shape_of(half, tail):
    return (0,) * half, (0,) * tail


def in_groups(half, tail):
    """Random groups, whose rows have nothing between window and tail, and the rows: (n, bytes)."""
    rows = random(8 * (2 * half + tail) * gf2_bytes.N_GROUPS, np.uint64).view(np.uint8)
    rows = rows.reshape(8 * gf2_bytes.N_GROUPS, -1)
    rows[:, 8 * half : 16 * half] = 0
    groups = aligned(rows.size, np.uint8)
    groups[:] = gf2_bytes.sliced(rows)
    return groups, rows


SHAPES = [(7, 1), (3, 1), (7, 7), (2, 2), (15, 1)]


@pytest.mark.parametrize("first", [6, 7])
@pytest.mark.parametrize(("half", "tail"), SHAPES)
def test_reduce_rows(cpu, half, tail, first):
    shape = shape_of(half, tail)
    width = gf2_bytes.sizes(shape)[2]
    rows = random(8 * width * gf2_bytes.N_GROUPS, np.uint64)
    maps, has = random(gf2_bytes.map_size(shape) * 8 * 20, np.uint8), random(20, np.uint64)
    has[3:5] &= np.uint64(0xFF00FFFF00FFFFFF)
    has[4] = 0

    def body(groups, rows, maps, has, shape):
        gf2_bytes.reduce_rows(rows, groups, maps, has, first, 2, shape)

    n = gf2_bytes.N_GROUPS * gf2_bytes.group_size(shape)
    groups = both(body, np.zeros(n, np.uint8), rows, maps, has, shape)
    found = gf2_bytes.joined(groups, shape)
    before = rows.view(np.uint8).reshape(len(found), -1)
    assert not found[:, 8 * half : 16 * half].any()
    assert not np.array_equal(found[:, : 8 * half], before[:, : 8 * half])
    has[3] &= np.uint64(0xFFFFFFFF00000000)  # the maps of a word before the first one are not asked
    without = both(body, np.zeros(n, np.uint8), rows, maps, has, shape)
    assert np.array_equal(groups, without) == (first == 7)
    # Linear: of the sum of two rows comes the sum of what comes of each.
    rows[:width] = rows[width : 2 * width] ^ rows[2 * width : 3 * width]
    found = gf2_bytes.joined(both(body, np.zeros(n, np.uint8), rows, maps, has, shape), shape)
    assert np.array_equal(found[0], found[1] ^ found[2])


@pytest.mark.parametrize("width", [8, 16])
def test_put_equations(cpu, width):
    patterns, shape, n = random(50, np.uint32), shape_of(width // 2, width // 2), 5
    bits, pairs = 1 | 1 << 1 | 1 << 16 | 1 << 31, random(2, np.uint64)

    def body(out, patterns, pairs, shape):
        rows, where = out[: n * width], out[n * width :].view(np.int64)
        left = gf2_bytes.put_equations(rows, 0, patterns, 5, np.uint32(bits), pairs, where[:4], 100, shape)
        again = gf2_bytes.put_equations(rows, 3, patterns, 5, np.uint32(bits), pairs, where, 100, shape)
        return left, again

    plain, compiled = (aligned(n * width + n, np.uint64) for _ in range(2))
    for out, run in ((plain, body), (compiled, njit(body))):
        out[:] = 0
        assert run(out, patterns, pairs, shape) == (0, 1 << 16 | 1 << 31)  # two rows have room
    assert np.array_equal(plain, compiled)
    assert plain[n * width :].tolist() == [100, 101, 116, 100, 101]
    rows = plain[: n * width].reshape(n, width)
    for row, j in zip(rows, (0, 1, 16, 0, 1), strict=True):
        turned = [(int(word) << j | int(word) >> (32 - j)) & 0xFFFFFFFF for word in patterns[5:]]
        assert row.view(np.uint32)[: 2 * width - 2].tolist() == turned[: 2 * width - 2]
        planes = [int(pairs[k // 2]) >> 2 * j + k % 2 & 1 for k in range(4)]
        assert row[-1] == sum(bit << k for k, bit in enumerate(planes))


def test_free_bytes(cpu):
    has = np.full(40, 0xFFFFFFFF, np.uint32)
    has[[7, 9, 22, 23]] = 0xFFFF00FF, 0, 0x7FFFFFFF, 0

    def body(out, has):
        out[0] = gf2_bytes.free_bytes(has, 7)

    assert both(body, np.zeros(1, np.uint64), has)[0] == 1 << 1 | 15 << 8 | 1 << 63


@pytest.mark.parametrize(("half", "used"), [(15, 1 | 1 << 37 | 1 << 63), (7, 1 | 1 << 37), (2, 1)])
def test_used_bytes(cpu, half, used):
    n, shape = 8 * gf2_bytes.N_GROUPS, shape_of(half, 1)
    rows = np.zeros((n, 8 * (2 * half + 1)), np.uint8)
    rows[1, 0], rows[3, -1] = 1, 1
    for r, k in ((n - 1, 37), (3, 63)):
        if k < 8 * half:
            rows[r, k] = 16
    groups = gf2_bytes.sliced(rows)

    def body(out, groups, shape):
        out[0] = gf2_bytes.used_bytes(groups, shape)

    assert both(body, np.zeros(1, np.uint64), groups, shape)[0] == used


@pytest.mark.parametrize(("half", "tail"), SHAPES)
def test_join_tails(cpu, half, tail):
    groups, rows = in_groups(half, tail)

    def body(tails, groups, shape):
        gf2_bytes.join_tails(groups, tails, shape)

    tails = both(body, np.zeros(64 * gf2_bytes.N_GROUPS, np.uint64), groups, shape_of(half, tail))
    tails = tails.view(np.uint8).reshape(len(rows), 64)
    assert np.array_equal(tails[:, : 8 * tail], rows[:, 16 * half :])
    assert not tails[:, 8 * tail :].any()
    bits = [int(groups[8 * 5 + 7 - i]) >> (7 - 1) & 1 for i in range(8)]  # byte 5 of row 1
    assert rows[1, 5] == sum(bit << i for i, bit in enumerate(bits))
    assert np.array_equal(gf2_bytes.joined(groups, shape_of(half, tail)), rows)


@pytest.mark.parametrize(("half", "tail", "first"), [(7, 1, 3), (7, 7, 35), (15, 1, 70)])
def test_find_pivots(cpu, half, tail, first):
    _, table = in_groups(half, tail)
    table[2], table[5] = table[1] ^ table[0], 0
    groups, shape = gf2_bytes.sliced(table), shape_of(half, tail)

    n, size = gf2_bytes.N_GROUPS, gf2_bytes.map_size(shape) // 8
    free = np.uint64(0b101111 << 9)  # five bytes of a row: the first one takes the sixth's place
    places = np.array([first + 9 + k for k in (0, 1, 2, 3, 5, 0)])
    words, standing = random(80 * size, np.uint64), np.ones(120, np.uint8)
    standing[32 + 9 + 2] = 0
    octets = words[size * (places - first + 32 - 16) + (places - first + 32) % 8]
    octets[2] = 0

    def body(out, groups, words, standing, shape):
        left, most = np.uint64((1 << 8 * gf2_bytes.N_GROUPS) - 1), out[16:]
        out[20] = gf2_pivots.find_pivots(groups, left, free, first, words, standing, 32, 16, out, most, shape)

    out = both(body, np.zeros(21, np.uint64), groups, words, standing, shape)
    taken = int(out[20])
    assert taken >> 48 == (1 << 8 * n) - 1 - 0b100100  # neither the sum of two rows nor nothing
    assert (taken & (1 << 48) - 1).bit_count() == 8 * n - 2
    chosen = np.unpackbits(out[16 : 16 + n * n].view(np.uint8).reshape(n, n, 8, 1), axis=3)
    chosen = chosen.transpose(0, 2, 1, 3).reshape(8 * n, 8 * n)
    assert np.array_equal(
        chosen[[2, 5]], np.eye(8 * n, dtype=np.uint8)[[2, 5]] | [[1, 1] + [0] * (8 * n - 2), [0] * 8 * n]
    )
    assert not np.delete(chosen, [2, 5], axis=0).any()
    maps = aligned(gf2_bytes.map_size(shape), np.uint8)
    for k in range(6):
        gf2_pivots.add_to_map(maps, 0, groups, out, k, places[k] // 8, True, shape)
        own = maps[8 * (places[k] % 8) : 8 * (places[k] % 8) + 8]
        for i in range(8):
            if taken >> 8 * k + i & 1:  # the new pivot is added where this bit is 1 after the old ones were
                assert own[7 - i] == int(octets[k]) >> 8 * (7 - i) & 255 | 1 << i


@pytest.mark.parametrize("begin", [0, 1])
@pytest.mark.parametrize(("half", "tail"), SHAPES)
@pytest.mark.parametrize("fresh", [False, True])
def test_add_to_map(cpu, half, tail, fresh, begin):
    n, shape = gf2_bytes.N_GROUPS, shape_of(half, tail)
    groups, rows = in_groups(half, tail)
    sums = np.zeros(16, np.uint64)
    for b in (1, 2, 5):  # row 3 of the last group, by an odd number of these bits
        sums[8 * n - 7] |= np.uint64(1 << 8 * (7 - b) + 7 - 3)
    size = gf2_bytes.map_size(shape)

    def body(maps, groups, sums, fresh, shape):
        gf2_pivots.add_to_map(maps, size, groups, sums, 1, begin, fresh, shape)

    maps = random(3 * size, np.uint8)
    out = both(body, maps, groups, sums, fresh, shape)
    assert np.array_equal(out[:size], maps[:size])
    row = np.concatenate([rows[8 * n - 5, 8 * begin : 8 * (begin + half)], rows[8 * n - 5, 16 * half :]])
    chosen = np.unpackbits(row.reshape(-1, 1), axis=1).reshape(-1) * np.uint8(0b100110)
    before = maps[size : 2 * size] * np.uint8(not fresh)
    assert np.array_equal(out[size : 2 * size], before ^ chosen)


@pytest.mark.parametrize(("half", "tail"), SHAPES)
def test_mix_groups(cpu, half, tail):
    n, shape = gf2_bytes.N_GROUPS, shape_of(half, tail)
    groups, rows = in_groups(half, tail)
    mixing = np.zeros(n * n, np.uint64)
    mixing[-1] = 0b1000_0010 << 8 * 4  # of the last group, row 4 becomes the sum of rows 0 and 6

    def body(groups, mixing, shape):
        gf2_pivots.mix_groups(groups, mixing, shape)

    mixed = gf2_bytes.joined(both(body, groups, mixing, shape), shape)
    assert np.array_equal(mixed[8 * n - 4], rows[8 * n - 8] ^ rows[8 * n - 2])
    assert not np.delete(mixed, 8 * n - 4, axis=0).any()


@pytest.mark.parametrize("q", [1, 3])
@pytest.mark.parametrize(("half", "tail"), SHAPES)
def test_solve_pair(cpu, half, tail, q):
    """Compiled code is plain code; and the pair with what follows it is what its maps make of it."""
    shape = shape_of(half, tail)
    size, stride, standing = gf2_bytes.map_size(shape), half + 3, int(random(1, np.uint64)[0])
    maps, tails = random(9 * size, np.uint8), random(q * tail, np.uint64)

    def body(out, maps, tails, shape):
        gf2_pivots.solve_pair(maps, size, np.uint64(standing), out[q:], 1, stride, tails, out[:q], shape)

    before = random(q + q * stride, np.uint64)
    out = both(body, before, maps, tails, shape)
    written = [*range(q), *range(q + 1, out.size, stride)]
    assert np.array_equal(np.delete(out, written), np.delete(before, written))
    for p in range(q):
        assert int(out[p]) & ~standing == 0
        known = np.concatenate([out[q + 1 + p * stride :][:half], tails[p * tail : (p + 1) * tail]])
        bits = np.unpackbits(known.view(np.uint8), bitorder="little")
        for b in range(8):
            later = bits.copy()
            later[: 8 * b + 8] = 0
            made = np.bitwise_xor.reduce(maps[size * (b + 1) : size * (b + 2)] * later)
            assert int(out[p]) >> 8 * b & 255 == int(made) & standing >> 8 * b & 255
