"""Kernels of fields, jitted and plain, against numpy."""

from __future__ import annotations

import numpy as np
import pytest

import xorpack
from xorpack.code import depths, words
from xorpack.code.layout import Layout
from xorpack.decoders import cpu, reference
from xorpack.encoding.fields import field_kernels as kernels
from xorpack.encoding.fields.choice import MAX_SYMBOLS, FewValues, choose_field
from xorpack.encoding.fields.huffman_kernels import code_bits
from xorpack.encoding.fields.sources import DepthSource, FieldSource, SymbolTable
from xorpack.encoding.rings.gather import ElementSource
from xorpack.encoding.rings.gather_kernels import find_slot, gather_elements, rewrite
from xorpack.fields.field import FieldCode
from xorpack.fields.symbols import LoadedField, join_kernel, replace_kernel

CODE = FieldCode(low=3, width=5, n_raw=1, counts=(1, 0, 3, 2))
SYMBOLS = np.array([7, 1, 12, 30, 0, 19], np.uint32)
LENGTHS = (1, 3, 3, 3, 4, 4)


def elements(shape=(7, 75), wide=False):
    """Unsigned elements, some 0, whose symbols are those of the code."""
    rng = np.random.default_rng(3)
    whole = (
        SYMBOLS[rng.integers(0, 6, shape)] << 3 | rng.integers(1, 8, shape) | rng.integers(0, 2, shape) << 8
    )
    whole = np.where(rng.random(shape) < 0.4, 0, whole)
    return whole.astype(np.uint32 if wide else np.uint16)


def both(kernel):
    return [kernel, kernel.py_func]


def test_codewords_of_symbols() -> None:
    table = SymbolTable.of(CODE, SYMBOLS)
    start = 0
    for symbol, length in zip(SYMBOLS, LENGTHS, strict=True):
        codeword = start >> 4 - length << 4 - length
        assert table.heads[symbol] == codeword >> 3
        assert table.tails[symbol] == codeword & 7
        assert table.cares[symbol] == (0b111 << 4 - length) & 7
        assert (CODE.table(SYMBOLS)[start : start + (1 << 4 - length)] == symbol).all()
        start += 1 << 4 - length
    assert start == 16


def test_symbols_that_are_hashed_have_the_same_codewords() -> None:
    rng = np.random.default_rng(5)
    symbols = np.sort(rng.choice(1 << 31, 256, replace=False)).astype(np.uint32)
    code = FieldCode(low=0, width=32, n_raw=8, counts=(256,))
    table = SymbolTable.of(code, symbols)
    for kernel in both(kernels.fill_slots):
        keys, slots = np.full(1024, -1, np.int64), np.empty(256, np.int64)
        kernel(keys, kernels.HASH, 22, symbols, slots)
        assert (keys[slots] == symbols).all()
        assert np.unique(slots).size == 256
    for i, symbol in enumerate(symbols):
        slot = find_slot(*table.hashing(), int(symbol))
        assert table.keys[slot] == symbol
        assert table.heads[slot] == i


def test_elements_are_counted() -> None:
    whole = elements((40, 300)).reshape(-1)
    values, wanted = np.unique(whole[whole != 0], return_counts=True)
    for kernel in both(kernels.count_values):
        counts = np.zeros(1 << 16, np.int64)
        kernel(whole, 0, counts)
        assert (np.flatnonzero(counts) == values).all()
        assert (counts[values] == wanted).all()
        counts = np.zeros(1 << 13, np.int64)
        kernel(whole, 3, counts)
        assert counts.sum() == wanted.sum()
    for kernel in both(kernels.count_distinct):
        keys, counts = np.full(1024, -1, np.int64), np.zeros(1024, np.int64)
        n = kernel(whole[:5000], 0, 256, kernels.HASH, keys, counts)
        assert kernel(whole[5000:], n, 256, kernels.HASH, keys, counts) == values.size
        order = np.argsort(keys[keys >= 0])
        assert (keys[keys >= 0][order] == values).all()
        assert (counts[keys >= 0][order] == wanted).all()
        assert (
            kernel(
                np.arange(1, 300, dtype=np.uint32),
                0,
                100,
                kernels.HASH,
                np.full(512, -1),
                np.zeros(512, np.int64),
            )
            == 101
        )
    few = FewValues()
    few.add(np.arange(MAX_SYMBOLS + 1, dtype=np.uint32))
    held = few.counted()
    assert held is not None
    assert (held[0] == np.arange(1, MAX_SYMBOLS + 1)).all()
    few.add(np.array([MAX_SYMBOLS + 7], np.uint32))
    few.add(np.array([1], np.uint32))
    assert few.counted() is None


def test_bits_of_all_fields() -> None:
    whole = elements((60, 100)).reshape(-1) & 0x1FF
    values, counts = np.unique(whole[whole != 0], return_counts=True)
    for kernel in both(kernels.field_bits):
        n_symbols, found = np.full((9, 10), -7), np.full((9, 10), -7)
        kernel(values.astype(np.int64), counts, 9, 20, n_symbols, found)
        for low in range(9):
            for width in range(10):
                if not width or low + width > 9:
                    assert (n_symbols[low, width], found[low, width]) == (0, -1)
                    continue
                totals = np.bincount(values >> low & ((1 << width) - 1), weights=counts).astype(np.int64)
                totals = np.sort(totals[totals > 0])
                assert n_symbols[low, width] == totals.size
                assert found[low, width] == (code_bits(totals.copy()) if totals.size <= 20 else -1)


