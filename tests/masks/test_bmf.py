"""Masks that are Boolean products: chosen, found again, decoded, refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mask_samples import any_factors, comes_back, reread, with_mask

import xorpack
from xorpack import EncodedTensor
from xorpack.code import words
from xorpack.encoding.masks import bmf, bmf_kernels
from xorpack.encoding.masks.bmf import choose_tile, cover, factor, fit
from xorpack.errors import DataError, FormatError, ParameterError
from xorpack.masks.bmf import Factors, sizes
from xorpack.masks.bmf_kernels import product_kernel


def magnitudes(shape: tuple[int, int], seed: int = 0, spread: float = 0.0) -> np.ndarray[Any, Any]:
    """Normal magnitudes; ``spread``: how much rows and columns differ."""
    rng = np.random.default_rng([seed, *shape])
    scale = np.exp(rng.normal(0, spread, (shape[0], 1)) + rng.normal(0, spread, shape[1]))
    return np.abs(rng.standard_normal(shape) * scale).astype(np.float32)


def plain_mask(factors: Factors, cols: int) -> np.ndarray[Any, Any]:
    """The product by its definition."""
    rows = len(factors.left)
    right = words.unpack(factors.right, cols)
    return np.array(
        [
            [
                any(
                    factors.left[r, c // factors.tile_cols, i] and right[r // factors.tile_rows, i, c]
                    for i in range(factors.rank)
                )
                for c in range(cols)
            ]
            for r in range(rows)
        ],
        bool,
    ).reshape(rows, cols)


cases = st.tuples(
    st.integers(0, 99),
    st.integers(1, 40),
    st.integers(1, 150),
    st.integers(1, 4),
    st.integers(1, 50),
    st.integers(1, 3),
)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(cases, st.data())
def test_any_factors_are_the_mask_and_come_back(case: tuple[int, ...], data: Any) -> None:
    _, rows, cols, *_ = case
    factors = any_factors(*case)
    mask = plain_mask(factors, cols)
    assert (factors.mask() == words.pack(mask)).all()
    tensor = with_mask(mask)
    encoded = xorpack.encode(tensor, mask_codec="bmf", factors=factors)
    assert encoded.mask_codec == "bmf"
    assert encoded.mask.data.size == sum(
        sizes(rows, cols, factors.rank, factors.tile_rows, factors.tile_cols)
    )
    first = data.draw(st.integers(0, rows))
    assert comes_back(encoded, tensor, first, data.draw(st.integers(first, rows)))


@settings(max_examples=60, deadline=None, derandomize=True)
@given(cases)
def test_factors_are_found_again(case: tuple[int, ...]) -> None:
    factors = any_factors(*case)
    cols = case[2]
    found = factor(factors.mask(), cols, factors.rank, factors.tile_rows, factors.tile_cols)
    assert (found.mask() == factors.mask()).all()


def test_cover_is_complete_for_small_sets() -> None:
    rng = np.random.default_rng(3)
    for _ in range(300):
        rank, width = int(rng.integers(1, 4)), int(rng.integers(1, 7))
        patterns = [int(x) for x in rng.integers(1, 1 << width, rank)]
        unions = {0}
        for pattern in patterns:
            unions |= {pattern | union for union in unions}
        rows = sorted(row for row in unions if row and rng.random() < 0.8)
        found = cover(rows, rank)
        assert found is not None
        assert len(found) <= rank
        for row in rows:
            union = 0
            for pattern in found:
                union |= pattern if pattern & ~row == 0 else 0
            assert union == row


def test_factors_of_the_usual_tiles_are_recognized() -> None:
    importance = magnitudes((300, 400))
    mask = words.unpack(fit(importance, 0.9).mask(), 400)
    encoded = xorpack.encode(with_mask(mask))
    assert encoded.mask_codec == "bmf"
    assert 8 * encoded.mask.data.size <= 0.18 * mask.size
    assert comes_back(encoded, with_mask(mask), 20, 50)
    mask[250, 399] ^= True
    assert xorpack.encode(with_mask(mask)).mask_codec == "block"
    assert xorpack.encode(with_mask(mask), prefer="speed").mask_codec == "huffman"


def test_what_has_no_factors_is_refused() -> None:
    tensor = with_mask(np.random.default_rng(0).random((40, 80)) < 0.3)
    with pytest.raises(ParameterError, match=r"'bmf' cannot store this mask: rows 0 .* no factors of rank 2"):
        xorpack.encode(tensor, mask_codec="bmf")
    other = any_factors(1, 40, 80, 2, 18, 1)
    with pytest.raises(ParameterError, match="factors are not those of the tensor's mask"):
        xorpack.encode(tensor, factors=other)


@pytest.mark.parametrize("sparsity", [0.0, 0.3, 0.5, 0.9, 0.91, 0.97, 0.999])
@pytest.mark.parametrize("shape", [(1, 1), (1, 70), (70, 1), (60, 100), (97, 131)], ids=str)
def test_sparsity_is_kept(shape: tuple[int, int], sparsity: float) -> None:
    importance = magnitudes(shape)
    factors = fit(importance, sparsity, mask_bits=2.5)
    kept = words.popcount(factors.mask())
    wanted = importance.size - round(sparsity * importance.size)
    assert wanted - 32 <= kept <= wanted
    if sparsity == 0:
        assert kept == wanted


def test_zeros_stay_pruned() -> None:
    importance = magnitudes((64, 96))
    importance[:, ::2] = 0
    mask = words.unpack(fit(importance, 0.6).mask(), 96)
    assert mask.any()
    assert not mask[:, ::2].any()
    assert not fit(np.zeros((5, 40), np.float32), 0.5, mask_bits=1).mask().any()


def test_magnitude_kept() -> None:
    for spread, least in ((0.0, 0.70), (0.5, 0.80)):
        importance = magnitudes((540, 512), spread=spread)
        factors = fit(importance, 0.91)
        mask = words.unpack(factors.mask(), 512)
        best = np.sort(importance.reshape(-1))[-int(mask.sum()) :].sum()
        assert importance[mask].sum() > least * best
        n_bytes = sum(sizes(540, 512, factors.rank, factors.tile_rows, factors.tile_cols))
        assert 8 * n_bytes <= 0.18 * importance.size


def test_a_mask_that_has_factors_is_kept_whole() -> None:
    factors = any_factors(5, 36, 96, 2, 18, 1)
    kept = words.unpack(factors.mask(), 96)
    found = fit(kept.astype(np.float32), 1 - kept.mean())
    assert (words.unpack(found.mask(), 96) & ~kept).sum() == 0
    assert words.popcount(found.mask()) > 0.97 * kept.sum()


def test_threads_give_the_same_factors() -> None:
    importance = magnitudes((200, 300))
    one, three = (fit(importance, 0.9, jobs=jobs) for jobs in (1, 3))
    assert (one.left == three.left).all()
    assert (one.right == three.right).all()


def test_kernels_in_plain_python(monkeypatch: pytest.MonkeyPatch) -> None:
    importance = magnitudes((14, 40))
    expected = fit(importance, 0.8, mask_bits=0.5)
    for name in ("fit_strip", "losses", "remove"):
        monkeypatch.setattr(bmf, name, getattr(bmf_kernels, name).py_func)
    monkeypatch.setattr(bmf, "SAMPLE_TILES", 2)
    found = fit(importance, 0.8, mask_bits=0.5)
    assert (found.tile_rows, found.tile_cols, found.rank) == (
        expected.tile_rows,
        expected.tile_cols,
        expected.rank,
    )
    kept = importance.size - round(0.8 * importance.size)
    assert kept - 40 <= words.popcount(found.mask()) <= kept
    mask = np.zeros_like(expected.mask())
    product_kernel.py_func(
        expected.left, expected.right, 0, expected.tile_rows, expected.tile_cols // 32, mask
    )
    assert (mask == expected.mask()).all()


@pytest.mark.parametrize("shape", [(1, 1), (7, 40), (300, 500), (384, 1536), (4096, 9216)], ids=str)
@pytest.mark.parametrize("mask_bits", [0.01, 0.05, 0.18, 0.5, 2.0])
@pytest.mark.parametrize("rank", [None, 1, 3])
def test_tiles_keep_the_budget_or_say_the_least(
    shape: tuple[int, int], mask_bits: float, rank: int | None
) -> None:
    rows, cols = shape
    least = (rank or 1) * (rows + cols) / (rows * cols)
    if rank is not None and rank > min(shape):
        with pytest.raises(ParameterError, match=f"rank {rank} is outside 1..{min(shape)}"):
            choose_tile(rows, cols, mask_bits, rank)
    elif least > mask_bits:
        with pytest.raises(ParameterError, match=f"take {least:.4g} at the least"):
            choose_tile(rows, cols, mask_bits, rank)
    else:
        found, tile_rows, tile_cols = choose_tile(rows, cols, mask_bits, rank)
        assert rank in (None, found)
        bits = rows * -(-cols // tile_cols) * found + -(-rows // tile_rows) * found * cols
        assert bits <= mask_bits * rows * cols


def test_bad_arguments() -> None:
    good = magnitudes((20, 40))
    for value in (np.nan, np.inf, -1.0):
        bad = good.copy()
        bad[1, 2] = value
        with pytest.raises(DataError, match=r"importance is (nan|inf|-1\.0) at flat position 42"):
            fit(bad, 0.5)
    with pytest.raises(ParameterError, match="sparsity"):
        fit(good, 1.0)
    with pytest.raises(ParameterError, match="rank = 0 is less than 1"):
        fit(good, 0.5, rank=0)
    with pytest.raises(ParameterError, match="not positive"):
        fit(good, 0.5, mask_bits=0)
    with pytest.raises(ParameterError, match="has no factors"):
        fit(np.zeros((0, 5), np.float32), 0.5)


def sample() -> EncodedTensor:
    factors = any_factors(2, 30, 100, 2, 8, 2)
    return xorpack.encode(with_mask(words.unpack(factors.mask(), 100)), mask_codec="bmf", factors=factors)


def test_untrusted_config() -> None:
    good = sample()
    config = dict(good.mask_config)
    for value in (None, "2", 2.0, True, 0, -1, 1 << 17, [2]):
        with pytest.raises(FormatError, match="rank"):
            reread(good, config={**config, "rank": value})
    for value in (
        None,
        8,
        [8],
        [8, 64, 1],
        [8, 63],
        [0, 64],
        [8, 0],
        [8, -32],
        [True, 32],
        [8.0, 64],
        [1 << 48, 32],
    ):
        with pytest.raises(FormatError, match="tile"):
            reread(good, config={**config, "tile": value})
    for wrong in ({}, {"rank": 2}, {**config, "extra": 1}):
        with pytest.raises(FormatError, match="needs rank and tile"):
            reread(good, config=wrong)
    for wrong in ({**config, "rank": 3}, {**config, "tile": [7, 64]}, {**config, "tile": [8, 32]}):
        with pytest.raises(FormatError, match=rf"section of {good.mask.data.size} bytes, not \d+"):
            reread(good, config=wrong)
