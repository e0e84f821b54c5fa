"""Encoded weights of every kind, as modules of PyTorch and as the dense tensors that they stand for."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

import ml_dtypes
import numpy as np
import torch
from mask_samples import any_factors, with_mask
from samples import bcq, fitted, pruned
from torch import nn

import xorpack
from xorpack import EncodedTensor
from xorpack.code.words import unpack
from xorpack.decoders import reference
from xorpack.torch import XorWeight, put
from xorpack.torch.arrays import to_torch

Shape = tuple[int, ...]


def _bcq(codec: str, sparsity: float = 0.9) -> Callable[[Shape], EncodedTensor]:
    return lambda shape: xorpack.encode(bcq(shape, sparsity, 2, group_size=32), mask_codec=codec)


def _bmf(shape: Shape) -> EncodedTensor:
    factors = any_factors(1, *xorpack.tensors.as_matrix(shape), 3, 16, 2)
    tensor = with_mask(unpack(factors.mask(), xorpack.tensors.as_matrix(shape)[1]), 2)
    return xorpack.encode(
        xorpack.BCQTensor(**_fields(tensor) | {"shape": shape}), mask_codec="bmf", factors=factors
    )


def _fields(tensor: Any) -> dict[str, Any]:
    return {name: getattr(tensor, name) for name in type(tensor).__dataclass_fields__}


def _trellis(shape: Shape, **options: Any) -> EncodedTensor:
    weight = np.random.default_rng(3).standard_t(4, shape).astype(np.float32)
    return xorpack.encode(xorpack.quantize(weight, method="trellis", rate=2, window=8, **options))


def _lossless(dtype: Any) -> Callable[[Shape], EncodedTensor]:
    return lambda shape: xorpack.encode(pruned(shape, 0.5, dtype))


KINDS: Mapping[str, Callable[[Shape], EncodedTensor]] = {
    "bcq, bitmap": _bcq("bitmap", 0.5),
    "bcq, cascade": _bcq("cascade"),
    "bcq, block": _bcq("block"),
    "bcq, constant": _bcq("constant", 0.0),
    "bcq, bmf": _bmf,
    "bcq, packed": lambda shape: xorpack.encode(bcq(shape, 0.7, 2), prefer="speed"),
    "bcq, signs": lambda shape: xorpack.encode(fitted(shape, 0.5, 3, group_size=32), field="always"),
    "trellis": _trellis,
    "trellis, masked, gains": lambda shape: _trellis(shape, sparsity=0.5, column_gains=True),
    "F32": _lossless(np.float32),
    "F16": _lossless(np.float16),
    "BF16": _lossless(ml_dtypes.bfloat16),
    "I8": _lossless(np.int8),
}
QUANTIZED = tuple(kind for kind in KINDS if not kind.isupper() and kind not in ("F32", "F16", "BF16", "I8"))
FLOATS = tuple(kind for kind in KINDS if kind != "I8")


@cache
def encoded(kind: str, shape: Shape) -> EncodedTensor:
    """An encoded tensor of a kind of :data:`KINDS`."""
    return KINDS[kind](shape)


@cache
def _dense(kind: str, shape: Shape) -> torch.Tensor:
    return to_torch(reference.decode_dense(encoded(kind, shape))).reshape(shape)


def dense(kind: str, shape: Shape) -> torch.Tensor:
    """What it decodes to, by the reference decoder."""
    return _dense(kind, shape).clone()


def weight(kind: str, shape: Shape, **options: Any) -> XorWeight:
    """Its module, which owns its sections."""
    return copy.deepcopy(XorWeight.of(encoded(kind, shape), **options))


def pair(layer: nn.Module, kind: str, name: str = "weight") -> tuple[nn.Module, nn.Module]:
    """A layer with an encoded weight, and the same layer with the decoded one."""
    shape = tuple(getattr(layer, name).shape)
    value = dense(kind, shape)
    twin = copy.deepcopy(layer)
    setattr(twin, name, nn.Parameter(value, requires_grad=False))
    for module in (layer, twin):
        for other, parameter in module.named_parameters():
            if other != name and value.is_floating_point():
                parameter.data = parameter.data.to(value.dtype)
    put(layer, name, weight(kind, shape))
    return layer, twin


def close(found: torch.Tensor, expected: torch.Tensor) -> None:
    """Require that they are the same within the rounding of sums."""
    largest = expected.abs().max().item() if expected.numel() else 0.0
    torch.testing.assert_close(found, expected, rtol=0, atol=3e-6 * largest)


class Conv1D(nn.Module):
    """GPT-2's linear layer: a weight of (inputs, outputs)."""

    def __init__(self, n_in: int, n_out: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(n_in, n_out))
        self.bias = nn.Parameter(torch.linspace(-1, 1, n_out))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        flat = torch.addmm(self.bias, x.view(-1, x.size(-1)), self.weight)
        return flat.view(*x.shape[:-1], flat.shape[-1])


def model(kind: str = "trellis", seed: int = 0) -> nn.Module:
    """An embedding, two layers and a head that is tied to the embedding, all of one kind."""
    torch.manual_seed(seed)
    found = Tied(kind)
    found.head.bias.data.normal_()
    return found


class Tied(nn.Module):
    """See :func:`model`."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.embedding, self.first = nn.Embedding(50, 40), nn.Linear(40, 33)
        self.second, self.head = nn.Linear(33, 40), nn.Linear(40, 50)
        for layer in (self.embedding, self.first, self.second):
            put(layer, "weight", weight(kind, tuple(layer.weight.shape)))
        xorpack.torch.tie(self.head, "weight", self.embedding.weight)

    def forward(self, indices: torch.Tensor) -> torch.Tensor:
        hidden = self.embedding(indices)
        return self.head(hidden + self.second(torch.relu(self.first(hidden))))
