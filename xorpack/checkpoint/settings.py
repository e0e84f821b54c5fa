"""How a checkpoint is to be encoded, and what became of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal, TypedDict

from xorpack.analysis.accounting import Account
from xorpack.encoding.masks.choice import Choice, Prefer
from xorpack.errors import ParameterError
from xorpack.files import model


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """How tensors are pruned and quantized. Stands in the file, as information."""

    lossless: bool = False
    bits: int = 2
    sparsity: float | None = None
    scope: Literal["tensor", "global"] = "tensor"
    group_size: int = 0
    method: Literal["alternating", "greedy"] = "alternating"
    scale_dtype: Literal["float16", "float32"] = "float16"
    mask_codec: Choice = "auto"
    prefer: Prefer = "size"
    rank: int | None = None
    mask_bits: float | None = None
    positive_zeros: bool = False

    def check(self) -> None:
        """Raise ParameterError unless the settings are sensible together."""
        if not 1 <= self.bits <= 8:
            raise ParameterError(f"bits = {self.bits} is outside 1..8")
        if self.sparsity is not None and not 0 <= self.sparsity < 1:
            raise ParameterError(f"sparsity = {self.sparsity} is outside [0, 1)")
        if self.lossless and self.sparsity is not None:
            raise ParameterError("sparsity contradicts lossless, which keeps every value")
        if self.positive_zeros and not self.lossless:
            raise ParameterError("positive_zeros is for lossless; quantized zeros are positive anyway")
        if self.scope not in ("tensor", "global"):
            raise ParameterError(f"scope {self.scope!r} is not tensor or global")
        if (self.rank is not None or self.mask_bits is not None) and self.mask_codec != "bmf":
            raise ParameterError("rank and mask_bits are for mask_codec bmf")
        if self.rank is not None and self.rank < 1:
            raise ParameterError(f"rank = {self.rank} is less than 1")
        if self.mask_bits is not None and not self.mask_bits > 0:
            raise ParameterError(f"mask_bits = {self.mask_bits} is not positive")
        if self.mask_codec == "bmf" and self.scope == "global" and self.sparsity is not None:
            raise ParameterError("mask_codec bmf prunes each tensor: it contradicts scope global")
        if self.group_size < 0:
            raise ParameterError(f"group_size = {self.group_size} is negative")

    def config(self, version: int) -> dict[str, Any]:
        """The ``quantization_config`` of a model directory whose files have ``version`` at the most."""
        common: dict[str, Any] = {"quant_method": model.METHOD, "format_version": version}
        if self.lossless:
            return {**common, "mode": "lossless"}
        return {**common, "mode": "bcq", **self.info()}

    def info(self) -> dict[str, Any]:
        """The settings that matter."""
        if self.lossless:
            return {"lossless": True, **({"positive_zeros": True} if self.positive_zeros else {})}
        names = ["bits", "sparsity", "scope", "group_size", "method", "scale_dtype"]
        if self.mask_codec == "bmf":
            names += ["mask_codec", "rank", "mask_bits"]
        return {name: getattr(self, name) for name in names}


class SettingsOptions(TypedDict, total=False):
    """The fields of :class:`Settings` as keywords of a function."""

    lossless: bool
    bits: int
    sparsity: float | None
    scope: Literal["tensor", "global"]
    group_size: int
    method: Literal["alternating", "greedy"]
    scale_dtype: Literal["float16", "float32"]
    mask_codec: Choice
    prefer: Prefer
    rank: int | None
    mask_bits: float | None
    positive_zeros: bool


@dataclass(slots=True)
class EncodeReport:
    """What became of a checkpoint.

    Attributes:
        accounts: sizes of every encoded tensor (of a dry run: estimates).
        seconds: time spent on each.
        n_parameters: elements of all tensors, carried ones included.
        source_bytes, stored_bytes: size of the safetensors files before and after.
        negative_zeros: weights of each lossless tensor that are -0.0 and cost as much as any other.
        estimated: whether this was a dry run.
    """

    accounts: dict[str, Account] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    n_parameters: int = 0
    source_bytes: int = 0
    stored_bytes: int = 0
    negative_zeros: dict[str, int] = field(default_factory=dict)
    estimated: bool = False

    @property
    def n_negative_zeros(self) -> int:
        """The sum of ``negative_zeros``."""
        return sum(self.negative_zeros.values())

    @property
    def total(self) -> Account:
        """All encoded tensors together."""
        return Account.total(self.accounts.values())
