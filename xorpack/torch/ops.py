"""Operators on encoded weights, so that ``torch.compile`` and autograd take each for one step.

A weight is named by its handle, a number in this process that lies in a tensor of no axes: a compiler takes a tensor
for an input, where it would compile a layer anew for every number. Sections are no operands, for the same reason:
their sizes differ from layer to layer. What is computed follows them all the same, whenever they are loaded or moved.
Scales that are trained are an operand, and have a gradient.
"""

from __future__ import annotations

import itertools
from typing import Any, Protocol
from weakref import WeakValueDictionary

import torch
from torch import Tensor

from xorpack.errors import ParameterError


class Weight(Protocol):
    """What operators compute with; ``scales`` are those that are trained, or None."""

    def product(self, x: Tensor, bias: Tensor | None, scales: Tensor | None) -> Tensor:
        """``x W^T + bias``, of x's type."""

    def dense(self, scales: Tensor | None) -> Tensor:
        """The weight, decoded."""

    def rows(self, indices: Tensor, scales: Tensor | None) -> Tensor:
        """Rows of it, decoded."""

    def scale_gradient(self, gradient: Tensor, indices: Tensor | None) -> Tensor:
        """The gradient to scales of that to the weight, or to the rows ``indices`` of it."""


_numbers = itertools.count()
_weights: WeakValueDictionary[int, Weight] = WeakValueDictionary()


def register(weight: Weight) -> Tensor:
    """A handle of an encoded weight, for as long as it lives: int64, no axes, in the CPU's memory."""
    number = next(_numbers)
    _weights[number] = weight
    return torch.tensor(number, device="cpu")


def _find(handle: Tensor) -> Weight:
    try:
        return _weights[int(handle)]
    except KeyError:
        raise ParameterError(
            f"no encoded weight has the handle {int(handle)}: its module is gone, or was made in another process"
        ) from None


@torch.library.custom_op("xorpack::linear", mutates_args=())
def linear(
    x: torch.Tensor, bias: torch.Tensor | None, scales: torch.Tensor | None, handle: torch.Tensor, rows: int
) -> torch.Tensor:
    """``x W^T + bias``: x (..., cols) to (..., rows)."""
    return _find(handle).product(x, bias, scales)


@linear.register_fake
def _(x: Tensor, bias: Tensor | None, scales: Tensor | None, handle: Tensor, rows: int) -> Tensor:
    return x.new_empty((*x.shape[:-1], rows))


@torch.library.custom_op("xorpack::input_gradient", mutates_args=())
def input_gradient(
    gradient: torch.Tensor, scales: torch.Tensor | None, handle: torch.Tensor, cols: int
) -> torch.Tensor:
    """``dy W``: (..., rows) to (..., cols)."""
    return gradient @ _find(handle).dense(scales).to(gradient.dtype)


@input_gradient.register_fake
def _(gradient: Tensor, scales: Tensor | None, handle: Tensor, cols: int) -> Tensor:
    return gradient.new_empty((*gradient.shape[:-1], cols))


@torch.library.custom_op("xorpack::scale_gradient", mutates_args=())
def scale_gradient(
    gradient: torch.Tensor, indices: torch.Tensor | None, handle: torch.Tensor, shape: list[int]
) -> torch.Tensor:
    """Of ``gradient`` to the weight, or to its rows ``indices``, that to scales of ``shape``, float32."""
    return _find(handle).scale_gradient(gradient, indices)


@scale_gradient.register_fake
def _(gradient: Tensor, indices: Tensor | None, handle: Tensor, shape: list[int]) -> Tensor:
    return gradient.new_empty(shape, dtype=torch.float32)


@torch.library.custom_op("xorpack::decode", mutates_args=())
def decode(
    scales: torch.Tensor | None,
    handle: torch.Tensor,
    shape: list[int],
    dtype: torch.dtype,
    device: torch.device,
) -> torch.Tensor:
    """The weight, decoded."""
    return _find(handle).dense(scales)


