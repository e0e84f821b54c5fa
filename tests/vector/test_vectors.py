"""The vector functions: compiled code equals their plain numpy bodies."""

from __future__ import annotations

import numpy as np
import pytest
from numba import njit

from xorpack.vector import bitops, symbols, xor
from xorpack.vector.aligned import aligned, as_aligned

rng = np.random.default_rng(11)


@pytest.mark.parametrize("value", [0, 1, 6, 1 << 31, 1 << 63, (1 << 64) - 1])
def test_bit_counts(value):
    zeros = njit(lambda x: bitops.trailing_zeros(x))
    ones = njit(lambda x: bitops.count_ones(x))
    assert zeros(np.uint64(value)) == bitops.trailing_zeros(value)
    assert ones(np.uint64(value)) == bitops.count_ones(value) == value.bit_count()


def _both(body, outputs, *arguments):
    """Run ``body`` plain and compiled on copies of ``outputs``; they must agree."""
    plain, compiled = [o.copy() for o in outputs], [o.copy() for o in outputs]
    assert body(*plain, *arguments) == njit(body)(*compiled, *arguments)
    for a, b in zip(plain, compiled, strict=True):
        assert a.tobytes() == b.tobytes()
    return plain


def test_xor8():
    a, b = (rng.integers(0, 1 << 64, 40, dtype=np.uint64) for _ in range(2))

    def body(target, a, b):
        xor.xor8(target, 3, a, 16, b, 9)

    (out,) = _both(body, [np.zeros(20, np.uint64)], a, b)
    assert (out[3:11] == a[16:24] ^ b[9:17]).all()


def test_and_lanes():
    a, b = (rng.integers(0, 1 << 32, 80, dtype=np.uint32) for _ in range(2))

    def body(target, a, b):
        xor.and_lanes(target, 1, a, 5, b, 33)

    (out,) = _both(body, [np.zeros(40, np.uint32)], a, b)
    assert (out[1:33] == a[5:37] & b[33:65]).all()


@pytest.mark.parametrize(
    ("n_taps", "n_alike"), [(0, 0), (4, 0), *((n, 0) for n in xor.USUAL_TAPS), xor.ALIKE]
)
@pytest.mark.parametrize("n_planes", [0, 1, 3])
@pytest.mark.parametrize("n_steps", [0, 1, 3])
def test_xor_taps(n_taps, n_alike, n_planes, n_steps):
    source = rng.integers(0, 1 << 32, 32 * 9 + 2 * 77, dtype=np.uint32)
    offsets = np.append(np.int32(0), rng.permutation(np.arange(18, dtype=np.int32) % 8))
    rotations = np.append(np.int32(0), rng.permutation(np.arange(18, dtype=np.int32)))
    rotations[1] = 31
    if n_alike:
        rotations[1:] = ([31] * n_alike + [0] * (n_taps - n_alike)) * 3

    def body(target, source, offsets, rotations):
        xor.xor_taps(target, 3, source, 30, 29, offsets, rotations, 1, n_taps, n_alike, n_planes, 77, n_steps)

    (out,) = _both(body, [np.zeros(6 + 64 * n_planes * n_steps, np.uint32)], source, offsets, rotations)
    for plane in range(n_planes if n_steps else 0):
        at = 3 + 64 * plane
        assert (out[at : at + 32] == out[at + 32 : at + 64]).all()
        first = source[30 + 77 * plane + 29 * offsets[1] :][:32]
        assert n_taps != 1 or (out[at : at + 32] == (first << np.uint32(31) | first >> np.uint32(1))).all()
    assert not out[:3].any()
    assert not out[-3:].any()


def test_copy_words():
    source = rng.integers(0, 1 << 32, 40, dtype=np.uint32)

    def body(target, source, n):
        xor.copy_words(target, 2, source, 5, n)

    for n in (0, 1, 17):
        (out,) = _both(body, [np.zeros(30, np.uint32)], source, n)
        assert (out[2 : 2 + n] == source[5 : 5 + n]).all()
        assert not out[2 + n :].any()


@pytest.mark.parametrize("n", [0, 1, 16, 33, 100])
def test_words_that_others_choose(n):
    a, b = (rng.integers(0, 1 << 32, 120, dtype=np.uint32) for _ in range(2))

    def body(target, a, b, flip, n):
        xor.choose_words(target, 2, a, 5, b, 9, flip, n)

    for flip in (0, 0xFFFFFFFF):
        (out,) = _both(body, [np.zeros(110, np.uint32)], a, b, np.uint32(flip), n)
        assert (out[2 : 2 + n] == a[5 : 5 + n] & (b[9 : 9 + n] ^ np.uint32(flip))).all()
        assert not out[2 + n :].any()


