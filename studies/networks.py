"""E and overhead of every network and encoder of the field, at one stored bit per care bit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from studies import figures, patterns, sample
from studies.sample import Sample
from studies.table import Cell, Grid, Outcome, Params, Result, Scope, Table
from studies.weights import Weights
from studies.work import STREAMS, affordable_steps, fewest_steps, step_seconds
from xorpack.code.network import XorNetwork
from xorpack.encoding.plan import quasi_cyclic_network
from xorpack.encoding.rings.viterbi import MAX_WINDOW_BITS

SPARSITIES = (0.5, 0.6, 0.7, 0.8, 0.9, 0.95)
N_IN = (4, 8, 12, 16, 20)
N_S = (0, 1, 2, 7, 15)
KINDS = (
    ("dense", "viterbi"),
    ("sparse", "viterbi"),
    ("dense", "elimination"),
    ("sparse", "elimination"),
    ("quasi-cyclic", "elimination"),
)
"""Taps and encoder."""

HEADINGS = ("dense, Viterbi", "sparse, Viterbi", "dense, elim.", "sparse, elim.", "quasi-c., elim.")

N_TAPS = 2
"""Taps of a word of the sparse networks, as in FleXOR."""

RING_WORDS = 8192
"""Stored words of a ring of dense or sparse taps; of a quasi-cyclic one, a quarter, all 32 bits of each."""

MAX_QUASI_CYCLIC = 64
"""Words of a quasi-cyclic window: 2048 bits, the widest that is worth its time."""

VITERBI_SECONDS = 4.0
"""Estimated seconds of one draw: what bounds the steps of a trellis."""

ABOUT = (
    "One plane of random bits under a random mask that keeps n_in of n_out = round(n_in / (1 - S)) weights, on "
    "the whole: one stored bit per care bit, exactly. E: care bits that come out right. Overhead: (code + "
    "corrections) / care bits, bound 1; in brackets with the corrections at their entropy H(1 - E). Dense: "
    "each of a window's (n_s + 1) n_in stored bits with probability 1/2; sparse: 2 of them; quasi-cyclic: 6 of "
    "as many words, rotated, so that its window is 32 times wider. Sources: arXiv 1905.10138 (n_s = 0), "
    "2105.01869 (n_s > 0), 2009.04126 (2 taps). A rate of exactly 1 leaves no room: what a wide window reaches "
    "at its best rate is in the table windows."
)


def window_bits(taps: str, n_in: int, n_s: int) -> int:
    """Stored bits that one decoded bit can depend on."""
    return (n_s + 1) * n_in * (32 if taps == "quasi-cyclic" else 1)


def skipped(params: Params) -> str | None:
    """Why a cell is not measured, or None."""
    taps, n_in, n_s = params["taps"], params["n_in"], params["n_s"]
    words = (n_s + 1) * n_in
    if params["encoder"] == "viterbi":
        if words > MAX_WINDOW_BITS:
            return f"Viterbi: windows over {MAX_WINDOW_BITS} bits, whose states are too many"
        if step_seconds(n_in, n_s) * fewest_steps(n_s) > params["seconds"]:
            return f"Viterbi: over {params['seconds']:g} s of estimated work for {fewest_steps(n_s)} steps"
    if taps == "quasi-cyclic" and words > MAX_QUASI_CYCLIC:
        return f"quasi-cyclic: windows over {MAX_QUASI_CYCLIC} words; narrower ones reach as much"
    return None


def _grid(scope: Scope) -> list[dict[str, Any]]:
    sparsities, n_ins, n_ss = ((0.5, 0.9), (4, 8, 16), (0, 1, 7)) if scope.quick else (SPARSITIES, N_IN, N_S)
    return [
        {
            "sparsity": sparsity,
            "taps": taps,
            "encoder": encoder,
            "n_in": n_in,
            "n_s": n_s,
            "ring_words": RING_WORDS // (4 if scope.quick else 1),
            "seconds": 0.5 if scope.quick else VITERBI_SECONDS,
            "seeds": scope.seeds,
        }
        for sparsity in sparsities
        for n_in in n_ins
        for n_s in n_ss
        for taps, encoder in KINDS
    ]


def plan(scope: Scope) -> list[Cell]:
    """Every combination; those that are too much work cost nothing and say so."""
    return [Cell(params=params, seconds=_estimate(params)) for params in _grid(scope)]


def _estimate(params: Params) -> float:
    if skipped(params):
        return 0.0
    n_in, n_s, seeds = params["n_in"], params["n_s"], params["seeds"]
    if params["encoder"] == "viterbi":
        return float(seeds * _n_groups(params) * step_seconds(n_in, n_s))
    scale = params["ring_words"] / RING_WORDS * seeds
    words = (n_s + 1) * n_in
    return float(scale * (0.02 + (1e-5 if params["taps"] != "quasi-cyclic" else 8e-5) * words**2))


def _n_groups(params: Params) -> int:
    """Steps of n_in stored words."""
    n_in, n_s = params["n_in"], params["n_s"]
    if params["encoder"] == "viterbi":
        return affordable_steps(n_in, n_s, params["seconds"])
    n_words = params["ring_words"] // (4 if params["taps"] == "quasi-cyclic" else 1)
    return int(n_words) // int(n_in)


def measure(params: Params, weights: Weights | None = None) -> Result:
    """Samples of one cell, or why there are none."""
    reason = skipped(params)
    if reason is not None:
        return {"skipped": reason}
    return {"samples": [_draw_one(params, seed).as_dict() for seed in range(params["seeds"])]}


def _draw_one(params: Params, seed: int) -> Sample:
    sparsity, n_in, n_s, taps = (params[name] for name in ("sparsity", "n_in", "n_s", "taps"))
    n_out = round(n_in / (1 - sparsity))
    n_groups = _n_groups(params)
    n_steps = n_groups * n_out
    rng = patterns.generator("networks", seed, round(100 * sparsity), n_in, n_s)
    n_streams = STREAMS if params["encoder"] == "elimination" and taps != "quasi-cyclic" else 32
    mask = patterns.exact_ring(rng, n_steps, n_groups * n_in * n_streams, n_streams)
    planes = patterns.random_planes(rng, 1, mask)
    if taps == "dense":
        network = XorNetwork.dense(n_in=n_in, n_out=n_out, n_s=n_s, seed=seed + 1)
    elif taps == "sparse":
        network = XorNetwork.sparse(n_in=n_in, n_out=n_out, n_s=n_s, n_taps=N_TAPS, seed=seed + 1)
    else:
        n_rows = quasi_cyclic_network(1 - sparsity).n_rows
        network = XorNetwork.quasi_cyclic(window=(n_s + 1) * n_in, n_rows=n_rows, seed=seed + 1)
    return sample.encode(
        network,
        mask,
        planes,
        sample.ring_layout(n_steps),
        encoder=params["encoder"],
        rate=n_in / n_out if taps == "quasi-cyclic" else None,
        n_streams=n_streams,
    )


def grids(outcomes: Sequence[Outcome]) -> list[Grid]:
    """Two grids per sparsity: E, and the overhead."""
    cells = {_where(outcome.params): outcome.result for outcome in outcomes}
    found = []
    sparsities = sorted({outcome.params["sparsity"] for outcome in outcomes})
    brief = 0.9 if 0.9 in sparsities else sparsities[0]
    for sparsity in sparsities:
        for what, cell in (
            ("E, % ± half of the range", _efficiency),
            ("overhead (its floor), bound 1", _overhead),
        ):
            rows, reasons = [], set()
            for n_in, n_s in sorted({(o.params["n_in"], o.params["n_s"]) for o in outcomes}):
                results = [cells[sparsity, taps, encoder, n_in, n_s] for taps, encoder in KINDS]
                reasons |= {result["skipped"] for result in results if "skipped" in result}
                rows.append([str(n_in), str(n_s), *map(cell, results)])
            notes = [f"-: {reason}" for reason in sorted(reasons)]
            title, columns = f"S {sparsity:g}: {what}", ("n_in", "n_s", *HEADINGS)
            shown = sparsity == brief
            found.append(Grid(title=title, columns=columns, rows=rows, notes=notes, n_keys=2, brief=shown))
    return found


def _where(params: Params) -> tuple[Any, ...]:
    return tuple(params[name] for name in ("sparsity", "taps", "encoder", "n_in", "n_s"))


def _efficiency(result: Mapping[str, Any]) -> str:
    if "skipped" in result:
        return "-"
    samples = sample.samples_of(result)
    mean, half = (100 * f(samples, "efficiency") for f in (sample.mean, sample.half_range))
    return f"{mean:.2f} ±{half:.2f}"


def _overhead(result: Mapping[str, Any]) -> str:
    if "skipped" in result:
        return "-"
    samples = sample.samples_of(result)
    return f"{sample.mean(samples, 'overhead'):.3f} ({sample.mean(samples, 'floor'):.3f})"


def draw(figure: Any, outcomes: Sequence[Outcome]) -> None:
    """Overhead against the window's width, a panel per sparsity."""
    sparsities = sorted({outcome.params["sparsity"] for outcome in outcomes})
    axes = figures.panels(figure, len(sparsities), columns=3, sharey=True)
    for ax, sparsity in zip(axes, sparsities, strict=True):
        for number, (taps, encoder) in enumerate(KINDS):
            points = []
            for outcome in outcomes:
                params = outcome.params
                own = (params["sparsity"], params["taps"], params["encoder"]) == (sparsity, taps, encoder)
                if own and "samples" in outcome.result:
                    samples = sample.samples_of(outcome.result)
                    width = window_bits(taps, params["n_in"], params["n_s"])
                    points.append((width, sample.mean(samples, "overhead")))
            x, y = zip(*sorted(points), strict=True)
            ax.plot(x, y, label=HEADINGS[number], **figures.style(number, line=False))
        figures.bound(ax, 1.0, "bound")
        ax.set_xscale("log", base=2)
        ax.set_title(f"S {sparsity:g}")
        ax.set_xlabel("window, stored bits")
        ax.set_ylabel("overhead")
        ax.label_outer()
    figures.legend(figure, axes[0])


TABLE = Table(
    name="networks",
    title="Networks and encoders of the field, at one stored bit per care bit",
    about=ABOUT,
    module=__name__,
    plan=plan,
    measure=measure,
    grids=grids,
    draw=draw,
    size=(10.0, 6.5),
)
