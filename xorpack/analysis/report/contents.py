"""The contents of a report, whatever it is printed as."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xorpack import checks
from xorpack.analysis.accounting import Account
from xorpack.analysis.comparison import Comparison
from xorpack.analysis.distortion import Distortion
from xorpack.analysis.entropy import PlaneEntropies
from xorpack.analysis.formats import FormatTable
from xorpack.analysis.mask_models import MaskBounds
from xorpack.analysis.output_loss import OutputLoss
from xorpack.errors import SelfCheckError


@dataclass(frozen=True, slots=True, kw_only=True)
class TensorReport:
    """One tensor that is encoded, or would be.

    Attributes:
        name, dtype, shape: of the tensor.
        kind: ``bcq``, ``lossless``, or ``plain`` where nothing is encoded yet.
        bits: planes.
        group_size: columns that share scales, 0 for the whole row.
        mask_codec, network: as stored; of a plain tensor "".
        account: sizes and bounds; of a plain tensor what quantization would give, by bounds.
        exact: of a plain tensor that can be quantized, the same kept bit for bit; of one that cannot, None, and
            ``account`` is that.
        mask: bits of the mask by every model.
        planes: entropies of the kept weights.
        coded: planes that are coded one by one.
        in_field: planes whose bits are under a prefix code; all others are constant.
        distortion: error against the weights that it was made from, where these were given.
        outputs: error of what the layer gives out, where its activations were given, too.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    kind: str
    bits: int
    group_size: int = 0
    mask_codec: str = ""
    network: str = ""
    account: Account
    exact: Account | None = None
    mask: MaskBounds
    planes: PlaneEntropies | None = None
    coded: tuple[int, ...] = ()
    in_field: tuple[int, ...] = ()
    distortion: Distortion | None = None
    outputs: OutputLoss | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Carried:
    """A tensor that is kept as it is; ``why``, of a plain checkpoint's."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    n_bytes: int
    why: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """A part of all files."""

    name: str
    n_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Becoming:
    """What a plain checkpoint's matrices could become: bits per weight, scales included."""

    sparsity: float
    bits: int
    bits_per_weight: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Quality:
    """How well a causal language model predicts a text.

    Attributes:
        text: the text's file.
        n_tokens: of it, that were predicted.
        perplexity: of the checkpoint.
        dense: of the one that it was made from; None where that was not given.
    """

    text: str
    n_tokens: int
    perplexity: float
    dense: float | None


@dataclass(frozen=True, kw_only=True)
class Report:
    """A checkpoint, encoded or plain.

    Attributes:
        path: of the checkpoint.
        kind: ``encoded`` or ``plain``.
        version: of xorpack.
        settings: how it was encoded, or what a plain one is judged for.
        n_files: safetensors files.
        n_parameters: elements of all tensors.
        total_bytes: bytes of all files.
        source_bytes: of the files before encoding, those of an encoded checkpoint counted back.
        parts: every byte of the files by what it is for; they sum to ``total_bytes``.
        tensors, carried: in the order of the checkpoint.
        formats: sizes of the tensors in other formats, by variant (``2-bit``, ``lossless``).
        comparison: the same, measured on a sample, by variant.
        becoming: of a plain checkpoint.
        density: maps of the masks furthest from i.i.d., where asked for (:mod:`xorpack.analysis.density`).
        advice: what costs most and what could be done, the most worthwhile first.
        quality: where asked for.
    """

    path: str
    kind: str
    version: str
    settings: Mapping[str, Any]
    n_files: int
    n_parameters: int
    total_bytes: int
    source_bytes: int
    parts: tuple[Part, ...]
    tensors: tuple[TensorReport, ...]
    carried: tuple[Carried, ...]
    formats: Mapping[str, FormatTable]
    comparison: Mapping[str, Comparison]
    becoming: tuple[Becoming, ...] = ()
    density: Mapping[str, NDArray[np.float64]] = field(default_factory=dict)
    advice: tuple[str, ...] = ()
    quality: Quality | None = None

    def __post_init__(self) -> None:
        if sum(part.n_bytes for part in self.parts) != self.total_bytes:
            raise SelfCheckError(f"parts do not sum to the {self.total_bytes} bytes of {self.path}")

    @cached_property
    def total(self) -> Account:
        """All tensors that are encoded, headers included; of a plain checkpoint, those that could be quantized."""
        headers = next((part.n_bytes for part in self.parts if part.name == "metadata"), 0)
        if self.kind == "encoded":
            return Account.total((t.account for t in self.tensors), metadata_bytes=headers)
        return Account.total(t.account for t in self.tensors if t.exact is not None)

    @cached_property
    def distortion(self) -> Distortion | None:
        """The error of all tensors together; None where weights to compare with were not given."""
        found = [t.distortion for t in self.tensors if t.distortion is not None]
        return Distortion.total(found, self.total.per_weight(self.total.n_bytes)) if found else None

    @cached_property
    def outputs(self) -> OutputLoss | None:
        """The errors of all layers' outputs together; None where activations were not given."""
        found = [t.outputs for t in self.tensors if t.outputs is not None]
        return OutputLoss.total(found) if found else None

    @cached_property
    def exact(self) -> Account | None:
        """The account of a plain checkpoint with all tensors kept bit for bit; None for an encoded one."""
        if self.kind == "encoded":
            return None
        return Account.total(t.exact or t.account for t in self.tensors)


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """How a report is printed.

    Attributes:
        sort: an order from :data:`SORT`, or None for the checkpoint's own.
        top: tensors to list, None for all.
        width: columns of the terminal.
        colour: whether it shows colours.
    """

    sort: str | None = None
    top: int | None = None
    width: int = 100
    colour: bool = False

    def __post_init__(self) -> None:
        if self.sort is not None:
            checks.choice("sort", self.sort, SORT)
        if self.top is not None:
            checks.whole("top", self.top, 1)
        checks.whole("width", self.width, 1)

    def listed(self, report: Report) -> list[TensorReport]:
        """The tensors to list, in order."""
        tensors = list(report.tensors)
        if self.sort is not None:
            tensors.sort(key=SORT[self.sort])
        return tensors[: self.top]


SORT: Mapping[str, Callable[[TensorReport], Any]] = {
    "size": lambda t: -t.account.n_bytes,
    "bits": lambda t: -t.account.per_weight(t.account.n_bytes),
    "overhead": lambda t: -(t.account.total_overhead or 0),
    "name": lambda t: t.name,
    "gain": lambda t: -((t.outputs.gain if t.outputs is not None else None) or 0),
}
"""Orders of tensors, the worst first; the default is the checkpoint's own."""
