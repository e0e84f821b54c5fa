"""Which network for which rate: planes, taps and first codes, found as ``benchmarks.trellis_search`` does.

Rows of a network are of few kinds: at a rate of 1 bit per weight or more they bring ``floor(rate)`` new bits or one
more (kinds 0 and 1); below, kind p is the p-th row since the newest bit. All rows of a kind have the same taps. A
design gives taps for each kind; one design serves all rates of its range. Where a window was not searched, the taps of
the next smaller one are taken and each gets older ages by the hash of :func:`xorpack.code.network.splitmix64`.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

from xorpack.code.network import splitmix64
from xorpack.code.trellis import MAX_WINDOW, TrellisNetwork
from xorpack.encoding.quantize.trellis_taps import DESIGNS
from xorpack.errors import ParameterError

MAX_RATE = 6
MAX_DENOMINATOR = 32
"""The largest rate, and the largest denominator of a rate that is asked for; with a mask, of stored bits per weight."""

MIN_RATE = Fraction(1, MAX_DENOMINATOR)

WINDOWS = ((1, 14), (MAX_RATE, 12))
"""Default windows: rates below the first number of a pair have the second for theirs."""

MASKED_WINDOW = 16
"""Default window where fewer than a quarter of the weights are kept: few bits reach from one to the next."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Design:
    """A network, the codes to begin with for weights of variance 1, and the error to expect of them.

    ``a``: (q,). ``distortion``: mean squared error of a kept weight.
    """

    network: TrellisNetwork
    a: tuple[float, ...]
    distortion: float


def exact_rate(rate: float) -> Fraction:
    """``rate`` as stored bits over weights.

    Raises:
        ParameterError: it is outside 1/32..6, or no quotient with at most 32 weights: the nearest is named.
    """
    if not MIN_RATE <= rate <= MAX_RATE:
        raise ParameterError(f"rate {rate} is outside {float(MIN_RATE)}..{MAX_RATE} bits per weight")
    nearest = Fraction(rate).limit_denominator(MAX_DENOMINATOR)
    if abs(float(nearest) - rate) > 1e-3 * rate / MAX_DENOMINATOR:
        raise ParameterError(
            f"rate {rate} is not bits over at most {MAX_DENOMINATOR} weights; "
            f"the nearest is {nearest} = {float(nearest)}"
        )
    return nearest


def design(rate: Fraction, window: int | None = None) -> Design:
    """The design for all weights kept, ``rate`` stored bits per weight.

    Raises:
        ParameterError: the window is outside its limits.
    """
    new = kinds(rate)
    fits = (key for key in DESIGNS if _serves(key, rate))
    key = min(
        fits, key=lambda key: (rate >= 1 and key.denominator < min(rate.denominator, 2), abs(key - rate))
    )
    window = (
        next(size for limit, size in WINDOWS if rate < limit or limit == MAX_RATE)
        if window is None
        else window
    )
    return _build(rate, new, key, window, float(4.0 ** -float(rate)) * 1.15)


def masked_design(rate: Fraction, kept_rate: float, window: int | None = None) -> Design:
    """The design where weights are pruned: ``rate`` stored bits per weight, ``kept_rate`` per kept one.

    The kept rows see about ``kept_rate`` new bits each, so planes, codes and first taps are those of that rate; where
    fewer than a quarter is kept, of one bit more: two more planes are .5 % less error there (measured at 2 bits, S .9).
    """
    thin = 4 * float(rate) < kept_rate
    fitting = kept_rate + (thin and kept_rate >= 1)
    fits = (key for key in DESIGNS if key >= 1 or kept_rate < 1)
    key = min(fits, key=lambda key: (abs(float(key) - fitting), key))
    if window is None:
        window = MASKED_WINDOW if thin else design(rate).network.window
    expected = float(4.0 ** -max(kept_rate, 0.0)) * 1.3
    return _build(rate, kinds(rate), key, window, min(expected, 1.0))


def kinds(rate: Fraction) -> list[int]:
    """Kind of each row of a period."""
    n_in, n_out = rate.numerator, rate.denominator
    new = [-(-(r + 1) * n_in // n_out) + (-r * n_in // n_out) for r in range(n_out)]
    if rate >= 1:
        return [n - n_in // n_out for n in new]
    found: list[int] = []
    for n in new:
        found.append(0 if n else found[-1] + 1)
    return found


def _serves(key: Fraction, rate: Fraction) -> bool:
    """Whether the design of rate ``key`` has taps for all kinds of rows of ``rate``."""
    if rate >= 1:
        return key // 1 == rate // 1 and (rate.denominator > 1 or key == rate)
    needed = max(kinds(rate)) + 1
    return key < 1 and (key.denominator >= needed or key == min(DESIGNS))


def _build(rate: Fraction, rows: list[int], key: Fraction, window: int, distortion: float) -> Design:
    lowest = max(2 * -(-rate.numerator // rate.denominator), 6 + -(-rate.numerator // rate.denominator))
    if not lowest <= window <= MAX_WINDOW:
        raise ParameterError(
            f"window {window} is outside {lowest}..{MAX_WINDOW} at {float(rate)} bits per weight"
        )
    by_window = DESIGNS[key]
    known = max((size for size in by_window if size <= window), default=min(by_window))
    a, taps = by_window[known]
    table = [
        tuple(
            _resize(taps[kind][j] if kind < len(taps) else None, known, window, kind * len(a) + j)
            for j in range(len(a))
        )
        for kind in range(max(rows) + 1)
    ]
    network = TrellisNetwork(
        n_in=rate.numerator, n_out=rate.denominator, window=window, taps=tuple(table[kind] for kind in rows)
    )
    return Design(network=network, a=a, distortion=distortion)


def _resize(mask: int | None, known: int, window: int, counter: int) -> int:
    """Taps of a window of ``known`` bits for one of ``window``: older ages, or all of them, by the hash."""
    if mask is None:
        mask, known = 0, 0
    hashed = splitmix64(window, counter) & (1 << window) - 1
    resized = mask & (1 << window) - 1 | (hashed >> known << known if window > known else 0)
    return resized or hashed or 1
