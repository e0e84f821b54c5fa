"""Packed planes: the bits of kept weights in order, and where those of a row begin."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numba import njit
from samples import SHAPES, SPARSITIES, bcq, pruned, same

import xorpack
from xorpack import XorNetwork
from xorpack.analysis import coders
from xorpack.code import packed
from xorpack.code.packed_kernels import pack_kernel, unpack_kernel
from xorpack.code.words import unpack
from xorpack.decoders import cpu, reference
from xorpack.encoded import EncodedTensor
from xorpack.errors import FormatError, ParameterError
from xorpack.tensors import BCQTensor
from xorpack.vector import bitops


def encoded(tensor: BCQTensor, panel: int = 100, **options: Any) -> EncodedTensor:
    """In panels of about so many weights."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(packed, "PANEL_WEIGHTS", panel)
        return xorpack.encode(tensor, payload="packed", **options)


@pytest.mark.parametrize("sparsity", SPARSITIES)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_what_is_packed_comes_back(shape: tuple[int, ...], sparsity: float) -> None:
    tensor = bcq(shape, sparsity, 3)
    found = encoded(tensor)
    assert found.packed is not None
    for jobs in (1, 3):
        assert same(xorpack.decode(found, jobs=jobs), tensor)
    assert same(reference.decode_planes(found)[1], tensor.planes)
    assert same(cpu.decode_dense(found), tensor.dequantize())
    assert same(
        np.concatenate([np.empty((0, found.cols), np.float32), *cpu.decode_blocks(found)]).reshape(shape),
        tensor.dequantize(),
    )


def test_bits_stand_where_the_format_says() -> None:
    tensor = bcq((9, 70), 0.6, 2)
    found = encoded(tensor)
    assert found.packed is not None
    kept = unpack(tensor.mask, 70)
    for j in range(2):
        for i, bit in enumerate(unpack(tensor.planes[j], 70)[kept]):
            assert found.code[j, i // 32] >> np.uint32(i % 32) & 1 == bit
    assert found.code.nbytes == 2 * 4 * -(-int(kept.sum()) // 32)
    assert found.packed.panel_rows == 1
    starts = np.cumsum(kept.sum(axis=1))[:-1]
    assert found.packed.starts.view("<u8").tolist() == starts.tolist()


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_any_rows(data: st.DataObject) -> None:
    tensor = bcq((23, 45), data.draw(st.sampled_from([0.0, 0.5, 0.95, 1.1])), 2, seed=3)
    found = encoded(tensor, data.draw(st.sampled_from([1, 45, 150, 700, 5000])))
    first = data.draw(st.integers(0, 23))
    last = data.draw(st.integers(first, 23))
    wanted = tensor.dequantize()[first:last]
    assert same(cpu.decode_rows(found, first, last), wanted)
    assert same(reference.decode_dense(found, first, last), wanted)


@pytest.mark.parametrize("dtype", [np.float32, np.float16, np.int8], ids=str)
@pytest.mark.parametrize("field", ["none", "always"])
def test_lossless(dtype: Any, field: Any) -> None:
    array = pruned((70, 90), 0.6, dtype)
    found = xorpack.encode(array, payload="packed", field=field)
    assert (found.packed is not None, found.field is not None) == (True, field == "always")
    assert same(xorpack.decode(found), array)
    assert same(reference.decode_dense(found), array)


def test_it_is_as_small_as_its_bits() -> None:
    tensor = bcq((512, 1024), 0.9, 2)
    sizes = xorpack.encode(tensor, payload="packed", mask_codec="bitmap").section_bytes()
    own = sizes["code"] + sizes["starts"] + sizes["corrections"]
    assert own <= 1.005 * tensor.n_kept * 2 / 8
    assert sizes["mask"] == tensor.n_weights // 8
    assert own <= sum(
        xorpack.encode(tensor, mask_codec="bitmap").section_bytes()[s] for s in ("code", "corrections")
    )


def test_what_takes_packed_bits() -> None:
    tensor = bcq((40, 70), 0.7, 2)

    def packs(**options: Any) -> bool:
        return xorpack.encode(tensor, **options).packed is not None

    assert packs(prefer="speed")
    assert packs(payload="packed")
    assert packs(payload="packed", mask_codec="block")
    assert not packs()
    assert not packs(prefer="speed", payload="xor")
    for asked in (
        {"network": XorNetwork.quasi_cyclic()},
        {"rate": 0.5},
        {"lanes": 2},
        {"mask_codec": "cascade"},
    ):
        assert not packs(prefer="speed", **asked)


@pytest.mark.parametrize(
    ("options", "what"),
    [
        ({"network": XorNetwork.quasi_cyclic()}, "network"),
        ({"rate": 0.5}, "rate"),
        ({"lanes": 2}, "lanes"),
        ({"mask_codec": "cascade"}, "mask codec cascade"),
        ({"encoder": "viterbi", "network": XorNetwork.dense(n_in=2, n_out=4)}, "network"),
    ],
    ids=lambda value: str(value)[:12],
)
def test_what_contradicts_packed_bits(options: dict[str, Any], what: str) -> None:
    with pytest.raises(ParameterError, match=f"{what} is of the XOR code, and payload packed is asked for"):
        xorpack.encode(bcq(), payload="packed", **options)
    with pytest.raises(ParameterError, match="payload 'tight' is not one of auto, xor, packed"):
        xorpack.encode(bcq(), payload="tight")  # type: ignore[arg-type]


def test_a_tensor_that_is_packed_has_no_network() -> None:
    with pytest.raises(ParameterError, match="packed: it has no network or layout"):
        _ = encoded(bcq()).network


@pytest.mark.parametrize("shift", [-1, 1, 1 << 40, -(1 << 40)])
def test_starts_that_are_wrong(shift: int) -> None:
    """Nothing is read past the bits, whatever they say."""
    found = encoded(bcq((23, 45), 0.5, 2))
    coded = found.packed
    assert coded is not None
    assert coded.panel_rows == 2
    starts = coded.starts.view("<i8") + np.where(np.arange(11) == 5, shift, 0)
    bad = replace(found, planes=replace(found.planes, coded=replace(coded, starts=starts.view(np.uint8))))
    for decoder in (cpu, reference):
        with pytest.raises(FormatError, match=r"packed bits of row 12 start at|more weights than"):
            decoder.decode_dense(bad)
        with pytest.raises(FormatError, match=r"packed bits of row 12 start at"):
            decoder.decode_planes(bad, 10, 14)
    if abs(shift) > 1:
        with pytest.raises(FormatError, match=r"more weights than|row 12 start at .* there are"):
            cpu.decode_rows(bad, 12, 13)
    assert same(cpu.decode_rows(bad, 3, 9), cpu.decode_rows(found, 3, 9))


def test_a_mask_that_keeps_too_much() -> None:
    found = encoded(bcq((23, 45), 0.5, 2), 1 << 20)
    fuller = replace(found, mask=xorpack.encode(bcq((23, 45), 0.4, 2), mask_codec="bitmap").mask)
    for decoder in (cpu.decode_rows, reference.decode_dense):
        with pytest.raises(FormatError, match="the mask keeps more weights than"):
            decoder(fuller, 1, 23)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"n_kept": -1}, "n_kept -1"),
        ({"n_kept": 0}, "packed code of type uint32"),
        ({"panel_rows": 0}, "panel_rows 0 of 23 rows"),
        ({"panel_rows": 24}, "panel_rows 24 of 23 rows"),
        ({"panel_rows": 3}, "88 bytes of starts of 8 panels, not 56"),
        ({"code": np.zeros((2, 3), np.uint32)}, "packed code of type uint32"),
        ({"code": np.zeros((2, 17), np.uint64)}, "packed code of type uint64"),
        ({"starts": np.zeros(8, np.uint8)}, "8 bytes of starts"),
    ],
    ids=lambda value: str(value)[:20],
)
def test_packed_planes_check_themselves(change: dict[str, Any], message: str) -> None:
    coded = encoded(bcq((23, 45), 0.5, 2)).packed
    assert coded is not None
    with pytest.raises(FormatError, match=message):
        replace(coded, **change)


