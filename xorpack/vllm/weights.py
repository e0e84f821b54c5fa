"""What stands in a layer of vLLM in the place of its weight."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from xorpack.errors import FormatError, ParameterError
from xorpack.files.cuts import Cut
from xorpack.files.record import RECORD
from xorpack.torch import XorWeight
from xorpack.torch.weight import PREFIX
from xorpack.vllm.names import NamedTensor

ShardId = str | int | tuple[int, ...] | None
"""What vLLM calls the parts of a fused layer; None is all of a layer that has one."""

_QKV = {"q": 0, "k": 1, "v": 2}


class _Section(nn.Parameter):
    """Takes sections on their way from a file; it never holds one itself."""

    @property
    def output_dim(self) -> int:
        """What code asks for that is about to cut or to permute a weight's rows."""
        raise ParameterError(
            "this model's rows are reordered while vLLM loads them, and those of an encoded tensor cannot be; decode "
            "the directory with `xorpack decode`"
        )


class Stack(nn.Module):
    """The weight of a layer: tensors one below the other, encoded ones and carried ones.

    While vLLM loads, it has a parameter for each section, ``xor_code`` and so on, that takes those of all its tensors;
    after :meth:`seal`, an :class:`xorpack.torch.XorWeight` for each encoded tensor.

    Attributes:
        prefix: the layer's name, for messages.
        parts: what it is made of, of shapes as this device has them.
        cut: which piece of each the device has; None is all of it.
        shape, dtype: of the weight, decoded.
        device: that sections are loaded to.
    """

    def __init__(
        self, prefix: str, parts: Sequence[NamedTensor], dtype: torch.dtype, cut: Cut | None = None
    ) -> None:
        super().__init__()
        self.prefix, self.parts, self.dtype, self.cut = prefix, list(parts), dtype, cut
        self.rows = [part.shape[0] for part in parts]
        self.shape = torch.Size([sum(self.rows), parts[0].shape[1]])
        self.device = torch.empty(0).device
        self._loaded: dict[ShardId, dict[str, torch.Tensor]] = {}
        self._sealed: list[XorWeight | nn.Parameter] = []
        if cut is None:
            self._expect(self, {RECORD}.union(*(part.sections for part in parts)), self._take)
            return
        for index in range(cut.n):
            own = {RECORD}.union(*(part.pieces[index].sections for part in parts if part.pieces))
            self.add_module(replace(cut, index=index).suffix, room := nn.Module())
            self._expect(room, own, self._take if index == cut.index else _pass)

    @staticmethod
    def _expect(room: nn.Module, sections: Iterable[str], take: Callable[..., None]) -> None:
        """Let sections that vLLM loads into ``room`` be taken."""
        for section in sorted(sections):
            parameter = nn.Parameter(torch.empty(0, dtype=torch.uint8), requires_grad=False)
            parameter.__class__ = _Section
            parameter.weight_loader = partial(take, section)  # type: ignore[attr-defined]
            room.register_parameter(PREFIX + section, parameter)

    def load_weights(self, weights: Iterable[tuple[str, torch.Tensor]]) -> Iterator[str]:
        """Take sections, as vLLM's loader hands them to a module, and give their names."""
        for name, tensor in weights:
            piece, _, section = name.rpartition(".")
            if not piece or (self.cut and piece == self.cut.suffix):
                self._take(section.removeprefix(PREFIX), None, tensor)
            yield name

    def weight_loader(self, parameter: Any, tensor: torch.Tensor, shard_id: ShardId = None) -> None:
        """Take a carried part, as vLLM's fused layers hand it to what they have for their weight."""
        self._take("", parameter, tensor, shard_id)

    def _take(self, section: str, parameter: Any, tensor: torch.Tensor, shard_id: ShardId = None) -> None:
        shard = getattr(tensor, "shard_id", None) if shard_id is None else shard_id
        if section != RECORD:  # the header was read before, and has the records of early versions, too
            self._loaded.setdefault(shard, {})[section] = tensor.to(self.device, copy=True)

    def seal(self) -> None:
        """Make weights of what was loaded; a second call changes nothing.

        Raises:
            FormatError: a tensor, or a section of one, was not loaded.
            CorruptError: sections are not those that were encoded.
        """
        if self._sealed:
            return
        if len(self._loaded) != len(self.parts):
            names = ", ".join(repr(part.name) for part in self.parts)
            raise FormatError(
                f"layer {self.prefix!r}: {len(self._loaded)} of {len(self.parts)} tensors were loaded of {names}"
            )
        self._parameters.clear()
        self._modules.clear()
        for i, (shard, part) in enumerate(zip(sorted(self._loaded, key=_order), self.parts, strict=True)):
            setattr(self, f"part_{i}", weight := self._weight(part, self._loaded.pop(shard)))
            self._sealed.append(weight)

    def _weight(self, part: NamedTensor, sections: dict[str, torch.Tensor]) -> XorWeight | nn.Parameter:
        if self.cut and part.pieces:
            part = part.pieces[self.cut.index]
        expected = part.sections if part.record else {""}
        if absent := sorted(expected - set(sections)):
            raise FormatError(f"tensor {part.name!r}: {', '.join(absent) or 'it'} was not loaded")
        if part.record is None:
            dense = sections[""] if self.cut is None else self.cut.of(sections[""]).clone()
            if dense.shape != part.shape:
                raise FormatError(
                    f"tensor {part.name!r} is {part.shape}, and was loaded as {tuple(dense.shape)}"
                )
            return nn.Parameter(dense.to(self.dtype), requires_grad=False)
        weight = XorWeight(part.record, sections, name=part.name, dtype=self.dtype)
        weight.check()
        return weight

    def product(self, x: torch.Tensor, bias: torch.Tensor | None = None) -> torch.Tensor:
        """``x W^T + bias``: x (..., cols) to (..., rows)."""
        biases: Sequence[Any] = [None] * len(self.rows) if bias is None else torch.split(bias, self.rows)
        outputs = [functional.linear(x, w, b) for w, b in zip(self._sealed, biases, strict=True)]  # type: ignore[arg-type]
        return outputs[0] if len(outputs) == 1 else torch.cat(outputs, -1)

    def lookup(self, indices: torch.Tensor) -> torch.Tensor:
        """Rows by their numbers; of a stack of one."""
        (weight,) = self._sealed
        return functional.embedding(indices, weight)  # type: ignore[arg-type]


def _pass(section: str, parameter: Any, tensor: torch.Tensor, shard_id: ShardId = None) -> None:
    """Leave a section to the device that it is of."""


def _order(shard: ShardId) -> int:
    """Where in a stack a part belongs."""
    if isinstance(shard, tuple):
        return shard[0]
    return shard if isinstance(shard, int) else _QKV.get(shard or "", 0)
