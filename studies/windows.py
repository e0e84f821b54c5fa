"""Rate against the window's width: why a wide window reaches the bound."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from studies import figures, patterns, sample
from studies.sample import Sample
from studies.table import Cell, Grid, Outcome, Params, Result, Scope, Table
from studies.weights import Weights
from xorpack.code.network import XorNetwork
from xorpack.code.words import popcount
from xorpack.encoding.plan import quasi_cyclic_network

SPARSITIES = (0.5, 0.9)
WINDOWS = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32)
"""Stored words; a word is 32 bits."""

RATES = (
    0.97,
    0.98,
    0.99,
    0.995,
    1.0,
    1.0025,
    1.005,
    1.0075,
    1.01,
    1.015,
    1.02,
    1.03,
    1.05,
    1.08,
    1.12,
    1.2,
    1.3,
)
"""Stored bits per care bit that are tried."""

PLANES = 2
RING_WORDS = 4096
"""Stored words of a ring at rate 1."""

CURVES = (1, 2, 4, 12, 32)
"""Windows whose curve over all rates is drawn."""

ABOUT = (
    "Quasi-cyclic networks of 6 taps, 2 planes of random bits, i.i.d. masks. Over 32 w stored bits the care "
    "bits of a window of w words scatter by about sqrt(32 w S) around their mean: a narrow window meets more "
    "than it can match, or wastes its bits, and must pay by a higher rate or by corrections; relative to its "
    "width, a wide one scatters less. Shown is the best of 17 rates, and how both costs trade."
)


def plan(scope: Scope) -> list[Cell]:
    """A cell per sparsity and window."""
    windows = (1, 2, 4, 8, 12, 24) if scope.quick else WINDOWS
    words = RING_WORDS // (4 if scope.quick else 1)
    shared = {"rates": list(RATES), "ring_words": words, "seeds": scope.seeds}
    return [
        Cell(
            params={"sparsity": sparsity, "window": window, **shared},
            seconds=scope.seeds * len(RATES) * words * (1e-5 + 5e-8 * window**2),
        )
        for sparsity in SPARSITIES
        for window in windows
    ]


def measure(params: Params, weights: Weights | None = None) -> Result:
    """Samples of each rate, one per seed."""
    sparsity, window = params["sparsity"], params["window"]
    n_steps = round(params["ring_words"] / (1 - sparsity))
    layout = sample.ring_layout(n_steps)
    found: list[list[dict[str, int]]] = [[] for _ in params["rates"]]
    for seed in range(params["seeds"]):
        rng = patterns.generator("windows", seed, round(100 * sparsity))
        mask = patterns.iid_ring(rng, n_steps, 1 - sparsity)
        planes = patterns.random_planes(rng, PLANES, mask)
        n_rows = quasi_cyclic_network(1 - sparsity).n_rows
        network = XorNetwork.quasi_cyclic(window=window, n_rows=n_rows, seed=seed + 1)
        density = popcount(mask) / (32 * n_steps)
        for rate, into in zip(params["rates"], found, strict=True):
            encoded = sample.encode(network, mask, planes, layout, rate=min(1.0, rate * density))
            into.append(encoded.as_dict())
    return {"samples": found}


def _by_rate(result: Result) -> list[list[Sample]]:
    return [[Sample(**one) for one in samples] for samples in result["samples"]]


def _best(result: Result) -> list[Sample]:
    """The samples at the rate of least overhead."""
    return min(_by_rate(result), key=lambda samples: sample.mean(samples, "overhead"))


def grids(outcomes: Sequence[Outcome]) -> list[Grid]:
    """A grid per sparsity: the best rate of each window."""
    found = []
    for sparsity in sorted({outcome.params["sparsity"] for outcome in outcomes}):
        rows = []
        for outcome in outcomes:
            if outcome.params["sparsity"] == sparsity:
                samples = _best(outcome.result)
                window = outcome.params["window"]
                rows.append(
                    [
                        str(window),
                        str(32 * window),
                        f"{sample.mean(samples, 'rate'):.4f}",
                        f"{100 * sample.mean(samples, 'efficiency'):.3f}",
                        f"{sample.mean(samples, 'overhead'):.4f}",
                        f"{sample.half_range(samples, 'overhead'):.4f}",
                        f"{sample.mean(samples, 'floor'):.4f}",
                    ]
                )
        columns = ("words", "bits", "best rate", "E, %", "overhead", "±", "floor")
        found.append(Grid(title=f"S {sparsity:g}: the best rate of each window", columns=columns, rows=rows))
    return found


def draw(figure: Any, outcomes: Sequence[Outcome]) -> None:
    """Left: least overhead by window. Right: overhead by rate, a curve per window, at the highest sparsity."""
    left, right = figures.panels(figure, 2)
    sparsities = sorted({outcome.params["sparsity"] for outcome in outcomes})
    for number, sparsity in enumerate(sparsities):
        own = [outcome for outcome in outcomes if outcome.params["sparsity"] == sparsity]
        x = [32 * outcome.params["window"] for outcome in own]
        best = [_best(outcome.result) for outcome in own]
        y = [sample.mean(samples, "overhead") for samples in best]
        error = [sample.half_range(samples, "overhead") for samples in best]
        left.errorbar(x, y, error, label=f"S {sparsity:g}", capsize=2, **figures.style(number))
    left.set_xscale("log", base=2)
    left.set_xlabel("window, stored bits")
    left.set_title("least overhead")
    drawn = [o for o in outcomes if o.params["sparsity"] == sparsities[-1] and o.params["window"] in CURVES]
    for number, outcome in enumerate(drawn, len(sparsities)):
        samples = _by_rate(outcome.result)
        x_rates = [sample.mean(own, "rate") for own in samples]
        y_sizes = [sample.mean(own, "overhead") for own in samples]
        label = f"{32 * outcome.params['window']} bits"
        right.plot(x_rates, y_sizes, label=label, **figures.style(number))
    right.plot([1, 1.12], [1, 1.12], color="0.5", linestyle=":", label="no corrections")
    right.set_xlabel("rate, stored bits / care bit")
    right.set_xlim(None, 1.13)
    right.set_title(f"overhead by rate, S {sparsities[-1]:g}")
    for ax in (left, right):
        figures.bound(ax, 1.0, "bound")
        ax.set_ylabel("overhead (code + corrections)")
        figures.legend_below(ax)


TABLE = Table(
    name="windows",
    title="Rate against the window's width",
    about=ABOUT,
    module=__name__,
    plan=plan,
    measure=measure,
    grids=grids,
    draw=draw,
    size=(10.0, 4.6),
)
