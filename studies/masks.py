"""Real masks are not i.i.d.: overhead by order of coding, for synthetic and real masks."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import fmean
from typing import Any

from studies import figures, orders, patterns, sample
from studies.orders import ORDERS
from studies.sample import Sample
from studies.table import Cell, Grid, Outcome, Params, Result, Scope, Table
from studies.weights import QUICK_MATRICES, Weights
from xorpack.code.words import popcount
from xorpack.encoding.plan import quasi_cyclic_network
from xorpack.encoding.quantize.bcq import quantize
from xorpack.encoding.quantize.pruning import magnitude_mask

SPARSITIES = (0.5, 0.8, 0.9, 0.95)
SHAPE = (1024, 2048)
PLANES = 2
SHORT = ("rows", "perm.", "lanes")
"""Headings of :data:`ORDERS`."""

ABOUT = (
    "A quasi-cyclic network at the rate that the encoder chooses, 2 planes. Real matrices are pruned by "
    "magnitude, each by itself, and quantized; synthetic ones are normal weights whose rows, columns or both "
    "differ in scale (lognormal, sigma 0.5), pruned likewise, with random bits. Spread: standard deviation of "
    "the number of kept weights among 4096 that one lane codes in succession, over that of independent "
    "weights: 1 = chance; - where a tensor has fewer than 8 such stretches. Overhead: (code + corrections) / "
    "care bits, bound 1."
)


def plan(scope: Scope) -> list[Cell]:
    """A cell per sparsity and structure, and per sparsity and matrix of the checkpoint."""
    sparsities = (0.5, 0.9) if scope.quick else SPARSITIES
    rows, cols = (512, 1024) if scope.quick else SHAPE
    cells = [
        Cell(
            params={"sparsity": s, "structure": name, "rows": rows, "cols": cols, "seeds": scope.seeds},
            seconds=scope.seeds * rows * cols * (0.1 + 1.5 * (1 - s)) * 1e-6,
        )
        for name in patterns.STRUCTURES
        for s in sparsities
    ]
    if scope.weights is not None:
        for name in scope.weights.some(QUICK_MATRICES if scope.quick else None):
            for s in sparsities:
                params = {"sparsity": s, "matrix": name, "sha256": scope.weights.digests[name], "seeds": 1}
                cells.append(Cell(params=params, seconds=0.1 + 1.5 * (1 - s)))
    return cells


def measure(params: Params, weights: Weights | None = None) -> Result:
    """Samples of each order, one per seed, and their spread."""
    found: dict[str, dict[str, list[Any]]] = {order: {"samples": [], "spread": []} for order in ORDERS}
    n_weights = n_kept = 0
    for seed in range(params["seeds"]):
        if "matrix" in params:
            assert weights is not None
            weight = weights.load(params["matrix"])
            tensor = quantize(weight, bits=PLANES, mask=magnitude_mask(weight, params["sparsity"]))
            mask, planes, (rows, cols) = tensor.mask, tensor.planes, weight.shape
        else:
            rows, cols, structure = params["rows"], params["cols"], params["structure"]
            rng = patterns.generator("masks", seed, structure, rows, cols)
            mask = patterns.structured_mask(rng, structure, rows, cols, params["sparsity"])
            planes = patterns.random_planes(rng, PLANES, mask)
        n_weights, n_kept = rows * cols, popcount(mask)
        for order, into in found.items():
            layout = orders.layout(order, rows, cols, n_kept)
            network = quasi_cyclic_network(n_kept / n_weights)
            into["samples"].append(sample.encode(network, mask, planes, layout).as_dict())
            spread = orders.spread(orders.window_counts(mask, layout))
            into["spread"].append(None if math.isnan(spread) else spread)
    return {"orders": found, "n_weights": n_weights, "n_kept": n_kept}


def _groups(outcomes: Sequence[Outcome]) -> dict[tuple[str, float], list[Outcome]]:
    """Outcomes by structure, all matrices of the checkpoint together, and sparsity."""
    groups: dict[tuple[str, float], list[Outcome]] = {}
    for outcome in outcomes:
        params = outcome.params
        groups.setdefault((params.get("structure", "real"), params["sparsity"]), []).append(outcome)
    return groups


def _sparsity(group: Sequence[Outcome]) -> str:
    """Sparsity of all masks together: more than was asked for where a checkpoint was pruned further already."""
    kept, all_ = (sum(outcome.result[name] for outcome in group) for name in ("n_kept", "n_weights"))
    return f"{1 - kept / all_:.3g}"


def _samples(group: Sequence[Outcome], order: str) -> list[Sample]:
    """Each seed's sample of a synthetic mask; one sample of all matrices of a checkpoint."""
    found = [s for outcome in group for s in outcome.result["orders"][order]["samples"]]
    return [Sample.total(found)] if "matrix" in group[0].params else [Sample(**s) for s in found]


