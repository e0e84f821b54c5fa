"""Encoded weights of whole modules: put in, tied, taken out."""

from __future__ import annotations

import torch
from torch import nn

from xorpack.errors import ParameterError
from xorpack.torch.weight import TiedWeight, XorWeight


def put(module: nn.Module, name: str, weight: XorWeight | TiedWeight) -> None:
    """Let an encoded weight stand in the place of a parameter.

    Args:
        module: the layer.
        name: of its parameter.
        weight: of the parameter's shape.

    Raises:
        ParameterError: there is no such parameter, or it has another shape, or the layer would not see the change.
    """
    if keeps_lists(module):
        raise ParameterError(f"{type(module).__name__} keeps its weights in lists of its own: leave it dense")
    found = module._parameters.get(name)
    if found is None:
        raise ParameterError(f"{type(module).__name__} has no parameter {name!r}")
    if found.shape != weight.shape:
        raise ParameterError(
            f"weight {weight.source.name!r} is {tuple(weight.shape)}, and {type(module).__name__} has {name!r} of "
            f"{tuple(found.shape)}"
        )
    del module._parameters[name]
    module._modules[name] = weight


def keeps_lists(module: nn.Module) -> bool:
    """Whether a layer computes with lists of its parameters, and would not see another in the place of one."""
    return isinstance(module, nn.RNNBase)


def tie(module: nn.Module, name: str, source: XorWeight) -> None:
    """Let another layer's encoded weight stand in the place of a parameter, too; it is saved once.

    Raises:
        ParameterError: as :func:`put`.
    """
    put(module, name, TiedWeight(source))


def decode_module(model: nn.Module, dtype: torch.dtype | None = None) -> nn.Module:
    """Put decoded parameters, without gradients, in the place of all encoded weights; tied ones stay tied.

    Args:
        model: changed, and given back.
        dtype: of the parameters; default: what the weights decode to.
    """
    made: dict[int, nn.Parameter] = {}
    for module in list(model.modules()):
        for name, weight in list(module._modules.items()):
            if isinstance(weight, XorWeight | TiedWeight):
                source = weight.source
                if id(source) not in made:
                    dense = source.dense()
                    made[id(source)] = nn.Parameter(dense.to(dtype or dense.dtype), requires_grad=False)
                del module._modules[name]
                module.register_parameter(name, made[id(source)])
    return model
