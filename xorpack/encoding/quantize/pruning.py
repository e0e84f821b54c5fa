"""Which weights to keep: the ones that are not zero, or the largest, in one tensor or over many.

The threshold is found exactly by a radix select on the bits of ``|w|`` as float32, whose order as
unsigned integers is the order of the magnitudes: a histogram of the high 16 bits, then one of the low
16 bits inside the bucket that matters. Weights are visited in row blocks and never copied whole.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xorpack import checks
from xorpack.code.words import Words, n_chunks, pack
from xorpack.encoding.quantize.pruning_kernels import high_kernel, low_kernel, mask_kernel, nonfinite_kernel
from xorpack.errors import DataError, ParameterError
from xorpack.tensors import DTYPES, as_matrix

BLOCK_ELEMENTS = 1 << 18
"""Weights that are converted to float32 at a time (at least one row)."""

Tensors = Callable[[], Iterable[Any]] | Iterable[Any]
"""Arrays or functions that load one, to be iterated twice; or a function that gives such an iterable."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GlobalThreshold:
    """The place where magnitude pruning cuts a sequence of tensors.

    Attributes:
        bits: of the largest pruned ``|w|`` as float32; smaller weights are all pruned.
        ties_kept: for each tensor, how many weights with exactly these bits are kept (its first ones).
        n_weights: in all tensors.
        n_pruned: in all tensors, exactly.
    """

    bits: int
    ties_kept: tuple[int, ...]
    n_weights: int
    n_pruned: int

    def only(self, index: int) -> GlobalThreshold:
        """The same place for tensor ``index`` of the sequence alone, which is number 0 of the new one."""
        return replace(self, ties_kept=(self.ties_kept[index],))

    def mask(self, index: int, weight: NDArray[Any]) -> Words:
        """The packed mask, uint32 (rows, chunks), of tensor ``index`` of the sequence.

        Raises:
            DataError: NaN or infinity in ``weight``.
        """
        rows, cols = as_matrix(weight.shape)
        mask = np.empty((rows, n_chunks(cols)), np.uint32)
        ties = self.ties_kept[index]
        for first, block in row_blocks(weight):
            kept = mask[first : first + len(block)]
            ties = mask_kernel(block.view(np.uint32), self.bits, ties, kept)
        return mask


def zeros_mask(weight: NDArray[Any]) -> Words:
    """The packed mask, uint32 (rows, chunks), of the weights that are neither 0.0 nor -0.0.

    ``weight``: float32, float16 or bfloat16 of any shape, coded as :func:`xorpack.tensors.as_matrix`.

    Raises:
        ParameterError: another dtype.
        DataError: NaN or infinity in ``weight``.
    """
    weight = check_float(weight)
    return GlobalThreshold(bits=0, ties_kept=(0,), n_weights=weight.size, n_pruned=0).mask(0, weight)


def magnitude_mask(weight: NDArray[Any], sparsity: float) -> Words:
    """The packed mask, uint32 (rows, chunks), that prunes the ``round(sparsity * n)`` least ``|w|``.

    Of equal magnitudes, the later ones in row-major order are pruned first. Zeros are always pruned,
    even if there are more of them than asked for. ``round`` is Python's (halves to even).

    Args:
        weight: float32, float16 or bfloat16 of any shape, coded as :func:`xorpack.tensors.as_matrix`.
        sparsity: fraction of the weights to prune, in [0, 1).

    Raises:
        ParameterError: ``sparsity`` outside [0, 1), another dtype.
        DataError: NaN or infinity in ``weight``.
    """
    weight = check_float(weight)
    return _cut(lambda: [(weight, "weight")], sparsity).mask(0, weight)


