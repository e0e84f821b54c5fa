"""Mask codec ``constant``: all weights kept, or all pruned; no bytes.

Config: ``{"value": 1}`` = nothing pruned, ``{"value": 0}`` = everything.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from xorpack.code.planes import CodedPlanes, Expand
from xorpack.code.words import Words, n_chunks, tail_mask
from xorpack.errors import FormatError
from xorpack.masks.mask import Mask, shape_of


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Constant(Mask):
    """Every weight's bit is ``value``, 0 or 1."""

    NAME: ClassVar[str] = "constant"

    value: int

    def __post_init__(self) -> None:
        if self.data.size:
            raise FormatError(f"mask codec constant has no bytes, but {self.data.size} are given")

    @classmethod
    def from_config(cls, config: Mapping[str, Any], data: NDArray[np.uint8], tensor: CodedPlanes) -> Constant:
        """See :class:`Mask`."""
        value = config.get("value")
        if set(config) != {"value"} or type(value) is not int or value not in (0, 1):
            raise FormatError(f"mask codec constant needs value 0 or 1, has {dict(config)}")
        return cls(shape=shape_of(tensor), data=data, value=value)

    def get_config(self) -> dict[str, Any]:
        """See :class:`Mask`."""
        return {"value": self.value}

    def rows(self, first: int, last: int, expand: Expand, *, jobs: int = 1) -> Words:
        """See :class:`Mask`."""
        cols = self.shape[1]
        row = tail_mask(cols) if self.value else np.zeros(n_chunks(cols), np.uint32)
        return np.tile(row, (last - first, 1))
