"""Weights fitted to activations: less error of the output, the data-free result without activations, bad Hessians."""

from __future__ import annotations

import logging

import numpy as np
import pytest

import xorpack
from xorpack.code.words import unpack
from xorpack.encoding.fitting import sweep_kernels
from xorpack.encoding.fitting.hessian import Hessian, inverse_factor, output_error
from xorpack.encoding.fitting.trellis import _Run
from xorpack.encoding.quantize.trellis import Job, quantize_trellis
from xorpack.errors import DataError, ParameterError

FAST = {"window": 9, "rate": 2.0}


def activations(cols: int, seed: int, rows: int = 600) -> np.ndarray:
    """Correlated Gaussian inputs (rows, cols), whose spectrum decays by e every eighth of it."""
    rng = np.random.default_rng(seed)
    turn, _ = np.linalg.qr(rng.standard_normal((cols, cols)))
    return (rng.standard_normal((rows, cols)) * np.exp(-8 * np.arange(cols) / cols)) @ turn


def layer(seed: int, rows: int = 48, cols: int = 96) -> tuple[np.ndarray, np.ndarray]:
    x = activations(cols, seed)
    rng = np.random.default_rng(seed + 1000)
    weight = rng.standard_normal((rows, cols)) * np.exp(0.3 * rng.standard_normal((rows, 1)))
    return weight.astype(np.float32), (x.T @ x).astype(np.float32)


def job(weight: np.ndarray, **options: object) -> Job:
    known = {
        "rate": 2.0, "window": 9, "group_size": 0, "mask": None, "importance": None, "column_gains": False,
        "balance": 1.0, "scale_dtype": "auto", "jobs": 1,
    }  # fmt: skip
    return Job.of(weight, **{**known, **options})


@pytest.mark.parametrize("seed", range(6))
def test_a_fit_has_less_error_of_the_output_than_the_weights_alone(seed):
    weight, hessian = layer(seed)
    free = output_error(weight, xorpack.quantize(weight, method="trellis", **FAST).dequantize(), hessian)
    errors = [
        output_error(weight, xorpack.fit(weight, hessian, descents=n, **FAST).dequantize(), hessian)
        for n in (0, 1, 3)
    ]
    assert errors[2] <= errors[1] < errors[0] < 0.5 * free


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"group_size": 40},
        {"balance": 0.0},
        {"rate": 0.5, "window": 10},
        {"outliers": False},
        {"rate": 1.25},
    ],
)
def test_without_correlations_the_bits_are_those_of_quantize(options):
    weight, _ = layer(3)
    weight[5, 7], weight[11, 0] = 25, -30
    free = quantize_trellis(weight, **{**FAST, **options})
    plain = {"column_gains": False, "balance": 1.0, **FAST}
    fitted = xorpack.fit(weight, 7 * np.eye(96), descents=0, **{**plain, **options})
    assert np.array_equal(fitted.code, free.code)
    assert np.array_equal(fitted.positions, free.positions)
    assert len(free.positions) >= 2 or options == {"outliers": False}
    errors = [((t.dequantize() - weight) ** 2).mean() for t in (fitted, free)]
    assert errors[0] == pytest.approx(errors[1], rel=2e-3)


def test_every_step_lessens_the_error_that_it_says():
    weight, hessian = layer(8)
    run = _Run(
        job(weight, column_gains=True),
        Hessian.of(hessian, 96),
        job(weight, column_gains=True).scaling(outliers=True),
        np.ones(48),
    )
    damped = run.hessian.matrix

    def error() -> float:
        e = (run.target - run.values).astype(np.float64)
        return float(np.vdot(damped @ e, e))

    run.sweep()
    before = error()
    for _ in range(3):
        run.refit()
        after = error()
        assert after <= before * (1 + 1e-5)
        fell = run.descend()
        assert fell > 0
        assert error() == pytest.approx(after - fell, rel=1e-3)
        before = error()


@pytest.mark.parametrize(
    "options", [{}, {"column_gains": True}, {"group_size": 32}, {"rate": 0.5, "window": 10}]
)
def test_what_the_sweep_believes_is_what_is_decoded(options):
    weight, hessian = layer(4)
    weight[5, 7] = 25
    known = job(weight, **options)
    run = _Run(known, Hessian.of(hessian, 96), known.scaling(outliers=True), np.ones(48))
    run.stored = run.scales.astype(np.float32) / np.float32(run.unit)
    run.sweep()
    decoded = run.tensor().dequantize()[:, run.hessian.order].T
    assert np.allclose(decoded, run.values, rtol=2e-5, atol=1e-6)


