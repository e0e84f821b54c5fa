"""Mask codecs: one module each, joined by the closed table :data:`CODECS`.

A codec stores the kept/pruned bit of every weight. Its ``config`` is JSON that stands in the file
beside its bytes; :func:`select` picks the smallest for a mask.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from xorpack.errors import FormatError, ParameterError
from xorpack.masks.bitmap import Bitmap
from xorpack.masks.constant import Constant
from xorpack.words import Words

Config = dict[str, Any]


class MaskCodec(Protocol):
    """What a mask codec does. ``mask``: uint32 words (rows, chunks) as :mod:`xorpack.words` packs."""

    name: str

    def encode(self, mask: Words, cols: int) -> tuple[Config, NDArray[np.uint8]] | None:
        """``(config, bytes)``, or None where this codec cannot store the mask."""

    def check(self, config: Mapping[str, Any], n_bytes: int, rows: int, cols: int) -> None:
        """Raise FormatError unless ``config`` and ``n_bytes`` suit a mask of rows x cols."""

    def decode(
        self,
        config: Mapping[str, Any],
        data: NDArray[np.uint8],
        cols: int,
        first: int,
        last: int,
    ) -> Words:
        """The words of rows ``first .. last - 1``."""


CODECS: Mapping[str, MaskCodec] = {codec.name: codec for codec in (Constant(), Bitmap())}


def codec(name: object) -> MaskCodec:
    """The codec that a file names."""
    if not isinstance(name, str) or name not in CODECS:
        raise FormatError(f"unknown mask codec {name!r}; known: {', '.join(CODECS)}")
    return CODECS[name]


def select(mask: Words, cols: int, name: str = "auto") -> tuple[str, Config, NDArray[np.uint8]]:
    """Encode a mask with the named codec, or with the smallest one: ``(name, config, bytes)``."""
    if name != "auto" and name not in CODECS:
        raise ParameterError(f"mask codec {name!r} is not one of auto, {', '.join(CODECS)}")
    best: tuple[str, Config, NDArray[np.uint8]] | None = None
    for candidate in CODECS.values() if name == "auto" else (CODECS[name],):
        encoded = candidate.encode(mask, cols)
        if encoded is not None and (best is None or encoded[1].size < best[2].size):
            best = (candidate.name, *encoded)
    if best is None:
        raise ParameterError(f"mask codec {name!r} cannot store this mask")
    return best
