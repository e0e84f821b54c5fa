"""Rows of the table, timing, and the check that stands before every speed."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

import numpy as np

import xorpack
from xorpack.encoded import EncodedTensor
from xorpack.tensors import BCQTensor


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One line: samples of a quantity beside its goal, an upper or a lower bound, or neither.

    ``note`` says what the figure needs to be read; without samples, why there are none.
    """

    what: str
    samples: Sequence[float] = ()
    unit: str = ""
    digits: int = 2
    at_least: float | None = None
    at_most: float | None = None
    note: str = ""

    @property
    def goal(self) -> str:
        """The bound as text, or ``-``."""
        if self.at_least is not None:
            return f">= {self.at_least:g} {self.unit}".rstrip()
        return "-" if self.at_most is None else f"<= {self.at_most:g} {self.unit}".rstrip()

    @property
    def measured(self) -> str:
        """The median of the samples."""
        return f"{self._text(median(self.samples))} {self.unit}".rstrip() if self.samples else self.note

    @property
    def spread(self) -> str:
        """The lowest and the highest sample and their number."""
        if len(self.samples) < 2:
            return "-"
        low, high = self._text(min(self.samples)), self._text(max(self.samples))
        return f"{low} .. {high} ({len(self.samples)})"

    @property
    def met(self) -> str:
        """Whether the median keeps the goal: yes, no, or - where there is nothing to judge."""
        if not self.samples or (self.at_least is None and self.at_most is None):
            return "-"
        value = median(self.samples)
        kept = value >= self.at_least if self.at_least is not None else value <= (self.at_most or 0)
        return "yes" if kept else "no"

    def _text(self, value: float) -> str:
        return f"{value:,.{self.digits}f}"


class CheckError(AssertionError):
    """What was measured is not right, so its speed means nothing."""


class Checks:
    """Round trips that were tried and held."""

    held = 0

    @classmethod
    def require(cls, holds: bool, what: str) -> None:
        """Count a check, or raise :class:`CheckError`."""
        if not holds:
            raise CheckError(what)
        cls.held += 1


def check_decodes(encoded: EncodedTensor, wanted: BCQTensor | np.ndarray[Any, Any]) -> None:
    """Require that ``encoded`` decodes to the bytes it was made from."""
    decoded = xorpack.decode(encoded)
    what = f"{encoded.kind} {encoded.shape}: decode(encode(x)) is not x"
    if isinstance(wanted, BCQTensor):
        pairs = [(getattr(decoded, part), getattr(wanted, part)) for part in ("mask", "planes", "scales")]
    else:
        pairs = [(decoded, wanted)]
    Checks.require(all(a.shape == b.shape and a.tobytes() == b.tobytes() for a, b in pairs), what)


def seconds(call: Callable[[], object]) -> float:
    """Time of one call."""
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


def times(call: Callable[[], object], n: int, *, repeat: int = 1) -> list[float]:
    """Seconds of a call, ``n`` samples of ``repeat`` calls each, after one that is not counted."""
    call()

    def several() -> None:
        for _ in range(repeat):
            call()

    return [seconds(several) / repeat for _ in range(n)]


def interleaved(calls: Sequence[Callable[[], object]], n: int) -> list[list[float]]:
    """Seconds of several calls taken in turns, ``n`` samples of each: a busy machine hits them alike."""
    samples: list[list[float]] = [[] for _ in calls]
    for _ in range(n):
        for call, into in zip(calls, samples, strict=True):
            into.append(seconds(call))
    return samples


def ratios(over: Sequence[float], under: Sequence[float]) -> list[float]:
    """Sample by sample."""
    return [a / b for a, b in zip(over, under, strict=True)]