def test_pruned_weights_stay_zero_and_the_others_make_up_for_them():
    weight, hessian = layer(5)
    mask = np.random.default_rng(0).random(weight.shape) < 0.5
    free = xorpack.quantize(weight, method="trellis", mask=mask, **FAST)
    fitted = xorpack.fit(weight, hessian, mask=mask, **FAST)
    assert not fitted.dequantize()[~mask].any()
    assert np.array_equal(unpack(fitted.mask, 96), mask)
    assert output_error(weight, fitted.dequantize(), hessian) < 0.3 * output_error(
        weight, free.dequantize(), hessian
    )


@pytest.mark.parametrize("seed", range(3))
def test_what_is_pruned_is_chosen_on_the_weights_as_they_are_by_then(seed):
    weight, hessian = layer(seed, 128, 96)
    magnitudes = np.abs(weight)
    mask = magnitudes >= np.quantile(magnitudes, 0.5)
    chosen = xorpack.fit(weight, hessian, sparsity=0.5, **FAST)
    given = xorpack.fit(weight, hessian, mask=mask, **FAST)
    kept = unpack(chosen.mask, 96)
    assert kept.sum() == weight.size // 2
    assert len(set(kept.sum(0).tolist())) == 1
    assert not chosen.dequantize()[~kept].any()
    assert chosen.payload_bits == given.payload_bits
    errors = [output_error(weight, tensor.dequantize(), hessian) for tensor in (chosen, given)]
    assert errors[0] < 0.75 * errors[1]
    outputs = np.where(np.arange(128) < 16, 100.0, 1.0)
    weighed = xorpack.fit(weight, hessian, sparsity=0.5, rows_hessian=outputs, balance=1, **FAST)
    assert unpack(weighed.mask, 96)[:16].mean() > 0.85


@pytest.mark.parametrize(
    "options", [{"balance": 0.5}, {"balance": 1.0}, {"group_size": 40}, {"sparsity": 0.5}]
)
def test_rows_that_count_more_lose_less(options):
    weight, hessian = layer(6, 128)
    outputs = np.where(np.arange(128) % 4, 1.0, 30.0)

    def errors(**others: object) -> np.ndarray:
        tensor = xorpack.fit(weight, hessian, **{"balance": 1.0, **FAST, **options, **others})
        e = (weight - tensor.dequantize()).astype(np.float64)
        return np.einsum("rc,cd,rd->r", e, hessian, e)

    plain, alike, weighed = errors(), errors(rows_hessian=7 * np.ones(128)), errors(rows_hessian=outputs)
    assert np.array_equal(plain, alike)
    assert weighed[::4].sum() < 0.8 * plain[::4].sum()
    assert weighed @ outputs < 0.9 * (plain @ outputs)
    assert np.array_equal(errors(balance=0.0), errors(balance=0.0, rows_hessian=outputs))
    same = [errors(balance=balance, rows_hessian=outputs) for balance in (None, 0.5)]
    assert np.array_equal(*same)


@pytest.mark.parametrize(
    ("outputs", "error", "why"),
    [
        (np.ones(47), ParameterError, r"rows_hessian of shape \(47,\)"),
        (np.ones(48, int), ParameterError, "type int64"),
        (np.full(48, np.nan), DataError, "NaN"),
        (-np.ones(48), DataError, "negative"),
        (np.zeros(48), DataError, "no output counts"),
    ],
)
@pytest.mark.parametrize("method", ["trellis", "bcq"])
def test_what_is_no_weighing_of_rows_is_refused(outputs, error, why, method):
    weight, hessian = layer(0)
    with pytest.raises(error, match=why):
        xorpack.fit(weight, hessian, method=method, rows_hessian=outputs)


@pytest.mark.parametrize("shape", [(1, 96), (48, 1), (3, 2, 5), (33, 33), (200, 130), (0, 4), (4, 0)])
def test_any_shape_is_fitted_and_encoded(shape):
    weight = np.random.default_rng(1).standard_normal(shape).astype(np.float32)
    cols = int(np.prod(shape[1:]))
    x = activations(cols, 1) if cols else np.zeros((4, 0))
    tensor = xorpack.fit(weight, x.T @ x, column_gains=True, **FAST)
    encoded = xorpack.encode(tensor)
    assert np.array_equal(xorpack.decode(encoded).dequantize(), tensor.dequantize())


def test_threads_do_not_change_the_result():
    weight, hessian = layer(9)
    one, two = (xorpack.fit(weight, hessian, jobs=jobs, **FAST) for jobs in (1, 2))
    assert np.array_equal(one.code, two.code)
    assert np.array_equal(one.scales, two.scales)


