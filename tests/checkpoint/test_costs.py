"""Budgets of tensors whose activations and gradients are known: bits go where errors cost most."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

import xorpack
from xorpack.checkpoint.costs import costs
from xorpack.encoding.fitting.hessian import output_error, pivots
from xorpack.errors import DataError, FormatError, ParameterError
from xorpack.files import hessians, safetensors_file
from xorpack.files.hessians import Hessians

ROWS, COLS, TOKENS = 96, 64, 500
NAMES = ("dear.weight", "cheap.weight", "unknown.weight")


def inputs() -> np.ndarray:
    """Correlated, with a spectrum that decays."""
    rng = np.random.default_rng(1)
    return rng.standard_normal((TOKENS, COLS)) @ (
        rng.standard_normal((COLS, COLS)) / np.sqrt(np.arange(1, COLS + 1))
    )


@pytest.fixture(scope="module")
def hessian() -> np.ndarray:
    x = inputs()
    return (x.T @ x).astype(np.float32)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    rng = np.random.default_rng(0)
    path = tmp_path_factory.mktemp("costs") / "m.safetensors"
    save_file({name: rng.standard_normal((ROWS, COLS), dtype=np.float32) for name in NAMES}, path)
    return path


def written(path: Path, hessian: np.ndarray, gradients: Mapping[str, Any]) -> Path:
    layers = dict.fromkeys(NAMES[:2], "x")
    hessians.write(path, layers, {"x": COLS}, iter([("x", hessian, TOKENS)]), gradients)
    return path


def alike(value: float) -> np.ndarray:
    return np.full(ROWS, value, np.float32)


def rates(path: Path) -> dict[str, float]:
    with xorpack.open(path) as found:
        return {name: found[name].planes.network.rate for name in found}


def test_bits_go_where_errors_cost_most(model: Path, hessian: np.ndarray, tmp_path: Path) -> None:
    stats = written(tmp_path / "s", hessian, {"dear.weight": alike(16), "cheap.weight": alike(1)})
    report = xorpack.encode_checkpoint(model, tmp_path / "o", target_bits=4.5, hessian=stats)
    found = rates(tmp_path / "o")
    assert found["dear.weight"] == pytest.approx(found["cheap.weight"] + 2, abs=0.5)
    assert found["cheap.weight"] < found["unknown.weight"] < found["dear.weight"]
    assert report.total.per_weight(report.total.n_bytes) < 4.5
    alone = xorpack.encode_checkpoint(model, tmp_path / "p", target_bits=4.5)
    assert not alone.output_errors
    assert len(set(rates(tmp_path / "p").values())) <= 2


def test_without_gradients_weights_count_alike(model: Path, hessian: np.ndarray, tmp_path: Path) -> None:
    stats = written(tmp_path / "s", hessian, {})
    xorpack.encode_checkpoint(model, tmp_path / "o", target_bits=4.5, hessian=stats)
    found = rates(tmp_path / "o").values()
    assert max(found) - min(found) <= 0.25


@pytest.mark.parametrize("rate", [1.0, 2.0, 3.0])
def test_costs_foretell_what_a_fit_loses(
    model: Path, hessian: np.ndarray, tmp_path: Path, rate: float
) -> None:
    """The cost times the relative squared error that the rate allows, as the columns' feedback allows."""
    gradients = np.random.default_rng(2).uniform(0.1, 3, ROWS).astype(np.float32)
    stats = Hessians(written(tmp_path / "s", hessian, {"dear.weight": gradients}))
    tensors = safetensors_file.read(model).tensors
    cost = costs(tensors, stats)["dear.weight"]
    weight = tensors["dear.weight"].array()
    share = output_error(
        weight,
        xorpack.quantize(weight, method="trellis", rate=rate).dequantize(),
        np.eye(COLS, dtype=np.float32),
    )
    e = weight - xorpack.fit(weight, hessian, rate=rate, descents=0).dequantize()
    lost = gradients @ np.einsum("rc,cd,rd->r", e, hessian, e) / TOKENS / 2
    assert 0.8 < lost / (cost * share * (1 + share)) < 1.6


def test_pivots_are_what_elimination_leaves(hessian: np.ndarray) -> None:
    assert np.allclose(pivots(np.diag(np.arange(1.0, 5))), np.arange(1.0, 5) + 0.025)
    damped = hessian + 0.01 * np.trace(hessian) / COLS * np.eye(COLS)
    found = pivots(hessian)
    assert np.log(found).sum() == pytest.approx(np.linalg.slogdet(damped)[1], rel=1e-6)
    assert (found <= np.diag(damped) * (1 + 1e-6)).all()


@pytest.mark.parametrize(
    ("gradients", "error", "message"),
    [
        (alike(1)[1:], ParameterError, "has 96 outputs, and there are gradients of 95"),
        (alike(np.nan), DataError, "'dear.weight' are NaN, infinite or negative"),
        (alike(-1), DataError, "'dear.weight' are NaN, infinite or negative"),
        (alike(1).astype(np.float16), FormatError, "gradients of 'dear.weight' are F16"),
    ],
)
def test_gradients_that_are_none_are_refused(
    model: Path, hessian: np.ndarray, tmp_path: Path, gradients: Any, error: Any, message: str
) -> None:
    stats = written(tmp_path / "s", hessian, {"dear.weight": gradients})
    with pytest.raises(error, match=message):
        xorpack.encode_checkpoint(model, tmp_path / "o", target_bits=4.5, hessian=stats)
    assert not (tmp_path / "o").exists()