@pytest.mark.parametrize("n", [0, 1, 16, 33, 100])
@pytest.mark.parametrize("step", [16, 48])
def test_words_that_are_spread(n, step):
    a, b, before = (rng.integers(0, 1 << 32, 400, dtype=np.uint32) for _ in range(3))

    def body(target, a, b, keep, flip, n):
        xor.put_words(target, 3, step, keep, a, 7, b, 4, flip, n)

    for keep, flip in ((0, 0), (0xFFFFFFFF, 0), (0xFFFFFFFF, 0xFFFFFFFF)):
        (out,) = _both(body, [before.copy()], a, b, np.uint32(keep), np.uint32(flip), n)
        wanted = before.copy()
        for x in range(n):
            at = 3 + step * (x // 16) + x % 16
            wanted[at] = wanted[at] & np.uint32(keep) | a[7 + x] & (b[4 + x] ^ np.uint32(flip))
        assert (out == wanted).all()


@pytest.mark.parametrize("n", [1, 100])
def test_aligned(n):
    made = njit(lambda n: aligned(n))(n)
    for words in (aligned(n), made, as_aligned(np.arange(n + 3, dtype=np.uint32)[3:])):
        assert words.size == n
        assert words.dtype == np.uint32
        assert words.flags.c_contiguous
        assert words.ctypes.data % 64 == 0
    kept = as_aligned(aligned(n))
    assert as_aligned(kept).ctypes.data == kept.ctypes.data


def test_expand_signs():
    planes = rng.integers(0, 1 << 32, 12, dtype=np.uint32)
    alphas = np.array([0.5, 0.25, -3.0, 1e-30], np.float32)

    def body(out, planes, alphas):
        symbols.expand_signs(out, 2, np.uint32(0xF0F0A5A5), planes, 1, 3, alphas, 1, 3)

    (out,) = _both(body, [np.full(40, 9, np.float32)], planes, alphas)
    assert (out[2:6] != 9).all()
    assert not np.signbit(out[3])


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.uint32])
def test_split_and_join_bits(dtype):
    bits = 8 * np.dtype(dtype).itemsize
    source = rng.integers(0, 1 << bits, 50, dtype=dtype)
    source[10:20] = 0

    def split(planes, source):
        return symbols.split_bits(source, 7, planes, 1, 2, planes.size // 2)

    (planes,) = _both(split, [np.zeros(2 * bits, np.uint32)], source)
    assert symbols.split_bits(source, 7, planes.copy(), 1, 2, bits) == sum(
        1 << j for j in range(32) if source[7 + j]
    )

    def join(out, planes):
        symbols.join_bits(out, 4, planes, 1, 2, planes.size // 2)

    (joined,) = _both(join, [np.zeros(40, dtype)], planes)
    assert (joined[4:36] == source[7:39]).all()


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.uint32])
def test_choose_bits(dtype):
    source = rng.integers(0, 1 << 8 * np.dtype(dtype).itemsize, 50, dtype=dtype)
    bits = np.array([6, 0, 8 * np.dtype(dtype).itemsize - 1])

    def body(planes, source, bits):
        symbols.choose_bits(source, 7, bits, planes, 1, 2)

    (planes,) = _both(body, [np.zeros(8, np.uint32)], source, bits)
    for k, bit in enumerate(bits):
        assert planes[1 + 2 * k] == sum(1 << j for j in range(32) if source[7 + j] >> bit & 1)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.uint32])
@pytest.mark.parametrize("target", [np.uint8, np.uint16, np.uint32])
def test_look_up(dtype, target):
    source = rng.integers(0, 1 << 8, 50).astype(dtype)
    source[10:20] = 0
    table = rng.integers(1, 1 << 32, 16, dtype=np.uint32)

    def body(out, source, table):
        symbols.look_up(source, 7, 2, 15, table, 0xC3, 2, out)

    (out,) = _both(body, [np.full(40, 7, target)], source, table)
    wanted = [int(x) & 0xC3 | int(table[x >> 2 & 15]) << 2 if x else 0 for x in source[7:39]]
    assert out[:32].tolist() == [x & (1 << 8 * out.itemsize) - 1 for x in wanted]
    assert (out[32:] == 7).all()


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.uint32])
@pytest.mark.parametrize(("low", "width", "n_raw", "n_depths"), [(2, 5, 2, 4), (0, 8, 3, 0), (3, 4, 0, 6)])
def test_put_symbols(dtype, low, width, n_raw, n_depths):
    heads = rng.integers(0, 1 << 8, 32, dtype=np.uint32)
    tails = rng.integers(0, 1 << n_depths, 32, dtype=np.uint32)
    table = rng.integers(0, 1 << width, 1 << n_raw + n_depths).astype(dtype)

    def body(out, heads, tails, table):
        symbols.put_symbols(out, 5, np.uint32(0xF0F0A5A5), heads, tails, table, low, width, n_raw, n_depths)

    (out,) = _both(body, [np.full(40, 99, dtype)], heads, tails, table)
    for j in range(32):
        at = (int(heads[j]) >> low) % (1 << n_raw) << n_depths | int(tails[j])
        x = int(heads[j]) & ~((1 << width) - 1 << low) | int(table[at]) << low
        assert out[5 + j] == (x if 0xF0F0A5A5 >> j & 1 else 0)
    assert (out[:5] == 99).all()
    assert (out[37:] == 99).all()
