"""Mask codecs: every mask comes back, by any range of rows, with either decoder's gates."""

from __future__ import annotations

import re
from dataclasses import fields, replace
from typing import get_args

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from mask_samples import EXPANDS, comes_back, entropy, reread, with_mask
from samples import SHAPES, bcq, pruned, same

import xorpack
from xorpack import EncodedTensor, XorNetwork, masks
from xorpack.cli.encode import encode
from xorpack.code import words
from xorpack.decoders import cpu, reference
from xorpack.decoders.gpu import masks as device_masks
from xorpack.encoding.masks import choice
from xorpack.encoding.masks.bmf import fit
from xorpack.errors import FormatError, ParameterError
from xorpack.masks import cascade, cascade_kernels

CONFIG = {"n_filters": 3, "m_last": 5, "n_corrections": 2}


@pytest.mark.parametrize("name", list(masks.CODECS))
@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    rows=st.integers(0, 40),
    cols=st.integers(0, 130),
    sparsity=st.sampled_from([0.0, 0.5, 0.8, 0.95, 0.99, 1.1]),
    bits=st.integers(1, 3),
    lanes=st.sampled_from([None, 1, 3, 32]),
    rate=st.sampled_from([None, 0.1]),
    data=st.data(),
)
def test_round_trip(name, rows, cols, sparsity, bits, lanes, rate, data):
    tensor = bcq((rows, cols), sparsity, bits)
    how = {"network": XorNetwork.quasi_cyclic(), "lanes": lanes, "rate": rate, "mask_codec": name}
    if name == "constant" and 0 < tensor.n_kept < tensor.n_weights:
        with pytest.raises(ParameterError, match="'constant' cannot store"):
            xorpack.encode(tensor, **how)
        return
    if name == "bmf":
        assume(rows and cols)
        how["factors"] = fit(np.ones((rows, cols), np.float32), min(sparsity, 0.99), mask_bits=5)
        tensor = with_mask(words.unpack(how["factors"].mask(), cols), bits)
    encoded = xorpack.encode(tensor, **how)
    assert encoded.mask_codec == name
    first = data.draw(st.integers(0, rows))
    assert comes_back(encoded, tensor, first, data.draw(st.integers(first, rows)))


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("name", ["auto", "bitmap", "cascade", "block"])
def test_ugly_shapes(name, shape):
    tensor = bcq(shape, 0.93)
    encoded = xorpack.encode(tensor, mask_codec=name)
    assert encoded.mask_codec in ((name,) if name != "auto" else masks.CODECS)
    assert comes_back(encoded, tensor)


@pytest.mark.parametrize("dtype", [np.float32, np.float16, np.int8, np.uint8], ids=lambda t: t.__name__)
def test_lossless(dtype):
    array = pruned((5, 7, 60), 0.9, dtype)
    encoded = xorpack.encode(array, mask_codec="cascade")
    assert encoded.mask_codec == "cascade"
    assert same(xorpack.decode(encoded), array)
    assert same(reference.decode_dense(encoded).reshape(array.shape), array)


