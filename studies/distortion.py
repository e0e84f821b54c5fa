"""Error against stored bits: quantizers beside Shannon's lower bound."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean
from typing import Any

import numpy as np
from numpy.typing import NDArray

import xorpack
from studies import figures, patterns
from studies.table import Cell, Grid, Outcome, Params, Result, Scope, Table
from studies.weights import Weights
from xorpack.analysis.distortion import GAUSSIAN_POWER, LAPLACE_POWER, decibels, student_power
from xorpack.analysis.row_errors import Rows
from xorpack.encoding.quantize.trellis import quantize_trellis

SOURCES = {"Gaussian": GAUSSIAN_POWER, "Laplace": LAPLACE_POWER, "Student t(5)": student_power(5)}
"""Entropy powers at variance 1."""

RATES = (0.25, 0.5, 1.0, 1.5, 2.0, 2.5, 3.0, 4.0)
WINDOWS = (10, 12, 14)

PRUNED = (
    (0.0, 1),
    (0.0, 2),
    (0.0, 3),
    (0.0, 4),
    (0.5, 1),
    (0.5, 2),
    (0.5, 3),
    (0.8, 1),
    (0.8, 2),
    (0.9, 1),
    (0.9, 2),
)
"""Sparsity and planes of BCQ."""

STEPS = (3.0, 2.4, 1.8, 1.4, 1.0, 0.7, 0.5, 0.35, 0.25)
"""Steps of the uniform quantizer, in standard deviations."""

TRELLIS, ALTERNATING, GREEDY, UNIFORM = "trellis", "alternating", "greedy", "uniform"
NAMES = {
    TRELLIS: TRELLIS,
    ALTERNATING: "BCQ, alternating",
    GREEDY: "BCQ, greedy",
    UNIFORM: "uniform, entropy",
}

ABOUT = (
    "D is squared error over squared weights, R stored bits per weight: code, mask, scales, outliers, all of it "
    "but the file's header. The bound is Shannon's: no code of R bits has less D than 4^-R of Gaussian weights, "
    "less by their entropy power of others. Trellis: the XOR network's output is the quantized weight, and "
    "Viterbi chooses the stored bits. BCQ: weights are pruned and quantized first, greedily or in alternation, "
    "then coded at their entropy. Uniform: a scalar quantizer whose indices cost their entropy exactly, tables "
    "and scales not counted: no file is that small."
)


def plan(scope: Scope) -> list[Cell]:
    """A cell per source and quantizer."""
    shape = (128, 256) if scope.quick else (256, 1024)
    rates = (0.5, 1.0, 2.0, 3.0) if scope.quick else RATES
    windows = (10, 12) if scope.quick else WINDOWS
    cells = []
    for source in SOURCES:
        shared = {"source": source, "shape": list(shape), "seeds": scope.seeds}
        found: list[dict[str, Any]] = [
            {"quantizer": TRELLIS, "rate": rate, "window": window}
            for window in (windows if source == "Gaussian" else windows[1:2])
            for rate in rates
        ]
        found += [
            {"quantizer": method, "sparsity": sparsity, "bits": bits}
            for method in (ALTERNATING, GREEDY)
            for sparsity, bits in (PRUNED[::3] if scope.quick else PRUNED)
        ]
        found += [{"quantizer": UNIFORM, "step": step} for step in STEPS]
        n = shape[0] * shape[1] * scope.seeds
        cells += [Cell(params={**shared, **one}, seconds=n * _weight_seconds(one)) for one in found]
    return cells


def _weight_seconds(one: Params) -> float:
    if one["quantizer"] != TRELLIS:
        return 2e-7
    return float(1e-7 + 1.5e-10 * 2.0 ** one["window"])


def measure(params: Params, weights: Weights | None = None) -> Result:
    """``(R, D)`` for each seed."""
    samples = []
    for seed in range(params["seeds"]):
        weight = _draw(params["source"], seed, tuple(params["shape"]))
        samples.append(_uniform(weight, params["step"]) if "step" in params else _stored(weight, params))
    return {"samples": samples}


def _draw(source: str, seed: int, shape: tuple[int, int]) -> NDArray[np.float32]:
    rng = patterns.generator("distortion", source, seed)
    if source == "Laplace":
        return rng.laplace(size=shape).astype(np.float32)
    if source == "Student t(5)":
        return rng.standard_t(5, size=shape).astype(np.float32)
    return rng.standard_normal(shape, np.float32)


def _stored(weight: NDArray[np.float32], params: Params) -> list[float]:
    tensor: Any
    if params["quantizer"] == TRELLIS:
        tensor = quantize_trellis(weight, rate=params["rate"], window=params["window"], column_gains=False)
    else:
        tensor = xorpack.quantize(
            weight,
            bits=params["bits"],
            sparsity=params["sparsity"] or None,
            method=params["quantizer"],
            group_size=0,
        )
    encoded = xorpack.encode(tensor)
    rows = Rows.of(weight, [tensor.dequantize()])
    bits = 8 * sum(encoded.section_bytes().values()) / weight.size
    return [bits, float(rows.error.sum() / rows.energy.sum())]


def _uniform(weight: NDArray[np.float32], step: float) -> list[float]:
    """Entropy of the indices and error, 0 being a level, each index standing for the mean of its weights."""
    scaled = weight.astype(np.float64).reshape(-1) / weight.std()
    _, index, counts = np.unique(np.rint(scaled / step), return_inverse=True, return_counts=True)
    means = np.bincount(index, weights=scaled) / counts
    share = counts / scaled.size
    error = np.square(scaled - means[index]).sum() / np.square(scaled).sum()
    return [float(-(share * np.log2(share)).sum()), float(error)]


def _point(outcome: Outcome) -> tuple[float, float, float]:
    """R, D and dB above the bound, means over the seeds (of dB and R)."""
    power = SOURCES[outcome.params["source"]]
    rate = fmean(bits for bits, _ in outcome.result["samples"])
    above = fmean(decibels(error / (power * 4.0**-bits)) for bits, error in outcome.result["samples"])
    return rate, fmean(error for _, error in outcome.result["samples"]), above


def _setting(params: Params) -> str:
    if params["quantizer"] == TRELLIS:
        return f"R {params['rate']:g}, L {params['window']}"
    if params["quantizer"] == UNIFORM:
        return f"step {params['step']:g} sigma"
    return f"S {params['sparsity']:g}, q {params['bits']}"


def grids(outcomes: Sequence[Outcome]) -> list[Grid]:
    """A grid per source."""
    found = []
    for source, power in SOURCES.items():
        rows = []
        for outcome in (o for o in outcomes if o.params["source"] == source):
            rate, error, above = _point(outcome)
            name = NAMES[outcome.params["quantizer"]]
            bound = f"{power * 4.0**-rate:.5f}"
            rows.append(
                [name, _setting(outcome.params), f"{rate:.4f}", f"{error:.5f}", bound, f"{above:.2f}"]
            )
        columns = ("quantizer", "setting", "R", "D", "bound", "dB above")
        title = f"{source}: bound {power:.4f} x 4^-R"
        found.append(Grid(title=title, columns=columns, rows=rows, n_keys=2, brief=source == "Gaussian"))
    return found


def draw(figure: Any, outcomes: Sequence[Outcome]) -> None:
    """Gaussian weights. Left: D by R, and the bound. Right: dB above the bound."""
    left, right = figures.panels(figure, 2)
    own = [outcome for outcome in outcomes if outcome.params["source"] == "Gaussian"]
    windows = sorted({o.params["window"] for o in own if o.params["quantizer"] == TRELLIS}, reverse=True)
    series = [(f"trellis, L {window}", TRELLIS, window) for window in windows]
    series += [("BCQ, alternating", ALTERNATING, None), ("BCQ, greedy", GREEDY, None)]
    series += [("uniform, at its entropy", UNIFORM, None)]
    for number, (label, kind, window) in enumerate(series):
        points = sorted(
            _point(o) for o in own if o.params["quantizer"] == kind and o.params.get("window") == window
        )
        look = figures.style(number, line=kind not in (ALTERNATING, GREEDY))
        rates, errors, above = zip(*points, strict=True)
        left.plot(rates, errors, label=label, **look)
        right.plot(rates, above, label=label, **look)
    limit = np.linspace(0, 4.2, 50)
    left.plot(limit, 4.0**-limit, color="0.2", linestyle="--", linewidth=1, label="Shannon's bound")
    right.axhline(0, color="0.2", linestyle="--", linewidth=1)
    left.set_yscale("log")
    left.set_ylabel("D: squared error / squared weights")
    left.set_title("Gaussian weights: error by size")
    right.set_ylabel("dB above Shannon's bound")
    right.set_title("the same, above the bound")
    for ax in (left, right):
        ax.set_xlim(0, 4.2)
        ax.set_xlabel("R: stored bits per weight, everything counted")
    left.set_ylim(3e-3, 1)
    right.set_ylim(-0.2, 6.5)
    figures.legend(figure, left, columns=4)


TABLE = Table(
    name="distortion",
    title="Error against stored bits",
    about=ABOUT,
    module=__name__,
    plan=plan,
    measure=measure,
    grids=grids,
    draw=draw,
    size=(10.0, 4.6),
)
