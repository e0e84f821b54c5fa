"""Fields of lossless tensors: what is encoded comes back, bit for bit, in the least bytes."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from samples import hostile

import xorpack
from xorpack import EncodedTensor
from xorpack.code.dense import UNSIGNED
from xorpack.decoders import cpu, reference
from xorpack.errors import FormatError, ParameterError
from xorpack.fields.field import FieldCode

KINDS = (np.float32, np.float16, ml_dtypes.bfloat16, np.int8, np.uint8)
kinds = pytest.mark.parametrize("kind", KINDS, ids=lambda kind: np.dtype(kind).name)


def bits_of(array):
    return np.ascontiguousarray(array).reshape(-1).view(UNSIGNED[array.dtype.itemsize])


def check(array, **how) -> EncodedTensor:
    """Encode, decode by both decoders, whole and in parts."""
    encoded = xorpack.encode(array, **how)
    matrix = array.reshape(encoded.rows, encoded.cols)
    assert np.array_equal(bits_of(xorpack.decode(encoded)), bits_of(array))
    rows = encoded.rows
    for first, last in {(0, rows), (rows // 3, rows // 3 + 1 if rows else 0), (rows // 2, rows), (0, 0)}:
        wanted = matrix[first:last].tobytes()
        assert cpu.decode_rows(encoded, first, last).tobytes() == wanted
        assert reference.decode_dense(encoded, first, last).tobytes() == wanted
        for a, b in zip(
            reference.decode_planes(encoded, first, last),
            cpu.decode_planes(encoded, first, last, jobs=3),
            strict=True,
        ):
            assert np.array_equal(a, b)
    assert b"".join(block.tobytes() for block in cpu.decode_blocks(encoded)) == matrix.tobytes()
    return encoded


def skewed(shape, kind, kept=0.5, seed=0):
    """Normal weights, some of them pruned: skewed exponents, or values."""
    rng = np.random.default_rng(seed)
    values = rng.standard_normal(shape)
    values = values * 25 if np.dtype(kind).itemsize == 1 else values * 0.02
    if kind is np.uint8:
        values = np.abs(values)
    return np.where(rng.random(shape) < kept, values, 0).astype(kind)


def few(shape, kind, n, kept=1.0, seed=0):
    """``n`` distinct bit patterns, equiprobable."""
    rng = np.random.default_rng(seed)
    unsigned = UNSIGNED[np.dtype(kind).itemsize]
    values = rng.choice(np.iinfo(unsigned).max, n, replace=False).astype(unsigned) + unsigned(1)
    array = np.where(rng.random(shape) < kept, values[rng.integers(0, n, shape)], unsigned(0))
    return array.astype(unsigned).view(kind)


@kinds
@pytest.mark.parametrize("shape", [(60, 200), (1, 3000), (2500, 1), (9, 1100), (7, 5, 3, 3), (33,), (4, 32)])
@pytest.mark.parametrize("kept", [0.03, 0.5, 1.0])
def test_what_is_encoded_comes_back(kind, shape, kept) -> None:
    encoded = check(skewed(shape, kind, kept), field="always")
    assert encoded.field is not None or np.unique(bits_of(skewed(shape, kind, kept))).size <= 2
    check(skewed(shape, kind, kept))


@kinds
def test_any_bits_come_back(kind) -> None:
    for array in (hostile(kind), hostile(kind)[::-2], np.ascontiguousarray(hostile(kind).T)):
        check(array, field="always")
        check(array)


@kinds
@pytest.mark.parametrize("n", [2, 3, 16, 200])
def test_few_values(kind, n) -> None:
    encoded = check(few((80, 130), kind, n, 0.7), field="always")
    assert encoded.field is not None
    assert encoded.field.code.max_length <= 16


@kinds
def test_there_is_no_field_where_nothing_differs(kind) -> None:
    for array in (
        np.zeros((5, 40), kind),
        np.zeros((0, 40), kind),
        np.zeros((40, 0), kind),
        np.full((9, 70), 3, kind),
        np.full((), 1, kind),
        np.where(np.arange(900).reshape(9, 100) % 7 == 0, 5, 0).astype(kind),
    ):
        for choice in ("auto", "always"):
            assert check(array, field=choice).field is None


@settings(max_examples=150, deadline=None, derandomize=True)
@given(
    hnp.arrays(
        st.sampled_from([np.uint8, np.uint16, np.uint32]),
        hnp.array_shapes(min_dims=1, max_dims=3, max_side=40),
        elements=st.one_of(st.integers(0, 3), st.integers(0, 255)),
    ),
    st.sampled_from(["auto", "always"]),
)
def test_any_array_comes_back(array, choice) -> None:
    kind = {1: np.uint8, 2: ml_dtypes.bfloat16, 4: np.float32}[array.dtype.itemsize]
    check(array.view(kind), field=choice)


def test_arrays_that_are_not_contiguous_or_read_only() -> None:
    array = skewed((50, 300), np.float16)
    array.flags.writeable = False
    assert check(array).field is not None
    check(array[::-3, ::2])
    check(array.T)


@pytest.mark.parametrize(
    "how", [{"mask_codec": "cascade"}, {"mask_codec": "block"}, {"rate": 0.2}, {"lanes": 3}]
)
def test_with_every_mask_and_rate(how) -> None:
    encoded = check(skewed((90, 260), ml_dtypes.bfloat16, 0.2), field="always", **how)
    assert encoded.field is not None


def test_with_networks_of_other_families() -> None:
    array = skewed((20, 100), np.float16, 0.5)
    dense = xorpack.XorNetwork.dense(n_in=4, n_out=8)
    for how in ({"network": dense}, {"network": dense, "encoder": "viterbi"}):
        assert check(array, field="always", **how).field is not None


@kinds
def test_every_number_of_threads_gives_the_same_bytes(kind) -> None:
    array = skewed((300, 700), kind, 0.4)
    one, three = (xorpack.encode(array, jobs=jobs, field="always") for jobs in (1, 3))
    assert one.field is not None
    assert three.field is not None
    assert one.field.get_config() == three.field.get_config()
    for a, b in zip(one.sections().values(), three.sections().values(), strict=True):
        assert a.tobytes() == b.tobytes()


def test_what_can_be_asked_for() -> None:
    array = skewed((64, 512), np.float16)
    assert xorpack.encode(array, field="none").field is None
    with pytest.raises(ParameterError, match="field 'some' is not one of auto, always, none"):
        xorpack.encode(array, field="some")


def test_auto_takes_a_field_only_where_it_saves_bytes() -> None:
    for shape in ((2, 40), (8, 64), (16, 128), (64, 512)):
        for kind in KINDS:
            for array in (skewed(shape, kind), few(shape, kind, 16)):
                sizes = {
                    choice: sum(xorpack.encode(array, field=choice).section_bytes().values())
                    for choice in ("auto", "none")
                }
                assert sizes["auto"] <= sizes["none"]


def test_speed_takes_no_field():
    array = skewed((128, 256), np.float16)
    assert check(array).field is not None
    assert check(array, prefer="speed").field is None
    assert check(array, prefer="speed", field="always").field is not None


def test_codewords_of_16_bits_are_the_longest():
    """One symbol a length, two of the last: a file may hold them."""
    code = FieldCode(low=0, width=8, n_raw=1, counts=(1,) * 15 + (2,))
    assert (code.max_length, code.n_symbols) == (16, 17)
    assert code.table(np.arange(17, dtype=np.uint32))[[0, 0x7FFF, 0x8000, 0xFFFE, 0xFFFF]].tolist() == [
        0,
        0,
        1,
        15,
        16,
    ]
    with pytest.raises(FormatError, match="codewords of 17 bits, more than 16"):
        FieldCode(low=0, width=8, n_raw=1, counts=(1,) * 16 + (2,))
