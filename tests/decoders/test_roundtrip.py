"""``decode(encode(x)) == x``, always, by every decoder."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from samples import SHAPES, SPARSITIES, bcq, hostile, pruned, replaced, same

import xorpack
from xorpack import XorNetwork
from xorpack.code.words import popcount
from xorpack.decoders import cpu, reference
from xorpack.errors import ParameterError

FLOATS = [np.float32, np.float16, ml_dtypes.bfloat16]
NARROW = [np.int8, np.uint8, ml_dtypes.float8_e4m3fn, ml_dtypes.float8_e5m2]
OTHERS = [ml_dtypes.float8_e8m0fnu, np.int16, np.uint16, np.int32, np.uint32]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("sparsity", SPARSITIES)
def test_bcq(shape, sparsity):
    tensor = bcq(shape, sparsity, bits=3)
    encoded = xorpack.encode(tensor)
    assert same(xorpack.decode(encoded), tensor)
    for decoder in (reference, cpu):
        mask, planes = decoder.decode_planes(encoded)
        assert same(mask, tensor.mask)
        assert same(planes, tensor.planes)
    dense = tensor.dequantize()
    assert same(cpu.decode_dense(encoded), dense)
    assert same(reference.decode_dense(encoded).reshape(shape), dense)


@pytest.mark.parametrize("dtype", [*FLOATS, *NARROW], ids=str)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_lossless(shape, dtype):
    array = pruned(shape, 0.7, dtype)
    encoded = xorpack.encode(array)
    assert same(xorpack.decode(encoded), array)
    assert same(reference.decode_dense(encoded).reshape(shape), array)
    assert encoded.n_kept == np.count_nonzero(array.astype(np.float32))


@pytest.mark.parametrize("dtype", [*FLOATS, *NARROW, *OTHERS], ids=str)
def test_every_bit_pattern_survives(dtype):
    array = hostile(dtype)
    decoded = xorpack.decode(xorpack.encode(array))
    assert same(decoded, array)


def test_minus_zero_is_kept():
    array = np.array([[0.0, -0.0, 1.0]], np.float32)
    encoded = xorpack.encode(array)
    assert encoded.n_kept == 2
    assert np.signbit(xorpack.decode(encoded)).tolist() == [[False, True, False]]


@pytest.mark.parametrize("bits", range(1, 9))
def test_every_number_of_planes(bits):
    tensor = bcq((40, 200), 0.6, bits, group_size=48)
    assert same(xorpack.decode(xorpack.encode(tensor)), tensor)


def test_strided_readonly_and_big_endian_input():
    array = pruned((60, 90), 0.5)
    views = [array[::2, ::3], array.T, np.asfortranarray(array)]
    array.flags.writeable = False
    for view in [array, *views]:
        assert same(xorpack.decode(xorpack.encode(view)), np.ascontiguousarray(view))
    with pytest.raises(ParameterError, match="dtype >f4 cannot be encoded"):
        xorpack.encode(array.astype(">f4"))


def test_types_that_cannot_be_encoded_are_refused():
    for dtype in (np.float64, np.int64, np.bool_, np.complex64, ml_dtypes.int4):
        with pytest.raises(ParameterError, match="cannot be encoded"):
            xorpack.encode(np.zeros((2, 2), dtype))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"encoder": "magic"}, "encoder 'magic'"),
        ({"encoder": "viterbi"}, "without rotations"),
        ({"encoder": "viterbi", "network": XorNetwork.quasi_cyclic()}, "without rotations"),
        ({"encoder": "viterbi", "network": XorNetwork.turned()}, "without rotations"),
        ({"rate": 0.0}, "rate = 0.0"),
        ({"rate": 1.5}, "rate = 1.5"),
        ({"lanes": 33}, "lanes = 33"),
        ({"jobs": 0}, "jobs = 0"),
        ({"mask_codec": "x"}, "mask codec 'x'"),
        ({"mask_codec": "constant"}, "cannot store"),
    ],
)
def test_wrong_arguments_are_named(options, message):
    with pytest.raises(ParameterError, match=message):
        xorpack.encode(bcq(), **options)


NETWORKS = [
    XorNetwork.quasi_cyclic(),
    XorNetwork.quasi_cyclic(window=3, n_taps=4, n_rows=5, seed=9),
    XorNetwork.quasi_cyclic(window=33, n_taps=7, n_rows=100),
    XorNetwork.turned(),
    XorNetwork.turned(window=6, n_rows=16, hold=4, seed=9),
    XorNetwork.turned(window=16, n_rows=496, hold=16),
    XorNetwork.dense(n_in=4, n_out=9, n_s=1),
    XorNetwork.dense(n_in=8, n_out=16),
    XorNetwork.sparse(n_in=6, n_out=12, n_taps=2),
    XorNetwork.identity(),
]


@pytest.mark.parametrize("network", NETWORKS, ids=lambda n: n.family)
@pytest.mark.parametrize("lanes", [1, 3, 8, 32])
def test_every_network_and_number_of_lanes(network, lanes):
    tensor = bcq((50, 1100), 0.5, 2)
    encoded = xorpack.encode(tensor, network=network, lanes=lanes)
    assert encoded.network == network
    assert encoded.layout.lanes == lanes
    for decoder in (reference, cpu):
        assert same(decoder.decode_planes(encoded)[1], tensor.planes)
    assert same(cpu.decode_rows(encoded, 7, 31), tensor.dequantize()[7:31])


def test_viterbi_end_to_end():
    tensor = bcq((16, 320), 0.75, 2)
    network = XorNetwork.dense(n_in=4, n_out=16, n_s=1)
    by_viterbi = xorpack.encode(tensor, network=network, encoder="viterbi")
    by_elimination = xorpack.encode(tensor, network=network)
    assert same(xorpack.decode(by_viterbi), tensor)
    assert by_viterbi.code.shape == by_elimination.code.shape


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    rows=st.integers(1, 90),
    cols=st.integers(1, 2100),
    sparsity=st.floats(0, 1),
    bits=st.integers(1, 4),
    data=st.data(),
)
def test_any_range_of_rows(rows, cols, sparsity, bits, data):
    tensor = bcq((rows, cols), sparsity, bits)
    encoded = xorpack.encode(tensor)
    first = data.draw(st.integers(0, rows))
    last = data.draw(st.integers(first, rows))
    for decoder in (reference, cpu):
        mask, planes = decoder.decode_planes(encoded, first, last)
        assert same(mask, tensor.mask[first:last])
        assert same(planes, tensor.planes[:, first:last])
    assert same(cpu.decode_rows(encoded, first, last), tensor.dequantize()[first:last])
    assert encoded.n_kept == popcount(tensor.mask)


def test_rows_outside_are_refused():
    encoded = xorpack.encode(bcq())
    for first, last in ((-1, 3), (5, 4), (0, 65)):
        with pytest.raises(ParameterError, match="outside"):
            cpu.decode_planes(encoded, first, last)


@pytest.mark.parametrize(
    "tensor", [bcq((500, 640), 0.8, 3), pruned((400, 300), 0.6)], ids=["bcq", "lossless"]
)
def test_threads_do_not_change_the_bytes(tensor):
    one, three = (xorpack.encode(tensor, jobs=jobs) for jobs in (1, 3))
    for a, b in zip(one.sections().values(), three.sections().values(), strict=True):
        assert same(a, b)
    assert same(xorpack.decode(one, jobs=3), tensor)


def test_decoding_is_linear():
    """decode(a ^ b) == decode(a) ^ decode(b), before corrections and masks."""
    network = XorNetwork.quasi_cyclic(window=5)
    encoded = xorpack.encode(bcq((64, 512), -1.0, 1), network=network, rate=0.5)
    m = encoded.code.shape[1:]
    rng = np.random.default_rng(3)
    a, b = (rng.integers(0, 1 << 32, (1, *m), dtype=np.uint32) for _ in range(2))
    planes = [_raw(encoded, code) for code in (a, b, a ^ b)]
    assert same(planes[0] ^ planes[1], planes[2])


def _raw(encoded, code):
    nothing = np.zeros(0, np.uint8)
    bare = replaced(encoded, code=code, n_corrections=0, corrections=nothing)
    return cpu.decode_planes(bare)[1]
