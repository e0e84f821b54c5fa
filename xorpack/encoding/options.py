"""What a caller of :func:`xorpack.encode` asks for: the first of its three acts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from xorpack.code.network import XorNetwork
from xorpack.encoding.fields.choice import FieldChoice
from xorpack.encoding.masks.choice import Choice, Prefer
from xorpack.encoding.rings.tensor import ENCODERS
from xorpack.errors import ParameterError
from xorpack.masks.bmf import Factors

Encoder = Literal["elimination", "viterbi"]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Options:
    """The keywords of :func:`xorpack.encode`, checked one by one and against each other."""

    network: XorNetwork | None = None
    encoder: Encoder = "elimination"
    rate: float | None = None
    lanes: int | None = None
    mask_codec: Choice = "auto"
    prefer: Prefer = "size"
    factors: Factors | None = None
    field: FieldChoice = "auto"
    jobs: int = 1

    def __post_init__(self) -> None:
        if self.encoder not in ENCODERS:
            raise ParameterError(f"encoder {self.encoder!r} is not one of {', '.join(ENCODERS)}")
        if self.rate is not None and not 0 < self.rate <= 1:
            raise ParameterError(f"rate {self.rate} is outside (0, 1]")
        if self.encoder == "viterbi" and (self.network is None or self.network.family == "quasi-cyclic"):
            raise ParameterError(
                "encoder 'viterbi' needs a network without rotations: XorNetwork.dense or .sparse"
            )
        if self.field not in get_args(FieldChoice):
            raise ParameterError(f"field {self.field!r} is not one of {', '.join(get_args(FieldChoice))}")
        if self.jobs < 1:
            raise ParameterError(f"jobs = {self.jobs} is less than 1")
