"""A setting on the command line, ``METHOD:NAME=VALUE,...``, and what it makes of a weight."""

from __future__ import annotations

import ast
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

import xorpack
from benchmarks import quantizers
from benchmarks.quality.calibrated import CALIBRATED
from benchmarks.quality.incoherence import rotation

Weight = NDArray[np.float32]

OURS: dict[str, Callable[..., Any]] = {
    "bcq": xorpack.quantize,
    "trellis": partial(xorpack.quantize, method="trellis"),
    "lossless": lambda weight, jobs: weight,
}
"""What is encoded, from a weight, ``jobs`` and the options."""

PEERS: dict[str, Callable[..., Callable[[Weight], quantizers.Stored]]] = {
    "entropack": lambda rate: lambda weight: quantizers.entropack(weight, rate),
    "hqq": lambda bits, group=64: quantizers.hqq(bits, group, 1),
    "gguf": quantizers.gguf_type,
}
"""From the options, what gives the bits and the weights."""

METHODS = ("dense", *OURS, *PEERS, *CALIBRATED)

TUNED = ("bcq", "trellis", "fit")
"""Those whose scales can be trained."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """``dense``, or a quantizer and its keywords.

    ``rotate=True`` transforms the inputs first; ``guided=True`` is of guided statistics, see ``xorpack calibrate``;
    ``tune=True`` trains scales afterwards.
    """

    text: str
    method: str
    options: dict[str, Any] = field(default_factory=dict)
    rotate: bool = False
    guided: bool = False
    tune: bool = False

    @classmethod
    def parse(cls, text: str) -> Setting:
        """Read a setting.

        Raises:
            ValueError: there is no such method, or an option is not ``NAME=VALUE``.
        """
        method, _, rest = text.partition(":")
        if method not in METHODS:
            raise ValueError(f"{text!r}: method {method!r} is not one of {', '.join(METHODS)}")
        options = {}
        for option in filter(None, rest.split(",")):
            name, equals, value = option.partition("=")
            if not equals:
                raise ValueError(f"{text!r}: {option!r} is not NAME=VALUE")
            try:
                options[name] = ast.literal_eval(value)
            except (SyntaxError, ValueError):
                raise ValueError(f"{text!r}: {value!r} is no value") from None
        turned = {name: options.pop(name, False) for name in ("rotate", "guided", "tune")}
        if turned["guided"] and method not in CALIBRATED:
            raise ValueError(f"{text!r}: guided is of {', '.join(CALIBRATED)}")
        if turned["tune"] and (turned["rotate"] or method not in TUNED):
            raise ValueError(f"{text!r}: only {', '.join(TUNED)} have scales to train, inputs as they are")
        return cls(text=text, method=method, options=options, **turned)

    @property
    def is_calibrated(self) -> bool:
        """Whether it needs Hessians."""
        return self.method in CALIBRATED

    def apply(
        self,
        weight: Weight,
        jobs: int,
        hessian: NDArray[Any] | None = None,
        rows_hessian: NDArray[Any] | None = None,
    ) -> tuple[Weight, float]:
        """The weight as it is decoded, float32 of the same shape, and the bytes of all that is stored for it."""
        if self.method == "dense":
            return weight, weight.nbytes
        if self.is_calibrated:
            return CALIBRATED[self.method](weight, hessian, rows_hessian=rows_hessian, **self.options)
        turn = rotation(weight.shape[1]) if self.rotate else None
        given = weight if turn is None else (weight @ turn).astype(np.float32)
        decoded, n_bytes = self._decoded(given, jobs)
        return decoded if turn is None else (decoded @ turn.T).astype(np.float32), n_bytes

    def encode(
        self,
        weight: Weight,
        jobs: int,
        hessian: NDArray[Any] | None = None,
        rows_hessian: NDArray[Any] | None = None,
    ) -> xorpack.EncodedTensor:
        """The weight as it is stored by one of :data:`OURS`, or by ``fit``."""
        made = OURS.get(self.method, partial(xorpack.fit, hessian=hessian, rows_hessian=rows_hessian))
        return xorpack.encode(made(weight, jobs=jobs, **self.options), jobs=jobs)

    def _decoded(self, weight: Weight, jobs: int) -> tuple[Weight, float]:
        if self.method in PEERS:
            bits, found = PEERS[self.method](**self.options)(weight)
            return found, bits / 8
        encoded = self.encode(weight, jobs)
        decoded = xorpack.decode(encoded, jobs=jobs)
        if not isinstance(decoded, np.ndarray):
            decoded = decoded.dequantize()
        return decoded, sum(encoded.section_bytes().values())