def global_thresholds(weights: Tensors, sparsity: float) -> GlobalThreshold:
    """Find where to cut several tensors as if they were one, laid end to end.

    Exactly ``round(sparsity * n)`` of all n weights are pruned (more only if more are zero); of equal
    magnitudes the later ones go first: later tensors, then later positions. The tensors are visited
    twice, one at a time; ``weights`` may hold functions that load a tensor instead of the tensors.

    >>> a, b = np.array([[3.0, -1.0, 2.0]], np.float32), np.array([[1.0, -4.0]], np.float32)
    >>> cut = global_thresholds([a, lambda: b], 0.2)
    >>> cut.ties_kept, bin(cut.mask(0, a)[0, 0]), bin(cut.mask(1, b)[0, 0])
    ((1, 0), '0b111', '0b10')

    Raises:
        ParameterError: ``sparsity`` outside [0, 1), weights of another dtype than float32, float16 and
            bfloat16, or ``weights`` that give fewer weights the second time (an iterator, say).
        DataError: NaN or infinity in a weight.
    """
    return _cut(lambda: _tensors(weights), sparsity)


def _cut(tensors: Callable[[], Iterable[tuple[NDArray[Any], str]]], sparsity: float) -> GlobalThreshold:
    """:func:`global_thresholds` of checked arrays with their names."""
    check_sparsity(sparsity)
    high = np.zeros(1 << 16, np.int64)
    sizes = []
    n_zeros = 0
    for weight, name in tensors():
        sizes.append(weight.size)
        for _, block in row_blocks(weight, name):
            n_zeros += high_kernel(block.view(np.uint32), high)
    n_weights = sum(sizes)
    n_pruned = max(round(sparsity * n_weights), n_zeros)
    if n_pruned == n_zeros:
        none = (0,) * len(sizes)
        return GlobalThreshold(bits=0, ties_kept=none, n_weights=n_weights, n_pruned=n_pruned)

    bucket, n_in_bucket = _select(high, n_pruned)
    low = np.zeros(1 << 16, np.int64)
    per_tensor = []
    sizes_again = []
    for weight, name in tensors():
        sizes_again.append(weight.size)
        counts = np.zeros(1 << 16, np.int64)
        for _, block in row_blocks(weight, name):
            low_kernel(block.view(np.uint32), bucket, counts)
        low += counts
        seen = np.flatnonzero(counts)
        per_tensor.append((seen, counts[seen]))
    if sizes_again != sizes:
        raise ParameterError(
            f"weights gave {len(sizes)} tensors of {n_weights} weights, then {len(sizes_again)} of "
            f"{sum(sizes_again)}; they must be iterable twice"
        )
    last, n_ties_pruned = _select(low, n_in_bucket)
    left = int(low[last]) - n_ties_pruned
    ties_kept = []
    for seen, found in per_tensor:
        kept = min(left, int(found[seen == last].sum()))
        ties_kept.append(kept)
        left -= kept
    bits = bucket << 16 | last
    return GlobalThreshold(bits=bits, ties_kept=tuple(ties_kept), n_weights=n_weights, n_pruned=n_pruned)


def check_sparsity(sparsity: float) -> None:
    """Raise a ParameterError unless ``0 <= sparsity < 1``."""
    checks.sparsity(sparsity)


def check_float(weight: Any) -> NDArray[Any]:
    """``weight`` as an array; a ParameterError unless it is float32, float16 or bfloat16."""
    try:
        array: NDArray[Any] = np.asarray(weight)
    except ValueError as error:
        raise ParameterError(f"weight of type {type(weight).__name__} is no array: {error}") from None
    if array.dtype == np.float64:
        raise ParameterError("weight of dtype float64; cast it first, e.g. weight.astype(np.float32)")
    if array.dtype not in (DTYPES["F32"], DTYPES["F16"], DTYPES["BF16"]):
        raise ParameterError(f"weight of dtype {array.dtype}, not float32, float16 or bfloat16")
    return array


