"""The mask codec ``block``: its prefix codes, its kernels, its rates, and files that say wrong things of it."""

from __future__ import annotations

import heapq
from itertools import combinations
from math import comb
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mask_samples import EXPANDS, comes_back, crowded, entropy, reread, with_mask
from samples import bcq

import xorpack
from xorpack import EncodedTensor
from xorpack.code import words
from xorpack.decoders import cpu, reference
from xorpack.encoding.masks import block as blocks
from xorpack.encoding.masks import block_kernels
from xorpack.errors import FormatError
from xorpack.masks.block import joining, prefix

codes = st.integers(1, 12).flatmap(
    lambda n: st.tuples(st.integers(0, 63), st.just(n), st.integers(0, n), st.integers(n, 20))
)


@settings(max_examples=150, deadline=None, derandomize=True)
@given(codes)
def test_codes_are_complete_and_canonical(code: tuple[int, int, int, int]) -> None:
    _, n, max_ones, max_length = code
    found = prefix.runs(*code)
    assert sum(run.n << max_length - run.length for run in found) == 1 << max_length
    assert sum(run.n for run in found) == prefix.n_symbols(n, max_ones)
    start = rank = length = 0
    for run in found:
        assert (run.start, run.rank) == (start, rank)
        assert run.length >= length
        assert run.start % (1 << max_length - run.length) == 0
        start, rank, length = start + (run.n << max_length - run.length), rank + run.n, run.length


def test_symbols_are_ranked_by_ones_then_value() -> None:
    found = [int(value) for value in prefix.symbols(10, 4)]
    assert found == sorted(
        (v for v in range(1 << 10) if v.bit_count() <= 4), key=lambda v: (v.bit_count(), v)
    )
    assert prefix.symbols(32, 3).size == prefix.n_symbols(32, 3) == 1 + 32 + 496 + 4960


def test_from_level_64_on_nothing_is_kept() -> None:
    assert prefix.runs(64, 12, 12, 19) == prefix.runs(99, 8, 8, 14) == ((0, 0, 0, 1),)


def huffman(weights: list[float]) -> float:
    """Mean length of the best prefix code."""
    heapq.heapify(weights)
    total = 0.0
    while len(weights) > 1:
        pair = heapq.heappop(weights) + heapq.heappop(weights)
        total += pair
        heapq.heappush(weights, pair)
    return total


@pytest.mark.parametrize("level", [0, 2, 5, 8, 13, 17, 22, 30])
@pytest.mark.parametrize(("n", "max_length"), [(8, 14), (12, 19)])
def test_codes_are_near_huffmans(level: int, n: int, max_length: int) -> None:
    odds = 2 ** (-level / 4)
    density = odds / (1 + odds)
    share = [density**j * (1 - density) ** (n - j) for j in range(n + 1)]
    lengths = prefix.lengths(level, n, n, max_length)
    mean = sum(share[j] * (length * comb(n, j) - short) for j, (length, short) in enumerate(lengths))
    best = huffman([share[value.bit_count()] for value in range(1 << n)])
    assert best <= mean * (1 + 1e-12)
    assert mean <= 1.007 * best


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    rows=st.integers(0, 30),
    cols=st.integers(0, 140),
    densities=st.lists(st.sampled_from([0.0, 0.02, 0.1, 0.3, 0.5, 0.8, 1.0]), min_size=1, max_size=4),
    data=st.data(),
)
def test_rows_that_differ(rows: int, cols: int, densities: list[float], data: Any) -> None:
    rng = np.random.default_rng([rows, cols, len(densities)])
    share = np.resize(densities, rows)[:, None]
    tensor = with_mask(rng.random((rows, cols)) < share)
    encoded = xorpack.encode(tensor, mask_codec="block")
    first = data.draw(st.integers(0, rows))
    last = data.draw(st.integers(first, rows))
    assert comes_back(encoded, tensor, first, last)
    assert (cpu.decode_planes(encoded, first, last, jobs=3)[0] == tensor.mask[first:last]).all()


