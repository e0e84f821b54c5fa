"""Distortion: squared error by stored bits, everything counted, beside Shannon's bound and other quantizers."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

import xorpack
from benchmarks.data import NOT_INSTALLED, model_directory, model_matrices
from benchmarks.measure import Checks, Row
from benchmarks.quantizers import ENTROPACK, PEERS, Peer, Setting, Stored, entropack
from xorpack.analysis.distortion import (
    GAUSSIAN_POWER,
    LAPLACE_POWER,
    Source,
    decibels,
    gaussian_distortion,
    student_power,
)
from xorpack.analysis.row_errors import Rows
from xorpack.encoding.quantize.trellis import quantize_trellis
from xorpack.tensors import TrellisTensor

GOALS = {0.5: 0.520, 1.0: 0.262, 1.5: 0.137, 2.0: 0.0715, 3.0: 0.0195, 4.0: 0.0052}
"""Errors of Gaussian weights to stay below, by rate."""

AGAINST = {0.5: 0.80, 1.0: 0.75, 2.0: 0.85, 3.0: 0.92, 4.0: 0.97}
"""Our error over EntroPack's at the same bytes that all-MiniLM-L6-v2 is to stay below, by rate."""

POWERS = {"Gaussian": GAUSSIAN_POWER, "Laplace": LAPLACE_POWER, "Student t(5)": student_power(5)}

MASKED_GOAL = 0.080

Weight = NDArray[np.float32]


def run(quick: bool) -> Iterator[Row]:
    """Rows of this theme."""
    size = 512 if quick else 4096
    for rate, goal in GOALS.items():
        weight = random_source("Gaussian", size)
        found = Measured.ours([weight], rate, GAUSSIAN_POWER)
        what = f"D at {rate:g} bits, Gaussian {size} x {size}"
        yield Row(what=what, samples=[found.error], digits=5, at_most=goal, note=found.note)
    yield _masked(512 if quick else 2048)
    sets = {name: [random_source(name, 512 if quick else 1024)] for name in POWERS}
    for name, weights in sets.items():
        yield from _beside(f"{name} {len(weights[0])} x {len(weights[0])}", weights, POWERS[name], quick)
    directory = model_directory()
    if directory is None:
        yield Row(what="all-MiniLM-L6-v2", note=NOT_INSTALLED)
        return
    matrices = [matrix for _, matrix in model_matrices(directory)]
    if not quick:
        for rate in AGAINST:
            found = Measured.ours(matrices, rate, None)
            what = f"D at {rate:g} bits, all-MiniLM-L6-v2, {len(matrices)} matrices"
            yield Row(what=what, samples=[found.error], digits=5, note=found.note)
    some = matrices[:: 7 if quick else 1]  # seven matrices on: one of each kind, each of another layer
    yield from _beside(f"all-MiniLM-L6-v2, {len(some)} of {len(matrices)} matrices", some, None, quick)


def random_source(source: str, size: int) -> Weight:
    """Independent weights ``size x size``."""
    rng = np.random.default_rng([3, size])
    if source == "Laplace":
        return rng.laplace(size=(size, size)).astype(np.float32)
    if source == "Student t(5)":
        return rng.standard_t(5, size=(size, size)).astype(np.float32)
    return rng.standard_normal((size, size), np.float32)


