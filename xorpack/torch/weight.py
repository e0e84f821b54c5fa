"""The module that stands in a layer in the place of a weight."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Self, cast

import numpy as np
import torch
from torch import nn
from torch.nn import functional

import xorpack
from xorpack.decoders import cpu
from xorpack.elements import Lossless
from xorpack.encoded import EncodedTensor
from xorpack.errors import CorruptError, ParameterError
from xorpack.files.record import RECORD, from_sections, pack_record, to_record, unpack_record
from xorpack.torch import ops
from xorpack.torch.arrays import TORCH, to_numpy, to_torch

PREFIX = "xor_"
"""Begins the names of an encoded weight's buffers, and of a file's sections behind the tensor's name."""


class _Weight(nn.Module):
    """What layers, and the code around them, read of a weight."""

    requires_grad = False
    _is_hf_initialized = True  # else transformers' models would initialize it

    @property
    def source(self) -> XorWeight:
        """The weight that is computed with."""
        raise NotImplementedError

    @property
    def shape(self) -> torch.Size:
        """Of the decoded weight."""
        return torch.Size(self.source.record["shape"])

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
        found: torch.Tensor = ops.decode(source.operands(), source.handle, list(self.shape), self.dtype)
        return found

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
        return function(*map(_decoded, args), **{key: _decoded(value) for key, value in kwargs.items()})


