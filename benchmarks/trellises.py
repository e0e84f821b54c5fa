"""Trellises: how fast weights are quantized by Viterbi, encoded, and decoded."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

import xorpack
from benchmarks.distortion import random_source
from benchmarks.measure import Checks, Row, times
from benchmarks.reduced_search import rows as of_reduced_searches
from xorpack.decoders import cpu
from xorpack.encoding.quantize.trellis import quantize_trellis

SPEEDS = {2.0: 1.0, 1.0: 2.5}
"""Goals of quantizing and encoding at L 12, M weights/s on two cores, by rate."""


def run(quick: bool) -> Iterator[Row]:
    """Rows of this theme."""
    size = 512 if quick else 2048
    weight = random_source("Gaussian", size)
    for rate, goal in SPEEDS.items():

        def both(rate: float = rate) -> None:
            xorpack.encode(quantize_trellis(weight, rate=rate, window=12, jobs=2), jobs=2)

        samples = [weight.size / s / 1e6 for s in times(both, 3)]
        what = f"quantize + encode, trellis, L 12, R {rate:g}, {size} x {size}, two cores"
        yield Row(what=what, samples=samples, unit="M weights/s", at_least=goal)
    tensor = quantize_trellis(weight, rate=2.0, jobs=2)
    encoded = xorpack.encode(tensor)
    Checks.require(
        np.array_equal(cpu.decode_dense(encoded), tensor.dequantize()), "decode(encode(x)) is not x"
    )
    samples = [weight.size / s / 1e9 for s in times(lambda: cpu.decode_dense(encoded), 7)]
    what = f"decode to dense float32, trellis, R 2, {size} x {size}, one core"
    yield Row(what=what, samples=samples, unit="G weights/s", at_least=1.0)
    for whole in (1, 2):
        yield from of_reduced_searches(whole, 32 if quick else 128)