@pytest.mark.parametrize("shape", [(50, 700), (300, 40), (1, 3000), (97, 1025)], ids=str)
def test_every_candidate(shape: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    tensor = with_mask(crowded(*shape))
    for candidate in (*blocks.CANDIDATES, (7, 2, 5), (1, 1, 1), (5, 0, 3), (31, 2, 24), (9, 9, 9)):
        monkeypatch.setattr(blocks, "CANDIDATES", (candidate,))
        encoded = xorpack.encode(tensor, mask_codec="block")
        assert encoded.mask_config["code"][:3] == list(candidate)
        assert comes_back(encoded, tensor, shape[0] // 3, shape[0] // 2)


def test_lines_are_fitted_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    tensor = with_mask(crowded(150, 90, 1, 7))
    whole = xorpack.encode(tensor, mask_codec="block")
    monkeypatch.setattr(blocks, "LINES", 11)
    parts = xorpack.encode(tensor, mask_codec="block")
    assert whole.mask_config == parts.mask_config
    assert whole.mask.data.tobytes() == parts.mask.data.tobytes()


def test_threads_give_the_same_bytes() -> None:
    tensor = with_mask(crowded(400, 900))
    one, three = (xorpack.encode(tensor, mask_codec="block", jobs=jobs) for jobs in (1, 3))
    assert one.mask.data.tobytes() == three.mask.data.tobytes()
    assert one.mask_config == three.mask_config
    assert (three.load_mask(cpu.expand, jobs=3) == tensor.mask).all()


@pytest.mark.parametrize("period", [0, 7])
def test_kernels_in_plain_python(monkeypatch: pytest.MonkeyPatch, period: int) -> None:
    tensor = with_mask(crowded(70 if period else 20, 80, period=period))
    expected = xorpack.encode(tensor, mask_codec="block")
    assert expected.mask_config["code"][3] == bool(period)
    blocks.codewords_of.cache_clear()
    for name in ("count_blocks", "count_columns", "count_ones_by_class", "fill_codewords", "split_kernel"):
        monkeypatch.setattr(blocks, name, getattr(blocks, name).py_func)
    for name in ("join_kernel", "move_kernel"):
        monkeypatch.setattr(joining, name, getattr(joining, name).py_func)
    found = xorpack.encode(tensor, mask_codec="block")
    assert found.mask.data.tobytes() == expected.mask.data.tobytes()
    assert found.mask_config == expected.mask_config
    assert (found.load_mask(reference.expand) == tensor.mask).all()


@pytest.mark.parametrize(
    ("sparsity", "limit"),
    [(0.5, 1.001), (0.7, 1.02), (0.8, 1.02), (0.9, 1.018), (0.95, 1.024), (0.98, 1.035)],
)
def test_rates(sparsity: float, limit: float) -> None:
    tensor = bcq((1536, 2048), sparsity, 1)
    encoded = xorpack.encode(tensor, mask_codec="block", jobs=2)
    assert (cpu.decode_planes(encoded, jobs=2)[0] == tensor.mask).all()
    bound = entropy(tensor.n_kept / tensor.n_weights)
    assert bound <= 8 * (encoded.mask.data.size + 100) / tensor.n_weights <= max(limit * bound, 1.001)


def test_rows_of_different_density_cost_less_than_their_mean() -> None:
    kept = crowded(512, 768, 5)
    encoded = xorpack.encode(with_mask(kept), mask_codec="block")
    share = kept.mean(axis=1)
    bound = sum(entropy(p) for p in share if 0 < p < 1) / len(share)
    assert bound < 0.8 * entropy(kept.mean())
    assert 8 * encoded.mask.data.size / kept.size < 1.05 * bound


def test_structured_masks_cost_almost_nothing() -> None:
    kept = np.zeros((256, 1024), bool)
    kept[::3] = True
    encoded = xorpack.encode(with_mask(kept))
    assert encoded.mask_codec == "block"
    assert encoded.mask.data.size <= 64
    columns = xorpack.encode(with_mask(np.ascontiguousarray(np.repeat(kept[:, :256], 12, axis=0).T)))
    assert columns.mask.data.size <= 2048


def test_columns_that_differ_are_sorted() -> None:
    kept = crowded(700, 500, 3, 11)
    tensor = with_mask(kept)
    encoded = xorpack.encode(tensor)
    assert (encoded.mask_codec, encoded.mask_config["code"][3]) == ("block", 1)
    assert comes_back(encoded, tensor, 100, 333)
    assert (cpu.decode_planes(encoded, jobs=3)[0] == tensor.mask).all()
    share = kept.mean(axis=1, keepdims=True) * kept.mean(axis=0) / kept.mean()
    bound = -np.where(kept, np.log2(share.clip(1e-9)), np.log2(1 - share.clip(0, 1 - 1e-9))).mean()
    by_row = np.mean([entropy(p) for p in kept.mean(axis=1) if 0 < p < 1])
    assert 8 * encoded.mask.data.size / kept.size < min(1.12 * bound, 0.85 * by_row)


def sample(period: int = 0) -> EncodedTensor:
    """A mask with levels of both kinds, wrong bits and missed weights; ``period``: classes of columns."""
    if period:
        return xorpack.encode(with_mask(crowded(120, 90, 0, period)), mask_codec="block")
    encoded = xorpack.encode(with_mask(crowded(70, 300, 8)), mask_codec="block")
    assert min(encoded.mask_config["n_corrections"]) > 0
    assert min(len(encoded.mask_config[name]) for name in ("row_levels", "col_levels")) > 1
    return encoded


@pytest.mark.parametrize("key", ["code", "layout", "n_corrections", "row_levels", "col_levels"])
@pytest.mark.parametrize(
    "value", [None, 3, "12", {}, [], [True], [1.0, 2, 3], ["a"], [10**400], [-1] * 40], ids=str
)
def test_untrusted_types(key: str, value: Any) -> None:
    good = sample()
    with pytest.raises(FormatError, match="mask codec block"):
        reread(good, config={**good.mask_config, key: value})


def test_untrusted_values() -> None:
    good = sample()
    config = dict(good.mask_config)
    lanes, n_steps, row_stride, m_lane = config["layout"]
    wrong: list[dict[str, Any]] = [{key: config[key] for key in config if key != gone} for gone in config]
    wrong += [{}, {**config, "extra": 1}]
    codes = [[0, 0, 5], [33, 2, 20], [8, 9, 14], [8, -1, 14], [8, 8, 7], [8, 8, 25], [32, 32, 24], [8, 8, 0]]
    wrong += [{**config, "code": [*value, 0]} for value in codes]
    wrong += [{**config, "code": [*config["code"][:3], value]} for value in (-1, 2, 1)]
    wrong += [{**config, key: [65]} for key in ("row_levels", "col_levels")]
    wrong += [{**config, key: [-65, 3]} for key in ("row_levels", "col_levels")]
    wrong += [{**config, "row_levels": [1] * 17}]
    wrong += [
        {**config, "layout": value}
        for value in (
            [0, n_steps, row_stride, m_lane],
            [33, n_steps, row_stride, m_lane],
            [lanes, 0, row_stride, m_lane],
            [lanes, 1 << 40, row_stride, m_lane],
            [lanes, n_steps, 0, m_lane],
            [lanes, n_steps, 70, m_lane],
            [lanes, n_steps, 1 << 40, m_lane],
            [lanes, n_steps, row_stride, -1],
            [lanes, n_steps, row_stride, 2 * n_steps + 13],
            [lanes, n_steps, row_stride, m_lane + 1],
        )
    ]
    wrong += [
        {**config, "n_corrections": value} for value in ([-1, 0], [0, -1], [1 << 40, 0], [0, 70 * 300 + 1])
    ]
    for value in wrong:
        with pytest.raises(FormatError, match="mask codec block"):
            reread(good, config=value)
    for data in (good.mask.data[:-1], good.mask.data[:0], np.append(good.mask.data, np.uint8(0))):
        with pytest.raises(FormatError, match=rf"section of {data.size} bytes, not {good.mask.data.size}"):
            reread(good, data=data)


@pytest.mark.parametrize("period", [0, 7])
def test_any_bytes_decode_alike_or_are_refused(period: int) -> None:
    good = sample(period)
    assert good.mask_config["code"][3] == bool(period)
    seen = set()
    for at in range(0, good.mask.data.size, 3):
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
    assert seen == {bytes} if period else seen == {bytes, str}


def test_counts_of_blocks_and_columns() -> None:
    rng = np.random.default_rng(4)
    for cols, rows in ((100, 40), (32, 7), (75, 1)):
        kept, classes = rng.random((rows, cols)) < 0.3, rng.integers(0, 3, rows)
        found = np.ones((cols, 3, 2), np.int64)
        block_kernels.count_columns(words.pack(kept), classes, found)
        for k in range(3):
            part = kept[classes == k]
            assert np.array_equal(found[:, k, 1] - 1, part.sum(axis=0))
            assert np.array_equal(found[:, k, 0] - 1, (~part).sum(axis=0))
        for block in (1, 5, 8, 12, 24, 31, 32):
            ones = np.empty((rows, -(-cols // block)), np.uint8)
            block_kernels.count_blocks(words.pack(kept), cols, block, ones)
            whole = cols // block
            assert np.array_equal(
                ones[:, :whole], kept[:, : whole * block].reshape(rows, whole, block).sum(axis=2)
            )
            if cols % block:
                last = kept[:, whole * block :].mean(axis=1) * block
                assert np.array_equal(ones[:, whole], np.floor(last + 0.5 + 1e-9))


def test_costs_are_a_product_of_matrices():
    rng = np.random.default_rng(5)
    counts = rng.integers(0, 4, (30, 3, 4)) * rng.integers(0, 2, (30, 3, 4))
    weights = rng.integers(0, 99, (4, 13)) * 1.0
    others = np.array([-3, 0, 2])
    for kernel in (block_kernels.sum_costs, block_kernels.sum_costs.py_func):
        found = np.full((30, 7), np.nan)
        kernel(counts, others, weights, found)
        for level in range(7):
            assert np.array_equal(
                found[:, level], np.einsum("nck,kc", counts, weights[:, level + 3 + others])
            )


def test_levels_that_cost_least() -> None:
    """All ways to cut six groups into up to three stretches, of one level each."""
    rng = np.random.default_rng(6)
    for _ in range(5):
        costs = rng.integers(0, 50, (9, 6)).cumsum(axis=1) + rng.integers(0, 99, (9, 1)) * 1.0
        totals = np.zeros((6, 6))
        block_kernels.sum_groups(costs, costs.argmin(axis=1), totals)
        assert np.array_equal(totals.sum(axis=0), costs.sum(axis=0))
        for kernel in (block_kernels.cheapest_levels, block_kernels.cheapest_levels.py_func):
            found = np.empty(3, np.int64)
            n = kernel(totals, len(costs), 2, 5, found)
            classes = np.empty(len(costs), np.int64)
            levels = np.unique(found[:n])
            total = block_kernels.assign_levels(costs, levels, classes)
            assert (
                total
                == costs[np.arange(len(costs)), levels[classes]].sum()
                == costs[:, levels].min(axis=1).sum()
            )
            best = min(
                sum(part.sum(axis=0).min() for part in np.split(totals, cuts)) / 2
                + 9 * k.bit_length()
                + 5 * (k + 1)
                for k in (0, 1, 2)
                for cuts in combinations(range(1, 6), k)
            )
            assert totals[:, levels].min(axis=1).sum() / 2 + 9 * (n - 1).bit_length() + 5 * n <= best
