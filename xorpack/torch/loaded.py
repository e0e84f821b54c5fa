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
from xorpack.decoders.products import MAX_FUSED
from xorpack.decoders.rows import RowReader, stretches
from xorpack.elements import Bcq, Lossless, Trellis
from xorpack.encoded import EncodedTensor
from xorpack.product import PreparedProduct
from xorpack.tensors import NO_POSITIONS, NO_VALUES, TrellisTensor, n_groups
from xorpack.torch.arrays import TORCH, to_numpy, to_torch

THREAD_ELEMENTS = 1 << 17
"""Weights for each thread, at the least: a thread takes as long to start as so many to be decoded."""


class LoadedWeight:
    """An encoded tensor that computes.

    Attributes:
        encoded: the tensor, on the CPU.
        device: where its sections are.
        changes: whether its scales are trained, so that nothing is worth making ready for the next call.
    """

    def __init__(self, encoded: EncodedTensor, device: torch.device, *, changes: bool = False) -> None:
        self.encoded, self.device, self.changes = encoded, device, changes
        self._on_cpu = device.type == "cpu"
        self._as_it_is = not (isinstance(encoded.elements, Lossless) or changes)

    def dense(self) -> Tensor:
        """The weight, decoded to the type that was encoded."""
        if self.device.type == "cuda":
            out = torch.empty(self.encoded.shape, dtype=TORCH[self.encoded.dtype], device=self.device)
            self._on_gpu.decode(out=out, stream=torch.cuda.current_stream(self.device))
            return out
        return to_torch(cpu.decode_dense(self.encoded, jobs=self._jobs)).to(self.device)

    def product(self, x: Tensor, bias: Tensor | None, dtype: torch.dtype) -> Tensor:
        """``x W^T + bias`` of x's type; W is rounded to ``dtype`` if it is decoded first, else not at all."""
        n = x.numel() // max(x.shape[-1], 1)
        if not self._as_it_is or x.dtype == torch.float64 or (self._on_cpu and n > MAX_FUSED):
            return functional.linear(x, self.dense().to(dtype).to(x.dtype), bias)
        shape = (*x.shape[:-1], self.encoded.rows)
        if self._on_cpu:
            out = torch.empty(shape, dtype=torch.float32)
            self._product.fill(to_numpy(x), out.numpy(), jobs=torch.get_num_threads())
        else:
            out = torch.empty(shape, dtype=x.dtype, device=x.device)
            stream = torch.cuda.current_stream(self.device)
            rows = x.reshape(n, x.shape[-1]).contiguous()
            self._on_gpu.matmul(rows, out=out.view(n, shape[-1]), stream=stream)
        if bias is not None:
            out += bias
        return out.to(x.dtype)

    def rows(self, indices: Tensor) -> Tensor:
        """Rows of the weight as a matrix, of the type that was encoded: (indices, cols)."""
        flat = indices.reshape(-1)
        if self.device.type == "cuda":
            return self.dense().reshape(self.encoded.rows, self.encoded.cols)[flat]
        wanted, back = np.unique(to_numpy(flat), return_inverse=True)
        self._check_rows(wanted)
        return to_torch(self._rows.read(wanted.astype(np.int64)))[torch.from_numpy(back)].to(self.device)

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
        for here, first, last in stretches(wanted, encoded.cols):
            part = np.zeros((last - first, encoded.cols), np.float32)
            part[wanted[here] - first] = sums[here]
            out[first:last] = self._sums(part, first, last).reshape(out[first:last].shape)
        return torch.from_numpy(out).to(gradient.device)

    @property
    def _jobs(self) -> int:
        """Threads that decode it."""
        return max(1, min(torch.get_num_threads(), self.encoded.n_weights // THREAD_ELEMENTS))

    @property
    def _scales(self) -> NDArray[Any]:
        assert isinstance(self.encoded.elements, Bcq | Trellis)
        return self.encoded.elements.scales

    @cached_property
    def _product(self) -> PreparedProduct:
        return self.encoded.product(jobs=self._jobs)

    @cached_property
    def _rows(self) -> RowReader:
        return RowReader(self.encoded)

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