def _spread(group: Sequence[Outcome], order: str) -> float:
    found = [s for o in group for s in o.result["orders"][order]["spread"] if s is not None]
    return fmean(found) if found else math.nan


def grids(outcomes: Sequence[Outcome]) -> list[Grid]:
    """Overhead and spread by order; then the matrices of the checkpoint, the worst first."""
    rows = []
    for (structure, _), group in _groups(outcomes).items():
        row = [f"real ({len(group)})" if structure == "real" else structure, _sparsity(group)]
        for order in ORDERS:
            samples = _samples(group, order)
            row.append(f"{sample.mean(samples, 'overhead'):.3f}")
        # Of the last order; a checkpoint is one sample.
        row.append("" if len(samples) == 1 else f"{sample.half_range(samples, 'overhead'):.3f}")
        for order in ORDERS:
            spread = _spread(group, order)
            row.append("-" if math.isnan(spread) else f"{spread:.1f}")
        row.append(f"{100 * sample.mean(_samples(group, 'lanes + skew'), 'efficiency'):.2f}")
        rows.append(row)
    columns = ("mask", "S", *(f"ovh. {o}" for o in SHORT), "±", *(f"spread {o}" for o in SHORT), "E, % lanes")
    notes = [f"{name}: {meaning}" for name, meaning in ORDERS.items()]
    found = [
        Grid(
            title="overhead and spread by order of coding", columns=columns, rows=rows, notes=notes, n_keys=2
        )
    ]
    real = [outcome for outcome in outcomes if "matrix" in outcome.params]
    if real:
        found.append(_worst(real))
    return found


def _worst(outcomes: Sequence[Outcome]) -> Grid:
    def overhead(outcome: Outcome, order: str) -> float:
        return sample.mean(_samples([outcome], order), "overhead")

    ranked = sorted(outcomes, key=lambda o: -overhead(o, "lanes + skew"))
    rows = [
        [o.params["matrix"], f"{o.params['sparsity']:g}", *(f"{overhead(o, order):.3f}" for order in ORDERS)]
        for o in ranked
    ]
    columns = ("matrix", "S", *(f"ovh. {order}" for order in SHORT))
    return Grid(title="real matrices, the worst first", columns=columns, rows=rows, brief=False)


def draw(figure: Any, outcomes: Sequence[Outcome]) -> None:
    """A panel per sparsity: overhead of each mask in each order."""
    groups = _groups(outcomes)
    sparsities = sorted({sparsity for _, sparsity in groups})
    axes = figures.panels(figure, len(sparsities), sharey=True)
    for ax, sparsity in zip(axes, sparsities, strict=True):
        names = [name for name, s in groups if s == sparsity]
        for number, order in enumerate(ORDERS):
            values = [sample.mean(_samples(groups[name, sparsity], order), "overhead") - 1 for name in names]
            at = [i + 0.27 * (number - 1) for i in range(len(names))]
            ax.bar(at, values, bottom=1, width=0.25, color=figures.COLORS[number], label=order)
        ax.set_xticks(range(len(names)), [name.replace("+", "+\n") for name in names])
        figures.bound(ax, 1.0, "bound")
        ax.set_title(f"S {sparsity:g}")
        ax.set_ylabel("overhead")
        ax.set_ylim(0.98, None)
        ax.label_outer()
    figures.legend(figure, axes[0])


TABLE = Table(
    name="masks",
    title="Independent against structured and real masks",
    about=ABOUT,
    module=__name__,
    plan=plan,
    measure=measure,
    grids=grids,
    draw=draw,
    size=(10.0, 6.5),
)
