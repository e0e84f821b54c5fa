"""The study's measurements obey laws: nothing beats its bound, memory helps, exact means exact."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from studies import alexnet, blocks, networks, orders, patterns, planes, sample
from studies.table import Scope
from xorpack.analysis.bounds import binary_entropy
from xorpack.code import words
from xorpack.code.layout import Layout
from xorpack.code.network import XorNetwork
from xorpack.code.words import popcount
from xorpack.encoding.quantize.pruning import magnitude_mask

SLACK = 64
"""Bits: 2^-64 is the chance of being this lucky."""

NETWORKS = {
    "dense, n_s 0": XorNetwork.dense(n_in=8, n_out=40),
    "dense, n_s 2": XorNetwork.dense(n_in=8, n_out=40, n_s=2),
    "dense, n_s 7": XorNetwork.dense(n_in=8, n_out=40, n_s=7),
    "sparse": XorNetwork.sparse(n_in=8, n_out=40, n_s=1),
    "narrow": XorNetwork.quasi_cyclic(window=2),
    "wide": XorNetwork.quasi_cyclic(window=12),
}


def draw(network, seed, *, n_steps=1200, density=0.2, q=1, encoder="elimination"):
    rng = patterns.generator("laws", seed)
    mask = patterns.iid_ring(rng, n_steps, density)
    ring = sample.ring_layout(n_steps)
    rate = None if network.family != "quasi-cyclic" else 0.2
    return sample.encode(
        network, mask, patterns.random_planes(rng, q, mask), ring, rate=rate, encoder=encoder
    )


@pytest.mark.parametrize("q", [1, 3])
@pytest.mark.parametrize("name", NETWORKS)
def test_random_bits_are_not_stored_below_their_entropy(name, q):
    """Neither as stored, nor with ideal corrections: 2^code * (patterns of that many errors) cover them."""
    for seed in range(12):
        one = draw(NETWORKS[name], seed, q=q)
        assert one.stored_bits + one.correction_bits >= one.care_bits - SLACK
        ideal = one.floor * one.care_bits
        assert ideal >= one.care_bits - SLACK - math.log2(one.care_bits + 1)
        assert one.correction_bits >= ideal - one.stored_bits - 1e-6
        assert 0.5 < one.efficiency <= 1
        assert one.n_planes == q


def test_the_floor_of_one_plane_is_the_entropy_of_its_errors():
    one = draw(NETWORKS["dense, n_s 0"], 0)
    assert one.wrong_bits == one.n_corrections
    assert math.isclose(one.floor, one.rate + binary_entropy(1 - one.efficiency))


def test_memory_raises_efficiency():
    def efficiency(n_s, encoder="elimination"):
        network = XorNetwork.dense(n_in=8, n_out=40, n_s=n_s)
        found = [draw(network, seed, n_steps=4000, encoder=encoder) for seed in range(3)]
        return sample.mean(found, "efficiency")

    rising = [efficiency(n_s) for n_s in (0, 1, 2, 7)]
    assert rising == sorted(rising)
    assert efficiency(0, "viterbi") < efficiency(1, "viterbi")


@pytest.mark.parametrize("seed", range(5))
def test_without_memory_no_encoder_beats_the_exhaustive_search(seed):
    network = NETWORKS["dense, n_s 0"]
    assert draw(network, seed, encoder="viterbi").efficiency >= draw(network, seed).efficiency


@pytest.mark.parametrize("encoder", ["elimination", "viterbi"])
def test_streams_never_meet(encoder):
    """Eight encodings of four streams of 32 each are the encoding of all, error by error."""
    network = XorNetwork.dense(n_in=4, n_out=20, n_s=1)
    rng = patterns.generator("streams")
    mask = patterns.exact_ring(rng, 2000, 32 * 400)
    bits = patterns.random_planes(rng, 1, mask)
    ring = sample.ring_layout(2000)
    whole = sample.encode(network, mask, bits, ring, encoder=encoder)
    four = np.uint32(0xF)
    parts = [
        sample.encode(network, mask >> k & four, bits >> k & four, ring, encoder=encoder, n_streams=4)
        for k in range(0, 32, 4)
    ]
    assert whole.rate == 1
    for name in ("care_bits", "stored_bits", "wrong_bits"):
        assert sum(getattr(part, name) for part in parts) == getattr(whole, name)


def test_wrong_corrections_are_found(monkeypatch):
    real = sample.encode_planes

    def forgetful(*arguments, **options):
        code, corrections = real(*arguments, **options)
        return code, type(corrections)(corrections.positions[1:], corrections.values[1:])

    monkeypatch.setattr(sample, "encode_planes", forgetful)
    with pytest.raises(AssertionError, match="do not mend"):
        draw(NETWORKS["dense, n_s 0"], 0)


def test_the_prediction_is_the_mean_over_all_random_codes():
    """Every choice of 2^n_in words of u bits, against the formula."""
    for n_in, u in ((1, 1), (1, 2), (1, 3), (2, 2)):
        distances = [
            min(word.bit_count() for word in code)
            for code in itertools.product(range(1 << u), repeat=1 << n_in)
        ]
        expected = 1 - np.mean(distances) / u
        assert math.isclose(blocks.predicted_efficiency(n_in, {u: 1.0}), expected)
    assert math.isclose(sum(blocks.binomial(80, 0.1).values()), 1)


def test_fixed_blocks_keep_what_they_should():
    mask = patterns.fixed_ring(np.random.default_rng(3), 50, 37, 5)
    bits = words.unpack(mask, 32).reshape(50, 37, 32)
    assert (bits.sum(axis=1) == 5).all()


def test_every_order_visits_every_weight():
    rows, cols = 96, 500
    weight = patterns.structured_weight(np.random.default_rng(1), "rows", rows, cols)
    mask = magnitude_mask(weight, 0.7)
    for order in orders.ORDERS:
        layout = orders.layout(order, rows, cols, popcount(mask))
        assert orders.window_counts(mask, layout, 32).sum() == popcount(mask)


def test_spread_is_one_by_chance_and_more_where_rows_crowd():
    rows, cols = 1024, 1024
    spreads = {}
    for structure in patterns.STRUCTURES:
        rng = patterns.generator("spread", structure)
        mask = patterns.structured_mask(rng, structure, rows, cols, 0.9)
        assert popcount(mask) == rows * cols - round(0.9 * rows * cols)
        for order in orders.ORDERS:
            layout = orders.layout(order, rows, cols, popcount(mask))
            spreads[structure, order] = orders.spread(orders.window_counts(mask, layout))
    for order in orders.ORDERS:
        assert 0.8 < spreads["i.i.d.", order] < 1.2
    assert spreads["rows", "in rows"] > 8
    assert spreads["rows", "lanes + skew"] < 0.5 * spreads["rows", "in rows"]
    assert math.isnan(orders.spread(np.zeros(3, np.int64)))
    assert math.isnan(orders.spread(np.zeros(9, np.int64)))


def test_int8_is_symmetric_and_keeps_zeros():
    weight = np.array([[1.0, -2.0, 0.0], [0.0, 0.0, 0.0], [-0.3, 0.1, 0.3]], np.float32)
    assert planes.as_int8(weight).tolist() == [[64, -127, 0], [0, 0, 0], [-127, 42, 127]]


def test_planes_that_are_constant_count_their_exceptions_as_wrong():
    rng = np.random.default_rng(2)
    weight = np.where(rng.random((64, 256)) < 0.5, rng.random((64, 256), np.float32) + 1, 0)
    weight = weight.astype(np.float32)
    weight[3, np.flatnonzero(weight[3])[:2]] *= -1
    counts = planes._count(weight, "float32")
    assert counts["constant"][31] == 1
    assert counts["ones"][31] == counts["wrong"][31] == 2
    assert counts["ones"][23:30] == [counts["n_kept"]] * 7
    assert sum(counts["symbols"].values()) == counts["n_kept"]


def test_entropies_are_of_each_array_by_itself():
    """Pooled, two arrays that differ would seem to have more than their codes need."""
    rng = np.random.default_rng(6)
    arrays = []
    for low, high in ((1.0, 2.0), (2.0, 4.0)):  # one exponent each
        weight = rng.uniform(low, high, (64, 256)).astype(np.float32)
        arrays.append(planes._count(np.where(rng.random(weight.shape) < 0.6, weight, 0), "float32"))
    assert planes._entropies(arrays)[23:] == [0.0] * 9
    stored = sum(counts["code"] + counts["corrections"] for counts in arrays)
    n_kept = sum(counts["n_kept"] for counts in arrays)
    assert stored >= n_kept * planes._joint(arrays, "float32") - SLACK
    assert math.isclose(planes._joint(arrays, "float32"), sum(planes._entropies(arrays)))


@pytest.mark.parametrize("kind", planes.TYPES)
def test_lossless_planes_are_not_stored_below_their_joint_entropy(kind):
    for seed in range(4):
        params = {"type": kind, "sparsity": 0.8, "rows": 128, "cols": 256, "seeds": 1 + seed}
        for counts in planes.measure(params)["samples"]:
            stored = counts["code"] + counts["corrections"]
            assert stored >= counts["n_kept"] * planes._joint([counts], kind)
            assert sum(counts["symbols"].values()) == counts["n_kept"] == round(0.2 * 128 * 256)


def test_what_is_too_much_work_says_why():
    params = {"taps": "dense", "encoder": "viterbi", "n_in": 12, "n_s": 2, "seconds": 4.0}
    assert "windows over 24 bits" in networks.skipped(params)
    assert "estimated work" in networks.skipped(params | {"n_in": 20, "n_s": 0, "seconds": 0.01})
    assert networks.skipped(params | {"n_in": 8}) is None
    assert networks.skipped(params | {"encoder": "elimination"}) is None
    wide = params | {"taps": "quasi-cyclic", "encoder": "elimination", "n_in": 20, "n_s": 15}
    assert "over 64 words" in networks.skipped(wide)


def test_the_default_layout_is_the_third_order():
    assert orders.layout("lanes + skew", 64, 640, 4000) == Layout.choose(64, 640, 4000)


def test_the_published_figure_of_alexnets_layers_is_reached():
    (cell,) = [cell for cell in alexnet.plan(Scope(seeds=2)) if cell.params["layer"] == "fc8"]
    for one in alexnet.measure(cell.params)["samples"]:
        payload = (one["code"] + one["corrections"]) / one["n_weights"]
        assert one["n_kept"] / one["n_weights"] - SLACK / one["n_weights"] <= payload <= alexnet.GOAL
