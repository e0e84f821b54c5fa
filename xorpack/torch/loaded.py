"""An encoded tensor, and what is made of it once and kept for the calls that follow."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from xorpack.code import dense
from xorpack.code.words import Words, unpack
from xorpack.decoders import cpu, gpu
from xorpack.elements import Bcq, Lossless, Trellis
from xorpack.encoded import EncodedTensor
from xorpack.tensors import DTYPES, NO_POSITIONS, NO_VALUES, TrellisTensor, n_groups
from xorpack.torch.arrays import TORCH, to_numpy, to_torch

BLOCK_ELEMENTS = 1 << 20
"""Elements that are made at a time on the way to the gradient of scales."""


class LoadedWeight:
    """An encoded tensor that computes.

    Attributes:
        encoded: the tensor, on the CPU.
        device: where its sections are.
    """

    def __init__(self, encoded: EncodedTensor, device: torch.device) -> None:
        self.encoded, self.device = encoded, device

    def dense(self) -> Tensor:
        """The weight, decoded to the type that was encoded."""
        if self.device.type == "cuda":
            out = torch.empty(self.encoded.shape, dtype=TORCH[self.encoded.dtype], device=self.device)
            self._on_gpu.decode(out=out, stream=torch.cuda.current_stream(self.device))
            return out
        return to_torch(cpu.decode_dense(self.encoded, jobs=torch.get_num_threads())).to(self.device)

    def product(self, x: Tensor, bias: Tensor | None, dtype: torch.dtype) -> Tensor:
        """``x W^T + bias`` of x's type, W rounded to ``dtype`` where it is decoded."""
        lossless = isinstance(self.encoded.elements, Lossless)
        if lossless or self.device.type != "cuda" or x.dtype == torch.float64:
            return functional.linear(x, self.dense().to(dtype).to(x.dtype), bias)
        rows = x.reshape(-1, self.encoded.cols).contiguous()
        out = torch.empty((len(rows), self.encoded.rows), dtype=x.dtype, device=x.device)
        self._on_gpu.matmul(rows, out=out, stream=torch.cuda.current_stream(self.device))
        return (out if bias is None else out.add_(bias)).reshape(*x.shape[:-1], self.encoded.rows)

    def rows(self, indices: Tensor) -> Tensor:
        """Rows of the weight as a matrix, of the type that was encoded: (indices, cols)."""
        flat = indices.reshape(-1)
        if self.device.type == "cuda":
            return self.dense().reshape(self.encoded.rows, self.encoded.cols)[flat]
        wanted, back = np.unique(to_numpy(flat), return_inverse=True)
        self._check_rows(wanted)
        found = np.empty((len(wanted), self.encoded.cols), DTYPES[self.encoded.dtype])
        for place, first, last in _runs(wanted):
            self._parts.fill(
                first, cpu.load_mask(self.encoded, first, last), found[place : place + last - first]
            )
        return to_torch(found)[torch.from_numpy(back)].to(self.device)

    def scale_gradient(self, gradient: Tensor, indices: Tensor | None) -> Tensor:
        """The gradient to scales, float32, of that to the weight, or to its rows ``indices``: (n, cols)."""
        encoded = self.encoded
        flat = to_numpy(gradient.float().reshape(-1, encoded.cols))
        if indices is None:
            wanted, sums = np.arange(encoded.rows), flat
        else:
            wanted, back = np.unique(to_numpy(indices.reshape(-1)), return_inverse=True)
            sums = np.zeros((len(wanted), encoded.cols), np.float32)
            np.add.at(sums, back, flat)
        out = np.zeros((encoded.rows, *self._scales.shape[1:]), np.float32)
        for place, first, last in _runs(wanted, max(1, BLOCK_ELEMENTS // max(encoded.cols, 1))):
            part = self._sums(sums[place : place + last - first], first, last)
            out[first:last] = part.reshape(last - first, *self._scales.shape[1:])
        return torch.from_numpy(out).to(gradient.device)

    @property
    def _scales(self) -> NDArray[Any]:
        assert isinstance(self.encoded.elements, Bcq | Trellis)
        return self.encoded.elements.scales

    @cached_property
    def _parts(self) -> cpu.Loaded:
        return cpu.load(self.encoded)

    @cached_property
    def _trellis(self) -> TrellisTensor:
        return self.encoded.trellis(None)

    @cached_property
    def _on_gpu(self) -> gpu.GpuTensor:
        return gpu.load(self.encoded, device_number=self.device.index, jobs=torch.get_num_threads())

    def _check_rows(self, wanted: NDArray[Any]) -> None:
        if len(wanted) and not 0 <= wanted[0] <= wanted[-1] < self.encoded.rows:
            wrong = wanted[0] if wanted[0] < 0 else wanted[-1]
            raise IndexError(f"row {wrong} is outside the {self.encoded.rows} rows of an encoded weight")

    def _sums(self, gradient: NDArray[np.float32], first: int, last: int) -> NDArray[np.float32]:
        """Over the columns of each group, gradient times what one of the scale counts: (rows, n_groups, q or 1)."""
        encoded = self.encoded
        group, groups = encoded.group_size or max(encoded.cols, 1), n_groups(encoded.cols, encoded.group_size)
        starts = group * np.arange(groups)
        mask = cpu.load_mask(encoded, first, last)
        parts = [
            np.add.reduceat(gradient * unit, starts, axis=1, dtype=np.float32)
            for unit in self._units(first, last, mask)
        ]
        return np.stack(parts, axis=-1)

    def _units(self, first: int, last: int, mask: Words) -> Iterator[NDArray[np.float32]]:
        """The weights of rows ``first .. last - 1`` if a scale were 1 and the others 0, float32 (rows, cols) each."""
        encoded, elements = self.encoded, self.encoded.elements
        if isinstance(elements, Trellis):
            kept = unpack(mask, encoded.cols)
            i, j = np.searchsorted(self._trellis.positions, (first * encoded.cols, last * encoded.cols))
            kept.reshape(-1)[self._trellis.positions[i:j] - first * encoded.cols] = False
            ones = np.ones(elements.scales.shape, np.float32)
            unit = replace(self._trellis, scales=ones, positions=NO_POSITIONS, values=NO_VALUES)
            yield np.where(kept, unit.dequantize_rows(first, last), np.float32(0))
            return
        planes = self._parts.planes(first, mask)
        for k in range(encoded.bits):
            one = np.zeros((last - first, 1, encoded.bits), np.float32)
            one[:, :, k] = 1
            found = np.empty((last - first, encoded.cols), np.float32)
            dense.expand_bcq(mask, planes, one, 0, found)
            yield found


def _runs(rows: NDArray[Any], longest: int | None = None) -> Iterator[tuple[int, int, int]]:
    """Of rising row numbers, each stretch of neighbours: its place, its first row, and the row past its last."""
    ends = np.flatnonzero(np.diff(rows) != 1) + 1
    for begin, end in zip([0, *ends], [*ends, len(rows)], strict=True):
        for place in range(begin, end, longest or max(end - begin, 1)):
            stop = min(end, place + (longest or end))
            yield place, int(rows[place]), int(rows[stop - 1]) + 1
