"""Bounds: formulas against their definitions, and against each other."""

from __future__ import annotations

import doctest
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import xorpack
from xorpack.analysis import bounds, entropy
from xorpack.analysis.accounting import Account
from xorpack.analysis.bounds import (
    bcq_payload_bound,
    binary_entropy,
    chosen_mask_bound,
    correction_floor,
    given_mask_bound,
    held_at_rate,
    mask_bound_error,
    parameter_bits,
    payload_bound,
)
from xorpack.analysis.report import tensor_table, view, views

inside = st.floats(0.001, 0.999)


@pytest.mark.parametrize("module", [bounds, entropy, tensor_table, view, views])
def test_doctests(module) -> None:
    results = doctest.testmod(module)
    assert results.attempted
    assert not results.failed


@given(inside)
def test_entropy_is_symmetric_and_at_most_a_bit(p: float) -> None:
    assert math.isclose(binary_entropy(p), binary_entropy(1 - p), rel_tol=1e-9)
    assert 0 < binary_entropy(p) <= 1
    assert math.isclose(correction_floor(p), binary_entropy(p), rel_tol=1e-9)


@given(st.floats(0.05, 0.99), st.integers(1, 8))
def test_the_bound_of_everything_is_the_sum_of_its_parts(sparsity: float, bits: int) -> None:
    assert given_mask_bound(sparsity, bits) == binary_entropy(sparsity) + payload_bound(sparsity, bits)


@pytest.mark.parametrize("bits", [1, 2, 3, 4])
@pytest.mark.parametrize("sparsity", [0.0, 0.5, 0.9])
def test_binary_codes_of_normal_weights_hold_what_the_table_says(sparsity: float, bits: int) -> None:
    """Fewer bits than planes, for planes depend on each other."""
    weight = np.random.default_rng(3).standard_normal((512, 1024), dtype=np.float32)
    quantized = xorpack.quantize(weight, bits=bits, sparsity=sparsity)
    encoded = xorpack.encode(quantized, prefer="speed")
    account = Account.of(encoded)
    found = account.payload_bound_bits / account.n_kept
    assert math.isclose(found, bcq_payload_bound(sparsity, bits) / (1 - sparsity), abs_tol=0.01)
    assert found <= bits
    assert account.payload_overhead is not None
    assert account.payload_overhead > 1


@given(st.floats(0.05, 0.99), st.floats(0, 1), st.floats(0, 1))
def test_a_mask_that_holds_more_costs_more(sparsity: float, a: float, b: float) -> None:
    low, high = sorted((a, b))
    assert chosen_mask_bound(sparsity, low) <= chosen_mask_bound(sparsity, high) + 1e-12
    assert math.isclose(chosen_mask_bound(sparsity, 1.0), binary_entropy(sparsity), abs_tol=1e-12)
    assert chosen_mask_bound(sparsity, 1 - sparsity) < 1e-12


@given(st.floats(0.05, 0.99), st.floats(0.01, 1))
def test_the_share_held_inverts_the_rate(sparsity: float, share: float) -> None:
    rate = share * binary_entropy(sparsity)
    assert math.isclose(chosen_mask_bound(sparsity, held_at_rate(sparsity, rate)), rate, abs_tol=1e-6)


def test_chosen_masks_against_mutual_information_that_is_counted() -> None:
    rng = np.random.default_rng(3)
    wanted = rng.random(1 << 20) < 0.2
    chosen = np.where(rng.random(wanted.size) < 0.6, wanted, rng.permutation(wanted))
    held = (wanted & chosen).sum() / wanted.sum()
    joint = np.bincount(2 * wanted + chosen, minlength=4) / wanted.size
    outer = np.outer(joint.reshape(2, 2).sum(1), joint.reshape(2, 2).sum(0)).reshape(-1)
    information = float((joint * np.log2(joint / outer)).sum())
    assert math.isclose(chosen_mask_bound(1 - wanted.mean(), held), information, rel_tol=1e-3)


@pytest.mark.parametrize("n", [1, 2, 3, 7, 50, 400])
def test_the_cost_of_a_parameter_is_the_sum_over_all_it_could_be(n: int) -> None:
    k = range(n + 1)
    exact = sum(math.comb(n, i) * (i / n) ** i * (1 - i / n) ** (n - i) for i in k)
    assert math.isclose(parameter_bits(n), math.log2(exact), rel_tol=0.01)


def test_intervals_hold_the_truth_as_often_as_they_say() -> None:
    rng, truth = np.random.default_rng(0), binary_entropy(0.9)
    n, held = 5000, 0
    for _ in range(400):
        sparsity = 1 - rng.binomial(n, 0.1) / n
        held += abs(binary_entropy(sparsity) - truth) <= mask_bound_error(sparsity, n)
    assert 0.92 <= held / 400 <= 0.98