@decode.register_fake
def _(
    scales: Tensor | None, handle: Tensor, shape: list[int], dtype: torch.dtype, device: torch.device
) -> Tensor:
    return torch.empty(shape, dtype=dtype, device=device)


@torch.library.custom_op("xorpack::rows", mutates_args=())
def rows(
    indices: torch.Tensor,
    scales: torch.Tensor | None,
    handle: torch.Tensor,
    shape: list[int],
    dtype: torch.dtype,
    padding: int,
) -> torch.Tensor:
    """Rows of the weight, each of ``shape``, decoded; row ``padding`` gives scales no gradient."""
    return _find(handle).rows(indices, scales)


@rows.register_fake
def _(
    indices: Tensor, scales: Tensor | None, handle: Tensor, shape: list[int], dtype: torch.dtype, padding: int
) -> Tensor:
    return indices.new_empty((*indices.shape, *shape), dtype=dtype)


def _keep_linear(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    x, bias, scales, handle, _ = inputs
    ctx.save_for_backward(handle, scales, x if ctx.needs_input_grad[2] else None)
    ctx.cols, ctx.bias_dtype = x.shape[-1], None if bias is None else bias.dtype


def _linear_backward(ctx: Any, gradient: Tensor) -> tuple[Any, ...]:
    handle, scales, x = ctx.saved_tensors
    wanted_x, wanted_bias, wanted_scales = ctx.needs_input_grad[:3]
    dx = dbias = dscales = None
    if wanted_x:
        dx = input_gradient(gradient, scales, handle, ctx.cols)
    if wanted_bias:
        dbias = gradient.reshape(-1, gradient.shape[-1]).sum(0).to(ctx.bias_dtype)
    if wanted_scales:
        flat = gradient.reshape(-1, gradient.shape[-1])
        to_weight = flat.T @ x.reshape(-1, ctx.cols).to(flat.dtype)
        dscales = scale_gradient(to_weight, None, handle, list(scales.shape))
    return dx, dbias, dscales, None, None


linear.register_autograd(_linear_backward, setup_context=_keep_linear)


def _keep_gradient(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    gradient, scales, handle, _ = inputs
    ctx.save_for_backward(handle, scales)
    ctx.rows = gradient.shape[-1]


def _gradient_backward(ctx: Any, gradient: Tensor) -> tuple[Any, ...]:
    handle, scales = ctx.saved_tensors
    if ctx.needs_input_grad[1]:
        raise NotImplementedError("second derivatives by trained scales")
    back = linear(gradient, None, scales, handle, ctx.rows) if ctx.needs_input_grad[0] else None
    return back, None, None, None


input_gradient.register_autograd(_gradient_backward, setup_context=_keep_gradient)


def _keep_decode(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    scales, handle, *_ = inputs
    ctx.save_for_backward(handle)
    ctx.shape = None if scales is None else list(scales.shape)


def _decode_backward(ctx: Any, gradient: Tensor) -> tuple[Any, ...]:
    (handle,) = ctx.saved_tensors
    wanted = ctx.needs_input_grad[0]
    return scale_gradient(gradient, None, handle, ctx.shape) if wanted else None, None, None, None, None


decode.register_autograd(_decode_backward, setup_context=_keep_decode)


def _keep_rows(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    indices, scales, handle, _, _, padding = inputs
    ctx.save_for_backward(handle, indices)
    ctx.shape, ctx.padding = None if scales is None else list(scales.shape), padding


def _rows_backward(ctx: Any, gradient: Tensor) -> tuple[Any, ...]:
    handle, indices = ctx.saved_tensors
    if not ctx.needs_input_grad[1]:
        return None, None, None, None, None, None
    flat = gradient.reshape(indices.numel(), -1)
    kept = (indices.reshape(-1, 1) != ctx.padding).to(flat.dtype)
    return None, scale_gradient(flat * kept, indices, handle, ctx.shape), None, None, None, None


rows.register_autograd(_rows_backward, setup_context=_keep_rows)
