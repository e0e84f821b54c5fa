"""Products that never make weights: plane words of 16 rows choose sums of 4 activations from tables.

With ``t`` the sum of x over a row's kept weights and ``p_j`` that over the ones among them of plane j, a row of signs
is ``sum over j of alpha_j * (2 * p_j - t)``. The sums of every 4 activations are made once a call, 16 for each; a word
of a plane then takes 8 look-ups and additions, whatever its rows are (:mod:`xorpack.vector.lookup`).
"""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from xorpack.code.words import WORD_BITS, n_chunks
from xorpack.decoders.products.sums_kernels import short_tables_kernel, tables_kernel
from xorpack.vector.aligned import aligned
from xorpack.vector.lookup import ROWS, TABLE
from xorpack.vector.team import LEAST_UNITS, TEAM, helped

CACHED_TABLES = 1 << 19
"""Bytes of tables that are kept at a time, if a row of x takes no more: what a core's own cache holds."""

LEAST_PRODUCTS = 1 << 17
"""Weights times rows of x for each thread, at the least: some 15 us, of which a second one costs a few."""

LARGEST = 2.0**120
"""No sum within a product exceeds this: float32 ends at 2**128."""


class FusedRows(Protocol):
    """A tensor whose rows are expanded a unit at a time and multiplied at once.

    Attributes:
        n_units: units that any thread can take.
        reach: what no sum of a product exceeds on the way, of activations (times gains) of 1.
        group_size: columns that share a scale, whole words; 0 = the row.
    """

    n_units: int
    reach: float
    group_size: int

    def activations(self, x: NDArray[np.float32]) -> NDArray[np.float32]:
        """What tables are made of: ``x`` (n, cols), times the gains of columns."""

    def fill(self, few: Activations, out: NDArray[np.float32], helpers: int, team: NDArray[np.int64]) -> None:
        """Fill ``out`` (n, rows) with the product, by this thread and ``helpers`` of a team."""


class Activations(NamedTuple):
    """A few rows of x, as kernels take them.

    Attributes:
        x: float32 (n, cols).
        tables: flat, (n, chunks * 128) sums of four of x times gains: float32, or int16 of ``steps``.
        totals: (n, n_groups) sums of a group of columns: float32 or int32.
        steps: float32 (n,): what 1 in the tables is.
    """

    x: NDArray[np.float32]
    tables: NDArray[Any]
    totals: NDArray[Any]
    steps: NDArray[np.float32]


def multiply(
    rows: FusedRows, x: NDArray[np.float32], out: NDArray[np.float32], jobs: int, *, rounded: bool = False
) -> bool:
    """Fill ``out`` (n, rows) with ``x W^T``, unless x is so large, or no number, that another way is needed.

    x (n, cols), C-contiguous; ``rounded`` to 8 bits where asked for. Whether ``out`` was filled is returned.
    """
    step = max(1, CACHED_TABLES // (4 * TABLE * n_chunks(x.shape[1])))
    threads = 1
    if jobs > 1:
        products = min(len(x), step) * x.shape[1] * out.shape[1]
        threads = min(jobs, products // LEAST_PRODUCTS, -(-rows.n_units // LEAST_UNITS))
    for first in range(0, len(x), step):
        few = _activations(rows, x[first : first + step], rounded)
        if few is None:
            return False
        part = out[first : first + step]
        if threads < 2:
            rows.fill(few, part, 0, TEAM.state)
            continue
        with helped(threads - 1) as (helpers, team):
            rows.fill(few, part, helpers, team)
    return True


def _activations(rows: FusedRows, x: NDArray[np.float32], rounded: bool) -> Activations | None:
    """Tables of x, or None where a sum might overflow."""
    n, cols = x.shape
    chunks = n_chunks(cols)
    size = chunks_of_group(rows.group_size, cols)
    values = rows.activations(x)
    shape = n, -(-chunks // size)
    if rounded:
        steps = steps_of(values)
        if not 127 * steps.max() * rows.reach <= LARGEST:
            return None
        shorts = aligned(n * chunks * TABLE // 2).view(np.int16)
        counts = np.empty(shape, np.int32)
        whole = np.rint(values / steps).astype(np.int16)
        short_tables_kernel(whole, size, shorts.reshape(n, -1), counts)
        return Activations(x, shorts, counts, steps.reshape(-1))
    tables = aligned(n * chunks * TABLE).view(np.float32)
    totals = np.empty(shape, np.float32)
    if tables_kernel(values, size, tables.reshape(n, -1), totals) * rows.reach > LARGEST:
        return None
    return Activations(x, tables, totals, np.ones(n, np.float32))


def steps_of(x: NDArray[np.float32]) -> NDArray[np.float32]:
    """What each row of x (n, cols) is rounded to multiples of, (n, 1): 1/127 of its largest; NaN if there is one."""
    largest = np.abs(x).max(axis=1, keepdims=True, initial=0)
    steps: NDArray[np.float32] = np.maximum(largest / np.float32(127), np.finfo(np.float32).tiny)
    return steps


def fits(group_size: int, cols: int) -> bool:
    """Whether groups of columns are whole words."""
    return group_size % WORD_BITS == 0 or group_size >= cols


def chunks_of_group(group_size: int, cols: int) -> int:
    """Words of a group of columns."""
    whole = n_chunks(cols)
    return min(group_size // WORD_BITS, whole) if 0 < group_size < cols else whole


def by_units(rows: NDArray[Any], n_out: int) -> NDArray[Any]:
    """``rows`` (rows, n) of words or scales as (units, n_out, n, 16), flat.

    Lane i of unit u and phase v is row ``(16 * u + i) * n_out + v``, 0 past the last row.
    """
    n_units = -(-len(rows) // (ROWS * n_out))
    padded = np.zeros((n_units * ROWS * n_out, rows.shape[1]), rows.dtype)
    padded[: len(rows)] = rows
    units = padded.reshape(n_units, ROWS, n_out, -1).transpose(0, 2, 3, 1)
    into = aligned(padded.size).view(rows.dtype)
    into.reshape(units.shape)[...] = units
    return into
