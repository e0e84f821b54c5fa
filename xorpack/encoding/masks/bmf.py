"""Pruning with a mask that is a Boolean product: as much importance as a given number of mask bits can keep.

The gain of keeping a weight is its importance (its magnitude, say) less a threshold; a pattern, some rows of a tile by
some of its columns, is worth the gains of the weights that no other pattern keeps. Patterns are found one after
the other: from a row with much to gain, the rows that agree with it best, their columns of positive gain, the rows
of positive gain in these columns, and so on till nothing changes; several beginnings, the best is kept. Then each
pattern is sought anew beside the others, until none gets better. The threshold is searched on a sample of the tiles
so that a little more than enough is kept; rows leave patterns where that costs least until the sparsity is right.

All sums run in float32 in a fixed order: the same factors on every machine, for any number of threads.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from xorpack import checks
from xorpack.code.planes import CodedPlanes
from xorpack.code.words import WORD_BITS, Words, n_chunks, popcount, unpack
from xorpack.encoding.masks.bmf_kernels import fit_strip, losses, remove
from xorpack.encoding.masks.proposal import Proposal, WantedMask
from xorpack.encoding.quantize.pruning import check_sparsity
from xorpack.errors import DataError, ParameterError
from xorpack.masks import Bmf
from xorpack.masks.bmf import MAX_RANK, Factors, sizes, words_of
from xorpack.vector.threads import for_each

MASK_BITS = 0.18
"""Bits per weight of a mask, unless asked for."""

RANK = 2
"""Patterns of a tile, unless asked for: small tiles of few patterns keep the most."""

SAMPLE_TILES = 256
ENOUGH = 0.99
"""Share of the weights that are to be kept, which patterns must keep."""

PASSES = 10
SEEDS = 4
MARGIN = 1.01
"""Weights that the patterns keep over those that are to be kept in the end."""


def choose_tile(
    rows: int, cols: int, mask_bits: float = MASK_BITS, rank: int | None = None
) -> tuple[int, int, int]:
    """``(rank, tile_rows, tile_cols)`` of the smallest tiles whose factors take ``mask_bits`` per weight.

    Raises:
        ParameterError: a rank that the matrix does not have, or too few bits; says how many it takes at least.
    """
    if rank is not None and checks.whole("rank", rank, 1) > min(rows, cols, MAX_RANK):
        raise ParameterError(
            f"rank {rank} is outside 1..{min(rows, cols, MAX_RANK)} of a {rows} x {cols} matrix"
        )
    checks.positive("mask_bits", mask_bits)
    whole = WORD_BITS * n_chunks(cols)
    for k in (rank,) if rank is not None else (min(RANK, rows, cols), 1):
        tile_cols = WORD_BITS
        fitting = []
        while True:
            per_row, budget = (
                k * -(-cols // tile_cols),
                mask_bits * rows * cols - rows * k * -(-cols // tile_cols),
            )
            n_tiles = int(budget // (k * cols)) if budget > 0 else 0  # rows of tiles that can be paid for
            if n_tiles >= 1:
                tile_rows = -(-rows // min(n_tiles, rows))
                fitting.append((max(tile_rows, tile_cols), k, tile_rows, tile_cols))
            if tile_cols >= whole or per_row <= k:
                break
            tile_cols = min(2 * tile_cols, whole)
        if fitting:
            return min(fitting)[1:]
    k = rank or 1
    least = k * (rows + cols) / (rows * cols)
    raise ParameterError(
        f"{mask_bits:g} mask bits per weight are too few for a {rows} x {cols} matrix: "
        f"factors of rank {k} take {least:.4g} at the least"
    )


def fit(
    importance: NDArray[np.float32],
    sparsity: float,
    *,
    mask_bits: float = MASK_BITS,
    rank: int | None = None,
    jobs: int = 1,
) -> Factors:
    """Factors of a mask that prunes at least ``sparsity`` of a matrix and keeps much importance.

    Args:
        importance: float32 (rows, cols), finite, not negative; what is 0 is pruned.
        sparsity: in [0, 1).
        mask_bits: bits per weight of the factors at the most.
        rank: patterns of a tile; default: 2, or 1 where the bits are few.
        jobs: threads. The result does not depend on it.

    Raises:
        ParameterError: an argument breaks its rule; a budget that is too small.
        DataError: NaN, infinity or negative importance; so many zeros that no such mask keeps as much as ``sparsity``
            leaves.
    """
    check_sparsity(sparsity)
    rows, cols = importance.shape
    if not importance.size:
        raise ParameterError(f"a {rows} x {cols} matrix has no factors")
    low, high = importance.min(), importance.max()
    if not (low >= 0 and np.isfinite(high)):
        where = int(np.flatnonzero(~((importance >= 0) & np.isfinite(importance)).reshape(-1))[0])
        raise DataError(f"importance is {importance.reshape(-1)[where]} at flat position {where}")
    rank, tile_rows, tile_cols = choose_tile(rows, cols, mask_bits, rank)
    n_kept = rows * cols - round(sparsity * rows * cols)
    n_given = int(np.count_nonzero(importance))
    n_kept = min(n_kept, n_given)
    tiles = _Tiles(importance, rank, tile_rows, tile_cols, jobs)
    threshold = tiles.search(min(1.0, MARGIN * n_kept / (rows * cols)), float(high))
    for _ in range(4):
        left, right = tiles.patterns(threshold)
        factors = Factors(tile_rows=tile_rows, tile_cols=tile_cols, left=left, right=words_of(right))
        kept = popcount(factors.mask())
        if kept >= n_kept or threshold == 0:
            break
        threshold *= 0.98
    if kept < ENOUGH * n_kept:
        raise DataError(
            f"{importance.size - n_given} of {importance.size} weights are 0 already; of the others, factors of "
            f"{mask_bits:g} bits per weight keep {kept}, not the {n_kept} that a sparsity of {sparsity:g} leaves: "
            "give more mask bits, or leave the sparsity out to store the zeros that there are"
        )
    trim(factors.left, right, importance, tile_rows, tile_cols, kept, n_kept)
    return factors


class _Tiles:
    """A matrix cut into tiles."""

    def __init__(
        self, importance: NDArray[np.float32], rank: int, tile_rows: int, tile_cols: int, jobs: int
    ) -> None:
        self.importance, self.rank, self.jobs = importance, rank, jobs
        self.tile_rows, self.tile_cols = tile_rows, tile_cols
        self.shape = tuple(
            -(-n // tile) for n, tile in zip(importance.shape, (tile_rows, tile_cols), strict=True)
        )

    def search(self, density: float, high: float) -> float:
        """The largest threshold at which a sample of the tiles keeps ``density`` of its weights, about."""
        n = self.shape[0] * self.shape[1]
        sample = [k * n // min(n, SAMPLE_TILES) for k in range(min(n, SAMPLE_TILES))]
        parts = [np.ascontiguousarray(self._tile(*divmod(k, self.shape[1]))) for k in sample]
        total = sum(part.size for part in parts)
        low = 0.0
        for _ in range(14):
            middle = (low + high) / 2
            with ThreadPoolExecutor(self.jobs) as pool:
                kept = sum(pool.map(lambda part, at=middle: self._kept(part, at), parts))
            low, high = (middle, high) if kept >= density * total else (low, middle)
        return low

    def _tile(self, i: int, j: int) -> NDArray[np.float32]:
        rows, cols = (
            slice(i * self.tile_rows, (i + 1) * self.tile_rows),
            slice(j * self.tile_cols, (j + 1) * self.tile_cols),
        )
        return self.importance[rows, cols]

    def _kept(self, part: NDArray[np.float32], threshold: float) -> int:
        left = np.zeros((len(part), 1, self.rank), np.uint8)
        right = np.zeros((self.rank, part.shape[1]), np.uint8)
        fit_strip(part, np.float32(threshold), self.tile_cols, PASSES, SEEDS, left, right)
        return int(np.count_nonzero(left[:, 0].astype(np.int32) @ right.astype(np.int32)))

    def patterns(self, threshold: float) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        """``left`` (rows, tile columns, rank) and ``right`` (tile rows, rank, cols)."""
        rows, cols = self.importance.shape
        left = np.zeros((rows, self.shape[1], self.rank), np.uint8)
        right = np.zeros((self.shape[0], self.rank, cols), np.uint8)

        def strip(i: int) -> None:
            part = slice(i * self.tile_rows, (i + 1) * self.tile_rows)
            here = np.ascontiguousarray(self.importance[part])
            fit_strip(here, np.float32(threshold), self.tile_cols, PASSES, SEEDS, left[part], right[i])

        for_each(strip, range(self.shape[0]), self.jobs)
        return left, right


def trim(
    left: NDArray[np.uint8],
    right: NDArray[np.uint8],
    importance: NDArray[np.float32],
    tile_rows: int,
    tile_cols: int,
    kept: int,
    n_kept: int,
) -> None:
    """Take rows out of patterns in ``left`` until ``n_kept`` weights are kept: those of least loss per weight first."""
    loss = np.zeros(left.shape, np.float32)
    losses(left, right, importance, tile_rows, tile_cols, loss)
    at = np.flatnonzero(left.reshape(-1))
    order = at[np.argsort(loss.reshape(-1)[at], kind="stable")]
    remove(left, right, tile_rows, tile_cols, order, kept, n_kept)


def factor(mask: Words, cols: int, rank: int, tile_rows: int, tile_cols: int) -> Factors:
    """Factors whose product is exactly ``mask``, uint32 (rows, chunks).

    Rows of a tile are unions of patterns; whatever patterns there are, the intersections of the rows that hold
    them do as well, so that the search among intersections of rows is complete.

    Raises:
        ParameterError: there are none in some tile, or none were found in ``MAX_NODES`` steps; says where.
    """
    rows = len(mask)
    n_tiles, n_strips = -(-cols // tile_cols), -(-rows // tile_rows)
    left = np.zeros((rows, n_tiles, rank), np.uint8)
    right = np.zeros((n_strips, rank, cols), np.uint8)
    for t in range(n_strips):
        strip = unpack(mask[t * tile_rows : (t + 1) * tile_rows], cols)
        for j in range(n_tiles):
            part = slice(t * tile_rows, (t + 1) * tile_rows), slice(j * tile_cols, (j + 1) * tile_cols)
            packed = np.packbits(strip[:, part[1]], axis=1, bitorder="little")
            values = [int.from_bytes(row.tobytes(), "little") for row in packed]
            patterns = cover(sorted({v for v in values if v}), rank)
            if patterns is None:
                raise ParameterError(
                    f"mask codec 'bmf' cannot store this mask: rows {part[0].start} and following, columns "
                    f"{part[1].start} and following have no factors of rank {rank} in tiles of {tile_rows} x "
                    f"{tile_cols}; prune with the same rank and mask bits, or take another codec"
                )
            for i, pattern in enumerate(patterns):
                width = right[t, i, part[1]].size
                right[t, i, part[1]] = [pattern >> c & 1 for c in range(width)]
                left[part[0], j, i] = [v & pattern == pattern for v in values]
    return Factors(tile_rows=tile_rows, tile_cols=tile_cols, left=left, right=words_of(right))


MAX_NODES = 20_000
"""Steps of the search for factors in one tile at the most."""


def cover(rows: list[int], rank: int) -> list[int] | None:
    """Find at most ``rank`` sets of which each of ``rows``, sets of bits, is a union; None if none were found.

    >>> cover([0b0011, 0b0110, 0b0111], 2)
    [3, 6]
    >>> cover([0b001, 0b010, 0b100], 2) is None
    True
    """
    if len(rows) <= rank:
        return rows
    if len(rows) >= 1 << rank:
        return None
    closed = set(rows)
    for row in rows:
        closed |= {row & other for other in closed}
        if len(closed) > MAX_NODES:
            return None
    closed.discard(0)
    candidates = sorted(closed, key=lambda s: (-s.bit_count(), s))
    ordered = sorted(rows, key=lambda s: (s.bit_count(), s))
    nodes = 0

    def search(chosen: list[int]) -> list[int] | None:
        nonlocal nodes
        nodes += 1
        for row in ordered:
            union = 0
            for pattern in chosen:
                union |= pattern if pattern & ~row == 0 else 0
            if union == row:
                continue
            if len(chosen) == rank or nodes > MAX_NODES:
                return None
            missing = (row & ~union) & -(row & ~union)
            for pattern in candidates:
                if pattern & missing and pattern & ~row == 0:
                    found = search([*chosen, pattern])
                    if found is not None:
                        return found
            return None
        return chosen

    return search([])


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class BmfProposal(Proposal):
    """Factors, those that the mask was chosen as or others in tiles of the usual size."""

    NAME: ClassVar[str] = Bmf.NAME

    factors: Factors

    @classmethod
    def of(cls, wanted: WantedMask) -> BmfProposal:
        """See :class:`Proposal`."""
        shape, factors = (len(wanted.words), wanted.cols), wanted.factors
        if factors is None:
            rank, *tile = choose_tile(*shape)
            bits = 8 * sum(sizes(*shape, rank, *tile))
            if bits >= wanted.below:
                raise ParameterError(f"factors of rank {rank} in tiles of {tile} take {bits} bits")
            factors = factor(wanted.words, wanted.cols, rank, *tile)
        tiles = factors.rank, factors.tile_rows, factors.tile_cols
        return cls(wanted=wanted, bits=8 * sum(sizes(*shape, *tiles)), factors=factors)

    @classmethod
    def typical_bits(cls, density: float) -> float:
        """See :class:`Proposal`: a mask that was not chosen so has no factors."""
        return float("inf")

    def encode(self, riders: CodedPlanes, missing: NDArray[np.int64], jobs: int) -> Bmf:
        """See :class:`Proposal`."""
        return Bmf.of(self.factors, self.wanted.cols)
