"""XOR networks: the fixed GF(2) matrix that expands code words into plane words.

One table of taps covers every format of the field::

    out[i] = XOR over k < n_taps[i % R] of
             rotl32(code[(start(i) + offsets[i % R, k]) % m], rotations[i % R, k])
    start(i) = n_in * ((i - i % hold) * num // den)

==============  =====================================================  ==================
family          schedule ``(n_in, num, den, hold)``                    taps
==============  =====================================================  ==================
turned          ``(1, m, n, hold)``: any rate                          three window words rotated alike, three plain
quasi-cyclic    ``(1, m, n, 1)``: any rate                             ``n_taps`` anywhere in the window, rotated
dense           ``(n_in, 1, n_out, 1)``: Weight Encryption (n_s = 0),  each window word with probability 1/2
                sequential fixed-to-fixed (n_s = 1, 2, ...)
sparse          ``(n_in, 1, n_out, 1)``: FleXOR (n_taps = 2, n_s = 0)  ``n_taps`` distinct window words
identity        ``(1, 1, 1, 1)``: raw planes                           the word itself
==============  =====================================================  ==================

Sources: arXiv 1905.10138 (Weight Encryption), 2105.01869 (fixed-to-fixed), 2009.04126 (FleXOR).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from xorpack import checks
from xorpack.errors import FormatError, ParameterError

MAX_WINDOW = 4096
MAX_ROWS = 65536
MAX_TAPS = 64
"""Taps of a row of the quasi-cyclic and sparse families at the most."""
SETS = 16
"""Rows of a ``turned`` network that differ by their offsets and share a rotation: a loop is unrolled for them."""
MAX_TURNS = 31
"""Rotations of it at the most: they differ, and none is 0."""
TURNED_TAPS, N_TURNED = 6, 3
"""Taps of a row of it, and how many of them are rotated."""
TURNED_WINDOW = 6, 16
"""Its narrowest window, which holds all taps of a row, and its widest: what registers hold."""
MAX_DRAWS = 1 << 20
"""Taps of a whole network at the most, so that drawing them is quick whatever a file asks for."""
_MASK64 = (1 << 64) - 1

Tap = TypeVar("Tap")

Taps = tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.int32]]


def splitmix64(seed: int, counter: int) -> int:
    """The integer hash that every network is generated from; specified in FORMAT.md.

    >>> hex(splitmix64(0, 0))
    '0xe220a8397b1dcdaf'
    """
    z = (seed + (counter + 1) * 0x9E3779B97F4A7C15) & _MASK64
    z = ((z ^ z >> 30) * 0xBF58476D1CE4E5B9) & _MASK64
    z = ((z ^ z >> 27) * 0x94D049BB133111EB) & _MASK64
    return z ^ z >> 31


@dataclass(frozen=True, slots=True, kw_only=True)
class XorNetwork:
    """Parameters of a network; taps are derived from them, never stored.

    Build one with :meth:`turned`, :meth:`quasi_cyclic`, :meth:`dense`, :meth:`sparse` or :meth:`identity`.

    Attributes:
        family: one of ``turned``, ``quasi-cyclic``, ``dense``, ``sparse``, ``identity``.
        window: stored words that one output word can depend on.
        n_rows: number of distinct rows of the network (R).
        n_in, n_out: stored and decoded words per step of ``dense`` and ``sparse``; 1 otherwise.
        n_taps: taps per row; 0 for ``dense``, where the number varies.
        hold: steps of ``turned`` for which the window stays; 1 otherwise.
        seed: 64-bit seed of the hash.
    """

    family: str
    window: int
    n_rows: int
    n_in: int = 1
    n_out: int = 1
    n_taps: int = 0
    hold: int = 1
    seed: int = 0

    def __post_init__(self) -> None:
        if self.family not in _FAMILIES:
            raise ParameterError(f"network family {self.family!r} is not one of {sorted(_FAMILIES)}")
        checks.whole("network window", self.window, 1, MAX_WINDOW)
        if self.family == "turned":
            self._check_turned()
        for name, low, high in (
            ("n_rows", 1, MAX_ROWS),
            ("n_in", 1, self.window),
            ("n_out", 1, MAX_ROWS),
            (
                "n_taps",
                self.family != "dense",
                min(MAX_TAPS, self.window * (32 if self.family == "quasi-cyclic" else 1)),
            ),
            ("seed", 0, _MASK64),
        ):
            checks.whole(f"network {name}", getattr(self, name), int(low), high)
        if self.family != "turned" and self.hold != 1:
            raise ParameterError(
                f"network hold = {self.hold} is of turned networks; this one is {self.family}"
            )
        draws = self.n_rows * (self.n_taps or self.window)
        if draws > MAX_DRAWS:
            raise ParameterError(f"network of {self.n_rows} rows has up to {draws} taps, over {MAX_DRAWS}")

    def _check_turned(self) -> None:
        checks.whole("network n_taps", self.n_taps, TURNED_TAPS, TURNED_TAPS)
        checks.whole("network window", self.window, *TURNED_WINDOW)
        checks.whole("network n_rows", self.n_rows, SETS, SETS * MAX_TURNS)
        if self.n_rows % SETS:
            raise ParameterError(f"network n_rows = {self.n_rows} is not a multiple of {SETS}")
        if SETS % checks.whole("network hold", self.hold, 1, SETS):
            raise ParameterError(f"network hold = {self.hold} does not divide {SETS}")

    @classmethod
    def turned(cls, *, window: int = 12, n_rows: int = 256, hold: int = 8, seed: int = 1) -> XorNetwork:
        """The cheapest to decode, at any rate: one rotation a word, and a window that moves every ``hold`` steps."""
        return cls(family="turned", window=window, n_rows=n_rows, n_taps=TURNED_TAPS, hold=hold, seed=seed)

    @classmethod
    def quasi_cyclic(
        cls, *, window: int = 12, n_taps: int = 6, n_rows: int = 16, seed: int = 1
    ) -> XorNetwork:
        """Rotations, one of each tap, tie the 32 bits of a word into one wide system, at any rate."""
        return cls(family="quasi-cyclic", window=window, n_rows=n_rows, n_taps=n_taps, seed=seed)

    @classmethod
    def dense(cls, *, n_in: int, n_out: int, n_s: int = 0, seed: int = 1) -> XorNetwork:
        """Dense random taps: Weight Encryption (n_s = 0) and sequential fixed-to-fixed."""
        window = _window(n_in, n_s)
        return cls(family="dense", window=window, n_rows=n_out, n_in=n_in, n_out=n_out, seed=seed)

    @classmethod
    def sparse(cls, *, n_in: int, n_out: int, n_s: int = 0, n_taps: int = 2, seed: int = 1) -> XorNetwork:
        """``n_taps`` distinct words of the window per output: FleXOR's matrices."""
        window = _window(n_in, n_s)
        checks.whole("network n_taps", n_taps, 1, window)
        return cls(
            family="sparse",
            window=window,
            n_rows=n_out,
            n_in=n_in,
            n_out=n_out,
            n_taps=n_taps,
            seed=seed,
        )

    @classmethod
    def identity(cls) -> XorNetwork:
        """Every output word is the stored word: planes kept raw."""
        return cls(family="identity", window=1, n_rows=1, n_taps=1)

    @property
    def any_rate(self) -> bool:
        """Whether the number of stored words is free, and rotations tie the bits of a word."""
        return self.family in ("quasi-cyclic", "turned")

    @property
    def n_alike(self) -> int:
        """Taps of each row, the first ones, that share a rotation where the others have none; 0: they do not."""
        return N_TURNED if self.family == "turned" else 0

    def schedule(self, m: int, n: int) -> tuple[int, int, int, int]:
        """``(n_in, num, den, hold)`` of ``start(i)`` for ``m`` stored and ``n`` decoded words."""
        if self.any_rate:
            return 1, m, max(n, 1), self.hold
        return self.n_in, 1, self.n_out, 1

    def start(self, i: NDArray[np.int64], m: int, n: int) -> NDArray[np.int64]:
        """Window starts of output words ``i``."""
        n_in, num, den, hold = self.schedule(m, n)
        return n_in * ((i - i % hold) * num // den)

    def n_code_words(self, n: int, rate: float) -> int:
        """Stored words for ``n`` decoded words; see :attr:`any_rate`."""
        if self.any_rate:
            return min(n, max(0, round(rate * n)))
        return self.n_in * -(-n // self.n_out)

    def taps(self) -> Taps:
        """``(offsets, rotations, counts)``: int32 of shapes (R, K), (R, K), (R,), read-only."""
        return _taps(self)

    def reach(self) -> NDArray[np.int64]:
        """The furthest offset of each row's taps: shape (R,), read-only."""
        return _reach(self)

    def get_config(self) -> dict[str, Any]:
        """The parameters as they stand in a file."""
        config: dict[str, Any] = {"family": self.family}
        for name in _FAMILIES[self.family]:
            config[name] = getattr(self, name)
        return config

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> XorNetwork:
        """Inverse of :meth:`get_config`, for untrusted input."""
        family = config.get("family")
        if not isinstance(family, str) or family not in _FAMILIES:
            raise FormatError(f"unknown network family {family!r}; known: {sorted(_FAMILIES)}")
        names = _FAMILIES[family]
        if set(config) != {"family", *names}:
            raise FormatError(f"network of family {family!r} needs {names}, has {sorted(config)}")
        for name in names:
            if type(config[name]) is not int:
                raise FormatError(f"network {name} = {config[name]!r} is not an integer")
        values = {name: config[name] for name in names}
        if family == "identity":
            return cls.identity()
        if family in ("dense", "sparse"):
            values["n_rows"] = values["n_out"]
        if family == "turned":
            values["n_taps"] = TURNED_TAPS
        try:
            return cls(family=family, **values)
        except ParameterError as error:
            raise FormatError(str(error)) from None


_FAMILIES: dict[str, tuple[str, ...]] = {
    "turned": ("window", "n_rows", "hold", "seed"),
    "quasi-cyclic": ("window", "n_taps", "n_rows", "seed"),
    "dense": ("window", "n_in", "n_out", "seed"),
    "sparse": ("window", "n_in", "n_out", "n_taps", "seed"),
    "identity": (),
}


def _window(n_in: int, n_s: int) -> int:
    return (checks.whole("network n_s", n_s) + 1) * checks.whole("network n_in", n_in, 1)


def _distinct(seed: int, counter: int, value: Callable[[int], Tap], n: int) -> list[Tap]:
    """The first ``n`` values of hashes from ``counter`` on, without those that were there before."""
    found: list[Tap] = []
    while len(found) < n:
        drawn = value(splitmix64(seed, counter))
        counter += 1
        if drawn not in found:
            found.append(drawn)
    return found


def _draw_turned(network: XorNetwork) -> list[list[tuple[int, int]]]:
    """Taps ``(offset, rotation)`` of every row: three with its rotation, three with none."""
    seed, width = network.seed, network.window
    sets = [_distinct(seed, k << 32, lambda v: (v >> 32) % width, TURNED_TAPS) for k in range(SETS)]
    turns = _distinct(seed, SETS << 32, lambda v: 1 + v % MAX_TURNS, network.n_rows // SETS)
    return [[(a, turn if k < N_TURNED else 0) for k, a in enumerate(row)] for turn in turns for row in sets]


def _draw(network: XorNetwork, row: int) -> list[tuple[int, int]]:
    """Taps ``(offset, rotation)`` of one row, in the order in which they are drawn."""
    if network.family == "identity":
        return [(0, 0)]
    width = network.window
    if network.family == "dense":
        chosen = [(a, 0) for a in range(width) if splitmix64(network.seed, row * width + a) >> 63]
        return chosen or [(row % width, 0)]
    rotated = network.family == "quasi-cyclic"
    return _distinct(
        network.seed, row << 32, lambda v: ((v >> 32) % width, v & 31 if rotated else 0), network.n_taps
    )


@lru_cache(maxsize=64)
def _taps(network: XorNetwork) -> Taps:
    turned = network.family == "turned"
    rows = _draw_turned(network) if turned else [_draw(network, row) for row in range(network.n_rows)]
    counts = np.array([len(row) for row in rows], np.int32)
    offsets = np.zeros((network.n_rows, max(int(counts.max()), 1)), np.int32)
    rotations = np.zeros_like(offsets)
    for r, row in enumerate(rows):
        for k, (offset, rotation) in enumerate(row):
            offsets[r, k] = offset
            rotations[r, k] = rotation
    for array in (offsets, rotations, counts):
        array.flags.writeable = False
    return offsets, rotations, counts


@lru_cache(maxsize=64)
def _reach(network: XorNetwork) -> NDArray[np.int64]:
    offsets, _, _ = _taps(network)
    reach: NDArray[np.int64] = offsets.max(axis=1).astype(np.int64)  # 0 where a row has fewer taps
    reach.flags.writeable = False
    return reach
