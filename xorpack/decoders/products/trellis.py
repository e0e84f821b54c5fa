"""Products by trellis tensors: the code of 16 rows stands side by side, so that XOR of unaligned loads expands them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from xorpack.code.corrections import check_kept
from xorpack.code.scales import scale_values
from xorpack.code.trellis import TrellisNetwork
from xorpack.code.trellis_kernels import ages_of
from xorpack.code.words import Words, n_chunks
from xorpack.decoders.products import fused
from xorpack.decoders.products.kept import Kept
from xorpack.decoders.products.trellis_kernels import outliers_kernel, trellis_kernel
from xorpack.decoders.trellis import LoadedTrellis
from xorpack.tensors import NO_POSITIONS, NO_VALUES, TrellisTensor, as_matrix
from xorpack.vector.aligned import aligned
from xorpack.vector.lookup import ROWS

BLOCK = 64
"""Periods of a network that stand side by side at the most: a column of the code takes the window before them along."""

MODEST = (2.0**-60, 2.0**20)
"""Codes ``a`` and scales of tensors that are multiplied so: their products lose nothing to underflow on the way."""


class TrellisRows:
    """See :class:`xorpack.decoders.products.fused.FusedRows`: a unit is 16 periods of the network, ``16 * n_out`` rows.

    The code is kept in another order, ``code[block, chunk, p, pad + k]`` for stored bit ``(k * n_in + p)`` of the
    block's columns, so that 16 rows which share taps are neighbours; the ``pad`` before them is the block before.
    """

    def __init__(self, loaded: LoadedTrellis, kept: Kept) -> None:
        tensor, network = loaded.tensor, loaded.tensor.network
        rows, cols = as_matrix(tensor.shape)
        self.group_size = tensor.group_size
        periods = -(-rows // network.n_out)
        self.n_units = -(-periods // ROWS)
        self.gains = None if tensor.gains is None else tensor.gains.astype(np.float32)
        n_sub = min(self.n_units, BLOCK // ROWS)
        pad = -(-network.window // network.n_in)
        width = ROWS * n_sub + pad
        masks = np.zeros(0, np.uint32)
        if not kept.whole:
            mask = kept.rows(0, rows)
            check_kept(loaded.outliers, mask, cols, "an outlier")
            masks = fused.by_units(mask, network.n_out)
        scales = scale_values(tensor.scales)
        largest = float(np.abs(scales).max(initial=1))
        self.reach = cols * max(1.0, float(np.abs(tensor.a).sum()) * largest)
        self._how = (
            _blocks(tensor.code, network, -(-self.n_units // n_sub), ROWS * n_sub, pad),
            (n_chunks(cols), network.n_in, network.n_out, pad, width, n_sub),
            *_taps(network, width),
            masks,
            tensor.a,
            fused.by_units(scales, network.n_out),
            fused.chunks_of_group(self.group_size, cols),
        )
        self._outliers = _outliers(tensor)

    @staticmethod
    def fits(tensor: TrellisTensor) -> bool:
        """Whether a tensor can be multiplied so: groups of whole words, and no extreme numbers."""
        sizes = np.abs(tensor.a[tensor.a != 0]), np.abs(scale_values(tensor.scales))
        low, high = MODEST
        modest = sizes[0].min(initial=1) >= low and max(size.max(initial=0) for size in sizes) <= high
        return bool(modest) and fused.fits(tensor.group_size, as_matrix(tensor.shape)[1])

    def activations(self, x: NDArray[np.float32]) -> NDArray[np.float32]:
        """See :class:`FusedRows`."""
        if self.gains is None:
            return x
        with np.errstate(all="ignore"):
            return x * self.gains

    def fill(
        self, few: fused.Activations, out: NDArray[np.float32], helpers: int, team: NDArray[np.int64]
    ) -> None:
        """See :class:`FusedRows`."""
        trellis_kernel(0, self.n_units, helpers, team, *self._how, *few[1:], out)
        if self._outliers is not None:
            outliers_kernel(0, out.shape[1], helpers, team, *self._outliers, few.x, out)


def _blocks(code: Words, network: TrellisNetwork, n_blocks: int, size: int, pad: int) -> Words:
    """The code as (n_blocks, chunks, n_in, pad + size), flat; stored bits before the first are the last ones."""
    chunks = code.shape[1]
    into = aligned(n_blocks * chunks * network.n_in * (pad + size))
    blocks = into.reshape(n_blocks, chunks, network.n_in, pad + size)
    for k in range(n_blocks):
        bits = np.arange((k * size - pad) * network.n_in, (k + 1) * size * network.n_in) % len(code)
        blocks[k] = code[bits].reshape(pad + size, network.n_in, chunks).transpose(2, 1, 0)
    return into


def _taps(network: TrellisNetwork, width: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Where a row's taps are, from its period on: ``offsets`` and ``bounds`` of :func:`trellis_kernel`."""
    ages, bounds = ages_of(network)
    rows = np.repeat(np.arange(network.n_out * network.n_planes) // network.n_planes, np.diff(bounds))
    bits = network.ends(network.n_out)[rows] - 1 - ages
    return bits % network.n_in * width + bits // network.n_in, bounds


def _outliers(
    tensor: TrellisTensor,
) -> tuple[NDArray[np.int64], NDArray[np.int32], NDArray[np.float32]] | None:
    """Outliers by row: where those of each begin, their columns, and what they add to the weights beneath them."""
    if not len(tensor.positions):
        return None
    rows, cols = as_matrix(tensor.shape)
    starts = np.searchsorted(tensor.positions, np.arange(rows + 1) * cols).astype(np.int64)
    values = np.empty(len(tensor.positions), np.float32)
    step = max(1, (1 << 16) // cols)
    plain = replace(tensor, positions=NO_POSITIONS, values=NO_VALUES)
    for first in range(0, rows, step):
        last = min(first + step, rows)
        part = slice(starts[first], starts[last])
        beneath = plain.dequantize_rows(first, last).reshape(-1)[tensor.positions[part] - first * cols]
        values[part] = tensor.values[part].astype(np.float32) * np.float32(tensor.outlier_unit) - beneath
    return starts, (tensor.positions % cols).astype(np.int32), values
