"""What layers see of an encoded weight, and which of their functions take it as it is."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Self

import torch
from torch import nn
from torch.nn import functional
from torch.utils._python_dispatch import is_in_torch_dispatch_mode

from xorpack.errors import ParameterError
from xorpack.torch import ops


class EncodedWeight(nn.Module):
    """Stands in a layer in the place of a weight.

    A linear layer multiplies by it as it is, an embedding decodes the rows that it looks up, all else decodes it whole
    and throws that away.

    Attributes:
        handle: names it for the operators of :mod:`xorpack.torch.ops` in this process.
        compute_dtype: what it decodes to.
    """

    requires_grad = False
    _is_hf_initialized = True  # else transformers' models would initialize it

    handle: torch.Tensor
    compute_dtype: torch.dtype
    _shape: torch.Size

    @property
    def source(self) -> EncodedWeight:
        """The weight that is computed with: itself, or that of another layer."""
        raise NotImplementedError

    def sections(self) -> dict[str, torch.Tensor]:
        """Its own sections, by their names in :data:`xorpack.encoded.SECTIONS`."""
        raise NotImplementedError

    def product(
        self, x: torch.Tensor, bias: torch.Tensor | None, scales: torch.Tensor | None = None
    ) -> torch.Tensor:
        """See :class:`xorpack.torch.ops.Weight`; of a source."""
        raise NotImplementedError

    @property
    def trained(self) -> torch.Tensor | None:
        """The scales, where they are trained."""
        return self.source._parameters.get("xor_scales")

    @property
    def shape(self) -> torch.Size:
        """Of the decoded weight."""
        return self.source._shape

    @property
    def dtype(self) -> torch.dtype:
        """What it decodes to and computes in."""
        return self.source.compute_dtype

    @property
    def device(self) -> torch.device:
        """Where its sections are."""
        return next(iter(self.source.sections().values())).device

    @property
    def is_meta(self) -> bool:
        """Whether sections have no bytes yet."""
        return any(section.is_meta for section in self.source.sections().values())

    @property
    def ndim(self) -> int:
        """Axes of the decoded weight."""
        return len(self.shape)

    @property
    def data(self) -> Self:
        """The weight itself."""
        return self

    def dim(self) -> int:
        """Axes of the decoded weight."""
        return self.ndim

    def size(self, dim: int | None = None) -> Any:
        """Shape of the decoded weight, or one of its sizes."""
        return self.shape if dim is None else self.shape[dim]

    def numel(self) -> int:
        """Elements of the decoded weight."""
        return self.shape.numel()

    def decode(self) -> torch.Tensor:
        """The weight, decoded: a new tensor of ``shape`` and ``dtype``."""
        source = self.source
        found: torch.Tensor = ops.decode(
            self.trained, source.handle, list(self.shape), self.dtype, self.device
        )
        return found

    def linear(self, x: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
        """``x W^T + bias``: x (..., cols) to (..., rows), of x's type."""
        source = self.source
        scales = source._parameters.get("xor_scales")
        if _is_plain(x):
            return source.product(x, bias, scales)
        found: torch.Tensor = ops.linear(x, bias, scales, source.handle, source._shape[0])
        return found

    def lookup(self, indices: torch.Tensor, padding: int = -1) -> torch.Tensor:
        """Rows of the first axis, ``(*indices.shape, *shape[1:])``; row ``padding`` gives scales no gradient."""
        found: torch.Tensor = ops.rows(
            indices, self.trained, self.source.handle, list(self.shape[1:]), self.dtype, padding
        )
        return found

    def __getitem__(self, index: Any) -> torch.Tensor:
        """Rows of the first axis, one or several, experts say: no others are decoded."""
        if isinstance(index, int):
            index = torch.tensor(index % self.shape[0] if index < 0 else index, device=self.device)
        if not isinstance(index, torch.Tensor) or index.dtype not in (torch.int32, torch.int64):
            return self.decode()[index]
        found: torch.Tensor = _embedding(index, self)
        return found

    def transpose(self, dim0: int, dim1: int) -> torch.Tensor:
        """The weight, decoded, with two axes exchanged."""
        return self.decode().transpose(dim0, dim1)

    def forward(self) -> torch.Tensor:
        """See :meth:`decode`."""
        return self.decode()

    @classmethod
    def __torch_function__(
        cls, function: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        if function is functional.linear:
            return _linear(*args, **kwargs)
        if function is functional.embedding:
            return _embedding(*args, **kwargs)
        return function(*_decoded(args), **{key: _decoded(value) for key, value in kwargs.items()})


def _decoded(value: Any) -> Any:
    if isinstance(value, EncodedWeight):
        return value.decode()
    return type(value)(map(_decoded, value)) if type(value) in (list, tuple) else value


def _linear(input: Any, weight: Any, bias: Any = None) -> Any:
    if not isinstance(weight, EncodedWeight) or weight.ndim != 2 or isinstance(input, EncodedWeight):
        return functional.linear(*_decoded((input, weight, bias)))
    source, x = weight.source, input
    if isinstance(bias, EncodedWeight):
        bias = bias.decode()
    shape, dtype, kind = source._shape, source.compute_dtype, x.device.type
    if torch.amp.is_autocast_available(kind) and torch.is_autocast_enabled(kind) and x.dtype != torch.float64:
        dtype = torch.get_autocast_dtype(kind)
        x, bias = x.to(dtype), None if bias is None else bias.to(dtype)
    elif x.dtype != dtype:
        raise RuntimeError(f"x is {x.dtype}, and the encoded weight decodes to {dtype}: cast one of them")
    if bias is not None and bias.dtype != x.dtype:
        raise RuntimeError(f"x is {x.dtype}, and the bias is {bias.dtype}: cast one of them")
    if not x.ndim or x.shape[-1] != shape[1]:
        raise RuntimeError(
            f"x of shape {tuple(x.shape)} cannot be multiplied by an encoded weight of {tuple(shape)}"
        )
    return source.linear(x, bias)


def _is_plain(x: Any) -> bool:
    """Whether nothing watches what becomes of a tensor: operators take their time, as much as a small product does."""
    return (
        type(x) is torch.Tensor
        and not torch.is_grad_enabled()
        and not torch.compiler.is_compiling()
        and not is_in_torch_dispatch_mode()
        and not torch.jit.is_tracing()  # type: ignore[attr-defined, no-untyped-call]
    )


def _embedding(
    input: Any, weight: Any, padding_idx: Any = None, max_norm: Any = None, *rest: Any, **how: Any
) -> Any:
    if not isinstance(weight, EncodedWeight):
        return functional.embedding(_decoded(input), weight, padding_idx, max_norm, *rest, **how)
    if max_norm is not None:
        raise ParameterError("max_norm changes rows of an embedding, and those of an encoded one are fixed")
    if input.dtype not in (torch.int32, torch.int64):
        raise RuntimeError(f"indices of an embedding are {input.dtype}, not int32 or int64")
    padding = -1 if padding_idx is None else padding_idx % weight.shape[0]
    return weight.source.lookup(input, padding)
