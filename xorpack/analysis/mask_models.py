"""Entropy of a given mask under models of its rows and columns, parameters paid for.

Real masks are not i.i.d.: some rows and columns keep far more weights than others. A model says how likely each
bit is; the bound is the length of the shortest code of that model, which is the code for the bits and the code for
the model's parameters. All that is needed of a mask is how many weights every row and every column keeps.

===========  ==============================================  =======================================================
model        probability that weight (r, c) is kept          parameters
===========  ==============================================  =======================================================
``iid``      ``p``                                           one
``rows``     ``p[class of r]``                               a class for every row, a probability for every class
``columns``  ``p[class of c]``                               the same of columns
``both``     ``sigmoid(a[class of r] + b[class of c])``      classes of rows and of columns, ``a``, ``b``
===========  ==============================================  =======================================================

Classes are bins of counts, of equal width where counts have equal spread: on the scale ``asin(sqrt(count / n))``.
Their number is the one of least total cost. A list of classes costs its entropy, a fitted probability
:func:`~xorpack.analysis.bounds.parameter_bits`. ``both`` is the model of greatest entropy that has the margins of
the classes (Jaynes 1957); its likelihood needs nothing but those margins.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from xorpack.analysis.bounds import binary_entropy, parameter_bits
from xorpack.analysis.counting_kernels import count_columns
from xorpack.code.words import Words

N_CLASSES = (1, 2, 4, 8, 16, 32, 64)
"""Numbers of classes that are tried."""

MAX_LOGIT = 40.0
"""Logits of ``both`` are kept within this; a bit so certain costs nothing."""

MAX_ROUNDS = 60
CLOSE = 1e-4
"""Change of the logits that ends the fit of ``both``: its cost is off by the square of it."""

MODELS = ("iid", "rows", "columns", "both")


@dataclass(frozen=True, slots=True, eq=False)
class MaskCounts:
    """Kept weights of every row and of every column: int64 (rows,), (cols,)."""

    rows: NDArray[np.int64]
    cols: NDArray[np.int64]

    @classmethod
    def of(cls, blocks: Iterable[Words], cols: int) -> MaskCounts:
        """Count a mask given as blocks of rows, uint32 (n, chunks), from the first row to the last."""
        rows = [np.zeros(0, np.int64)]
        by_column = np.zeros(32 * -(-cols // 32), np.int64)
        for block in blocks:
            rows.append(np.bitwise_count(block).sum(axis=1, dtype=np.int64))
            count_columns(np.ascontiguousarray(block), by_column)
        return cls(np.concatenate(rows), by_column[:cols])

    @property
    def n_kept(self) -> int:
        """All kept weights."""
        return int(self.rows.sum())


@dataclass(frozen=True, slots=True, kw_only=True)
class MaskBounds:
    """Bits of a whole mask under every model."""

    iid: float
    rows: float
    columns: float
    both: float

    @property
    def best(self) -> tuple[str, float]:
        """The model of fewest bits, and those."""
        return min(((name, getattr(self, name)) for name in MODELS), key=lambda item: item[1])

    @classmethod
    def of(cls, counts: MaskCounts) -> MaskBounds:
        """The bounds of a mask; 0 where nothing or everything is pruned."""
        n_rows, n_cols, n_kept = counts.rows.size, counts.cols.size, counts.n_kept
        n = n_rows * n_cols
        if n_kept in (0, n):
            return cls(iid=0.0, rows=0.0, columns=0.0, both=0.0)
        iid = min(n * binary_entropy(n_kept / n) + parameter_bits(n), float(n))  # a bitmap needs no parameter
        rows = [_Classes(counts.rows, n_cols, k) for k in N_CLASSES]
        columns = [_Classes(counts.cols, n_rows, k) for k in N_CLASSES]
        return cls(
            iid=iid,
            rows=min(c.bits for c in rows),
            columns=min(c.bits for c in columns),
            both=min(_both(a, b) for a, b in _different(rows, columns)),
        )


class _Classes:
    """Lines (rows or columns) of ``n`` weights each, in at most ``k`` classes by count."""

    def __init__(self, counts: NDArray[np.int64], n: int, k: int) -> None:
        angle = np.arcsin(np.sqrt(counts / n))
        low, high = float(angle.min()), float(angle.max())
        at = np.minimum((angle - low) / max(high - low, 1e-12) * k, k - 1).astype(np.int64)
        lines, kept = np.bincount(at), np.bincount(at, weights=counts)
        self.lines, self.kept = lines[lines > 0], kept[lines > 0]  # of every class that is used
        share = self.lines / self.lines.sum()
        self.index_bits = float(-(self.lines * np.log2(share)).sum())
        self.n = n

    @property
    def bits(self) -> float:
        """The bits that a mask takes whose lines these are."""
        sizes = self.lines * self.n
        values = sum(
            float(size) * binary_entropy(float(kept / size)) + parameter_bits(float(size))
            for size, kept in zip(sizes, self.kept, strict=True)
        )
        return self.index_bits + values


def _different(rows: Sequence[_Classes], columns: Sequence[_Classes]) -> Iterator[tuple[_Classes, _Classes]]:
    """Those pairs of classes that are not those before: more of them are the same where counts are small."""
    last: tuple[_Classes, _Classes] | None = None
    for pair in zip(rows, columns, strict=True):
        if last is None or not all(
            np.array_equal(one.lines, before.lines) and np.array_equal(one.kept, before.kept)
            for one, before in zip(pair, last, strict=True)
        ):
            yield pair
        last = pair


def _both(rows: _Classes, columns: _Classes) -> float:
    r, c = rows.lines.astype(np.float64), columns.lines.astype(np.float64)
    a, b = _logit(rows.kept / (r * rows.n)), _logit(columns.kept / (c * columns.n))
    a = a - _logit(np.array([rows.kept.sum() / (r.sum() * rows.n)]))[0]
    for _ in range(MAX_ROUNDS):
        before = a
        p = _sigmoid(a[:, None] + b)
        a = _newton(a, rows.kept / r - p @ c, (p * (1 - p)) @ c)
        p = _sigmoid(a[:, None] + b)
        b = _newton(b, columns.kept / c - r @ p, r @ (p * (1 - p)))
        if np.abs(a - before).max() < CLOSE:
            break
    total = np.logaddexp(0, a[:, None] + b)
    nats = r @ total @ c - a @ rows.kept - b @ columns.kept
    parameters = sum(parameter_bits(float(x)) for x in (*(r * rows.n), *(c * columns.n)))
    return float(nats / np.log(2)) + rows.index_bits + columns.index_bits + parameters


def _newton(
    x: NDArray[np.float64], missing: NDArray[np.float64], slope: NDArray[np.float64]
) -> NDArray[np.float64]:
    step = np.minimum(
        np.maximum(missing / np.maximum(slope, 1e-12), -1), 1
    )  # np.clip takes three times as long
    moved: NDArray[np.float64] = np.minimum(np.maximum(x + step, -MAX_LOGIT), MAX_LOGIT)
    return moved


def _sigmoid(x: NDArray[np.float64]) -> NDArray[np.float64]:
    """Of sums of two logits, of which no exponential overflows."""
    return 1 / (1 + np.exp(-x))


def _logit(p: NDArray[np.float64]) -> NDArray[np.float64]:
    inside = np.clip(p, 1e-15, 1 - 1e-15)
    return np.asarray(np.log(inside / (1 - inside)))
