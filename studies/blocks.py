"""Fixed against binomial numbers of kept weights per block: what i.i.d. masks cost a narrow window."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from studies import figures, patterns, sample
from studies.sample import Sample
from studies.table import Cell, Grid, Outcome, Params, Result, Scope, Table
from studies.weights import Weights
from studies.work import STREAMS, affordable_steps, step_seconds
from xorpack.code.network import XorNetwork

SPARSITIES = (0.5, 0.7, 0.9)
N_IN = 8
ROWS = ((0, "viterbi"), (1, "viterbi"), *((n_s, "elimination") for n_s in (0, 1, 2, 7, 15)))
"""n_s and encoder."""

KINDS = ("fixed", "binomial")

N_BLOCKS = 1024
VITERBI_SECONDS = 2.0

ABOUT = (
    "Dense taps, n_in 8. Each stream's block of n_out = round(8 / (1 - S)) weights keeps exactly 8 (fixed), or "
    "all blocks together 8 each on average, anywhere (binomial): then the number of kept weights scatters by "
    "sqrt(8 S) from block to block, most where S is high. Stored bits / care bits is exactly 1 for both. A "
    "network without memory (n_s = 0) meets blocks that keep more than it has bits for, and wastes bits on "
    "those that keep fewer; memory, or a wide window, evens them out. This is how arXiv 2105.01869 explains "
    "why n_s = 0 loses at S .9. Predicted: the best of 2^8 independent random words for each block, exactly; a "
    "network's words repeat where its rows depend, so it does a little worse."
)


def predicted_efficiency(n_in: int, kept: Mapping[int, float]) -> float:
    """E of the best of ``2^n_in`` independent random words for a block, in expectation.

    With ``B(d; u)`` the chance that a random word differs in at most d of u bits, the least distance of
    ``N = 2^n_in`` words is ``sum over d < u of (1 - B(d; u))^N`` on average.

    Args:
        n_in: stored bits of a block.
        kept: probability of each number u of kept weights.

    >>> predicted_efficiency(1, {1: 1.0})  # one of two random bits is right
    0.75
    """
    wrong = total = 0.0
    for u, probability in kept.items():
        below = 0
        for d in range(u):
            below += math.comb(u, d)
            wrong += probability * (1 - below / 2**u) ** (2**n_in)
        total += probability * u
    return 1 - wrong / total


def binomial(n: int, p: float) -> dict[int, float]:
    """Probability of each number of kept weights among ``n``."""
    return {u: math.comb(n, u) * p**u * (1 - p) ** (n - u) for u in range(n + 1)}


def plan(scope: Scope) -> list[Cell]:
    """A cell per sparsity, n_s, encoder and kind of block."""
    rows = [row for row in ROWS if row[0] != 2 and row[0] != 15] if scope.quick else ROWS
    n_blocks = N_BLOCKS // (4 if scope.quick else 1)
    cells = []
    for sparsity in SPARSITIES:
        for n_s, encoder in rows:
            for kind in KINDS:
                params = {"sparsity": sparsity, "n_s": n_s, "encoder": encoder, "kind": kind}
                params |= {"n_blocks": n_blocks, "seeds": scope.seeds}
                work = n_blocks * step_seconds(N_IN, n_s) if encoder == "viterbi" else 0.05 + 0.01 * n_s
                cells.append(Cell(params=params, seconds=scope.seeds * work))
    return cells


def measure(params: Params, weights: Weights | None = None) -> Result:
    """A sample per seed."""
    return {"samples": [_draw_one(params, seed).as_dict() for seed in range(params["seeds"])]}


def _draw_one(params: Params, seed: int) -> Sample:
    n_out = round(N_IN / (1 - params["sparsity"]))
    n_s, n_blocks, n_streams = params["n_s"], params["n_blocks"], STREAMS
    if params["encoder"] == "viterbi":
        n_streams = 32
        n_blocks = min(n_blocks, affordable_steps(N_IN, n_s, VITERBI_SECONDS))
    rng = patterns.generator("blocks", seed, n_out, params["kind"])
    if params["kind"] == "fixed":
        mask = patterns.fixed_ring(rng, n_blocks, n_out, N_IN, n_streams)
    else:
        mask = patterns.exact_ring(rng, n_blocks * n_out, n_blocks * N_IN * n_streams, n_streams)
    planes = patterns.random_planes(rng, 1, mask)
    network = XorNetwork.dense(n_in=N_IN, n_out=n_out, n_s=n_s, seed=seed + 1)
    layout = sample.ring_layout(n_blocks * n_out)
    return sample.encode(network, mask, planes, layout, encoder=params["encoder"], n_streams=n_streams)


def _prediction(sparsity: float, kind: str) -> float:
    n_out = round(N_IN / (1 - sparsity))
    return predicted_efficiency(N_IN, {N_IN: 1.0} if kind == "fixed" else binomial(n_out, N_IN / n_out))


def grids(outcomes: Sequence[Outcome]) -> list[Grid]:
    """E of both kinds side by side, the prediction where there is one, and what the difference costs."""
    rows = []
    keys = dict.fromkeys((o.params["sparsity"], o.params["n_s"], o.params["encoder"]) for o in outcomes)
    for sparsity, n_s, encoder in keys:
        found = {
            outcome.params["kind"]: sample.samples_of(outcome.result)
            for outcome in outcomes
            if (outcome.params["sparsity"], outcome.params["n_s"], outcome.params["encoder"])
            == (sparsity, n_s, encoder)
        }
        row = [f"{sparsity:g}", str(n_s), encoder]
        for kind in KINDS:
            mean, half = (100 * f(found[kind], "efficiency") for f in (sample.mean, sample.half_range))
            row.append(f"{mean:.2f} ±{half:.2f}")
            exact = n_s == 0 and encoder == "viterbi"
            row.append(f"{100 * _prediction(sparsity, kind):.2f}" if exact else "")
        row += [f"{sample.mean(found[kind], 'overhead'):.3f}" for kind in KINDS]
        rows.append(row)
    columns = ("S", "n_s", "encoder", "E % fixed", "pred.", "E % binom.", "pred.", "ovh. fixed", "binom.")
    return [
        Grid(
            title="E, and overhead (code + corrections / care bits, bound 1)",
            columns=columns,
            rows=rows,
            n_keys=3,
        )
    ]


def draw(figure: Any, outcomes: Sequence[Outcome]) -> None:
    """Overhead by n_s, a panel per encoder; lines for fixed and binomial blocks at each sparsity."""
    encoders = list(dict.fromkeys(outcome.params["encoder"] for outcome in outcomes))
    sparsities = sorted({outcome.params["sparsity"] for outcome in outcomes})
    axes = figures.panels(figure, len(encoders), sharey=True)
    for ax, encoder in zip(axes, encoders, strict=True):
        for number, sparsity in enumerate(sparsities):
            for kind in KINDS:
                own = [
                    outcome
                    for outcome in outcomes
                    if (outcome.params["encoder"], outcome.params["sparsity"], outcome.params["kind"])
                    == (encoder, sparsity, kind)
                ]
                y = [sample.mean(sample.samples_of(outcome.result), "overhead") for outcome in own]
                look = figures.style(number) | {"linestyle": "-" if kind == "binomial" else ":"}
                ax.plot([str(o.params["n_s"]) for o in own], y, label=f"S {sparsity:g}, {kind}", **look)
        figures.bound(ax, 1.0, "bound")
        ax.set_title({"viterbi": "Viterbi", "elimination": "elimination"}[encoder])
        ax.set_xlabel("n_s")
        ax.set_ylabel("overhead (code + corrections)")
    figures.legend(figure, axes[0], columns=4)


TABLE = Table(
    name="blocks",
    title="Fixed against binomial numbers of kept weights per block",
    about=ABOUT,
    module=__name__,
    plan=plan,
    measure=measure,
    grids=grids,
    draw=draw,
)
