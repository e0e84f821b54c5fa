"""The linear layers of a Llama of 8 G parameters, one token: all in a CUDA graph, compressed and in fp16.

Attention, norms and the head are left out: what is compared is what weights cost. Layers of few kinds take turns, so
that caches hold none of them.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator, Sequence
from fractions import Fraction
from typing import Any

import numpy as np

from benchmarks.gpu import cases, goals
from benchmarks.gpu.cases import TrellisCase
from benchmarks.gpu.correctness import check_decode
from benchmarks.gpu.products import Bench, blas_calls, calls
from benchmarks.gpu.timing import Call
from benchmarks.measure import Row, ratios

SHAPES = ((4096, 4096), (1024, 4096), (1024, 4096), (4096, 4096), (14336, 4096), (14336, 4096), (4096, 14336))
"""Of a layer, outputs x inputs: q, k, v, o, gate, up, down."""
LAYERS, KINDS = 32, 4
RATES = (Fraction(2), Fraction(1))


def run(bench: Bench, *, quick: bool) -> Iterator[Row]:
    """Rows of the theme: tokens a second of all layers, and over cuBLAS."""
    layers, n_kinds = (4, 2) if quick else (LAYERS, KINDS)
    for rate in RATES[:1] if quick else RATES:
        ours: list[list[Call]] = []
        theirs: list[list[Call]] = []
        for kind in range(n_kinds):
            fused, dense = [], []
            for shape in SHAPES:
                one, other = _products(bench, shape, rate, kind)
                fused.append(one)
                dense.append(other)
            ours.append(fused)
            theirs.append(dense)
        tokens = [_tokens(bench, each, layers) for each in (ours, theirs)]
        for name, samples in zip((f"trellis R {rate}", "cuBLAS fp16"), tokens, strict=True):
            yield Row(
                what=f"linear layers of a Llama of 8 G, {layers} layers, batch 1, {name}",
                samples=samples,
                unit="tokens/s",
                digits=0,
                note="a CUDA graph; no attention, norms or head",
            )
        yield Row(what=goals.stack(rate), samples=ratios(tokens[0], tokens[1]), unit="x")
        del ours, theirs
        gc.collect()


def _tokens(bench: Bench, kinds: Sequence[Sequence[Call]], layers: int) -> list[float]:
    """Tokens a second of so many layers, which are of these kinds in turn."""
    launches = [call for layer in range(layers) for call in kinds[layer % len(kinds)]]
    return [1 / (seconds * len(launches)) for seconds in bench.timer.seconds(launches)]


def _products(bench: Bench, shape: tuple[int, int], rate: Fraction, kind: int) -> tuple[Call, Call]:
    """The product of a layer's matrix, compressed and dense, each with an output of its own."""
    case = TrellisCase(rows=shape[0], cols=shape[1], rate=rate, at_least=0)
    encoded = cases.trellis(case, seed=kind)
    (tensor,) = bench.load(encoded, copies=1)
    if not kind:
        check_decode(bench.cupy, encoded, tensor)
    x, out = bench.activations(1, shape[1]), bench.cupy.empty((1, shape[0]), np.float16)
    tensor.prepare(1, "F16", stream=bench.timer.stream)
    (fused,) = calls([tensor], x, out, "auto")
    dense: Any = tensor.decode("F16")
    (other,) = blas_calls(bench, [dense], x)
    return fused, other
