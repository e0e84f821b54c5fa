"""The goals on a GPU, as rows that wait: a run of ``python -m benchmarks.gpu`` replaces their themes."""

from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path
from typing import Any

from benchmarks.gpu.cases import BATCH_256, COPY_SHARE, GOALS, LARGEST, TRELLIS, Case, TrellisCase
from benchmarks.measure import Row

BUDGET = Path(__file__).with_name("instructions.json")
NOTE = "not measured: no GPU was at hand"
CSR = "cuSPARSE CSR (float32 values, 32-bit columns)"


def unmeasured() -> dict[str, list[Row]]:
    """The goals by theme, as the run names them."""
    large = GOALS[0].name
    fast = [each for each in (*GOALS, *TRELLIS) if each.at_least_8]
    exact = "decode bit-identical, products within float32 rounding, runs identical"
    products = [
        row
        for case in fast
        for row in (
            _over(f"binary over cuBLAS fp16, batch 1, {case.name}", case.at_least),
            _over(f"binary over cuBLAS fp16, batch 8, {case.name}", case.at_least_8),
        )
    ]
    products += [Row(**share(case), note=NOTE) for case in fast if (case.rows, case.cols) == LARGEST]
    products += [
        Row(**error(case, kind), note=NOTE) for case in (GOALS[0], TRELLIS[0]) for kind in ACTIVATIONS
    ]
    products += [
        _over(f"wide over cuBLAS fp16, batch 256, {each}", BATCH_256) for each in (large, TRELLIS[0].name)
    ]
    products += [
        _over(f"binary over {CSR}, batch 1, {case.name}", 3)
        for case in GOALS
        if case.group and (case.rows, case.cols) != LARGEST
    ]
    words = f"decode_words, bytes written, {large}"
    return {
        "correctness": [Row(what=exact, at_least=100, unit="%", note=NOTE)],
        "first call": [
            Row(what=first_call(codec), at_most=3, unit="s", note=NOTE) for codec in ("bitmap", "block")
        ],
        "products": products,
        "a stack of layers": [Row(what=stack(rate), unit="x", note=NOTE) for rate in map(Fraction, (2, 1))],
        "encoding": [Row(what=search(2.0, 12), at_least=100, unit="M weights/s", note=NOTE)],
        "decoding": [Row(what=words, at_least=50, unit="% of the copy bandwidth", note=NOTE)],
    }


def counted() -> list[Row]:
    """Instructions of main loops that have a goal: ``tests/sass.py`` counts them without a GPU, a test holds them."""
    budget = json.loads(BUDGET.read_text())
    note = f"counted in the machine code for {budget['arch']}"
    return [
        Row(
            what=f"instructions for 1024 weights, {name}",
            samples=[budget["per_step"][name]],
            digits=1,
            at_most=goal,
            note=note,
        )
        for name, goal in budget["goals"].items()
    ]


ACTIVATIONS = ("random", "heavy tails", "outliers of 100")
"""Activations whose products are compared with float32's: a product of two normal numbers has heavy tails."""


def share(case: Case | TrellisCase) -> dict[str, Any]:
    """What and goal of a row: bytes a second of a product beside a copy's."""
    what = f"share of the copy bandwidth, binary, batch 1, {case.name}"
    return {"what": what, "at_least": COPY_SHARE, "unit": "%"}


def error(case: Case | TrellisCase, kind: str) -> dict[str, Any]:
    """What and goal of a row: how far from float64 a product is, beside a product in float32."""
    what = f"error of binary over a float32 product's, {kind} activations, {case.name}"
    return {"what": what, "at_most": 1, "digits": 2}


def first_call(codec: str) -> str:
    """Name of a row."""
    return f"compilation of the first matvec, mask {codec}"


def search(rate: float, window: int) -> str:
    """Name of a row."""
    return f"search of stored bits, trellis R {rate:g}, L {window}"


def stack(rate: Fraction) -> str:
    """Name of a row."""
    return f"linear layers of a Llama of 8 G, batch 1, trellis R {rate} over cuBLAS fp16"


def _over(what: str, least: float | None) -> Row:
    return Row(what=what, at_least=least, unit="x", note=NOTE)
