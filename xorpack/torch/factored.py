"""Trellis weights while they are trained: levels that stand still, and scales and gains that do not.

A weight is ``w[r, c] = scales[r, g] * levels[r, c] * gains[c]``, outliers apart. Levels are decoded once and held,
which takes memory and saves time: with a scale for each row, ``y = scales * (levels (gains * x))`` needs no matrix
product for the gradients to scales and gains, and no step decodes anything.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from xorpack.code.scales import scale_values
from xorpack.code.words import unpack
from xorpack.decoders import cpu
from xorpack.elements import Trellis
from xorpack.encoded import EncodedTensor
from xorpack.tensors import NO_POSITIONS, NO_VALUES
from xorpack.torch.base import EncodedWeight
from xorpack.torch.weight import TiedWeight, XorWeight

BLOCK_ELEMENTS = 1 << 22
"""Levels that are made at a time."""


class FactoredWeight(EncodedWeight):
    """A trellis weight of one scale for a row or a group, which stands in the place of a :class:`XorWeight`.

    Attributes:
        weight: that of which this is.
        scales: float32 (rows, n_groups), trained.
        gains: float32 (cols,), trained; None where the weight has none.
        levels: (rows, cols) of the type that products are computed in, 0 where pruned and at outliers.
    """

    levels: Tensor
    outlier_rows: Tensor
    outlier_cols: Tensor
    outlier_values: Tensor

    def __init__(self, weight: XorWeight, dtype: torch.dtype = torch.float32) -> None:
        """Decode the levels of ``weight`` and hold them as ``dtype``."""
        super().__init__()
        encoded = weight.encoded()
        self.__dict__["weight"] = (
            weight  # not as a submodule, whose sections would be parameters and buffers, too
        )
        self._shape, self.compute_dtype, self.handle = weight.shape, weight.dtype, weight.handle
        elements = encoded.elements
        assert isinstance(elements, Trellis)
        self.group_size = elements.group_size or max(encoded.cols, 1)
        self.scales = nn.Parameter(torch.from_numpy(scale_values(elements.scales)))
        gains = elements.gains
        self.gains = None if gains is None else nn.Parameter(torch.from_numpy(gains.astype(np.float32)))
        trellis = encoded.trellis(None)
        rows, cols = np.divmod(trellis.positions, encoded.cols)
        values = trellis.values.astype(np.float32) * np.float32(trellis.outlier_unit)
        self.register_buffer("outlier_rows", torch.from_numpy(rows))
        self.register_buffer("outlier_cols", torch.from_numpy(cols))
        self.register_buffer("outlier_values", torch.from_numpy(values))
        levels = torch.empty(encoded.rows, encoded.cols, dtype=dtype)
        for first, block in _levels(encoded):
            levels[first : first + len(block)] = torch.from_numpy(block)
        levels[self.outlier_rows, self.outlier_cols] = 0
        self.register_buffer("levels", levels)

    @property
    def source(self) -> FactoredWeight:
        """Itself."""
        return self

    def sections(self) -> dict[str, Tensor]:
        """What it holds instead of sections."""
        return {"levels": self.levels}

    def decode(self) -> Tensor:
        """The weight, with gradients to scales and gains."""
        found = self._scaled(self.levels.float())
        if self.gains is not None:
            found = found * self.gains
        if len(self.outlier_values):
            found = found.index_put((self.outlier_rows, self.outlier_cols), self.outlier_values)
        return found.to(self.dtype).reshape(self.shape)

    def linear(self, x: Tensor, bias: Tensor | None) -> Tensor:
        """See :meth:`EncodedWeight.linear`."""
        given = x if self.gains is None else x * self.gains
        given = given.to(self.levels.dtype)
        if self.scales.shape[1] == 1:
            found = functional.linear(given, self.levels) * self.scales[:, 0]
        else:
            found = functional.linear(given, self._scaled(self.levels)).float()
        if len(self.outlier_values):
            apart = x[..., self.outlier_cols] * self.outlier_values
            found = found.index_add(-1, self.outlier_rows, apart.to(found.dtype))
        return (found if bias is None else found + bias).to(x.dtype)

    def lookup(self, indices: Tensor, padding: int = -1) -> Tensor:
        """See :meth:`EncodedWeight.lookup`."""
        return functional.embedding(indices, self.decode(), None if padding < 0 else padding)

    def trained_values(self) -> dict[str, NDArray[np.float32]]:
        """The values of scales and gains, the largest scale 1 if there are gains to take up what that changes."""
        scales: NDArray[np.float32] = self.scales.detach().cpu().numpy()
        if self.gains is None:
            return {"scales": scales}
        unit = max(scales.max(initial=0), np.float32(0)) or np.float32(1)
        gains: NDArray[np.float32] = self.gains.detach().cpu().numpy()
        return {"scales": scales / unit, "gains": gains * unit}

    def extra_repr(self) -> str:
        """What ``print(model)`` says of it."""
        return f"{tuple(self.shape)}, trained"

    def _scaled(self, levels: Tensor) -> Tensor:
        """Levels times the scales of their groups, of the levels' type."""
        if self.scales.shape[1] == 1:
            return levels * self.scales.to(levels.dtype)
        each = self.scales.repeat_interleave(self.group_size, 1)[:, : levels.shape[1]]
        return levels * each.to(levels.dtype)


def factor(model: nn.Module, dtype: torch.dtype = torch.float32) -> dict[str, FactoredWeight]:
    """Put factored weights in the place of all trellis weights of a model; by their names there.

    Tied weights follow.

    Args:
        model: changed.
        dtype: of the levels, in which products are computed.
    """
    found: dict[str, FactoredWeight] = {}
    made: dict[int, FactoredWeight] = {}
    for path, module in list(model.named_modules()):
        for name, weight in list(module._modules.items()):
            if isinstance(weight, XorWeight) and weight.record["kind"] == Trellis.KIND:
                made[id(weight)] = FactoredWeight(weight, dtype)
                module._modules[name] = found[f"{path}.{name}".lstrip(".")] = made[id(weight)]
    for module in model.modules():
        if isinstance(module, TiedWeight) and id(module.source) in made:
            module.__dict__["_source"] = made[id(module.source)]
    return found


def unfactor(model: nn.Module) -> None:
    """Inverse of :func:`factor`: the weights are those that were there before, tied ones too."""
    for module in list(model.modules()):
        for name, weight in list(module._modules.items()):
            if isinstance(weight, FactoredWeight):
                module._modules[name] = weight.__dict__["weight"]
    for module in model.modules():
        if isinstance(module, TiedWeight) and isinstance(
            source := module.__dict__["_source"], FactoredWeight
        ):
            module.__dict__["_source"] = source.__dict__["weight"]


def _levels(encoded: EncodedTensor) -> Iterator[tuple[int, NDArray[np.float32]]]:
    """Blocks of what the weights are where scales and gains are 1, float32, and the first row of each."""
    trellis = encoded.trellis(None)
    ones = np.ones(trellis.scales.shape, np.float32)
    unit = replace(trellis, scales=ones, gains=None, positions=NO_POSITIONS, values=NO_VALUES)
    step = max(1, BLOCK_ELEMENTS // max(encoded.cols, 1))
    for first in range(0, encoded.rows, step):
        last = min(first + step, encoded.rows)
        kept = unpack(cpu.load_mask(encoded, first, last), encoded.cols)
        yield first, np.where(kept, unit.dequantize_rows(first, last), np.float32(0))
