"""How a checkpoint is to be encoded, and what became of it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Set
from dataclasses import dataclass, field, fields
from typing import Any, Literal, TypedDict, get_args

from xorpack import checks
from xorpack.analysis.accounting import Account, LeftOut
from xorpack.analysis.distortion import Distortion
from xorpack.encoding.masks.choice import Choice, Prefer
from xorpack.encoding.options import Payload
from xorpack.encoding.quantize.bcq import METHODS, SCALE_DTYPES
from xorpack.encoding.quantize.trellis_design import exact_rate
from xorpack.errors import ParameterError
from xorpack.files import model
from xorpack.files.selection import abbreviated, matches, patterns
from xorpack.tensors import MAX_BITS

Progress = Callable[[str, int, int], None]
"""Called when a tensor is done: its name, its weights, the weights of all selected tensors."""

SCOPES = ("tensor", "global")

QUANTIZING = frozenset(
    (
        "bits",
        "rate",
        "rates",
        "target_bits",
        "max_size",
        "sparsity",
        "scope",
        "group_size",
        "method",
        "scale_dtype",
        "outliers",
    )
)
"""Settings that say how to lose something."""

BCQ_ONLY = frozenset(("bits", "method", "symbols"))
"""Settings of quantizers other than the trellis."""

SYMBOLS = ("planes", "entropy")
"""How all signs of a weight of binary codes are stored: each plane for itself, or under a prefix code where that saves
bytes (:mod:`xorpack.fields.signs`)."""

OUTLIERS, OUTLIERS_RATES = 3.0, (1.5, 2.5)
"""Deviations from which on a trellis keeps weights apart, unless asked for; the least rate at which it does so, and
the first that is too large. At 2 bits SmolLM2 has a third of the perplexity that it has with the threshold of least
squared error, which is near 3.9 there; at 3 bits that is 3.6, and 3 gains nothing (docs/quality.md)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """How tensors are pruned and quantized. Stands in the file, as information.

    See :func:`xorpack.quantize` and :func:`xorpack.encode` for what the fields mean and for their defaults. With a
    ``rate``, weights are quantized by a trellis; or a rate is chosen for each tensor, so that the encoded tensors take
    ``target_bits`` per weight at the most, everything counted, or the safetensors files ``max_size`` bytes. ``rates``
    are those of tensors that match a pattern, which are encoded whatever they are: ``{"embeddings": 3.0}``. With no
    ``outliers``, a trellis of 1.5 to 2.5 bits keeps all weights beyond 3 standard deviations of their row apart.
    """

    lossless: bool = False
    bits: int = 2
    rate: float | None = None
    rates: Mapping[str, float] | None = None
    target_bits: float | None = None
    max_size: int | None = None
    sparsity: float | None = None
    scope: Literal["tensor", "global"] = "tensor"
    group_size: int | None = None
    method: Literal["alternating", "greedy"] = "alternating"
    scale_dtype: Literal["auto", "float16", "float32"] = "auto"
    outliers: bool | float | None = None
    mask_codec: Choice = "auto"
    prefer: Prefer = "size"
    payload: Payload = "auto"
    symbols: Literal["planes", "entropy"] = "planes"
    rank: int | None = None
    mask_bits: float | None = None
    positive_zeros: bool = False

    def check(self, given: Iterable[str] = ()) -> None:
        """Raise ParameterError unless the settings are sensible together.

        ``given``: fields that were asked for, even if they have their default values; one that cannot apply is refused.
        """
        checks.flag("lossless", self.lossless)
        checks.flag("positive_zeros", self.positive_zeros)
        checks.whole("bits", self.bits, 1, MAX_BITS)
        if self.rate is not None:
            exact_rate(checks.positive("rate", self.rate))
        for pattern, rate in self._rates().items():
            exact_rate(checks.positive(f"rate of {pattern!r}", rate))
        if self.target_bits is not None:
            checks.positive("target_bits", self.target_bits)
        if self.max_size is not None:
            checks.whole("max_size", self.max_size, 1)
        if self.sparsity is not None:
            checks.sparsity(self.sparsity)
        if self.outliers is not None and not isinstance(self.outliers, bool):
            checks.positive("outliers", self.outliers)
        if self.group_size is not None:
            checks.whole("group_size", self.group_size)
        if self.rank is not None:
            checks.whole("rank", self.rank, 1)
        if self.mask_bits is not None:
            checks.positive("mask_bits", self.mask_bits)
        checks.choice("scope", self.scope, SCOPES)
        checks.choice("method", self.method, METHODS)
        checks.choice("scale_dtype", self.scale_dtype, SCALE_DTYPES)
        checks.choice("mask_codec", self.mask_codec, get_args(Choice))
        checks.choice("prefer", self.prefer, get_args(Prefer))
        checks.choice("payload", self.payload, get_args(Payload))
        checks.choice("symbols", self.symbols, SYMBOLS)
        asked = {name for name in given if getattr(self, name) is not False}
        self._check_together(asked | {f.name for f in fields(self) if getattr(self, f.name) != f.default})

    def _check_together(self, given: Set[str]) -> None:
        if self.lossless and (useless := given & QUANTIZING):
            raise ParameterError(f"{min(useless)} contradicts lossless, which keeps every value")
        asked = [name for name in ("rate", "target_bits", "max_size") if getattr(self, name) is not None]
        if len(asked) > 1:
            raise ParameterError(f"{asked[0]} and {asked[1]} both say how large tensors may be")
        if self.rates is not None and self.rate is None:
            raise ParameterError("rates is of exceptions to a rate, and none is given")
        if asked and (useless := given & BCQ_ONLY):
            raise ParameterError(f"{min(useless)} is of binary codes, and {asked[0]} asks for a trellis")
        if self.outliers is not None and not asked:
            raise ParameterError("outliers is of a trellis, and no rate, target_bits or max_size is given")
        if "positive_zeros" in given and not self.lossless:
            raise ParameterError("positive_zeros is for lossless; quantized zeros are positive anyway")
        if "scope" in given and self.sparsity is None:
            raise ParameterError("scope is of a sparsity, and none is given: the zeros that there are stay")
        if {"rank", "mask_bits"} & given and self.mask_codec != "bmf":
            raise ParameterError("rank and mask_bits are for mask_codec bmf")
        if self.mask_codec == "bmf" and self.scope == "global":
            raise ParameterError("mask_codec bmf prunes each tensor: it contradicts scope global")
        if "payload" in given and self.is_trellis:
            raise ParameterError(
                f"payload is of planes, and {asked[0]} asks for a trellis, which has its own code"
            )
        if "symbols" in given and self.lossless:
            raise ParameterError(
                "symbols is of binary codes; lossless elements have a prefix code wherever that saves bytes"
            )
        if self.symbols == "entropy" and self.packs:
            raise ParameterError("symbols entropy is of the XOR code, and bits are packed")
        if self.payload == "packed" and self.mask_codec == "cascade":
            raise ParameterError("mask codec cascade is of the XOR code, and payload packed is asked for")
        if "prefer" in given and self.mask_codec != "auto" and not self.lossless:
            raise ParameterError(f"prefer chooses a mask codec, and {self.mask_codec} is asked for")

    def _rates(self) -> Mapping[str, float]:
        if not isinstance(self.rates, Mapping | None):
            raise ParameterError(f"rates is {self.rates!r}, not a map of patterns to rates")
        patterns("rates", self.rates or ())
        return self.rates or {}

    def rate_of(self, name: str) -> float | None:
        """The rate of a tensor: that of the first pattern of ``rates`` that it matches, or ``rate``."""
        return next((rate for pattern, rate in self._rates().items() if matches(pattern, name)), self.rate)

    @property
    def is_trellis(self) -> bool:
        """Whether weights are quantized by trellises."""
        return self.rate is not None or self.has_budget

    @property
    def packs(self) -> bool:
        """Whether bits of kept weights are packed: :mod:`xorpack.code.packed`."""
        return not self.is_trellis and self.packs_planes

    @property
    def packs_planes(self) -> bool:
        """The same of tensors that are no trellis, though others may be."""
        fast = self.payload == "auto" and self.prefer == "speed" and self.mask_codec != "cascade"
        return self.payload == "packed" or fast

    @property
    def has_budget(self) -> bool:
        """Whether rates are to be chosen."""
        return self.target_bits is not None or self.max_size is not None

    def outliers_at(self, rate: float, *, fitted: bool = False) -> bool | float:
        """Which weights a trellis of ``rate`` keeps apart, as :func:`xorpack.quantize` takes it.

        ``fitted``: whether to activations, whose errors tell what matters by themselves.
        """
        if self.outliers is not None:
            return self.outliers
        if fitted:
            return True
        least, above = OUTLIERS_RATES
        return OUTLIERS if least <= rate < above else True

    def config(self, encoded: Collection[str], carried: Collection[str], version: int) -> dict[str, Any]:
        """The ``quantization_config`` of a model directory that holds these tensors, in files of up to ``version``."""
        common: dict[str, Any] = {
            "quant_method": model.METHOD,
            "format_version": version,
            "n_encoded": len(encoded),
            "encoded": abbreviated(encoded, carried),
        }
        if self.lossless:
            return {**common, "mode": "lossless"}
        return {**common, "mode": "trellis" if self.is_trellis else "bcq", **self.info()}

    def info(self) -> dict[str, Any]:
        """The settings that matter."""
        if self.lossless:
            return {"lossless": True, **({"positive_zeros": True} if self.positive_zeros else {})}
        names = ["bits", "sparsity", "scope", "group_size", "method", "scale_dtype"]
        if self.is_trellis:
            names = ["rate", "target_bits", "max_size", "sparsity", "scope", "group_size", "scale_dtype"]
            names += ["rates"] if self.rates else []
            names += ["outliers"]
        if self.mask_codec == "bmf":
            names += ["mask_codec", "rank", "mask_bits"]
        if self.symbols != "planes":
            names += ["symbols"]
        return {name: getattr(self, name) for name in names}


