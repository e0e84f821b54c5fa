"""Distortion: relative squared error of trellis BCQ by rate, everything counted, beside Shannon's bound."""

from __future__ import annotations

import time
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from benchmarks.data import NOT_INSTALLED, model_directory, model_matrices
from benchmarks.measure import Checks, Row
from xorpack.encoding.quantize.trellis import quantize_trellis

GOALS = {0.5: 0.520, 1.0: 0.262, 1.5: 0.137, 2.0: 0.0715, 3.0: 0.0195, 4.0: 0.0052}
"""Of Gaussian weights, by rate."""

RATES = (0.5, 1.0, 1.5, 2.0, 2.5, 3.0, 4.0)

WINDOWS = (12, 14)

HEAVY = ("Laplace", "Student t(5)")

ENTROPY_POWER = {"Laplace": np.e / np.pi, "Student t(5)": 0.9106}
"""Of the source at variance 1: its Shannon lower bound is that times 4**-R. Of t(5): exp(2 h) / (2 pi e) of its
entropy h = 1.6275 nats, over its variance 5/3."""


def run(quick: bool) -> Iterator[Row]:
    """Rows of this theme."""
    size = 512 if quick else 2048
    for rate in RATES:
        for window in WINDOWS if rate <= 2 and not quick else WINDOWS[:1]:
            weight = _random("Gaussian", size)
            yield _row(
                f"Gaussian {size} x {size}, L {window}",
                [weight],
                rate,
                window,
                None if quick else GOALS.get(rate),
            )
    for source in HEAVY:
        for rate in RATES:
            weight = _random(source, size // 2)
            yield _row(
                f"{source} {size // 2} x {size // 2}", [weight], rate, None, None, ENTROPY_POWER[source]
            )
    directory = model_directory()
    if directory is None:
        yield Row(what="all-MiniLM-L6-v2", note=NOT_INSTALLED)
        return
    matrices = [matrix for _, matrix in model_matrices(directory)][:: 6 if quick else 1]
    for rate in RATES:
        yield _row(f"all-MiniLM-L6-v2, {len(matrices)} matrices", matrices, rate, None, None)


def _random(source: str, size: int) -> NDArray[np.float32]:
    rng = np.random.default_rng([3, size])
    if source == "Laplace":
        return rng.laplace(size=(size, size)).astype(np.float32)
    if source == "Student t(5)":
        return rng.standard_t(5, size=(size, size)).astype(np.float32)
    return rng.standard_normal((size, size), np.float32)


def _row(
    what: str,
    weights: list[NDArray[np.float32]],
    rate: float,
    window: int | None,
    goal: float | None,
    entropy_power: float = 1.0,
) -> Row:
    """Error over all ``weights``, and how far it is above the bound of white weights of ``entropy_power``."""
    error = energy = bits = seconds = 0.0
    n, n_outliers, tensor = 0, 0, None
    for weight in weights:
        began = time.perf_counter()
        tensor = quantize_trellis(weight, rate=rate, window=window, jobs=2)
        seconds += time.perf_counter() - began
        error += float(((weight - tensor.dequantize()).astype(np.float64) ** 2).sum())
        energy += float((weight.astype(np.float64) ** 2).sum())
        bits += tensor.payload_bits
        n += weight.size
        n_outliers += len(tensor.positions)
    stored, distortion = bits / n, error / energy
    bound = entropy_power * 4.0**-stored
    if what.startswith(("Gaussian", *HEAVY)):
        Checks.require(distortion > bound, f"{what}: error {distortion} below the bound {bound}")
    assert tensor is not None
    note = (
        f"at {stored:.4f} bits stored, L {tensor.network.window}, q {tensor.bits}; bound {bound:.5f}, "
        f"{10 * np.log10(distortion / bound):.2f} dB above; {100 * n_outliers / n:.3f} % outliers; "
        f"{n / seconds / 1e6:.2f} M weights/s"
    )
    return Row(what=f"D at {rate:g} bits, {what}", samples=[distortion], digits=5, at_most=goal, note=note)
