"""What a caller of :func:`xorpack.encode` asks for: the first of its three acts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from xorpack import checks
from xorpack.code.layout import MAX_LANES
from xorpack.code.network import XorNetwork
from xorpack.cuda.choice import find_device
from xorpack.encoding.fields.choice import FieldChoice
from xorpack.encoding.masks.choice import Choice, Prefer
from xorpack.encoding.rings.elimination_gpu import check_window
from xorpack.encoding.rings.tensor import ENCODERS
from xorpack.errors import ParameterError
from xorpack.masks import Bmf, Cascade
from xorpack.masks.bmf import Factors

Encoder = Literal["elimination", "viterbi"]

Payload = Literal["auto", "xor", "packed"]
"""How the bits of kept weights are stored: as code, or packed (:mod:`xorpack.code.packed`); ``auto``: by ``prefer``."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class EncodingOptions:
    """The keywords of :func:`xorpack.encode`, checked one by one and against each other."""

    network: XorNetwork | None = None
    encoder: Encoder = "elimination"
    rate: float | None = None
    lanes: int | None = None
    mask_codec: Choice = "auto"
    prefer: Prefer = "size"
    payload: Payload = "auto"
    factors: Factors | None = None
    field: FieldChoice = "auto"
    jobs: int = 1
    device: str = "cpu"

    def __post_init__(self) -> None:
        if self.network is not None and not isinstance(self.network, XorNetwork):
            raise ParameterError(f"network {self.network!r} is not an XorNetwork")
        checks.choice("encoder", self.encoder, ENCODERS)
        if self.rate is not None and not 0 < checks.real("rate", self.rate) <= 1:
            raise ParameterError(f"rate = {self.rate} is outside (0, 1]")
        if self.lanes is not None:
            checks.whole("lanes", self.lanes, 1, MAX_LANES)
        checks.choice("field", self.field, get_args(FieldChoice))
        checks.choice("mask codec", self.mask_codec, get_args(Choice))
        checks.choice("prefer", self.prefer, get_args(Prefer))
        checks.choice("payload", self.payload, get_args(Payload))
        checks.whole("jobs", self.jobs, 1)
        self._check_together()
        if find_device(self.device) is not None:
            self._check_on_device()

    @property
    def packs(self) -> bool:
        """Whether bits of kept weights are packed: by ``auto`` never where something of the XOR code is asked for."""
        if self.payload == "auto":
            return self.prefer == "speed" and not self._of_code()
        return self.payload == "packed"

    def _of_code(self) -> list[str]:
        """What is asked for that only the XOR code has."""
        found = [name for name in ("network", "rate", "lanes") if getattr(self, name) is not None]
        found += ["encoder viterbi"] if self.encoder == "viterbi" else []
        return found + (["mask codec cascade"] if self.mask_codec == Cascade.NAME else [])

    @property
    def no_signs(self) -> str:
        """Why binary codes can have no field; "" where they can."""
        if self.packs:
            return "bits are packed"
        if self.network is not None and not self.network.any_rate:
            return f"the network is {self.network.family}"
        return ""

    def _check_on_device(self) -> None:
        """Refuse what no device encodes."""
        if self.packs:
            raise ParameterError(f"device {self.device} finds the XOR code, and bits are packed")
        if self.encoder != "elimination":
            raise ParameterError(
                f"device {self.device} eliminates, and encoder {self.encoder!r} is asked for"
            )
        if self.network is not None:
            check_window(self.network)

    def _check_together(self) -> None:
        """Refuse what cannot apply."""
        if self.payload == "packed" and (useless := self._of_code()):
            raise ParameterError(f"{useless[0]} is of the XOR code, and payload packed is asked for")
        if self.encoder == "viterbi" and (self.network is None or self.network.any_rate):
            raise ParameterError(
                "encoder 'viterbi' needs a network without rotations: XorNetwork.dense or .sparse"
            )
        if self.rate is not None and self.network is not None and not self.network.any_rate:
            raise ParameterError(
                f"rate is of turned and quasi-cyclic networks; this one is {self.network.family}"
            )
        if self.factors is not None and self.mask_codec not in ("auto", Bmf.NAME):
            raise ParameterError(f"factors are of mask codec bmf, and {self.mask_codec} is asked for")
