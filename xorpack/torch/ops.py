"""Operators on encoded weights, so that ``torch.compile`` and autograd take each for one step.

A weight is named by a handle, a number in this process, and handed over with its sections, so that a compiler sees
what a result depends on.
"""

from __future__ import annotations

import itertools
from typing import Any, Protocol
from weakref import WeakValueDictionary

import torch
from torch import Tensor


class Weight(Protocol):
    """What operators compute with."""

    def product(self, x: Tensor, bias: Tensor | None) -> Tensor:
        """``x W^T + bias``."""

    def dense(self) -> Tensor:
        """The weight, decoded."""

    def rows(self, indices: Tensor) -> Tensor:
        """Rows of it, decoded."""


_numbers = itertools.count()
_weights: WeakValueDictionary[int, Weight] = WeakValueDictionary()


def register(weight: Weight) -> int:
    """A handle of an encoded weight, for as long as it lives."""
    handle = next(_numbers)
    _weights[handle] = weight
    return handle


@torch.library.custom_op("xorpack::linear", mutates_args=())
def linear(
    x: torch.Tensor, sections: list[torch.Tensor], bias: torch.Tensor | None, handle: int, rows: int
) -> torch.Tensor:
    """``x W^T + bias``: x (..., cols) to (..., rows)."""
    return _weights[handle].product(x, bias)


@linear.register_fake
def _(x: Tensor, sections: list[Tensor], bias: Tensor | None, handle: int, rows: int) -> Tensor:
    return x.new_empty((*x.shape[:-1], rows))


@torch.library.custom_op("xorpack::input_gradient", mutates_args=())
def input_gradient(
    gradient: torch.Tensor, sections: list[torch.Tensor], handle: int, cols: int
) -> torch.Tensor:
    """``dy W``: (..., rows) to (..., cols)."""
    return gradient @ _weights[handle].dense().to(gradient.dtype)


@input_gradient.register_fake
def _(gradient: Tensor, sections: list[Tensor], handle: int, cols: int) -> Tensor:
    return gradient.new_empty((*gradient.shape[:-1], cols))


@torch.library.custom_op("xorpack::decode", mutates_args=())
def decode(sections: list[torch.Tensor], handle: int, shape: list[int], dtype: torch.dtype) -> torch.Tensor:
    """The weight, decoded."""
    return _weights[handle].dense()


@decode.register_fake
def _(sections: list[Tensor], handle: int, shape: list[int], dtype: torch.dtype) -> Tensor:
    return sections[0].new_empty(shape, dtype=dtype)


@torch.library.custom_op("xorpack::rows", mutates_args=())
def rows(
    indices: torch.Tensor, sections: list[torch.Tensor], handle: int, shape: list[int], dtype: torch.dtype
) -> torch.Tensor:
    """Rows of the weight, each of ``shape``, decoded."""
    return _weights[handle].rows(indices)


@rows.register_fake
def _(indices: Tensor, sections: list[Tensor], handle: int, shape: list[int], dtype: torch.dtype) -> Tensor:
    return sections[0].new_empty((*indices.shape, *shape), dtype=dtype)


def _keep(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    x, sections, bias, handle, _ = inputs
    ctx.save_for_backward(*sections)
    ctx.handle, ctx.cols, ctx.has_bias = handle, x.shape[-1], bias is not None


def _backward(ctx: Any, gradient: Tensor) -> tuple[Any, ...]:
    sections = list(ctx.saved_tensors)
    wanted_x, _, wanted_bias = ctx.needs_input_grad[:3]
    dx = input_gradient(gradient, sections, ctx.handle, ctx.cols) if wanted_x else None
    dbias = gradient.reshape(-1, gradient.shape[-1]).sum(0) if ctx.has_bias and wanted_bias else None
    return dx, [None] * len(sections), dbias, None, None


linear.register_autograd(_backward, setup_context=_keep)
