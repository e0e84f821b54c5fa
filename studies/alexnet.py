"""AlexNet's fully connected layers at 91 % and 1 bit: the published 0.09 bits per weight."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from studies import figures, patterns
from studies.table import Cell, Grid, Outcome, Params, Result, Scope, Table
from studies.weights import Weights
from xorpack.analysis.bounds import binary_entropy
from xorpack.code.words import pack, popcount
from xorpack.decoders import decode
from xorpack.encoding.encoder import encode
from xorpack.tensors import BCQTensor

LAYERS = (("fc6", 4096, 9216), ("fc7", 4096, 4096), ("fc8", 1000, 4096))
"""Name, outputs, inputs."""

SPARSITY = 0.91
GOAL = 0.0925
"""Bits per weight of code + corrections."""

PAPER = 0.09
PARTS = ("code", "corrections", "mask")

ABOUT = (
    "Random signs under an i.i.d. mask of the layers' shapes, one plane; sizes in bits per weight, scales (one "
    "float16 a row) left out. arXiv 1905.10138 reports 0.28 in all: 0.09 for the weights, and 0.19 for a mask "
    "that was chosen together with the pruning; a given i.i.d. mask cannot be stored below H(.91) = 0.436. "
    f"Goal here: payload (code + corrections) at most {GOAL}."
)


def plan(scope: Scope) -> list[Cell]:
    """A cell per layer."""
    layers = LAYERS[1:] if scope.quick else LAYERS
    return [
        Cell(
            params={"layer": name, "rows": rows, "cols": cols, "sparsity": SPARSITY, "seeds": scope.seeds},
            seconds=scope.seeds * rows * cols * 1e-7,
        )
        for name, rows, cols in layers
    ]


def measure(params: Params, weights: Weights | None = None) -> Result:
    """Bits of each part, for each seed."""
    return {"samples": [_draw_one(params, seed) for seed in range(params["seeds"])]}


def _draw_one(params: Params, seed: int) -> dict[str, int]:
    rows, cols = params["rows"], params["cols"]
    rng = patterns.generator("alexnet", seed, rows, cols)
    blocks = [
        pack(rng.random((min(256, rows - first), cols), np.float32) >= params["sparsity"])
        for first in range(0, rows, 256)
    ]
    mask = np.concatenate(blocks)
    tensor = BCQTensor(
        shape=(rows, cols),
        dtype="F32",
        mask=mask,
        planes=patterns.random_planes(rng, 1, mask),
        scales=np.ones((rows, 1, 1), np.float16),
    )
    encoded = encode(tensor)
    decoded = decode(encoded)
    if not (isinstance(decoded, BCQTensor) and np.array_equal(decoded.planes, tensor.planes)):
        raise AssertionError("decode(encode(x)) is not x")
    sizes = encoded.section_bytes()
    return {
        "n_weights": encoded.n_weights,
        "n_kept": encoded.n_kept,
        "wrong_bits": popcount(encoded.load_corrections().values.view(np.uint32)),
        **{part: 8 * sizes[part] for part in PARTS},
    }


def _payload(one: dict[str, int]) -> float:
    return (one["code"] + one["corrections"]) / one["n_weights"]


def _sum(parts: Sequence[dict[str, int]]) -> dict[str, int]:
    return {name: sum(part[name] for part in parts) for name in parts[0]}


def _rows(outcomes: Sequence[Outcome]) -> list[tuple[str, list[dict[str, int]]]]:
    """Each layer's samples, then all layers together, seed by seed."""
    found = [
        (f"{o.params['layer']} {o.params['rows']}x{o.params['cols']}", list(o.result["samples"]))
        for o in outcomes
    ]
    together = [_sum(parts) for parts in zip(*(samples for _, samples in found), strict=True)]
    return [*found, ("all", together)]


def grids(outcomes: Sequence[Outcome]) -> list[Grid]:
    """A row per layer and one for all."""
    rows = []
    for name, samples in _rows(outcomes):
        total = _sum(samples)
        sparsity = 1 - total["n_kept"] / total["n_weights"]
        payload = _payload(total)
        rows.append(
            [
                name,
                f"{sparsity:.4f}",
                f"{100 * (1 - total['wrong_bits'] / total['n_kept']):.3f}",
                f"{payload:.5f}",
                f"{max(abs(_payload(one) - payload) for one in samples):.5f}",
                f"{1 - sparsity:.5f}",
                "yes" if payload <= GOAL else "no",
                f"{total['mask'] / total['n_weights']:.4f}",
                f"{binary_entropy(sparsity):.4f}",
            ]
        )
    columns = ("layer", "S", "E, %", "payload", "±", "bound", f"<= {GOAL}", "mask", "H(S)")
    return [Grid(title="bits per weight", columns=columns, rows=rows)]


def draw(figure: Any, outcomes: Sequence[Outcome]) -> None:
    """Payload and mask by layer beside their bounds and the paper's figures."""
    rows = _rows(outcomes)
    labels = [name.replace(" ", "\n", 1) for name, _ in rows]
    totals = [_sum(samples) for _, samples in rows]
    left, right = figures.panels(figure, 2)
    bottom = np.zeros(len(rows))
    for number, part in enumerate(("code", "corrections")):
        height = np.array([total[part] / total["n_weights"] for total in totals])
        left.bar(labels, height, bottom=bottom, width=0.6, color=figures.COLORS[number], label=part)
        bottom += height
    left.axhline(GOAL, color=figures.COLORS[3], linestyle=":", label=f"goal {GOAL}")
    figures.bound(left, 1 - SPARSITY, f"bound {1 - SPARSITY:.2f}; the paper {PAPER}")
    left.set_ylim(0.08, 0.094)
    left.set_title("payload (the axis begins at 0.08)")
    right.bar(
        labels,
        [total["mask"] / total["n_weights"] for total in totals],
        width=0.6,
        color=figures.COLORS[2],
        label="mask as stored",
    )
    figures.bound(right, binary_entropy(SPARSITY), "bound of a given mask, H(.91)")
    right.axhline(0.19, color=figures.COLORS[4], linestyle=":", label="the paper: 0.19, a chosen mask")
    right.set_title("mask")
    for ax in (left, right):
        ax.set_ylabel("bits per weight")
        figures.legend_below(ax, columns=2)


TABLE = Table(
    name="alexnet",
    title="AlexNet's fully connected layers, 91 % pruned, 1 bit",
    about=ABOUT,
    module=__name__,
    plan=plan,
    measure=measure,
    grids=grids,
    draw=draw,
)