def test_the_planes_of_a_tensor_are_as_many_as_are_packed() -> None:
    found = encoded(bcq((23, 45), 0.5, 2))
    with pytest.raises(FormatError, match=r"2 planes of \d+ packed bits, not 1 of \d+"):
        replace(found.planes, constants=(1, 0))
    with pytest.raises(FormatError, match=r"2 planes of \d+ packed bits, not 2 of 5"):
        replace(found.planes, n_kept=5)


@pytest.mark.parametrize("begin", [0, 1, 31, 32, 45])
def test_kernels_in_plain_python(begin: int) -> None:
    rng = np.random.default_rng(begin)
    mask = rng.integers(0, 1 << 32, 40, dtype=np.uint32) & rng.integers(0, 1 << 32, 40, dtype=np.uint32)
    mask[[3, 4, 39]], mask[7] = 0, 0xFFFFFFFF
    planes = rng.integers(0, 1 << 32, (3, 40), dtype=np.uint32) & mask
    n = begin + int(np.bitwise_count(mask).sum())
    found = []
    for pack, unpack_ in ((pack_kernel, unpack_kernel), (pack_kernel.py_func, unpack_kernel.py_func)):
        code = np.zeros((3, -(-n // 32)), np.uint32)
        code[:, 0] = (1 << min(begin, 32)) - 1 if begin < 32 else 0
        assert pack(mask, planes, begin, code) == n
        out = np.zeros_like(planes)
        unpack_(code, mask, begin, 0, 40, out)
        assert np.array_equal(out, planes)
        found.append(code.tobytes())
    assert found[0] == found[1]


def test_bits_moved_by_every_way() -> None:
    """In plain Python, as an instruction where there is one, and by the loop that stands in elsewhere."""
    rng = np.random.default_rng(0)
    pairs = rng.integers(0, 1 << 64, (50, 2), dtype=np.uint64)
    pairs[0] = 0
    pairs[1] = (1 << 64) - 1
    for plain, loop in ((bitops.extract, bitops._extract_loop), (bitops.deposit, bitops._deposit_loop)):
        compiled, stand_in = njit(lambda value, mask, plain=plain: plain(value, mask)), njit(loop)
        for value, mask in pairs:
            expected = plain(value, mask)
            assert int(compiled(value, mask)) == expected
            assert int(stand_in(value, mask)) == expected
    assert bitops.extract(0b10110, 0b11010) == 0b101
    assert bitops.deposit(0b101, 0b11010) == 0b10010


@pytest.mark.parametrize(("sparsity", "bits"), [(0.5, 3), (0.9, 2)])
def test_it_is_as_small_as_zstd_of_the_same_bits(sparsity: float, bits: int) -> None:
    zstandard = pytest.importorskip("zstandard")
    weight = np.random.default_rng(1).standard_normal((1024, 1024), dtype=np.float32)
    tensor = xorpack.quantize(weight, bits=bits, sparsity=sparsity, group_size=0)
    content = coders.Content.of(tensor)
    theirs = (
        len(zstandard.ZstdCompressor(level=3).compress(coders.sparse_bytes(content))) + content.extra_bytes
    )
    ours = sum(xorpack.encode(tensor, prefer="speed").section_bytes().values())
    assert ours <= 1.02 * theirs
