"""The modules that stand in layers in the place of weights."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Self, cast

import torch
from torch import Tensor, nn

from xorpack.encoded import EncodedTensor
from xorpack.errors import CorruptError, ParameterError, XorpackError
from xorpack.files.rebuild import from_sections
from xorpack.files.record import RECORD, pack_record, to_record, unpack_record
from xorpack.torch import ops
from xorpack.torch.arrays import TORCH, to_numpy, to_torch
from xorpack.torch.base import EncodedWeight
from xorpack.torch.loaded import LoadedWeight

PREFIX = "xor_"
"""Begins the names of an encoded weight's buffers, and of a file's sections behind the tensor's name."""

CODE = PREFIX + "code"
"""The buffer of code words, uint32."""

SCALES = PREFIX + "scales"
"""The buffer of scales; a parameter while they are trained."""


class XorWeight(EncodedWeight):
    """An encoded weight: its sections are buffers, named as in a file, so that a state dict holds what a file does.

    Casting changes what it decodes to, never its sections. A state dict of another encoding of a weight of the same
    shape can be loaded, too. Sections that changed are compared with the record's checksum when they are used next.

    Attributes:
        record: the parameters of the encoded tensor, as in a file.
        name: of the tensor, for messages.
        compute_dtype: what it decodes to.
        handle: names it for the operators of :mod:`xorpack.torch.ops` in this process.
        scales_dtype: what scales are stored in, while they are trained.
    """

    xor_record: Tensor
    xor_scales: Tensor
    scales_dtype: torch.dtype

    def __init__(
        self,
        record: Mapping[str, Any],
        sections: Mapping[str, Tensor],
        *,
        name: str = "",
        dtype: torch.dtype | None = None,
    ) -> None:
        """See :meth:`of`.

        Args:
            record: as a file has it, without its digest.
            sections: ``code`` and so on; on the meta device if :meth:`fill` is to bring them.
            name: of the tensor, for messages.
            dtype: what it decodes to; default: the type that was encoded.
        """
        super().__init__()
        self.record, self.name = dict(record), name
        self._shape = torch.Size(self.record["shape"])
        self.compute_dtype = dtype or TORCH[self.record["dtype"]]
        for section, tensor in sections.items():
            self.register_buffer(PREFIX + section, tensor)
        if not self.is_meta:
            self.seal()
        self._loaded: tuple[Any, LoadedWeight] | None = None
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

    def sections(self) -> dict[str, Tensor]:
        """Sections by their names in :data:`xorpack.encoded.SECTIONS`."""
        own = {**self._buffers, **self._parameters}
        return {
            key.removeprefix(PREFIX): value
            for key, value in own.items()
            if value is not None and key != PREFIX + RECORD
        }

    def encoded(self) -> EncodedTensor:
        """The encoded tensor, on the sections as they are; scales that are trained are float32.

        Raises:
            ParameterError: sections have no bytes yet.
            FormatError, CorruptError: sections do not fit the record.
        """
        return self.loaded(self.trained).encoded

    def loaded(self, scales: Tensor | None) -> LoadedWeight:
        """The encoded tensor, made ready, with ``scales`` where they are trained; errors as :meth:`encoded`."""
        sections = self.sections() if scales is None else {**self.sections(), "scales": scales}
        state = _state(sections)
        if self._loaded is None or self._loaded[0] != state:
            if self.is_meta:
                raise ParameterError(f"weight {self.name!r}: its sections were not loaded")
            self._loaded = None  # so that two are never held
            arrays = {section: to_numpy(tensor) for section, tensor in sections.items()}
            encoded = from_sections(self.record, arrays, name=self.name, verify=scales is None)
            self._loaded = state, LoadedWeight(encoded, self.device, changes=scales is not None)
        return self._loaded[1]

    def fill(self, encoded: EncodedTensor) -> None:
        """Take sections in the place of those without bytes, on their device; they are not checked again.

        Args:
            encoded: what the record describes, checked.
        """
        device = self.device
        for section, array in encoded.sections().items():
            self.register_buffer(PREFIX + section, to_torch(array).to(device))
        self.seal()
        self._loaded = _state(self.sections()), LoadedWeight(encoded, device)

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
        self.encoded()

    def dense(self, scales: Tensor | None = None) -> Tensor:
        """See :class:`xorpack.torch.ops.Weight`."""
        return self.loaded(scales).dense().to(self.compute_dtype)

    def rows(self, indices: Tensor, scales: Tensor | None = None) -> Tensor:
        """See :class:`xorpack.torch.ops.Weight`: shape of ``indices`` and a row's."""
        found = self.loaded(scales).rows(indices).to(self.compute_dtype)
        return found.reshape(*indices.shape, *self.shape[1:])

    def product(self, x: Tensor, bias: Tensor | None, scales: Tensor | None = None) -> Tensor:
        """See :class:`xorpack.torch.ops.Weight`; of lossless weights the very bits that the layer gave before."""
        return self.loaded(scales).product(x, bias, self.compute_dtype)

    def scale_gradient(self, gradient: Tensor, indices: Tensor | None = None) -> Tensor:
        """See :class:`xorpack.torch.ops.Weight`."""
        return self.loaded(self.trained).scale_gradient(gradient, indices)

    def extra_repr(self) -> str:
        """What ``print(model)`` says of it."""
        bits = 8 * sum(section.nbytes for section in self.sections().values()) / max(self.numel(), 1)
        trained = "" if self.trained is None else ", scales trained"
        return f"{tuple(self.shape)}, {self.record['kind']}, {bits:.3f} bits per weight{trained}"

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        """Move sections, as bytes; note the type that a cast asks for."""
        self.compute_dtype = fn(torch.empty(0, dtype=self.compute_dtype, device=self.device)).dtype
        for key, tensor in self._buffers.items():
            if tensor is not None:
                self._buffers[key] = _moved(tensor, fn)
        for key, parameter in self._parameters.items():
            if parameter is None:
                continue
            moved = _moved(parameter.data, fn)
            if torch._has_compatible_shallow_copy_type(parameter.data, moved):
                parameter.data = moved  # an optimizer's
            else:
                self._parameters[key] = nn.Parameter(moved, parameter.requires_grad)
            if parameter.grad is not None:
                cast(nn.Parameter, self._parameters[key]).grad = _moved(parameter.grad, fn)
        return self

    def _load_from_state_dict(
        self,
        state_dict: Any,
        prefix: str,
        local_metadata: Any,
        strict: bool,
        missing_keys: list[str],
        unexpected_keys: list[str],
        error_msgs: list[str],
    ) -> None:
        record = state_dict.get(f"{prefix}{PREFIX}{RECORD}")
        if record is not None and not record.is_meta:
            try:
                self._make_room(unpack_record(to_numpy(record)), state_dict, prefix)
            except XorpackError as error:
                error_msgs.append(f"{prefix[:-1]}: {error}")
        super()._load_from_state_dict(
            state_dict, prefix, local_metadata, strict, missing_keys, unexpected_keys, error_msgs
        )

    def _make_room(self, record: Mapping[str, Any], state_dict: Mapping[str, Tensor], prefix: str) -> None:
        """Take another record, and buffers as large as its sections are."""
        if record == self.record:
            return
        device = self.device
        if list(record.get("shape", ())) != list(self.shape):
            raise ParameterError(
                f"a weight of shape {record.get('shape')} cannot be loaded into {list(self.shape)}"
            )
        found = {
            key.removeprefix(prefix): value
            for key, value in state_dict.items()
            if key.startswith(prefix + PREFIX) and key.removeprefix(prefix) not in self._parameters
        }
        for key in [key for key in self._buffers if key not in found]:
            del self._buffers[key]
        for key, value in found.items():
            own = self._buffers.get(key)
            if own is None or own.shape != value.shape or own.dtype != value.dtype:
                self.register_buffer(key, torch.empty_like(value, device=device))
        self.record = dict(record)

    def __getstate__(self) -> dict[str, Any]:
        buffers = {**self._buffers, CODE: cast(Tensor, self._buffers[CODE]).view(torch.int32)}
        return {**self.__dict__, "_loaded": None, "_buffers": buffers}  # pickle knows no uint32 of PyTorch

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)  # type: ignore[no-untyped-call]
        self._buffers[CODE] = cast(Tensor, self._buffers[CODE]).view(torch.uint32)
        self.handle = ops.register(self)


class TiedWeight(EncodedWeight):
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


def _state(sections: Mapping[str, Tensor]) -> list[Any]:
    """What is another wherever a section is another, or was changed in place."""
    return [(t.data_ptr(), 0 if t.is_inference() else t._version, t.device) for t in sections.values()]


def _moved(tensor: Tensor, fn: Callable[[Tensor], Tensor]) -> Tensor:
    """What ``fn`` makes of a tensor if it sees bytes in it, which no cast changes."""
    flat = tensor.reshape(-1)
    if flat.numel() == 1:  # of any stride, but views need 1
        flat = flat.clone(memory_format=torch.contiguous_format)
    octets = fn(flat.view(torch.uint8)).to(torch.uint8)
    return octets.view(tensor.dtype).reshape(tensor.shape)