class XorWeight(_Weight):
    """An encoded weight: its sections are buffers, named as in a file, so that a state dict holds what a file does.

    Layers take it for their weight: a linear layer multiplies by it as it is, an embedding decodes the rows that it
    looks up, all else decodes it whole and throws that away. Casting changes what it decodes to, never its sections.

    Attributes:
        record: the parameters of the encoded tensor, as in a file.
        name: of the tensor, for messages.
        compute_dtype: what it decodes to.
        handle: names it for the operators of :mod:`xorpack.torch.ops` in this process.
    """

    xor_record: torch.Tensor

    def __init__(
        self,
        record: Mapping[str, Any],
        sections: Mapping[str, torch.Tensor],
        *,
        name: str = "",
        dtype: torch.dtype | None = None,
    ) -> None:
        """See :meth:`of`.

        Args:
            record: as a file has it, without its digest.
            sections: ``code`` and so on; on the meta device if bytes are to come later.
            name: of the tensor, for messages.
            dtype: what it decodes to; default: the type that was encoded.
        """
        super().__init__()
        self.record, self.name = dict(record), name
        self.compute_dtype = dtype or TORCH[self.record["dtype"]]
        for section, tensor in sections.items():
            self.register_buffer(PREFIX + section, tensor)
        self.seal()
        self._encoded: tuple[Any, EncodedTensor] | None = None
        self.handle = ops.register(self)

    @classmethod
    def of(cls, encoded: EncodedTensor, *, name: str = "", dtype: torch.dtype | None = None) -> Self:
        """The module of an encoded tensor.

        Args:
            encoded: of it; sections of a file that is open for reading only are copied.
            name: of the tensor, for messages.
            dtype: what it decodes to; default: the type that was encoded.
        """
        sections = {section: to_torch(array) for section, array in encoded.sections().items()}
        return cls(to_record(encoded), sections, name=name, dtype=dtype)

    @property
    def source(self) -> XorWeight:
        """Itself."""
        return self

    def sections(self) -> dict[str, torch.Tensor]:
        """Sections by their names in :data:`xorpack.encoded.SECTIONS`."""
        own = {**self._buffers, **self._parameters}
        return {
            key.removeprefix(PREFIX): value
            for key, value in own.items()
            if value is not None and key != PREFIX + RECORD
        }

    def operands(self) -> list[torch.Tensor]:
        """What operators take: a compiler sees by it that their results depend on the sections."""
        return list(self.sections().values())

    def encoded(self) -> EncodedTensor:
        """The encoded tensor, on the sections as they are.

        Raises:
            FormatError, CorruptError: sections do not fit the record; or have no bytes yet.
        """
        sections = self.sections()
        state = [(t.data_ptr(), 0 if t.is_inference() else t._version, t.device) for t in sections.values()]
        if self._encoded is None or self._encoded[0] != state:
            if self.is_meta:
                raise ParameterError(f"weight {self.name!r}: its sections were not loaded")
            arrays = {section: to_numpy(tensor) for section, tensor in sections.items()}
            self._encoded = state, from_sections(self.record, arrays, name=self.name, verify=False)
        return self._encoded[1]

    def seal(self) -> None:
        """Let the buffer of the record hold the record."""
        packed = to_torch(pack_record(self.record))
        self.register_buffer(PREFIX + RECORD, packed if self.is_meta else packed.to(self.device))

    def check(self) -> None:
        """Look into the sections.

        Raises:
            FormatError, CorruptError: sections are not those of the record, which a file's reader would refuse, too.
        """
        if unpack_record(to_numpy(self.xor_record)) != self.record:
            raise CorruptError(f"weight {self.name!r}: it was loaded with the record of another")
        arrays = {section: to_numpy(tensor) for section, tensor in self.sections().items()}
        from_sections(self.record, arrays, name=self.name)

    def dense(self) -> torch.Tensor:
        """The weight, decoded now, whatever a compiler would make of it."""
        found = to_torch(cpu.decode_dense(self.encoded(), jobs=torch.get_num_threads()))
        return found.to(device=self.device, dtype=self.compute_dtype)

    def rows(self, indices: torch.Tensor) -> torch.Tensor:
        """Rows of the weight by their numbers, decoded; shape of ``indices`` and a row's."""
        wanted, back = np.unique(to_numpy(indices), return_inverse=True)
        encoded = self.encoded()
        if len(wanted) and not 0 <= wanted[0] <= wanted[-1] < encoded.rows:
            raise IndexError(f"row {wanted[0]} or {wanted[-1]} is outside the weight's {encoded.rows}")
        found = np.empty((len(wanted), encoded.cols), xorpack.tensors.DTYPES[encoded.dtype])
        for i, row in enumerate(wanted):
            found[i] = cpu.decode_rows(encoded, int(row), int(row) + 1)[0]
        taken = to_torch(found)[torch.from_numpy(back.reshape(-1))]
        return taken.to(device=self.device, dtype=self.compute_dtype).reshape(*indices.shape, *self.shape[1:])

    def product(self, x: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
        """``x W^T + bias``; of lossless weights the very bits that the layer gave before."""
        encoded = self.encoded()
        if isinstance(encoded.elements, Lossless) or len(self.shape) != 2:
            return functional.linear(x, self.dense(), bias)
        return functional.linear(x, self.dense(), bias)

    def extra_repr(self) -> str:
        """What ``print(model)`` says of it."""
        size = sum(section.nbytes for section in self.sections().values())
        return f"{tuple(self.shape)}, {self.record['kind']}, {8 * size / max(self.numel(), 1):.3f} bits per weight"

    def _apply(self, fn: Callable[[torch.Tensor], torch.Tensor], recurse: bool = True) -> Self:
        """Move sections, as bytes; note the type that a cast asks for."""
        self.compute_dtype = fn(torch.empty(0, dtype=self.compute_dtype, device=self.device)).dtype
        for key, tensor in self._buffers.items():
            if tensor is not None:
                moved = fn(tensor.view(torch.uint8))
                self._buffers[key] = moved.to(torch.uint8).view(tensor.dtype)
        return self

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_encoded": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)  # type: ignore[no-untyped-call]
        self.handle = ops.register(self)


class TiedWeight(_Weight):
    """The weight of another layer, in a second place: it owns nothing, and a state dict holds nothing of it."""

    def __init__(self, source: XorWeight) -> None:
        super().__init__()
        self.__dict__["_source"] = source  # not as a submodule, whose sections would be saved twice

    @property
    def source(self) -> XorWeight:
        """The weight that is computed with."""
        return cast(XorWeight, self.__dict__["_source"])

    def extra_repr(self) -> str:
        """What ``print(model)`` says of it."""
        return f"{tuple(self.shape)}, tied"


def _decoded(value: Any) -> Any:
    return value.decode() if isinstance(value, _Weight) else value


def _linear(x: Any, weight: Any, bias: Any = None) -> Any:
    if not isinstance(weight, _Weight) or isinstance(x, _Weight):
        return functional.linear(_decoded(x), _decoded(weight), _decoded(bias))
    if torch.is_autocast_enabled(x.device.type):
        x = x.to(torch.get_autocast_dtype(x.device.type))
    source = weight.source
    return ops.linear(x, source.operands(), bias, source.handle, weight.shape[0])


def _embedding(
    indices: Any, weight: Any, padding_idx: Any = None, max_norm: Any = None, *rest: Any, **how: Any
) -> Any:
    if max_norm is not None:
        raise ParameterError("max_norm changes rows of an embedding, and those of an encoded one are fixed")
    source = weight.source
    return ops.rows(indices, source.operands(), source.handle, list(weight.shape[1:]), weight.dtype)
