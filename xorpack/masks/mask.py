"""What every mask codec is: a value that is parsed and checked once, then read by rows."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from xorpack.code.planes import CodedPlanes, Expand
from xorpack.code.words import Words
from xorpack.errors import FormatError


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Mask(ABC):
    """A mask as it is stored. Config and size of the section hold every rule; its bytes are read by :meth:`rows`.

    Attributes:
        NAME: the codec's, as files have it.
        shape: rows and columns of the matrix of weights.
        data: uint8, the section.
    """

    NAME: ClassVar[str]

    shape: tuple[int, int]
    data: NDArray[np.uint8]

    @classmethod
    @abstractmethod
    def from_config(cls, config: Mapping[str, Any], data: NDArray[np.uint8], tensor: CodedPlanes) -> Self:
        """The mask of a file. ``tensor``: the code of the tensor's planes, which may be a network of the mask too.

        Raises:
            FormatError: the config or the size of the section breaks a rule.
        """

    @abstractmethod
    def get_config(self) -> dict[str, Any]:
        """What stands in the record: JSON, of which :meth:`from_config` makes the same mask."""

    @abstractmethod
    def rows(self, first: int, last: int, expand: Expand, *, jobs: int = 1) -> Words:
        """The words of rows ``first .. last - 1``: uint32 (rows, chunks).

        Args:
            first, last: within ``shape``.
            expand: the decoder's.
            jobs: threads.

        Raises:
            FormatError: the bytes of the section break a rule.
        """

    def check(self, tensor: CodedPlanes) -> None:
        """Raise FormatError unless this is a mask for a tensor of that code."""
        rows, cols = self.shape
        if (rows, cols) != shape_of(tensor):
            raise FormatError(
                f"mask of {rows} x {cols} for {tensor.layout.rows} x {tensor.layout.cols} weights"
            )


def shape_of(tensor: CodedPlanes) -> tuple[int, int]:
    """Rows and columns of the matrix of weights."""
    return tensor.layout.rows, tensor.layout.cols
