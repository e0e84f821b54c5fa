"""Trellis networks: the sequential XOR network whose output is the quantized weight itself.

A column of ``rows`` weights is stored as ``m = ceil(rows * n_in / n_out)`` bits. The weight of row ``r`` depends on
the ``window`` stored bits before its end, cyclically, so that nothing is lost at either end (tail-biting)::

    end(r) = ceil((r + 1) * n_in / n_out)
    plane[j, r] = XOR over the ages a in taps[r % n_out][j] of code[(end(r) - 1 - a) mod m]
    level(r) = sum over j of a_j * (2 * plane[j, r] - 1)

Age 0 is the newest bit; bit ``a`` of the integer ``taps[v][j]`` says whether age ``a`` is a tap. 32 columns are coded
side by side: ``code`` is uint32 (m, chunks), and bit ``(i, c)`` of it, as :mod:`xorpack.code.words` says, is stored bit
``i`` of column ``c``. So a plane word is the XOR of code words in the same column of words: no rotations, any row
on its own, and the planes are those of BCQ.

It is fixed-to-fixed encoding (arXiv 2105.01869: a sequential XOR network, encoded by Viterbi) and FleXOR (arXiv
2009.04126: any fraction of a bit, by XOR) made into a trellis-coded quantizer (QTIP, arXiv 2406.11235: a sliding
window of stored bits gives a weight, and no codebook is stored).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xorpack.code.words import Words
from xorpack.errors import FormatError, ParameterError

MAX_WINDOW = 20
"""Stored bits that a weight can depend on, at the most: the encoder visits ``2**window`` states a step."""

MAX_NEW_BITS = 8
"""Bits that are stored for one weight at the most."""

MAX_PERIOD = 64
"""Rows after which the taps repeat, at the most."""

MAX_PLANES = 16
"""Planes (q) at the most."""

_NAMES = ("n_in", "n_out", "window", "taps")


@dataclass(frozen=True, slots=True, kw_only=True)
class TrellisNetwork:
    """Parameters of a trellis network.

    Attributes:
        n_in, n_out: stored bits for so many weights; their quotient is the rate in bits per weight.
        window: stored bits that one weight depends on (L).
        taps: for each of ``n_out`` rows, for each of q planes, the ages as the bits of an integer; not 0.
    """

    n_in: int
    n_out: int
    window: int
    taps: tuple[tuple[int, ...], ...]

    def __post_init__(self) -> None:
        for name, low, high in (("n_out", 1, MAX_PERIOD), ("n_in", 1, MAX_NEW_BITS * self.n_out)):
            value = getattr(self, name)
            if not low <= value <= high:
                raise ParameterError(f"trellis {name} = {value} is outside {low}..{high}")
        low = max(2 * -(-self.n_in // self.n_out), 6 + -(-self.n_in // self.n_out))
        if not low <= self.window <= MAX_WINDOW:
            raise ParameterError(
                f"trellis window = {self.window} is outside {low}..{MAX_WINDOW} at {self.n_in} bits for {self.n_out}"
            )
        if len(self.taps) != self.n_out:
            raise ParameterError(f"trellis taps of {len(self.taps)} rows, not {self.n_out}")
        if not 1 <= self.n_planes <= MAX_PLANES or any(len(row) != self.n_planes for row in self.taps):
            raise ParameterError(
                f"trellis taps of {[len(row) for row in self.taps]} planes, not 1..{MAX_PLANES} alike"
            )
        for row in self.taps:
            for mask in row:
                if not 0 < mask < 1 << self.window:
                    raise ParameterError(f"trellis taps {mask} are outside 1..2**{self.window} - 1")

    @property
    def n_planes(self) -> int:
        """Planes of a weight (q)."""
        return len(self.taps[0])

    @property
    def rate(self) -> float:
        """Stored bits per weight."""
        return self.n_in / self.n_out

    def ends(self, rows: int, first: int = 0) -> NDArray[np.int64]:
        """``end(r)`` of the rows from ``first`` on to ``rows - 1``: stored bits up to and with the row's newest."""
        return -(-(np.arange(first, rows, dtype=np.int64) + 1) * self.n_in // self.n_out)

    def n_stored(self, rows: int) -> int:
        """Stored bits of a column, and code words of 32 columns (m)."""
        return -(-rows * self.n_in // self.n_out)

    def levels(self, a: NDArray[Any]) -> NDArray[np.float64]:
        """The weight of every state by the codes ``a`` (q,): (n_out, 2**window).

        Bit ``window - 1 - a`` of a state is the stored bit of age ``a``: the newest bit is the highest.
        """
        states = np.arange(1 << self.window, dtype=np.uint32)
        levels = np.zeros((self.n_out, states.size))
        for v, row in enumerate(self.taps):
            for mask, alpha in zip(row, np.asarray(a, np.float64), strict=True):
                turned = int(format(mask, f"0{self.window}b")[::-1], 2)
                odd = np.bitwise_count(states & np.uint32(turned)) & 1
                levels[v] += np.where(odd, alpha, -alpha)
        return levels

    def get_config(self) -> dict[str, Any]:
        """The parameters as they stand in a file."""
        return {
            "n_in": self.n_in,
            "n_out": self.n_out,
            "window": self.window,
            "taps": [list(row) for row in self.taps],
        }

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> TrellisNetwork:
        """Inverse of :meth:`get_config`, for untrusted input.

        Raises:
            FormatError: a name is missing or one too many, a type is wrong, a value is outside its limits.
        """
        if set(config) != set(_NAMES):
            raise FormatError(f"trellis network needs {sorted(_NAMES)}, has {sorted(config)}")
        for name in ("n_in", "n_out", "window"):
            if type(config[name]) is not int:
                raise FormatError(f"trellis {name} = {config[name]!r} is not an integer")
        taps = config["taps"]
        if type(taps) is not list or len(taps) > MAX_PERIOD or not all(type(row) is list for row in taps):
            raise FormatError(f"trellis taps are not a list of at most {MAX_PERIOD} lists")
        if not taps or any(
            len(row) > MAX_PLANES or any(type(mask) is not int for mask in row) for row in taps
        ):
            raise FormatError(f"trellis taps are not lists of 1..{MAX_PLANES} integers")
        try:
            return cls(
                n_in=config["n_in"],
                n_out=config["n_out"],
                window=config["window"],
                taps=tuple(tuple(row) for row in taps),
            )
        except ParameterError as error:
            raise FormatError(str(error)) from None


def expand_reference(
    network: TrellisNetwork, code: Words, rows: int, first: int = 0, last: int | None = None
) -> Words:
    """Planes, uint32 (q, rows, chunks), of rows ``first .. last - 1`` of ``rows``, from code words (m, chunks)."""
    last = rows if last is None else last
    planes = np.zeros((network.n_planes, last - first, code.shape[1]), np.uint32)
    for i, end in enumerate(network.ends(last, first)):
        for j, mask in enumerate(network.taps[(first + i) % network.n_out]):
            for age in range(network.window):
                if mask >> age & 1:
                    planes[j, i] ^= code[(int(end) - 1 - age) % len(code)]
    return planes