def test_the_scale_of_a_hessian_does_not_matter_nor_does_an_input_that_was_never_seen():
    weight, hessian = layer(2)
    hessian[10], hessian[:, 10] = 0, 0
    a, b = (xorpack.fit(weight, hessian * factor, **FAST) for factor in (1, 1024))
    assert np.array_equal(a.code, b.code)
    lost = weight[:, 10] - a.dequantize()[:, 10]
    assert (lost**2).mean() < 0.3 * (weight[:, 10] ** 2).mean()


def test_the_factor_is_of_the_inverse():
    _, hessian = layer(0)
    found = Hessian.of(hessian, 96)
    assert (np.diff(np.diag(hessian)[found.order]) <= 0).all()
    assert not np.tril(found.factor, -1).any()
    assert np.allclose(found.factor.T @ found.factor @ found.matrix, np.eye(96), atol=1e-6)
    assert np.allclose(inverse_factor(np.eye(3)), np.eye(3))


def test_correlations_are_shrunk_and_variances_are_not():
    _, hessian = layer(0)
    found = Hessian.of(hessian, 96, damping=0.0)
    h = hessian[np.ix_(found.order, found.order)].astype(np.float64)
    off = ~np.eye(96, dtype=bool)
    assert np.allclose(found.matrix[off], 0.85 * h[off], atol=1e-3)
    assert np.allclose(np.diag(found.matrix), np.diag(h))


def test_a_singular_hessian_is_damped_and_said(caplog):
    x = activations(96, 0, rows=5)
    with caplog.at_level(logging.WARNING, "xorpack"):
        found = Hessian.of(
            x.T @ x - 0.02 * np.trace(x.T @ x) / 96 * np.eye(96) * (np.arange(96) < 1),
            96,
            damping=0.0,
            shrinkage=0.0,
        )
    assert "singular: damped by" in caplog.text
    assert np.isfinite(found.factor).all()


@pytest.mark.parametrize(
    ("hessian", "error", "why"),
    [
        (np.eye(95), ParameterError, r"hessian of shape \(95, 95\)"),
        (np.eye(96, dtype=int), ParameterError, "type int64"),
        (np.zeros((96, 96)), DataError, "0 everywhere"),
        (np.full((96, 96), np.nan), DataError, "NaN"),
        (-np.eye(96), DataError, "-1 on its diagonal"),
        (np.triu(np.ones((96, 96))), DataError, "not symmetric: entries differ by up to 1"),
    ],
)
def test_what_is_no_hessian_is_refused(hessian, error, why):
    with pytest.raises(error, match=why):
        xorpack.fit(layer(0)[0], hessian, **FAST)


def test_weights_and_arguments_are_checked():
    weight, hessian = layer(0)
    with pytest.raises(ParameterError, match="descents = -1"):
        xorpack.fit(weight, hessian, descents=-1)
    with pytest.raises(ParameterError, match="exclude one another"):
        xorpack.fit(weight, hessian, sparsity=0.5, mask=weight > 0)
    weight[3, 4] = np.nan
    with pytest.raises(DataError, match="weight is nan"):
        xorpack.fit(weight, hessian)


@pytest.mark.parametrize("kernel", ["rounded", "write_bits", "keep_costliest"])
def test_kernels_are_python_too(kernel):
    function = getattr(sweep_kernels, kernel)
    if kernel == "rounded":
        x = np.random.default_rng(0).standard_normal(100) * 3
        assert all(function.py_func(v) == function(v) == float(np.float16(v)) for v in x)
        assert function(0.0) == 0
    elif kernel == "keep_costliest":
        column, outputs = np.array([1.0, -3.0, 2.0, 0.5, 1.0]), np.array([1.0, 1, 1, 100, 1])
        for run in (function, function.py_func):
            kept = np.full((5, 2), 0xFFFFFFFF, np.uint32)
            kept[3:, 1] ^= 4
            run(column, 34, (kept, None, None, None, outputs))
            assert (kept[:, 1] >> 2 & 1).tolist() == [0, 1, 1, 1, 0]
            assert (kept[:, 1] | 4 == 0xFFFFFFFF).all()
    else:
        bits = np.random.default_rng(0).integers(0, 2, (40, 1)).astype(np.uint32)
        for run in (function, function.py_func):
            code = np.full((40, 2), 0xFFFFFFFF, np.uint32)
            run(bits, code, 35)
            assert np.array_equal(code[:, 1] >> 3 & 1, bits[:, 0])
            assert (code[:, 0] == 0xFFFFFFFF).all()
            assert (code[:, 1] | 8 == 0xFFFFFFFF).all()
