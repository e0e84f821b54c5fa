"""Planes that are constant but for a few: chosen by cost, not coded, mended by corrections."""

from __future__ import annotations

from dataclasses import replace

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from samples import bcq, hostile, pruned, replaced, same

import xorpack
from xorpack import XorNetwork
from xorpack.code import words
from xorpack.code.corrections import Corrections
from xorpack.decoders import cpu, reference
from xorpack.encoding.constants import choose_constants, coded_planes, merge
from xorpack.encoding.rings.gather import ElementSource, PlaneSource
from xorpack.errors import FormatError

DTYPES = [np.uint8, np.int8, np.float16, ml_dtypes.bfloat16, np.float32]
UNSIGNED = {1: np.uint8, 2: np.uint16, 4: np.uint32}
laws = settings(max_examples=80, deadline=None, derandomize=True)


def elements(dtype, shape, zeros, ones, odd, sparsity=0.4, seed=0):
    """Random bits; planes of ``zeros`` and ``ones`` are constant, but for a share of ``odd`` elements."""
    unsigned = UNSIGNED[np.dtype(dtype).itemsize]
    rng = np.random.default_rng([seed, *shape])
    free = rng.integers(0, np.iinfo(unsigned).max, shape, dtype=unsigned, endpoint=True)
    whole = np.where(
        rng.random(shape) < odd, free, free & unsigned(~zeros & np.iinfo(unsigned).max) | unsigned(ones)
    )
    whole[rng.random(shape) < sparsity] = 0
    return whole.astype(unsigned).view(dtype)


def round_trip(array, **how):
    """Encode, all planes one by one, and decode by both decoders, whole and by rows."""
    encoded = xorpack.encode(array, field="none", **how)
    assert same(xorpack.decode(encoded), array)
    assert same(reference.decode_dense(encoded).reshape(array.shape), array)
    first, last = encoded.rows // 3, encoded.rows - encoded.rows // 4
    part = array.reshape(encoded.rows, encoded.cols)[first:last]
    assert same(cpu.decode_rows(encoded, first, last), part)
    assert same(reference.decode_dense(encoded, first, last), part)
    return encoded


@laws
@given(st.integers(0, 10**6), st.lists(st.floats(0, 1), min_size=1, max_size=32))
def test_choice(n_kept, shares):
    ones = [round(share * n_kept) for share in shares]
    always_zero, always_one = choose_constants(ones, n_kept)
    assert always_zero & always_one == 0
    assert (always_zero | always_one) >> len(ones) == 0
    for k, count in enumerate(ones):
        chosen = (always_zero | always_one) >> k & 1
        assert not chosen or always_one >> k & 1 == (2 * count > n_kept)
        exceptions = min(count, n_kept - count)
        if n_kept and exceptions == 0:
            assert chosen
        if exceptions > n_kept / 5:
            assert not chosen
    flipped = choose_constants([n_kept - count for count in ones], n_kept)
    assert flipped[0] | flipped[1] == always_zero | always_one
    if all(2 * count != n_kept for count in ones):
        assert flipped == (always_one, always_zero)


def test_choice_of_few_and_none():
    assert choose_constants([0, 5, 3], 0) == (0, 0)
    assert choose_constants([0, 100, 50, 99_999], 100_000) == (0b111, 0b1000)
    assert choose_constants([1, 0], 1) == (0b10, 0b01)
    assert coded_planes(0b1011, 6) == [2, 4, 5]
    assert coded_planes(0, 3) == [0, 1, 2]


@laws
@given(st.data(), st.integers(1, 32))
def test_merge(data, q):
    constants = data.draw(st.integers(0, (1 << q) - 1))
    coded = coded_planes(constants, q)
    n = len(coded)
    mine = data.draw(st.dictionaries(st.integers(0, 60), st.integers(1, (1 << n) - 1))) if n else {}
    odd = st.integers(1, (1 << q) - 1).map(lambda v: v & constants).filter(bool)
    theirs = data.draw(st.dictionaries(st.integers(0, 60), odd)) if constants else {}
    expected: dict[int, int] = dict(theirs)
    for position, value in mine.items():
        spread = sum((value >> j & 1) << k for j, k in enumerate(coded))
        expected[position] = expected.get(position, 0) ^ spread
    merged = merge(corrections(mine), coded, corrections(theirs))
    assert merged.positions.tolist() == sorted(expected)
    assert merged.values.tolist() == [expected[p] for p in sorted(expected)]
    assert merged.positions.dtype == np.int64
    assert merged.values.dtype == np.uint64


