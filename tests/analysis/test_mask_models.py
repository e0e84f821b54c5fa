"""Models of masks: counts against numpy, bounds against likelihoods worked out bit by bit."""

from __future__ import annotations

import doctest

import numpy as np
import pytest

from xorpack.analysis import mask_models
from xorpack.analysis.bounds import binary_entropy
from xorpack.analysis.counting_kernels import count_columns
from xorpack.analysis.density import density_map
from xorpack.analysis.mask_models import MODELS, MaskBounds, MaskCounts
from xorpack.code import words

SHAPES = [(1, 1), (1, 40), (40, 1), (33, 100), (64, 64), (257, 384)]


def random(shape, sparsity: float, seed: int = 0):
    return np.random.default_rng([seed, *shape]).random(shape) >= sparsity


def structured(rows: int, cols: int, spread: float, seed: int = 0):
    """Rows and columns that keep more or less: additive in the logit."""
    rng = np.random.default_rng([seed, rows, cols])
    logit = -2.2 + spread * (rng.standard_normal((rows, 1)) + rng.standard_normal((1, cols)))
    return rng.random((rows, cols)) < 1 / (1 + np.exp(-logit)), 1 / (1 + np.exp(-logit))


def bounds_of(kept) -> MaskBounds:
    return MaskBounds.of(MaskCounts.of([words.pack(kept)], kept.shape[1]))


def test_doctests() -> None:
    assert not doctest.testmod(mask_models).failed


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("sparsity", [0.0, 0.5, 0.97, 1.1])
def test_counts(shape, sparsity) -> None:
    kept = random(shape, sparsity)
    packed = words.pack(kept)
    counts = MaskCounts.of([packed[:3], packed[3:]], shape[1])
    assert (counts.rows == kept.sum(1)).all()
    assert (counts.cols == kept.sum(0)).all()
    assert counts.n_kept == kept.sum()
    found = np.zeros(32 * packed.shape[1], np.int64)
    count_columns.py_func(packed, found)
    assert (found[: shape[1]] == kept.sum(0)).all()


@pytest.mark.parametrize("shape", [(0, 5), (5, 0), (3, 40)])
def test_masks_without_information(shape) -> None:
    for kept in (np.zeros(shape, bool), np.ones(shape, bool)):
        assert bounds_of(kept).best == ("iid", 0.0)


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("sparsity", [0.5, 0.9])
def test_no_model_finds_structure_in_an_iid_mask(seed, sparsity) -> None:
    kept = random((128, 256), sparsity, seed)
    found = bounds_of(kept)
    assert found.best[1] <= found.iid < kept.size * binary_entropy(kept.mean()) + 9
    # A code must not promise less than the entropy of what it was drawn from, but by chance.
    deviation = np.sqrt(kept.size * sparsity * (1 - sparsity)) * abs(np.log2(sparsity / (1 - sparsity)))
    assert found.best[1] > kept.size * binary_entropy(sparsity) - 4 * deviation - 20


def test_rows_and_columns_are_found_where_they_differ() -> None:
    rng = np.random.default_rng(0)
    by_row = rng.random((300, 400)) < np.linspace(0.01, 0.4, 300)[:, None]
    a, b = bounds_of(by_row), bounds_of(by_row.T)
    assert a.best[0] == "rows"
    assert b.best[0] == "columns"
    assert np.isclose(a.rows, b.columns)
    assert np.isclose(a.both, b.both, rtol=1e-6)
    truth = 400 * sum(binary_entropy(p) for p in np.linspace(0.01, 0.4, 300))
    assert truth * 0.99 < a.rows < truth * 1.02 < 0.95 * a.iid


@pytest.mark.parametrize("spread", [0.3, 0.8])
def test_both_reaches_the_entropy_of_an_additive_model(spread) -> None:
    kept, p = structured(768, 1024, spread)
    truth = float((-np.where(kept, np.log2(p), np.log2(1 - p))).sum())  # of this very mask, the model known
    found = bounds_of(kept)
    assert found.best[0] == "both"
    assert 0.995 * truth < found.both < 1.02 * truth
    assert found.both < min(found.rows, found.columns) < found.iid


def test_lines_that_are_all_pruned_or_all_kept_cost_nearly_nothing() -> None:
    kept = random((200, 320), 0.9)
    kept[::2] = False
    kept[:, :32] = True
    found = bounds_of(kept)
    inner = kept[1::2, 32:]
    assert found.both < inner.size * binary_entropy(inner.mean()) * 1.02 + 700
    assert all(np.isfinite(getattr(found, model)) for model in MODELS)


@pytest.mark.parametrize(("rows", "cols"), [(1, 1), (5, 300), (96, 96), (100, 97), (257, 384)])
def test_density_maps(rows, cols) -> None:
    kept = random((rows, cols), 0.7)
    packed = words.pack(kept)
    found = density_map([packed[:2], packed[2:]], rows, cols, (32, 32))
    assert found.shape == (min(rows, 32), min(cols, 32))
    tile_r, tile_c = np.arange(rows) * found.shape[0] // rows, np.arange(cols)
    left = np.arange(found.shape[1]) * cols // found.shape[1]
    tile_c = np.searchsorted(left, tile_c, side="right") - 1
    for i, j in (
        (0, 0),
        (found.shape[0] - 1, found.shape[1] - 1),
        (found.shape[0] // 2, found.shape[1] // 3),
    ):
        assert np.isclose(found[i, j], kept[np.ix_(tile_r == i, tile_c == j)].mean())


def test_an_empty_map() -> None:
    assert density_map([], 0, 5).shape == (0, 5)
