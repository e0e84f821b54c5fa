"""Products that never make weights: plane words of 16 rows choose sums of 4 activations from tables.

With ``t`` the sum of x over a row's kept weights and ``p_j`` that over the ones among them of plane j, a row of signs
is ``sum over j of alpha_j * (2 * p_j - t)``. The sums of every 4 activations are made once a call, 16 for each; a word
of a plane then takes 8 look-ups and additions, whatever its rows are (:mod:`xorpack.vector.lookup`).
"""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from xorpack.code.words import WORD_BITS, n_chunks
from xorpack.decoders.products.sums_kernels import tables_kernel
from xorpack.vector.aligned import aligned
from xorpack.vector.lookup import ROWS, TABLE
from xorpack.vector.threads import side_by_side

CACHED_TABLES = 1 << 19
"""Bytes of tables that are kept at a time, if a row of x takes no more: what a core's own cache holds."""

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

    def run(
        self,
        begin: int,
        end: int,
        x: NDArray[np.float32],
        tables: NDArray[np.float32],
        totals: NDArray[np.float32],
        out: NDArray[np.float32],
    ) -> None:
        """Fill ``out`` (n, rows) with the products of the rows of units ``begin .. end - 1``."""


def multiply(rows: FusedRows, x: NDArray[np.float32], out: NDArray[np.float32], jobs: int) -> bool:
    """Fill ``out`` (n, rows) with ``x W^T``, unless x is so large, or no number, that another way is needed.

    x (n, cols), C-contiguous. Whether ``out`` was filled is returned.
    """
    step = max(1, CACHED_TABLES // (4 * TABLE * n_chunks(x.shape[1])))
    return all(_few(rows, x[k : k + step], out[k : k + step], jobs) for k in range(0, len(x), step))


def _few(rows: FusedRows, x: NDArray[np.float32], out: NDArray[np.float32], jobs: int) -> bool:
    n, cols = x.shape
    chunks = n_chunks(cols)
    size = chunks_of_group(rows.group_size, cols)
    tables = aligned(n * chunks * TABLE).view(np.float32)
    totals = np.empty((n, -(-chunks // size)), np.float32)
    if tables_kernel(rows.activations(x), size, tables.reshape(n, -1), totals) * rows.reach > LARGEST:
        return False
    share = -(-rows.n_units // jobs)

    def part(k: int) -> None:
        rows.run(k * share, min((k + 1) * share, rows.n_units), x, tables, totals, out)

    side_by_side(part, -(-rows.n_units // share))
    return True


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