def corrections(found: dict[int, int]) -> Corrections:
    order = sorted(found)
    return Corrections(np.array(order, np.int64), np.array([found[p] for p in order], np.uint64))


@pytest.mark.parametrize("cols", [1, 31, 32, 77])
@pytest.mark.parametrize(("zeros", "ones"), [(0b0010, 0b1000), (0b1111, 0), (0, 0b0001)])
def test_exceptions(cols, zeros, ones):
    tensor = bcq((13, cols), 0.4, 4)
    kept, bits = words.unpack(tensor.mask, cols), words.unpack(tensor.planes, cols)
    source = PlaneSource(tensor.mask, tensor.planes)
    expected = np.zeros((13, cols), np.int64)
    for k in range(4):
        if (zeros | ones) >> k & 1:
            expected |= (kept & (bits[k] != ones >> k & 1)).astype(np.int64) << k
    found = source.exceptions(zeros, ones, cols)
    assert found.positions.tolist() == np.flatnonzero(expected).tolist()
    assert found.values.tolist() == expected[expected != 0].tolist()
    whole = sum(bits[k].astype(np.uint8) << np.uint8(k) for k in range(4)).astype(np.uint8)
    source = ElementSource(whole)
    found = source.exceptions(zeros, ones, cols)
    wrong = np.where(whole != 0, (whole & zeros) | (~whole & ones), 0)
    assert found.positions.tolist() == np.flatnonzero(wrong).tolist()
    assert found.values.tolist() == wrong[wrong != 0].tolist()


@pytest.mark.parametrize("dtype", DTYPES, ids=lambda t: t.__name__)
@pytest.mark.parametrize("odd", [0.0, 0.02])
@pytest.mark.parametrize("sparsity", [0.0, 0.4, 0.9])
def test_round_trip_with_exceptions_and_wrong_gates(dtype, odd, sparsity):
    q = 8 * np.dtype(dtype).itemsize
    zeros, ones = 0b1001 << q - 4, 0b0110 << q - 4
    array = elements(dtype, (61, 133), zeros, ones, odd, sparsity)
    own = round_trip(array)
    assert own.planes.constants == (zeros, ones)
    assert own.code.shape[0] == q - 4
    network = XorNetwork.quasi_cyclic(window=3, n_taps=3)
    poor = round_trip(array, network=network, rate=min(1.0, 0.8 * (1 - sparsity)))
    assert poor.planes.constants == (zeros, ones)
    values = poor.load_corrections().values
    rare, coded = values & np.uint64(zeros | ones), values & np.uint64((1 << q - 4) - 1)
    assert coded.any()
    assert rare.any() == (odd > 0)
    assert (rare[coded != 0] != 0).any() == (odd > 0)  # some positions need both


@pytest.mark.parametrize("dtype", DTYPES, ids=lambda t: t.__name__)
@pytest.mark.parametrize("shape", [(40, 50), (3, 3000), (1,), (5, 3, 7)], ids=str)
def test_all_planes_constant(dtype, shape):
    q = 8 * np.dtype(dtype).itemsize
    ones = 0b01011010 << q - 8
    zeros = (1 << q) - 1 - ones
    for sparsity in (0.0, 0.9):
        array = elements(dtype, shape, zeros, ones, 0.0, sparsity)
        array.reshape(-1)[:1] = elements(dtype, (1,), zeros, ones, 0.0, 0.0)
        encoded = round_trip(array)
        assert encoded.planes.constants == (zeros, ones)
        assert encoded.n_corrections == encoded.code.size == 0
    for network in (XorNetwork.dense(n_in=2, n_out=5), XorNetwork.identity(), XorNetwork.quasi_cyclic()):
        assert round_trip(array, network=network).code.size == 0


def test_all_planes_constant_with_exceptions():
    array = elements(np.uint8, (50, 100), 0x5A, 0xA5, 0.01)
    encoded = round_trip(array)
    assert encoded.planes.constants == (0x5A, 0xA5)
    assert 0 < encoded.n_corrections < 60
    assert encoded.code.size == 0


