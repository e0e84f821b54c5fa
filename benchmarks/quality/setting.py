"""A setting on the command line, ``METHOD:NAME=VALUE,...``, and what it makes of a weight."""

from __future__ import annotations

import ast
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

import xorpack
from benchmarks.quality.incoherence import rotation
from xorpack.encoding.quantize.bcq import quantize as quantize_bcq
from xorpack.encoding.quantize.trellis import quantize_trellis

QUANTIZERS: dict[str, Callable[..., Any]] = {"bcq": quantize_bcq, "trellis": quantize_trellis}


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """``dense``, or a quantizer and its keywords; ``rotate=True`` transforms the inputs first."""

    text: str
    method: str
    options: dict[str, Any] = field(default_factory=dict)
    rotate: bool = False

    @classmethod
    def parse(cls, text: str) -> Setting:
        """Read a setting.

        Raises:
            ValueError: there is no such method, or an option is not ``NAME=VALUE``.
        """
        method, _, rest = text.partition(":")
        if method not in ("dense", *QUANTIZERS):
            raise ValueError(f"{text!r}: method {method!r} is not one of dense, {', '.join(QUANTIZERS)}")
        options = {}
        for option in filter(None, rest.split(",")):
            name, equals, value = option.partition("=")
            if not equals:
                raise ValueError(f"{text!r}: {option!r} is not NAME=VALUE")
            try:
                options[name] = ast.literal_eval(value)
            except (SyntaxError, ValueError):
                raise ValueError(f"{text!r}: {value!r} is no value") from None
        rotate = options.pop("rotate", False)
        return cls(text=text, method=method, options=options, rotate=rotate)

    def apply(self, weight: NDArray[np.float32], jobs: int) -> tuple[NDArray[np.float32], int]:
        """The weight as it is decoded, float32 of the same shape, and the bytes of all stored sections."""
        if self.method == "dense":
            return weight, weight.nbytes
        turn = rotation(weight.shape[1]) if self.rotate else None
        given = weight if turn is None else (weight @ turn).astype(np.float32)
        encoded = xorpack.encode(QUANTIZERS[self.method](given, jobs=jobs, **self.options), jobs=jobs)
        decoded = xorpack.decode(encoded, jobs=jobs).dequantize()
        found = decoded if turn is None else (decoded @ turn.T).astype(np.float32)
        return found, sum(encoded.section_bytes().values())