@pytest.mark.parametrize("density", [0.001, 0.003, 0.01, 0.03, 0.1, 0.2, 0.3, 0.4, 0.5])
@pytest.mark.parametrize("shape", [(64, 64), (37, 333), (11, 1051), (257, 384)], ids=str)
def test_densities(shape, density):
    tensor = bcq(shape, 1 - density)
    n_bitmap = -(-tensor.n_weights // 8)
    forced = xorpack.encode(tensor, mask_codec="cascade")
    assert forced.mask_codec == "cascade"
    assert comes_back(forced, tensor, 3, 7)
    assert forced.mask.data.size <= n_bitmap or density > 0.3
    chosen = xorpack.encode(tensor)
    assert comes_back(chosen, tensor, 5, 6)
    assert chosen.mask.data.size <= n_bitmap
    assert chosen.mask_codec in (("cascade", "block") if density <= 0.3 else ("bitmap", "block"))
    fast = xorpack.encode(tensor, prefer="speed", payload="xor")
    assert (fast.mask_codec, fast.mask.data.size) == ("bitmap", n_bitmap)


def test_masks_that_are_not_random():
    r, c = np.indices((50, 100))
    for kept in (r == 7, c == 99, r % 10 == 0, (r + c) % 16 == 0, (r < 5) & (c < 40), r * c == 49 * 99):
        tensor = with_mask(kept, 2)
        auto = xorpack.encode(tensor)
        assert auto.mask.data.size <= 625
        for encoded in (auto, *(xorpack.encode(tensor, mask_codec=name) for name in ("cascade", "block"))):
            assert comes_back(encoded, tensor, 7, 11)


@pytest.mark.parametrize("shape", [(40, 50), (1, 1), (0, 5), (5, 0), (70, 2080)], ids=str)
def test_all_pruned_one_kept_nothing_pruned(shape):
    none, full = np.zeros(shape, bool), np.ones(shape, bool)
    one = none.copy()
    one[-1:, -1:] = True
    for kept in (none, one, full):
        tensor = with_mask(kept)
        for prefer in ("size", "speed"):
            auto = xorpack.encode(tensor, prefer=prefer)
            assert (auto.mask_codec == "constant") == (bool(kept.all()) or not kept.any())
            assert comes_back(auto, tensor)
            assert auto.mask.data.size <= -(-kept.size // 8)
        for name in ("bitmap", "cascade", "block"):
            encoded = xorpack.encode(tensor, mask_codec=name)
            assert encoded.mask_codec == name
            assert comes_back(encoded, tensor)


def test_planes_that_are_all_constant_still_carry_a_cascade():
    array = np.where(pruned((90, 70), 0.9) != 0, np.uint8(0xA5), np.uint8(0))
    encoded = xorpack.encode(array, mask_codec="cascade")
    assert encoded.code.size == 0 < encoded.m_lane
    assert same(xorpack.decode(encoded), array)
    assert same(reference.decode_dense(encoded), array)


def test_what_cannot_be_asked_for():
    tensor = bcq((40, 40), 0.9)
    with pytest.raises(
        ParameterError,
        match="mask codec 'runs' is not one of auto, constant, bitmap, cascade, block, bmf, huffman",
    ):
        xorpack.encode(tensor, mask_codec="runs")
    with pytest.raises(ParameterError, match="prefer 'fast' is not one of size, speed"):
        xorpack.encode(tensor, prefer="fast")
    with pytest.raises(ParameterError, match="'constant' cannot store"):
        xorpack.encode(tensor, mask_codec="constant")
    dense = XorNetwork.dense(n_in=2, n_out=9)
    for how in (
        {"network": dense},
        {"network": dense, "encoder": "viterbi"},
        {"network": XorNetwork.identity()},
    ):
        with pytest.raises(ParameterError, match=r"'cascade' needs .* a turned or quasi-cyclic network"):
            xorpack.encode(tensor, mask_codec="cascade", **how)
        assert xorpack.encode(tensor, **how).mask_codec in ("bitmap", "block")


def plain_target(k: int, row: int, chunk: int) -> int:
    """The target word, in integers of any size."""
    m = 1 << 32
    x = (row * 0x9E3779B1 + chunk * 0x85EBCA77 + (k + 1) * 0xC2B2AE3D) % m
    x = (x ^ x >> 16) * 0x7FEB352D % m
    x = (x ^ x >> 15) * 0x846CA68B % m
    return x ^ x >> 16


@pytest.mark.parametrize(
    "kernel", [cascade_kernels.fill_targets, cascade_kernels.fill_targets.py_func], ids=["jit", "python"]
)
@pytest.mark.parametrize("first", [0, 5, 99_991, (1 << 31) - 9])
def test_targets(kernel, first):
    out = np.empty((cascade.MAX_FILTERS, 4, 40), np.uint32)
    with np.errstate(over="ignore"):
        kernel(first, out)
    for k, r, c in np.ndindex(out.shape):
        assert out[k, r, c] == plain_target(k, first + r, c)
    assert (cascade.targets(16, first, first + 4, 40) == out).all()
    wide = cascade.targets(2, first, first + 1, 70_001)
    assert wide[1, 0, -1] == plain_target(1, first, 70_000)


def test_candidates_are_where_all_filters_meet_their_targets():
    filters = cascade.targets(3, 20, 29, 2)
    filters[1, 4, 1] ^= 1 << 7
    filters[2, 4, 1] ^= 1 << 7 | 1 << 3
    filters[0, 8, 0] ^= 1 << 31
    expected = np.ones((9, 45), bool)
    expected[4, [39, 35]] = expected[8, 31] = False
    assert (words.unpack(cascade.candidates(filters, 20, 45), 45) == expected).all()
    assert (cascade.candidates(filters, 20, 45) == words.pack(expected)).all()
    found = np.tile(words.tail_mask(45), (9, 1))
    with np.errstate(over="ignore"):
        cascade_kernels.meet_targets.py_func(filters, 20, found)
    assert (found == words.pack(expected)).all()


def test_untrusted_constant_and_bitmap():
    tensor = xorpack.encode(bcq((3, 4), 0.0))
    for name in ("os.system", None, 1, ["bitmap"], "auto"):
        with pytest.raises(FormatError, match=rf"unknown mask codec {re.escape(repr(name))}"):
            reread(tensor, name=name)
    for config in ({}, {"value": 2}, {"value": True}, {"value": 1.0}, {"value": None}, {"value": 1, "x": 0}):
        with pytest.raises(FormatError, match="needs value 0 or 1"):
            reread(tensor, config=config)
    with pytest.raises(FormatError, match="has no bytes, but 1"):
        reread(tensor, data=np.zeros(1, np.uint8))
    for config, n, rule in (({}, 3, "takes 2 bytes, not 3"), ({"a": 1}, 2, "no parameters")):
        with pytest.raises(FormatError, match=rule):
            reread(tensor, name="bitmap", config=config, data=np.zeros(n, np.uint8))


def test_a_mask_is_the_tensors_own():
    """What a mask holds of its tensor, size or network, is the tensor's."""
    for codec in ("bitmap", "block"):
        other = xorpack.encode(bcq((24, 129), 0.9), mask_codec=codec)
        with pytest.raises(FormatError, match="mask of 24 x 129 for 23 x 129 weights"):
            replace(sample(), mask=other.mask)
    cascade_of = xorpack.encode(bcq((23, 129), 0.9), mask_codec="cascade").mask
    with pytest.raises(FormatError, match="network, layout or m_lane are not the tensor's"):
        replace(sample(), mask=cascade_of)
    assert replace(sample(), mask=sample().mask).mask_codec == "cascade"


@pytest.mark.parametrize("name", list(masks.CODECS))
def test_parsed_is_written_is_parsed(name):
    kept = np.zeros((40, 96), bool) if name == "constant" else np.indices((40, 96)).sum(0) % 2 == 1
    encoded = xorpack.encode(with_mask(kept), network=XorNetwork.quasi_cyclic(), mask_codec=name)
    again = masks.parse(name, encoded.mask.get_config(), encoded.mask.data, encoded.coded)
    assert type(again) is type(encoded.mask) is masks.CODECS[name]
    for field in (field for field in fields(again) if field.init):
        assert np.array_equal(getattr(again, field.name), getattr(encoded.mask, field.name)), field.name


def test_every_codec_is_in_the_tables_of_both_wings():
    assert set(choice.PROPOSALS) == set(masks.CODECS)
    assert ("auto", *masks.CODECS) == get_args(choice.Choice)
    (asked,) = (option.type for option in encode.params if option.name == "mask_codec")
    assert {*asked.choices, "constant"} == set(get_args(choice.Choice))
    assert {masks.Constant, masks.Huffman, *device_masks.CODECS} == set(masks.CODECS.values())


def sample() -> EncodedTensor:
    """A cascade with wrong gates."""
    network = XorNetwork.quasi_cyclic(window=2, n_taps=2)
    encoded = xorpack.encode(bcq((23, 129), 0.9), network=network, rate=0.06, mask_codec="cascade")
    assert encoded.mask_config["n_corrections"] > 1
    return encoded


@pytest.mark.parametrize(
    "value", [None, True, "3", 3.0, [3], {}, -1, 1 << 31, 1 << 64, 10**400], ids=lambda v: str(v)[:9]
)
@pytest.mark.parametrize("key", list(CONFIG))
def test_untrusted_cascade(key, value):
    good = sample()
    assert set(good.mask_config) == set(CONFIG)
    with pytest.raises(FormatError, match="mask codec cascade"):
        reread(good, config={**good.mask_config, key: value})


def test_cascade_fields_and_sizes():
    good = sample()
    config, steps = dict(good.mask_config), good.layout.n_steps
    for wrong in ({}, {**config, "x": 1}, *({k: config[k] for k in config if k != key} for key in config)):
        with pytest.raises(FormatError, match="needs integers"):
            reread(good, config=wrong)
    for wrong in (
        {"n_filters": 0},
        {"n_filters": 17},
        {"m_last": steps + 1},
        {"n_corrections": 23 * 129 + 1},
    ):
        with pytest.raises(FormatError, match=r"out of range|corrections"):
            reread(good, config={**config, **wrong})
    for wrong in ({"n_filters": 16}, {"m_last": steps}, {"m_last": 0}, {"n_corrections": 23 * 129}):
        with pytest.raises(FormatError, match=rf"section of {good.mask.data.size} bytes, not \d+"):
            reread(good, config={**config, **wrong})
    for data in (good.mask.data[:-1], good.mask.data[:0], np.append(good.mask.data, np.uint8(0))):
        with pytest.raises(FormatError, match=rf"section of {data.size} bytes, not {good.mask.data.size}"):
            reread(good, data=data)
    for network in (XorNetwork.identity(), XorNetwork.dense(n_in=2, n_out=9)):
        other = xorpack.encode(bcq((23, 129), 0.9), network=network)
        with pytest.raises(
            FormatError, match=f"needs a turned or quasi-cyclic network, not {network.family}"
        ):
            reread(other, name="cascade", config=config, data=good.mask.data)


def test_any_bytes_decode_alike_or_are_refused():
    good = sample()
    seen = set()
    for at in range(0, good.mask.data.size):
        data = good.mask.data.copy()
        data[at] ^= 1 << at % 8
        found = []
        for gates in EXPANDS.values():
            try:
                found.append(reread(good, data=data).load_mask(gates).tobytes())
            except FormatError as error:
                found.append(str(error))
        assert found[0] == found[1]
        seen.add(type(found[0]))
    assert seen == {bytes, str}


@pytest.mark.parametrize(("sparsity", "limit"), [(0.8, 0.82), (0.9, 0.527), (0.95, 0.322), (0.98, 0.162)])
def test_rates(sparsity, limit):
    tensor = bcq((2048, 2048), sparsity, 1)
    encoded = xorpack.encode(tensor, jobs=2, mask_codec="cascade")
    assert (cpu.decode_planes(encoded, jobs=2)[0] == tensor.mask).all()
    assert entropy(tensor.n_kept / tensor.n_weights) < 8 * encoded.mask.data.size / tensor.n_weights <= limit
