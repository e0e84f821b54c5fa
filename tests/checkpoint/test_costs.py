"""Budgets of tensors whose activations and gradients are known: bits go where errors cost most."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

import xorpack
from xorpack.analysis.report import render
from xorpack.checkpoint.costs import costs
from xorpack.encoding.fitting.hessian import believed, output_error, pivots
from xorpack.errors import DataError, MismatchError, ParameterError
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
    hessians.write(
        path,
        layers,
        {"x": len(hessian)},
        iter([("x", hessian, TOKENS)]),
        n_gradients={name: len(found) for name, found in gradients.items()},
        gradients=gradients.__getitem__,
    )
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


def test_outliers_of_a_higher_rate_are_within_the_budget(hessian: np.ndarray, tmp_path: Path) -> None:
    heavy = np.random.default_rng(2).standard_t(5, (20 * ROWS, COLS)).astype(np.float32)
    source = tmp_path / "m.safetensors"
    save_file({NAMES[0]: heavy}, source)
    stats = written(tmp_path / "s", hessian, {NAMES[0]: np.ones(len(heavy), np.float32)})

    def bits(**options: Any) -> float:
        report = xorpack.encode_checkpoint(source, tmp_path / "o", hessian=stats, overwrite=True, **options)
        return 8 * report.total.n_bytes / heavy.size

    budget = bits(rate=4.0) - 0.02  # which has 1.4 times the outliers of a rate of 3
    assert budget - 0.2 < bits(target_bits=budget) <= budget


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
    ],
)
def test_gradients_that_are_none_are_refused(
    model: Path, hessian: np.ndarray, tmp_path: Path, gradients: Any, error: Any, message: str
) -> None:
    stats = written(tmp_path / "s", hessian, {"dear.weight": gradients})
    with pytest.raises(error, match=message):
        xorpack.encode_checkpoint(model, tmp_path / "o", target_bits=4.5, hessian=stats)
    assert not (tmp_path / "o").exists()


def reported(model: Path, stats: Path, out: Path, **options: Any) -> Any:
    xorpack.encode_checkpoint(model, out, rate=2.0, hessian=stats)
    return xorpack.report_checkpoint(out, against=model, hessian=stats, **options)


def test_a_report_says_what_outputs_lose_and_where_bits_would_help(
    model: Path, hessian: np.ndarray, tmp_path: Path
) -> None:
    costly = np.linspace(1, 300, ROWS).astype(np.float32)
    stats = written(tmp_path / "s", hessian, {"dear.weight": costly, "cheap.weight": alike(1)})
    report = reported(model, stats, tmp_path / "o")
    found = {tensor.name: tensor.outputs for tensor in report.tensors}
    assert found["unknown.weight"] is None
    weight = safetensors_file.read(model).tensors["dear.weight"].array().astype(np.float64)
    with xorpack.open(tmp_path / "o") as checkpoint:
        decoded = xorpack.decode(checkpoint["dear.weight"]).dequantize()
    e = weight - decoded
    rows = np.einsum("rc,cd,rd->r", e, hessian, e) / TOKENS
    dear = found["dear.weight"]
    assert dear.nats == pytest.approx(costly @ rows / 2, rel=1e-3)
    assert dear.relative == pytest.approx(output_error(weight, decoded, hessian), rel=1e-3)
    assert dear.gain == pytest.approx(0.75 * dear.nats / (ROWS * COLS / 8e6), rel=1e-6)
    assert report.outputs.nats == pytest.approx(dear.nats + found["cheap.weight"].nats)
    text = render(report, "text", sort="gain", width=300)
    assert "output error" in text
    assert text.index("dear.weight") < text.index("cheap.weight")
    assert f"{dear.relative:.4g}" in text
    assert any("A bit more would gain most, by the byte, in dear.weight" in line for line in report.advice)
    document = json.loads(render(report, "json"))
    assert document["tensors"]["dear.weight"]["outputs"]["nats"] == dear.nats
    assert document["tensors"]["unknown.weight"]["outputs"] is None
    assert f",{dear.nats:.6f}," in render(report, "csv")


def test_bits_that_are_well_divided_are_said_to_be(model: Path, hessian: np.ndarray, tmp_path: Path) -> None:
    stats = written(tmp_path / "s", hessian, {"dear.weight": alike(1), "cheap.weight": alike(1)})
    assert any("Bits are well divided" in line for line in reported(model, stats, tmp_path / "o").advice)


def test_outputs_need_weights_to_compare_with(model: Path, hessian: np.ndarray, tmp_path: Path) -> None:
    stats = written(tmp_path / "s", hessian, {"dear.weight": alike(1)})
    xorpack.encode_checkpoint(model, tmp_path / "o", rate=2.0, hessian=stats)
    with pytest.raises(ParameterError, match="hessian tells the error of outputs"):
        xorpack.report_checkpoint(tmp_path / "o", hessian=stats)
    other = written(tmp_path / "t", np.eye(32, dtype=np.float32), {})
    with pytest.raises(MismatchError, match="it is 96 x 64, and its statistics are 96 x 32"):
        xorpack.report_checkpoint(tmp_path / "o", against=model, hessian=other)


def test_of_few_inputs_seen_what_they_have_in_common_is_believed_in_part(hessian: np.ndarray) -> None:
    few = believed(hessian, 2 * COLS - 1)
    assert np.array_equal(np.diag(few), np.diag(hessian))
    off = ~np.eye(COLS, dtype=bool)
    assert np.allclose(few[off], 0.8 * hessian[off])
    assert believed(hessian, 2 * COLS) is hessian


def test_few_inputs_seen_fit_better_for_it(model: Path) -> None:
    """On the error that counts, of which what was seen is a sample."""
    weight = safetensors_file.read(model).tensors["dear.weight"].array()
    rng = np.random.default_rng(3)
    turn = rng.standard_normal((COLS, COLS)) / np.sqrt(np.arange(1, COLS + 1))
    true, errors = turn.T @ turn, []
    for n in (COLS // 2, 3 * COLS // 4):
        x = rng.standard_normal((n, COLS)) @ turn
        seen = (x.T @ x).astype(np.float32)
        for matrix in (seen, believed(seen, n)):
            decoded = xorpack.fit(weight, matrix, rate=2.0, descents=0).dequantize()
            errors.append(output_error(weight, decoded, true))
    assert errors[1] < 0.95 * errors[0]
    assert errors[3] < 0.95 * errors[2]
