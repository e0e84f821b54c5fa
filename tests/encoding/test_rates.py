"""Rates are asserted: nothing beats its bound, and each measured goal is an upper bound."""

from __future__ import annotations

import math

import ml_dtypes
import numpy as np
import pytest
from samples import bcq, pruned

import xorpack
from xorpack.analysis.accounting import Account
from xorpack.code.corrections import packed_sizes
from xorpack.code.dense import UNSIGNED


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
    assert account.payload_overhead < 1.05  # 4 % of it: planes of quantized weights depend on each other


def test_dense_tensors_cost_nothing_but_their_planes():
    encoded = xorpack.encode(pruned((96, 1088), -1.0), field="none")
    assert encoded.network.family == "identity"
    assert encoded.code.nbytes == encoded.original_bytes
    assert encoded.mask.data.nbytes == encoded.planes.corrections.nbytes == 0


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


def normal(kind, kept=0.5, size=1024):
    rng = np.random.default_rng(2)
    values = rng.standard_normal((size, size)) * (30 if np.dtype(kind).itemsize == 1 else 0.02)
    return np.where(rng.random(values.shape) < kept, values, 0).astype(kind)


@pytest.mark.parametrize(
    ("kind", "limit", "goal"),
    [(ml_dtypes.bfloat16, 10.68, 10.9), (np.float16, 13.69, 13.9), (np.float32, 26.76, 26.95)],
)
def test_exponents_cost_little_more_than_their_entropy(kind, limit, goal):
    """Normal weights, half of them pruned at random: bits of payload per kept weight."""
    encoded = xorpack.encode(normal(kind))
    account = Account.of(encoded)
    assert 8 * account.payload_bytes / encoded.n_kept <= limit < goal
    assert 1 <= account.payload_overhead <= 1.02
    assert account.section_bytes["field"] > 0


@pytest.mark.parametrize("kind", [np.float32, np.float16, ml_dtypes.bfloat16, np.int8])
@pytest.mark.parametrize("n", [2, 16, 200])
def test_few_values_cost_little_more_than_their_entropy(kind, n):
    rng = np.random.default_rng(n)
    values = rng.choice(1 << 7 if kind is np.int8 else 1 << 14, n % 127 or 120, replace=False) + 1
    unsigned = UNSIGNED[np.dtype(kind).itemsize]
    steps = values * (0x10003 if kind is np.float32 else 1)
    kept = rng.random((1024, 1024)) < 0.5
    array = np.where(kept, steps[rng.integers(0, values.size, kept.shape)], 0).astype(unsigned).view(kind)
    account = Account.of(xorpack.encode(array))
    bound = 8 * account.payload_bytes / account.n_kept
    assert math.log2(values.size) <= bound <= 1.03 * math.log2(values.size) + 0.02
    assert account.payload_overhead >= 1


def test_quantized_floats_cost_little_more_than_their_codes():
    """16 equiprobable values of float32."""
    rng = np.random.default_rng(4)
    levels = rng.permutation(np.linspace(-1, 1, 16, dtype=np.float32) * np.float32(0.0137))
    array = np.where(rng.random((1024, 1024)) < 0.5, levels[rng.integers(0, 16, (1024, 1024))], np.float32(0))
    account = Account.of(xorpack.encode(array))
    assert 4 <= 8 * account.payload_bytes / account.n_kept <= 4.1 < 4.15


@pytest.mark.parametrize("kind", [np.float32, np.float16, ml_dtypes.bfloat16, np.int8, np.uint8])
@pytest.mark.parametrize("size", [64, 256])
@pytest.mark.parametrize("kept", [0.1, 0.5, 1.0])
def test_no_lossless_tensor_beats_its_bound(kind, size, kept):
    for choice in ("auto", "always", "none"):
        account = Account.of(xorpack.encode(normal(kind, kept, size), field=choice))
        assert account.payload_overhead >= 1


def test_int8_costs_little_more_than_its_entropy():
    assert 1 <= Account.of(xorpack.encode(normal(np.int8))).payload_overhead <= 1.025
