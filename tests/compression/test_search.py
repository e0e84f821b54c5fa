"""The budget of a perplexity: few tries, never above what is allowed, near to it."""

from __future__ import annotations

import math

import numpy as np
import pytest

from xorpack.checkpoint.budget import RATES, Curve, Quantizer
from xorpack.compression.search import CLOSE, TRIES, search
from xorpack.errors import ParameterError

N = 10_000


def curves() -> dict[str, Curve]:
    found = {}
    for name, cost in (("a", 3.0), ("b", 0.2)):
        sizes, errors = RATES * N / 8 + 100, cost * 4.0**-RATES
        found[name] = Curve.best(
            (Quantizer(rate=r), s, e) for r, s, e in zip(RATES, sizes, errors, strict=True)
        )
    return found


def foretold(bits: float) -> float:
    from xorpack.compression.search import _foretold

    return _foretold(curves(), bits * 2 * N / 8)


@pytest.mark.parametrize("truth", [0.3, 0.8, 1.0, 2.5])
@pytest.mark.parametrize("power", [0.85, 1.0, 1.2])
@pytest.mark.parametrize("increase", [0.02, 0.1, 0.5])
def test_few_tries_come_near_and_stay_below(truth: float, power: float, increase: float) -> None:
    """Whether the model loses less or more than is foretold, in proportion or not."""
    tried = []

    def attempt(bits: float, number: int) -> float:
        assert number == len(tried)
        tried.append(bits)
        return math.exp(truth * foretold(bits) ** power)

    best = search(curves(), 2 * N, increase, attempt)
    assert len(tried) <= TRIES
    assert best.bits in tried
    assert best.ratio <= 1 + increase
    least = next(
        bits for bits in np.arange(0.25, 6, 0.01) if truth * foretold(bits) ** power <= math.log1p(increase)
    )
    assert best.bits < least + 0.5


def test_a_good_try_is_the_last() -> None:
    tried = []

    def attempt(bits: float, number: int) -> float:
        tried.append(bits)
        return 1 + 0.1 * (CLOSE + 0.05)

    assert search(curves(), 2 * N, 0.1, attempt).bits == tried[0]
    assert len(tried) == 1


def test_what_no_budget_allows_is_said() -> None:
    with pytest.raises(
        ParameterError, match=r"perplexity rises by 50.0 % at .* more than the 10 % that are allowed"
    ):
        search(curves(), 2 * N, 0.1, lambda bits, number: 1.5)