def heads_and_depths(whole):
    """For every element: heads in place of symbols; depth bits, and which of them there are."""
    code_of = {
        int(s): (start, n) for s, start, n in zip(SYMBOLS, (0, 8, 10, 12, 14, 15), LENGTHS, strict=True)
    }
    rewritten = whole.astype(np.int64)
    bits, care = np.zeros((3, *whole.shape), bool), np.zeros((3, *whole.shape), bool)
    for at in zip(*np.nonzero(whole), strict=True):
        codeword, length = code_of[int(whole[at]) >> 3 & 31]
        rewritten[at] = int(whole[at]) & ~(31 << 3) | codeword >> 3 << 3
        for e in range(length - 1):
            care[(e, *at)] = True
            bits[(e, *at)] = codeword >> 2 - e & 1
    return rewritten, bits, care


@pytest.mark.parametrize("wide", [False, True])
def test_elements_are_rewritten(wide) -> None:
    whole = elements(wide=wide)
    table = SymbolTable.of(CODE, SYMBOLS)
    wanted, _, _ = heads_and_depths(whole)
    for kernel in both(rewrite):
        out = np.empty(whole.size, whole.dtype)
        kernel(whole.reshape(-1), 3, 31, *table.hashing(), table.heads, out)
        assert (out == wanted.reshape(-1)).all()
    layout = Layout.choose(*whole.shape, 300, lanes=2)
    usual = FieldSource(ElementSource(whole), CODE, table).ring(layout, 0)[1]
    assert np.array_equal(usual, ElementSource(wanted.astype(whole.dtype)).ring(layout, 0)[1])
    k = np.full(256, -1, np.int64)  # the same code, its symbols hashed
    slots = np.empty(SYMBOLS.size, np.int64)
    kernels.fill_slots(k, kernels.HASH, 24, SYMBOLS, slots)
    heads = np.zeros(256, np.uint32)
    heads[slots] = table.heads[SYMBOLS]
    for codewords in ((*table.hashing(), table.heads), (k, kernels.HASH, 24, heads)):
        for kernel in both(gather_elements):
            planes = np.zeros((3, layout.n_steps, layout.lanes), np.uint32)
            bits, strides = np.array([8, 0, 3]), (0, planes[0].size, 1, layout.lanes)
            kernel(whole, 0, *layout.params(), bits, (3, 31, *codewords), planes, strides)
            assert np.array_equal(planes.transpose(0, 2, 1), usual[bits])


@pytest.mark.parametrize("cols", [1, 32, 75, 500])
@pytest.mark.parametrize("lanes", [1, 4, 30])
def test_depths_stand_where_they_belong(cols, lanes) -> None:
    whole = elements((7, cols))
    _, bits, care = heads_and_depths(whole)
    table = SymbolTable.of(CODE, SYMBOLS)
    rows, width = CODE.plane_shape(7, cols)
    layout = Layout.choose(rows, width, 1000, lanes=lanes)
    n_parts, n_groups = CODE.parts(cols)
    chunks = words.n_chunks(cols)
    packed = {}
    for name, found in (("plane", bits), ("care", care)):
        wanted = np.zeros((7, n_parts * n_groups, 3), np.uint32)
        for place, e in enumerate(depths.order(3)):
            wanted[:, :chunks, place] = words.pack(found[e])
        packed[name] = wanted.reshape(-1)
    at = [
        layout.word_index(s * layout.n_steps + np.arange(layout.n_steps)).T for s in range(layout.n_segments)
    ]
    for segment, index in enumerate(at):
        got = DepthSource(whole, CODE, table).ring(layout, segment)
        plain = np.empty_like(got[0]), np.empty_like(got[1])
        kernels.gather_depths.py_func(
            whole, segment, *layout.params(), n_groups, depths.order(3), 3, 31, *table.hashing(),
            table.cares << np.uint32(16) | table.tails, *plain,
        )  # fmt: skip
        for care_words, planes in (got, plain):
            assert np.array_equal(care_words, np.where(index < 0, 0, packed["care"][index]))
            assert np.array_equal(planes[0], np.where(index < 0, 0, packed["plane"][index]))


@pytest.mark.parametrize("cols", [1, 32, 75, 260])
def test_symbols_come_back(cols) -> None:
    whole = elements((6, cols))
    encoded = xorpack.encode(whole.view(np.float16), field="always")
    assert encoded.field is not None
    loaded = LoadedField.of(encoded.field)
    mask, decoded = reference.decode_planes(encoded)
    planes = cpu.load(encoded)._as_coded(0, mask, 1)
    plane = reference.expand(loaded.coded, 0, loaded.coded.layout.rows)[0].reshape(-1)
    assert not len(loaded.wrong)
    *how, table = loaded._how(cols)
    for kernel in both(replace_kernel):
        flat = planes.copy().reshape(-1)
        kernel(flat, mask, 0, 6, plane, *how, table)
        assert np.array_equal(flat, decoded.reshape(-1))
    for kernel in both(join_kernel):
        out = np.full_like(whole, 0xAAAA)
        kernel(planes.reshape(-1), mask, 0, 6, plane, *how, table.astype(np.uint16), out)
        assert np.array_equal(out, whole)


def test_the_choice_does_not_depend_on_the_order_of_elements() -> None:
    whole = elements((50, 400))
    ones = [int((whole >> k & 1).sum()) for k in range(16)]
    n = int(np.count_nonzero(whole))
    one = choose_field(whole, ones, n, "always")
    other = choose_field(np.ascontiguousarray(whole[::-1, ::-1]), ones, n, "always")
    assert one is not None
    assert other is not None
    assert one.code == other.code
    assert np.array_equal(one.symbols, other.symbols)
