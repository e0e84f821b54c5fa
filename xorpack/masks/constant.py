"""Mask codec ``constant``: all weights kept, or all pruned; no bytes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xorpack.errors import FormatError
from xorpack.words import Words, n_chunks, tail_mask


class Constant:
    """Config: ``{"value": 1}`` = nothing pruned, ``{"value": 0}`` = everything."""

    name = "constant"

    def encode(self, mask: Words, cols: int) -> tuple[dict[str, Any], NDArray[np.uint8]] | None:
        """See :class:`xorpack.masks.MaskCodec`."""
        nothing = np.zeros(0, np.uint8)
        if not mask.any():
            return {"value": 0}, nothing
        if (mask == tail_mask(cols)).all():
            return {"value": 1}, nothing
        return None

    def check(self, config: Mapping[str, Any], n_bytes: int, rows: int, cols: int) -> None:
        """See :class:`xorpack.masks.MaskCodec`."""
        value = config.get("value")
        if set(config) != {"value"} or type(value) is not int or value not in (0, 1):
            raise FormatError(f"mask codec constant needs value 0 or 1, has {dict(config)}")
        if n_bytes:
            raise FormatError(f"mask codec constant has no bytes, but {n_bytes} are given")

    def decode(
        self,
        config: Mapping[str, Any],
        data: NDArray[np.uint8],
        cols: int,
        first: int,
        last: int,
    ) -> Words:
        """See :class:`xorpack.masks.MaskCodec`."""
        if config["value"]:
            return np.tile(tail_mask(cols), (last - first, 1))
        return np.zeros((last - first, n_chunks(cols)), np.uint32)
