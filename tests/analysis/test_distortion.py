"""No quantizer of ours is below Shannon's bound, and the bound is what it says."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import pytest

import xorpack
from xorpack.analysis import distortion
from xorpack.analysis.distortion import Distortion, Source, entropy_power, student_power
from xorpack.analysis.row_errors import Rows, row_errors_kernel
from xorpack.encoding.quantize.trellis import quantize_trellis

SHAPE = (64, 224)
SEEDS = 5


def draw(source: str, seed: int, shape: tuple[int, int] = SHAPE) -> np.ndarray:
    rng = np.random.default_rng([seed, len(source)])
    if source == "laplace":
        weight = rng.laplace(size=shape)
    elif source == "student":
        weight = rng.standard_t(5, size=shape)
    else:
        weight = rng.standard_normal(shape)
    if source == "rows":
        weight *= np.exp(1.5 * rng.standard_normal((shape[0], 1)))
    return weight.astype(np.float32)


POWERS = {"gaussian": 1.0, "rows": 1.0, "laplace": distortion.LAPLACE_POWER, "student": student_power(5)}


def quantized(weight: np.ndarray) -> Iterator[tuple[str, object]]:
    for method in ("greedy", "alternating"):
        for sparsity, bits in ((None, 1), (None, 3), (0.5, 2), (0.9, 1)):
            options = {"bits": bits, "sparsity": sparsity, "method": method, "group_size": 0}
            yield f"{method} S {sparsity} q {bits}", xorpack.quantize(weight, **options)
    for rate in (0.25, 0.5, 1.0, 2.0, 3.5):
        yield f"trellis {rate}", quantize_trellis(weight, rate=rate, window=10)


def measured(weight: np.ndarray, tensor: object) -> tuple[float, float]:
    """``(D, R)``, all sections counted."""
    rows = Rows.of(weight, [tensor.dequantize()])
    bits = 8 * sum(xorpack.encode(tensor).section_bytes().values())
    return rows.error.sum() / rows.energy.sum(), bits / weight.size


def least_margin(source: str, seed: int, bound: Source) -> float:
    """The least of D over the bound, of all quantizers."""
    weight = draw(source, seed)
    found = (measured(weight, tensor) for _, tensor in quantized(weight))
    return min(error / bound.distortion(rate) for error, rate in found)


@pytest.mark.parametrize("source", POWERS)
def test_no_quantizer_of_ours_is_below_the_bound(source) -> None:
    for seed in range(SEEDS):
        weight = draw(source, seed)
        rows = Rows.of(weight, [weight])
        bounds = [Source.of(weight, rows, power=POWERS[source]), Source.of(weight, rows)]
        for name, tensor in quantized(weight):
            error, rate = measured(weight, tensor)
            for bound in bounds:
                assert error >= bound.distortion(rate), (name, seed, bound.power)
                assert rate >= bound.rate(error), (name, seed, bound.power)


@pytest.mark.parametrize(("source", "power"), [("rows", 1.0), ("laplace", 1.3)])
def test_a_bound_that_is_wrong_is_broken(source, power) -> None:
    """The same comparison finds it: rows taken as of one variance; an entropy power that no source has."""
    weight = draw(source, 0)
    wrong = Source(np.array([np.square(weight, dtype=np.float64).mean()]), np.array([weight.size]), power)
    assert least_margin(source, 0, wrong) < 1


@pytest.mark.parametrize("source", ["gaussian", "laplace", "student"])
def test_the_estimated_entropy_power_is_near_the_closed_form_and_not_above(source) -> None:
    exact = POWERS[source]
    for size, share in ((1000, 0.2), (30_000, 0.06), (300_000, 0.03)):
        found = [entropy_power(draw(source, seed, (1, size))) for seed in range(8)]
        # Over mean squares of their own, which scatter where tails are heavy.
        assert (1 - share) * exact < np.mean(found) < exact
        assert max(found) < 1.02 * exact


def test_estimates_know_no_scale_and_no_density_where_there_is_none() -> None:
    sample = draw("laplace", 3, (1, 5000))
    assert math.isclose(entropy_power(sample), entropy_power(1e-20 * sample), rel_tol=1e-5)
    assert entropy_power(np.rint(sample)) == 0
    assert entropy_power(np.zeros(100)) == 0
    assert entropy_power(np.ones(3)) == 0


def test_closed_forms() -> None:
    assert student_power(5) == pytest.approx(0.91058, abs=1e-4)
    assert distortion.gaussian_distortion(distortion.gaussian_rate(0.3)) == pytest.approx(0.3)
    assert distortion.gaussian_rate(1.7) == 0
    assert distortion.gaussian_rate(0.0) == math.inf


def test_reverse_water_filling() -> None:
    """Against a search for the level; equal rows are white; the rate is the inverse."""
    rng = np.random.default_rng(0)
    variances, sizes = np.exp(2 * rng.standard_normal(9)), rng.integers(1, 50, 9)
    source = Source(variances, sizes, 0.8)
    for rate in (0.0, 0.05, 0.3, 1.0, 4.0):
        bound = source.distortion(rate)
        levels = np.exp(np.linspace(-14, 6, 200_001))
        rates = np.zeros_like(levels)
        for variance, size in zip(variances, sizes, strict=True):
            rates += size / sizes.sum() * np.maximum(0, 0.5 * np.log2(0.8 * variance / levels))
        level = levels[np.searchsorted(-rates, -rate)]
        searched = (sizes @ np.minimum(level, 0.8 * variances)) / (sizes @ variances)
        assert bound == pytest.approx(searched, rel=1e-3)
        if rate:
            assert source.rate(bound) == pytest.approx(rate, rel=1e-9)
    white = Source(np.full(5, 3.0), np.full(5, 64), 1.0)
    assert white.distortion(1.5) == pytest.approx(4**-1.5)
    assert source.distortion(1.0) < 0.8 / 4
    assert Source(np.zeros(0), np.zeros(0, np.int64), 1.0).distortion(1.0) == 0
    assert source.rate(0.0) == math.inf


def test_sums_by_row_of_any_blocks() -> None:
    rng = np.random.default_rng(1)
    weight = np.where(rng.random((37, 50)) < 0.3, 0, rng.standard_normal((37, 50))).astype(np.float32)
    weight[5] = 0
    stored = weight + rng.standard_normal(weight.shape).astype(np.float32) / 8
    w, e = weight.astype(np.float64), (weight - stored).astype(np.float64)
    rest = np.arange(50) != np.abs(w).argmax(1)[:, None]
    for rows in (Rows.of(weight, [stored]), Rows.of(weight, [stored[:7], stored[7:30], stored[30:]])):
        assert np.allclose(rows.energy, (w * w).sum(1), rtol=1e-12)
        assert np.allclose(rows.error, (e * e).sum(1), rtol=1e-6)
        assert np.allclose(rows.rest_energy, (w * w * rest).sum(1), rtol=1e-12)
        assert np.allclose(rows.rest_error, (e * e * rest).sum(1), rtol=1e-6)
        assert np.array_equal(rows.n_kept, (weight != 0).sum(1))
    plain = np.zeros((4, 37)), np.zeros(37, np.int64)
    row_errors_kernel.py_func(weight, stored, *plain)
    assert np.allclose(plain[0][3], rows.rest_error)
    assert len(rows.ruined) == 0


def test_a_row_that_one_weight_ruins_is_found() -> None:
    weight = draw("gaussian", 0)
    weight[11, 7] = 1000
    bcq = Rows.of(weight, [xorpack.quantize(weight, bits=2, group_size=0).dequantize()])
    assert bcq.ruined.tolist() == [11]
    assert bcq.error.sum() < 0.01 * bcq.energy.sum()  # the whole tensor seems better than ever
    groups = Rows.of(weight, [xorpack.quantize(weight, bits=2, group_size=32).dequantize()])
    assert groups.ruined.tolist() == []
    trellis = Rows.of(weight, [quantize_trellis(weight, rate=2.0).dequantize()])
    assert trellis.ruined.tolist() == []
    assert Rows.of(weight, [np.zeros_like(weight)]).ruined.tolist() == [11]


def test_figures_of_a_tensor() -> None:
    found = Distortion(error=1.0, energy=8.0, rate=1.0, bound=0.2)
    assert found.relative == 0.125
    assert found.snr == pytest.approx(9.031, abs=1e-3)
    assert found.above_gaussian == pytest.approx(-3.01, abs=1e-2)
    assert found.above_bound == pytest.approx(-2.04, abs=1e-2)
    exact = Distortion(error=0.0, energy=0.0, rate=1.0).as_dict()
    assert exact["snr_db"] is None
    assert exact["relative_squared_error"] == 0
    assert Distortion(error=math.inf, energy=1.0, rate=1.0).as_dict()["relative_squared_error"] is None
    both = Distortion.total([found, found], 0.5)
    assert (both.relative, both.rate, both.bound) == (0.125, 0.5, 0.2)
    assert Distortion.total([found, Distortion(error=1.0, energy=1.0, rate=1.0)], 0.5).bound is None
