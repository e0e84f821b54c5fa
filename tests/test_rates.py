"""Rates are asserted: nothing beats its bound, and each measured goal is an upper bound."""

from __future__ import annotations

import math

import numpy as np
import pytest
from samples import bcq, pruned

import xorpack
from xorpack.analysis.accounting import Account
from xorpack.corrections import packed_sizes


@pytest.mark.parametrize(
    ("sparsity", "bits", "goal"),
    [(0.5, 3, 1.012), (0.7, 3, 1.015), (0.9, 2, 1.018), (0.95, 3, 1.018), (0.99, 2, 1.03)],
)
def test_payload_overhead_of_iid_masks(sparsity, bits, goal):
    account = Account.of(xorpack.encode(bcq((2048, 2048), sparsity, bits), jobs=2))
    assert account.payload_overhead <= goal


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("sparsity", [0.0, 0.3, 0.8, 0.97])
def test_random_planes_do_not_beat_the_counting_bound(sparsity, seed):
    """Random care bits are incompressible: fewer bits for all of them would be a bug."""
    encoded = xorpack.encode(bcq((128, 256), sparsity, 4, seed=seed))
    account = Account.of(encoded)
    slack = 64  # bits: 2^-64 is the chance of being this lucky
    assert 8 * account.payload_bytes >= encoded.n_kept * 4 - slack


def test_small_tensors_stay_near_the_bound():
    for rows, cols, sparsity in ((384, 384, 0.9), (384, 1536, 0.8), (64, 576, 0.5)):
        account = Account.of(xorpack.encode(bcq((rows, cols), sparsity, 2)))
        assert account.payload_overhead < 1.03


def test_crowded_rows_and_columns_stay_near_the_bound():
    """Real masks are not i.i.d.: densities that differ widely by row and column."""
    rng = np.random.default_rng(5)
    rows, cols = rng.gamma(2.0, size=(768, 1)), rng.gamma(2.0, size=(1, 1024))
    kept = rng.random((768, 1024)) < 0.1 * rows * cols / 4
    weight = np.where(kept, rng.standard_normal(kept.shape), 0).astype(np.float32)
    account = Account.of(xorpack.encode(xorpack.quantize(weight, bits=2)))
    assert account.payload_overhead < 1.035


def test_dense_tensors_cost_nothing_but_their_planes():
    encoded = xorpack.encode(pruned((96, 1088), -1.0), field="none")
    assert encoded.network.family == "identity"
    assert encoded.code.nbytes == encoded.original_bytes
    assert encoded.mask.nbytes == encoded.corrections.nbytes == 0


def test_corrections_cost_what_the_formula_says():
    for n, universe, q in ((1000, 1 << 20, 2), (31, 12345, 4)):
        size = 8 * sum(packed_sizes(n, universe, q))
        assert size <= n * (math.log2(universe / n) + 2 + q) + 32


def test_sections_sum_to_the_account():
    encoded = xorpack.encode(bcq((100, 333), 0.7, 3))
    account = Account.of(encoded)
    assert account.n_bytes == sum(section.nbytes for section in encoded.sections().values())
    total = Account.total([account, account], metadata_bytes=11)
    assert total.n_bytes == 2 * account.n_bytes + 11
    assert total.n_weights == 2 * encoded.n_weights
    parts = total.as_dict()["bits_per_weight"]
    assert math.isclose(parts["total"], sum(v for k, v in parts.items() if k != "total"))
