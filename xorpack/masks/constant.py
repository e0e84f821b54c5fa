"""Mask codec ``constant``: all weights kept, or all pruned; no bytes.

Config: ``{"value": 1}`` = nothing pruned, ``{"value": 0}`` = everything.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xorpack.code.planes import CodedPlanes, Expand
from xorpack.code.words import Words, tail_mask
from xorpack.errors import FormatError

NAME = "constant"


def check(config: Mapping[str, Any], n_bytes: int, tensor: CodedPlanes) -> None:
    """See :class:`xorpack.masks.MaskCodec`."""
    value = config.get("value")
    if set(config) != {"value"} or type(value) is not int or value not in (0, 1):
        raise FormatError(f"mask codec constant needs value 0 or 1, has {dict(config)}")
    if n_bytes:
        raise FormatError(f"mask codec constant has no bytes, but {n_bytes} are given")


def decode(
    config: Mapping[str, Any],
    data: NDArray[np.uint8],
    tensor: CodedPlanes,
    first: int,
    last: int,
    expand: Expand,
    *,
    jobs: int = 1,
) -> Words:
    """See :class:`xorpack.masks.MaskCodec`."""
    row = tail_mask(tensor.layout.cols) if config["value"] else np.zeros(tensor.layout.chunks, np.uint32)
    return np.tile(row, (last - first, 1))