class SettingsOptions(TypedDict, total=False):
    """The fields of :class:`Settings` as keywords of a function."""

    lossless: bool
    bits: int
    rate: float | None
    rates: Mapping[str, float] | None
    target_bits: float | None
    max_size: int | None
    sparsity: float | None
    scope: Literal["tensor", "global"]
    group_size: int | None
    method: Literal["alternating", "greedy"]
    scale_dtype: Literal["auto", "float16", "float32"]
    outliers: bool | float | None
    mask_codec: Choice
    prefer: Prefer
    payload: Payload
    symbols: Literal["planes", "entropy"]
    rank: int | None
    mask_bits: float | None
    positive_zeros: bool


@dataclass(slots=True)
class EncodeReport:
    """What became of a checkpoint.

    Attributes:
        accounts: sizes of every encoded tensor (of a dry run: estimates).
        seconds: time spent on each.
        distortions: squared error of every quantized tensor against what was read; none of a dry run.
        output_errors: squared error of the output of every tensor that was fitted to activations, relative, on what was
            seen in calibration.
        n_parameters: elements of all tensors, carried ones included.
        source_bytes, stored_bytes: size of the safetensors files before and after.
        left_out: the tensors that are carried as they are, and why.
        negative_zeros: weights of each lossless tensor that are -0.0 and cost as much as any other.
        estimated: whether this was a dry run.
    """

    accounts: dict[str, Account] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    distortions: dict[str, Distortion] = field(default_factory=dict)
    output_errors: dict[str, float] = field(default_factory=dict)
    n_parameters: int = 0
    source_bytes: int = 0
    stored_bytes: int = 0
    left_out: dict[str, LeftOut] = field(default_factory=dict)
    negative_zeros: dict[str, int] = field(default_factory=dict)
    estimated: bool = False

    @property
    def n_negative_zeros(self) -> int:
        """The sum of ``negative_zeros``."""
        return sum(self.negative_zeros.values())

    @property
    def distortion(self) -> Distortion | None:
        """The error of all quantized tensors together; None where there are none."""
        total = Account.total(self.accounts[name] for name in self.distortions)
        rate = total.per_weight(total.n_bytes)
        return Distortion.total(self.distortions.values(), rate) if self.distortions else None

    @property
    def total(self) -> Account:
        """All encoded tensors together."""
        return Account.total(self.accounts.values())