def test_more_exceptions_than_the_sample_shows():
    array = np.full((600, 1000), 0x41, np.uint8)
    array[:, 1::2] ^= np.arange(500, dtype=np.uint8) * 2  # every other element is looked at
    encoded = round_trip(array)
    assert encoded.planes.constants == (0xBE, 0x41)
    assert encoded.n_corrections > 100_000


def test_nothing_is_constant_where_nothing_repeats():
    for dtype in DTYPES:
        round_trip(hostile(dtype))
    for array in (np.zeros((3, 40), np.float32), np.zeros((0, 4), np.uint8)):
        assert round_trip(array).planes.constants == (0, 0)


@pytest.mark.parametrize("mask_codec", ["bitmap", "cascade"])
@pytest.mark.parametrize("value", [0, 1])
def test_planes_of_bcq(mask_codec, value):
    tensor = bcq((60, 133), 0.8, 3)
    rng = np.random.default_rng(3)
    for planes, n_odd in ([1], 0), ([1], 9), ([0, 2], 9), ([0, 1, 2], 9):
        changed = tensor.planes.copy()
        for k in planes:
            bits = np.full((60, 133), bool(value))
            bits.reshape(-1)[rng.integers(0, bits.size, n_odd)] ^= True
            changed[k] = words.pack(bits) & tensor.mask
        given_planes = replace(tensor, planes=changed)
        encoded = xorpack.encode(given_planes, mask_codec=mask_codec)
        expected = sum(1 << k for k in planes)
        assert encoded.planes.constants == ((0, expected) if value else (expected, 0))
        assert encoded.code.shape[0] == 3 - len(planes)
        assert same(xorpack.decode(encoded), given_planes)
        for first, last in ((0, 60), (7, 31)):
            for decoder in (cpu, reference):
                mask, found = decoder.decode_planes(encoded, first, last)
                assert same(mask, tensor.mask[first:last])
                assert same(found, np.ascontiguousarray(changed[:, first:last]))


def test_constant_planes_save_their_bits():
    values = np.random.default_rng(5).standard_normal((400, 300)).astype(np.float32) * np.float32(0.02)
    encoded = xorpack.encode(values, field="none")
    exact = xorpack.encode(values, field="none", network=XorNetwork.identity(), lanes=10)
    assert encoded.planes.constants == exact.planes.constants
    assert sum(encoded.planes.constants).bit_count() >= 3
    assert sum(encoded.section_bytes().values()) < 0.93 * values.nbytes


@pytest.mark.parametrize(
    "constants", [(1, 1), (0b110, 0b010), (-1, 0), (0, -4), (0b1000, 0), (0, 1 << 70), (8, 8)], ids=str
)
def test_sets_that_overlap_or_are_out_of_range(constants):
    encoded = xorpack.encode(bcq((30, 40), 0.5, 3))
    assert encoded.planes.constants == (0, 0)
    with pytest.raises(FormatError, match=r"constant planes .* of 3"):
        replaced(encoded, constants=constants)


@pytest.fixture
def middle_constant():
    """A tensor of three planes, of which the middle one is constant."""
    tensor = bcq((30, 40), 0.5, 3)
    planes = tensor.planes.copy()
    planes[1] = 0
    encoded = xorpack.encode(replace(tensor, planes=planes))
    assert encoded.planes.constants == (0b010, 0)
    return encoded


def test_other_planes_than_were_coded(middle_constant):
    """As many planes, others: well-formed, but not what was encoded."""
    planes = xorpack.decode(middle_constant).planes
    assert not same(xorpack.decode(replaced(middle_constant, constants=(1, 0))).planes, planes)


@pytest.mark.parametrize("constants", [(0, 0), (3, 0), (0b011, 0b100)], ids=str)
def test_wrong_number_of_coded_planes(constants, middle_constant):
    n_coded = 3 - sum(constants).bit_count()
    with pytest.raises(FormatError, match=rf"code of shape .* not \({n_coded}, 1, m, 1\)"):
        replaced(middle_constant, constants=constants)


def test_no_stored_words_only_where_no_plane_is_coded():
    encoded = xorpack.encode(pruned((30, 40), 0.5, np.uint8))
    empty = encoded.code[:, :, :0]
    with pytest.raises(FormatError, match="0 stored words"):
        replaced(encoded, code=empty)
    replaced(encoded, constants=(0xFF, 0), code=empty[:0])
