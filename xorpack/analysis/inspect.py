"""What analysis reads of a tensor: its mask in blocks of rows, and a sample of its planes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from numpy.typing import NDArray

from xorpack.analysis.entropy import PlaneEntropies, SymbolCounter
from xorpack.analysis.mask_models import MaskCounts
from xorpack.code import dense
from xorpack.code.expand import expand
from xorpack.code.words import Words
from xorpack.decoders import cpu
from xorpack.encoded import EncodedTensor
from xorpack.errors import FormatError

BLOCK_WEIGHTS = 1 << 24
"""Weights whose mask is held at a time."""

SAMPLE_WEIGHTS = 1 << 20
"""Weights up to which all planes are looked at; of larger tensors, about as many."""

SAMPLE_BLOCKS = 4


def row_blocks(rows: int, cols: int, n_weights: int = BLOCK_WEIGHTS) -> Iterator[tuple[int, int]]:
    """``(first, last)`` of consecutive blocks of at most ``n_weights`` weights, or of one row."""
    step = max(1, n_weights // max(cols, 1))
    for first in range(0, rows, step):
        yield first, min(first + step, rows)


def sample_blocks(rows: int, cols: int, n_weights: int = SAMPLE_WEIGHTS) -> Iterator[tuple[int, int]]:
    """``(first, last)`` of blocks of rows that hold about ``n_weights`` weights, spread over the tensor."""
    if rows * cols <= n_weights or rows < 2 * SAMPLE_BLOCKS:
        yield from row_blocks(rows, cols)
        return
    step = max(1, n_weights // (SAMPLE_BLOCKS * cols))
    for k in range(SAMPLE_BLOCKS):
        first = k * (rows - step) // (SAMPLE_BLOCKS - 1)
        yield first, first + step


def mask_blocks(tensor: EncodedTensor) -> Iterator[Words]:
    """The mask, uint32 (n, chunks), from the first row to the last."""
    for first, last in row_blocks(tensor.rows, tensor.cols):
        yield tensor.load_mask(expand, first, last)


def mask_counts(tensor: EncodedTensor) -> MaskCounts:
    """Kept weights by row and column.

    Raises:
        FormatError: there are not as many as the tensor says.
    """
    counts = MaskCounts.of(mask_blocks(tensor), tensor.cols)
    if counts.n_kept != tensor.n_kept:
        raise FormatError(f"the mask keeps {counts.n_kept} weights, not {tensor.n_kept}")
    return counts


def plane_entropies(tensor: EncodedTensor) -> PlaneEntropies:
    """Entropies of the kept weights, of a sample where the tensor is large."""
    counter = SymbolCounter(tensor.bits)
    for first, last in sample_blocks(tensor.rows, tensor.cols):
        counter.add(*cpu.decode_planes(tensor, first, last))
    return counter.entropies()


def element_entropies(elements: NDArray[Any]) -> PlaneEntropies:
    """The same of an array (rows, cols) that is kept bit for bit; +0 is pruned."""
    counter = SymbolCounter(8 * elements.dtype.itemsize)
    for first, last in sample_blocks(*elements.shape):
        counter.add(*dense.split_planes(elements[first:last]))
    return counter.entropies()
