"""Mask codecs: how the kept/pruned bit of every weight is read back. One module each.

The closed table :data:`CODECS` joins them. A codec's ``config`` is JSON that stands in the file beside its
bytes. Encoders of masks are in :mod:`xorpack.encoding.masks.choice`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from xorpack.code.planes import CodedPlanes, Expand
from xorpack.code.words import Words
from xorpack.errors import FormatError
from xorpack.masks import bitmap, bmf, cascade, constant
from xorpack.masks.block import codec as block

Config = Mapping[str, Any]


class MaskCodec(Protocol):
    """What a mask codec does.

    ``tensor`` is the code of the tensor's planes: a codec takes rows, columns, network and order of
    coding from there.
    """

    NAME: str

    def check(self, config: Config, n_bytes: int, tensor: CodedPlanes) -> None:
        """Raise FormatError unless ``config`` and ``n_bytes`` suit the tensor."""

    def decode(
        self,
        config: Config,
        data: NDArray[np.uint8],
        tensor: CodedPlanes,
        first: int,
        last: int,
        expand: Expand,
        *,
        jobs: int = 1,
    ) -> Words:
        """The words of rows ``first .. last - 1``: uint32 (rows, chunks); ``jobs``: threads."""


CODECS: Mapping[str, MaskCodec] = {module.NAME: module for module in (constant, bitmap, cascade, block, bmf)}


def codec(name: object) -> MaskCodec:
    """The codec that a file names."""
    if not isinstance(name, str) or name not in CODECS:
        raise FormatError(f"unknown mask codec {name!r}; known: {', '.join(CODECS)}")
    return CODECS[name]
