"""Tensors of an encoded file, read when they are asked for: here, or in another process that they are sent to."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xorpack.encoded import EncodedTensor
from xorpack.errors import CorruptError, FormatError, ParameterError
from xorpack.files.rebuild import build, check_stored
from xorpack.files.record import Record
from xorpack.files.safetensors_file import StoredTensor


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class EncodedInFile:
    """An encoded tensor.

    Attributes:
        path: of its file, for messages.
        name: of the tensor.
        record: what the file says of it.
        sections: what it is made of, by the names there; others may be among them.
        version: of the file.
        verify: whether its bytes are compared with their checksum when they are read.
    """

    path: Path
    name: str
    record: Record
    sections: Mapping[str, StoredTensor]
    version: int
    verify: bool = True

    @property
    def shape(self) -> tuple[int, ...]:
        """Sizes of the axes."""
        return tuple(self.record["shape"])

    @property
    def dtype(self) -> str:
        """Name of the type that it decodes to."""
        return str(self.record["dtype"])

    @property
    def n_weights(self) -> int:
        """Weights, pruned ones included."""
        return math.prod(self.shape)

    @property
    def label(self) -> str:
        """How messages call it."""
        return f"{self.path}: tensor {self.name!r}"

    def load(self) -> EncodedTensor:
        """Read it.

        Raises:
            FormatError, CorruptError: it breaks a rule, or its bytes are not those that were written.
            SourceError: the file changed since it was opened.
        """
        tensor = self.build(StoredTensor.array)
        if self.verify:
            try:
                check_stored(tensor)
            except FormatError as error:
                raise type(error)(f"{self.label}: {error}") from None
        return tensor

    def build(self, load: Callable[[StoredTensor], NDArray[Any]]) -> EncodedTensor:
        """Make it of its sections, whose arrays ``load`` gives; errors do not name the file."""
        try:
            return build(self.record, self.name, self.sections, self.version, load)
        except (ParameterError, FormatError) as error:
            raise FormatError(f"tensor {self.name!r}: {error}") from None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class CarriedInFile:
    """A tensor that is stored as it was.

    Attributes:
        path: of its file, for messages.
        name: of the tensor.
        stored: itself.
        sha256: of its bytes, or None if nothing is known of them.
    """

    path: Path
    name: str
    stored: StoredTensor
    sha256: str | None

    def load(self) -> StoredTensor:
        """Read and check it.

        Raises:
            CorruptError: its bytes do not match their checksum.
        """
        held = StoredTensor(self.stored.dtype, self.stored.shape, self.stored.data)
        self.check(held.sha256())
        return held

    def blocks(self) -> Iterator[NDArray[np.uint8]]:
        """Read it, some megabytes at a time; what :meth:`load` raises, this does behind the last."""
        digest = hashlib.sha256()
        for block in self.stored.blocks():
            digest.update(block.data)
            yield block
        self.check(digest.hexdigest())

    def check(self, sha256: str) -> None:
        """Raise CorruptError unless this is its digest, as far as that is known."""
        if self.sha256 not in (None, sha256):
            raise CorruptError(
                f"{self.path}: carried tensor {self.name!r}: bytes do not match their checksum"
            )