@dataclass(frozen=True, slots=True)
class Measured:
    """Stored bits per weight, relative squared error over all weights of a set, and what there is to say."""

    bits: float
    error: float
    note: str

    @classmethod
    def of(
        cls, weights: Sequence[Weight], quantize: Callable[[Weight], Stored], power: float | None
    ) -> Measured:
        """``power``: entropy power of the source where it is known; no error is below its bound."""
        bits = error = energy = bound = seconds = 0.0
        for weight in weights:
            began = time.perf_counter()
            stored, found = quantize(weight)
            seconds += time.perf_counter() - began
            rows = Rows.of(weight, [np.ascontiguousarray(found, np.float32)])
            limit = Source.of(weight, rows, power=power).distortion(stored / weight.size)
            one = float(rows.error.sum() / rows.energy.sum())
            Checks.require(one > limit, f"error {one} below the bound {limit} at {stored / weight.size} bits")
            bits, error, energy = bits + stored, error + rows.error.sum(), energy + rows.energy.sum()
            bound += limit * float(rows.energy.sum())
        n = sum(weight.size for weight in weights)
        relative, rate = float(error / energy), bits / n
        return cls(
            rate,
            relative,
            f"at {rate:.4f} bits stored; {decibels(relative / gaussian_distortion(rate)):.2f} dB above 4^-R, "
            f"{decibels(relative / (bound / float(energy))):.2f} above the source's bound; "
            f"{n / seconds / 1e6:.2f} M weights/s",
        )

    @classmethod
    def ours(cls, weights: Sequence[Weight], rate: float, power: float | None) -> Measured:
        """A trellis of ``rate`` bits without gains, which this error does not pay; scales and outliers come on top."""

        def quantize(weight: Weight) -> Stored:
            tensor = quantize_trellis(weight, rate=rate, column_gains=False, jobs=2)
            return stored_bits(tensor), tensor.dequantize()

        return cls.of(weights, quantize, power)

    @classmethod
    def within(cls, weights: Sequence[Weight], bits: float, power: float | None) -> Measured:
        """The trellis of the highest rate that takes ``bits`` per weight at the most, scales and outliers included."""
        scales = min(16 / weight.shape[1] for weight in weights)
        for numerator in range(int(32 * (bits - scales)), 0, -1):
            found = cls.ours(weights, numerator / 32, power)
            if found.bits <= bits:
                return found
        raise ValueError(f"{bits} bits are too few")

    @property
    def decibels(self) -> float:
        """Above 4^-R."""
        return decibels(self.error / gaussian_distortion(self.bits))


def stored_bits(tensor: TrellisTensor) -> int:
    """Bits of everything that is stored of a tensor, once encoded."""
    return 8 * sum(xorpack.encode(tensor).section_bytes().values())


def _beside(what: str, weights: Sequence[Weight], power: float | None, quick: bool) -> Iterator[Row]:
    """Rows of ours over each peer's error."""
    real = power is None
    if ENTROPACK.missing:
        yield _skipped(what, ENTROPACK)
    else:
        for rate in (1.0, 2.0) if quick else AGAINST:
            ours = Measured.ours(weights, rate, power)
            theirs = Measured.of(weights, partial(entropack, rate=ours.bits), power)
            yield _ratio(
                f"entropack at {rate:g} bits, {what}",
                ours,
                theirs,
                AGAINST[rate] if real and not quick else None,
            )
    for peer in PEERS:
        if peer.missing:
            yield _skipped(what, peer)
            continue
        levels: dict[str, list[Setting]] = {}
        for setting in peer.settings():
            levels.setdefault(setting.level, []).append(setting)
        for level, settings in list(levels.items())[: 1 if quick else None]:
            tried = [(Measured.of(weights, setting.run, power), setting) for setting in settings]
            theirs, setting = min(tried, key=lambda pair: pair[0].decibels)
            ours = Measured.within(weights, theirs.bits, power)
            yield _ratio(f"{peer.name} {level} ({setting.about}), {what}", ours, theirs, None)


def _skipped(what: str, peer: Peer) -> Row:
    return Row(what=f"D over that of {peer.name}, {what}", note=f"not installed: {peer.missing}")


def _ratio(what: str, ours: Measured, theirs: Measured, goal: float | None) -> Row:
    note = f"{ours.error:.5f} at {ours.bits:.4f} bits; theirs {theirs.error:.5f} at {theirs.bits:.4f}"
    return Row(
        what=f"D over that of {what}", samples=[ours.error / theirs.error], digits=3, at_most=goal, note=note
    )


def _masked(size: int) -> Row:
    """Weights of a given mask: their own error, at two bits each."""
    rng = np.random.default_rng([4, size])
    weight = rng.standard_normal((size, size), np.float32)
    mask = rng.random((size, size), np.float32) >= 0.9
    tensor = quantize_trellis(weight, rate=2.0, mask=mask, column_gains=False, jobs=2)
    kept = np.where(mask, weight, np.float32(0))
    rows = Rows.of(kept, [tensor.dequantize()])
    bits = tensor.payload_bits / tensor.n_kept
    return Row(
        what=f"D of kept weights, mask given, S 0.9, 2 bits each, Gaussian {size} x {size}",
        samples=[float(rows.error.sum() / rows.energy.sum())],
        digits=4,
        at_most=MASKED_GOAL,
        note=f"at {bits:.4f} bits per kept weight, the mask not counted; L {tensor.network.window}",
    )