def block_starts(shape: tuple[int, ...]) -> tuple[range, int]:
    """First rows of the blocks that a tensor is worked on in, and the rows of a block."""
    rows, cols = as_matrix(shape)
    step = max(1, BLOCK_ELEMENTS // max(1, cols))
    return range(0, rows if cols else 0, step), step


def rows_of(array: NDArray[Any], first: int, step: int) -> NDArray[Any]:
    """Rows ``first : first + step`` of an array of any shape and strides, as a matrix."""
    matrix = array.reshape(1, -1) if array.ndim < 2 else array
    part = matrix[first : first + step]
    return part.reshape(len(part), as_matrix(array.shape)[1])


def float_rows(weight: NDArray[Any], first: int, step: int, name: str = "weight") -> NDArray[np.float32]:
    """A contiguous float32 copy (exact) of the rows ``first : first + step`` of ``weight``.

    Raises:
        DataError: NaN or infinity in them, naming the first by its flat position in ``weight``.
    """
    with np.errstate(invalid="ignore"):
        block = np.array(rows_of(weight, first, step), np.float32, order="C", copy=True)
    at = nonfinite_kernel(block.view(np.uint32).reshape(-1))
    if at >= 0:
        value = float(block.reshape(-1)[at])
        raise DataError(f"{name} is {value} at flat position {first * block.shape[1] + at}")
    return block


def row_blocks(weight: NDArray[Any], name: str = "weight") -> Iterator[tuple[int, NDArray[np.float32]]]:
    """First row and :func:`float_rows` of every block of ``weight``."""
    starts, step = block_starts(weight.shape)
    for first in starts:
        yield first, float_rows(weight, first, step, name)


def magnitudes(weight: NDArray[Any]) -> NDArray[np.float32]:
    """``|w|`` as a float32 matrix (rows, cols).

    Raises:
        ParameterError: another dtype than float32, float16 or bfloat16.
        DataError: NaN or infinity in ``weight``.
    """
    weight = check_float(weight)
    found = np.empty(as_matrix(weight.shape), np.float32)
    for first, block in row_blocks(weight):
        np.abs(block, out=found[first : first + len(block)])
    return found


def n_of_m_mask(weight: NDArray[Any], n: int, m: int) -> Words:
    """The packed mask, uint32 (rows, chunks), that keeps the ``n`` largest ``|w|`` of every ``m`` neighbours of a row.

    A last, shorter group keeps as many. Of equal magnitudes the later ones go first. Zeros are always pruned.

    Raises:
        ParameterError: not ``1 <= n < m``, another dtype.
        DataError: NaN or infinity in ``weight``.
    """
    if not 1 <= n < m:
        raise ParameterError(f"pattern {n}:{m} does not keep 1 to {m - 1} of {m}")
    weight = check_float(weight)
    rows, cols = as_matrix(weight.shape)
    mask = np.zeros((rows, n_chunks(cols)), np.uint32)
    for first, block in row_blocks(weight):
        padded = np.zeros((len(block), -(-cols // m), m), np.float32)
        padded.reshape(len(block), -1)[:, :cols] = np.abs(block)
        order = np.argsort(-padded, axis=2, kind="stable")[:, :, :n]
        kept = np.zeros(padded.shape, np.bool_)
        np.put_along_axis(kept, order, True, axis=2)
        kept &= padded > 0
        mask[first : first + len(block)] = pack(kept.reshape(len(block), -1)[:, :cols])
    return mask


def _tensors(weights: Tensors) -> Iterator[tuple[NDArray[Any], str]]:
    for i, item in enumerate(weights() if callable(weights) else weights):
        yield check_float(item() if callable(item) else item), f"weights[{i}]"


def _select(counts: NDArray[np.int64], k: int) -> tuple[int, int]:
    """Bucket of the k-th smallest (k >= 1), and which of that bucket's it is."""
    total = np.cumsum(counts)
    bucket = int(np.searchsorted(total, k))
    return bucket, k - int(total[bucket] - counts[bucket])
