"""The smallest budget at which a model's perplexity rises by no more than was asked for.

What a budget costs the model is foretold by the curves of its tensors, in nats of its loss; each try says by how much
that was wrong, and the next one is chosen by it. A try is a whole fit and a measurement, so there are few.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from xorpack.checkpoint.budget import Curve, choose_quantizers
from xorpack.errors import ParameterError

TRIES = 4
"""Fits at the most."""

CLOSE = 0.85
"""Share of the increase asked for from which on a try is good enough."""

EXPECTED = 0.7
"""What is lost over what is foretold, before anything is known: about that of SmolLM2 at 2 to 3 bits."""

FIT_SPEED = 250_000
"""Weights that are fitted in a second, on a thread that has a core to itself, at 2 bits; of 4 bits a third."""


@dataclass(frozen=True, slots=True)
class Try:
    """A budget that was tried: ``bits`` per weight, and the perplexity found over the dense model's."""

    bits: float
    ratio: float


def search(
    curves: Mapping[str, Curve], n_weights: int, increase: float, attempt: Callable[[float, int], float]
) -> Try:
    """Try budgets; the best that is good enough.

    Args:
        curves: of all tensors that are encoded, errors in nats.
        n_weights: of these.
        increase: of the perplexity, at the most: .1 for a tenth.
        attempt: makes the model of so many bits per weight, the try's number beside, and measures its perplexity over
            the
            dense one's.

    Raises:
        ParameterError: no try keeps the perplexity as low as that.
    """
    limit = math.log1p(increase)
    correction, best = EXPECTED, None
    tries: list[Try] = []
    for number in range(TRIES):
        found = _bits(curves, n_weights, limit / correction)
        if any(abs(found[0] - other.bits) < 0.01 for other in tries):
            break
        tries.append(Try(found[0], attempt(found[0], number)))
        lost = math.log(tries[-1].ratio)
        if lost <= limit and (best is None or tries[-1].bits < best.bits):
            best = tries[-1]
        if CLOSE * limit <= lost <= limit:
            break
        correction = max(lost, 0.05 * limit) / found[1] * (1.0 if lost < limit else 1.05)
    if best is None:
        closest = min(tries, key=lambda each: each.ratio)
        raise ParameterError(
            f"perplexity rises by {100 * (closest.ratio - 1):.1f} % at {closest.bits:.2f} bits, the best of "
            f"{len(tries)} tries, more than the {100 * increase:g} % that are allowed"
        )
    return best


def _bits(curves: Mapping[str, Curve], n_weights: int, nats: float) -> tuple[float, float]:
    """The least bits per weight of which ``nats`` are foretold to be lost, and what is foretold."""
    low = sum(float(curve.n_bytes[0]) for curve in curves.values())
    high = sum(float(curve.n_bytes[-1]) for curve in curves.values())
    for _ in range(20):
        middle = (low + high) / 2
        if _foretold(curves, middle) > nats:
            low = middle
        else:
            high = middle
    bits = math.ceil(1000 * 8 * high / n_weights) / 1000
    return bits, _foretold(curves, high)


def _foretold(curves: Mapping[str, Curve], n_bytes: float) -> float:
    chosen = choose_quantizers(curves, n_bytes)
    return sum(float(curve.error[curve.quantizers.index(chosen[name])]) for name, curve in curves.items())
