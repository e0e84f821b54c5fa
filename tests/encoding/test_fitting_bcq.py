"""Binary codes fitted to activations: masks and codes that cost the output less, and the data-free result without."""

from __future__ import annotations

import numpy as np
import pytest

import xorpack
from xorpack.code.words import unpack
from xorpack.encoding.fitting.bcq import _Run
from xorpack.encoding.fitting.hessian import Hessian, output_error
from xorpack.errors import DataError, ParameterError


def activations(cols: int, seed: int, rows: int = 600) -> np.ndarray:
    rng = np.random.default_rng(seed)
    turn, _ = np.linalg.qr(rng.standard_normal((cols, cols)))
    return (rng.standard_normal((rows, cols)) * np.exp(-8 * np.arange(cols) / cols)) @ turn


def layer(seed: int, rows: int = 40, cols: int = 96) -> tuple[np.ndarray, np.ndarray]:
    x = activations(cols, seed)
    return np.random.default_rng(seed + 1000).standard_normal((rows, cols)).astype(np.float32), x.T @ x


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize(("sparsity", "bits"), [(0.5, 2), (0.8, 1), (0.0, 3)])
def test_each_part_of_a_fit_lessens_the_error_of_the_output(seed, sparsity, bits):
    weight, hessian = layer(seed)
    how = {"bits": bits, "sparsity": sparsity, "group_size": 32}
    tensors = [
        xorpack.fit(weight, hessian, method="bcq", **how),
        xorpack.fit(weight, hessian, method="bcq", descents=0, **how),
        xorpack.quantize(weight, **how),
        xorpack.quantize(weight, method="greedy", **how),
    ]
    errors = [output_error(weight, tensor.dequantize(), hessian) for tensor in tensors]
    assert errors[0] < errors[1] < errors[2]
    assert errors[1] < errors[3]
    assert len({tensor.n_kept for tensor in tensors}) == 1


@pytest.mark.parametrize(("sparsity", "bits", "group"), [(0.5, 2, 32), (0.9, 1, 0), (0.0, 4, 40)])
def test_without_correlations_it_is_the_data_free_quantizer(sparsity, bits, group):
    weight, _ = layer(1)
    how = {"bits": bits, "sparsity": sparsity, "group_size": group}
    free, fitted = (
        xorpack.quantize(weight, **how),
        xorpack.fit(weight, 3 * np.eye(96), method="bcq", descents=0, **how),
    )
    assert np.array_equal(fitted.mask, free.mask)
    assert np.array_equal(fitted.scales, free.scales)
    assert np.array_equal(fitted.planes, free.planes)


def test_every_step_lessens_the_error():
    weight, hessian = layer(4)
    run = _Run(weight, Hessian.of(hessian, 96, 32), 2, 32, "auto")

    def error() -> float:
        e = run.target - run.values
        return float(np.vdot(run.hessian.matrix @ e, e))

    run.sweep(np.ones((96, 40), np.bool_), None)
    found = [error()]
    for _ in range(4):
        run.refit()
        found.append(error())
        run.descend()
        found.append(error())
    assert found == sorted(found, reverse=True)
    assert found[-1] < 0.9 * found[0]


def test_a_mask_that_is_given_stays_and_zeros_do():
    weight, hessian = layer(2)
    mask = np.random.default_rng(0).random(weight.shape) < 0.4
    fitted = xorpack.fit(weight, hessian, method="bcq", mask=mask)
    assert np.array_equal(unpack(fitted.mask, 96), mask)
    zeroed = xorpack.fit(np.where(mask, weight, 0).astype(np.float32), hessian, method="bcq")
    assert np.array_equal(unpack(zeroed.mask, 96), mask)
    scales = fitted.scales.astype(np.float64)
    assert (scales >= 0).all()
    assert (np.diff(scales, axis=2) <= 0).all()
    encoded = xorpack.encode(fitted)
    assert np.array_equal(xorpack.decode(encoded).dequantize(), fitted.dequantize())


@pytest.mark.parametrize("shape", [(1, 40), (5, 1), (3, 2, 5), (33, 150), (0, 4), (4, 0)])
@pytest.mark.parametrize("group", [0, 7, None])
def test_any_shape_is_fitted(shape, group):
    weight = np.random.default_rng(1).standard_normal(shape).astype(np.float32)
    cols = int(np.prod(shape[1:]))
    x = activations(cols, 1) if cols else np.zeros((4, 0))
    tensor = xorpack.fit(weight, x.T @ x, method="bcq", bits=2, sparsity=0.3, group_size=group)
    assert tensor.dequantize().shape == shape


def test_tiny_weights_get_float32_scales_and_bad_ones_are_refused():
    weight, hessian = layer(3)
    assert xorpack.fit(weight * 1e-9, hessian, method="bcq").scales.dtype == np.float32
    with pytest.raises(ParameterError, match="rate is not of method bcq"):
        xorpack.fit(weight, hessian, method="bcq", rate=2)
    with pytest.raises(ParameterError, match="bits is not of method trellis"):
        xorpack.fit(weight, hessian, bits=2)
    with pytest.raises(ParameterError, match="bits = 9"):
        xorpack.fit(weight, hessian, method="bcq", bits=9)
    with pytest.raises(ParameterError, match="method 'gptq'"):
        xorpack.fit(weight, hessian, method="gptq")
    weight[3, 4] = np.inf
    with pytest.raises(DataError, match="inf at flat position 292"):
        xorpack.fit(weight, hessian, method="bcq")
