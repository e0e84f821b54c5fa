"""Which tensors of a plain checkpoint are to be encoded, their masks, and what they would become by bounds."""

from __future__ import annotations

import math
from collections.abc import Container, Mapping, Sequence
from copy import copy
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xorpack.analysis.accounting import Account, LeftOut
from xorpack.analysis.bounds import bcq_payload_bound, binary_entropy
from xorpack.analysis.entropy import PlaneEntropies
from xorpack.analysis.inspect import element_entropies
from xorpack.analysis.mask_models import MaskBounds, MaskCounts
from xorpack.checkpoint.budget import (
    Curve,
    Quantizer,
    budget_bytes,
    check_least,
    choose_quantizers,
    least_bytes,
)
from xorpack.checkpoint.opened import MIN_DECLARED
from xorpack.checkpoint.settings import Settings
from xorpack.code.corrections import packed_sizes
from xorpack.code.words import Words, popcount, tail_mask, unpack
from xorpack.encoding.constants import choose_constants
from xorpack.encoding.fields.choice import choose_field, takes_fields
from xorpack.encoding.fields.octets import coded_matrix
from xorpack.encoding.fields.signs import OVER_ENTROPY
from xorpack.encoding.fields.sources import FieldSource
from xorpack.encoding.masks.bmf import MASK_BITS, choose_tile, factor, fit
from xorpack.encoding.masks.choice import estimate_bits
from xorpack.encoding.quantize.bcq import columns_per_scale
from xorpack.encoding.quantize.methods import PRUNED_FROM
from xorpack.encoding.quantize.pruning import (
    GlobalThreshold,
    global_thresholds,
    magnitude_mask,
    magnitudes,
    zeros_mask,
)
from xorpack.encoding.quantize.trellis import count_outliers
from xorpack.encoding.rings.gather import ElementSource
from xorpack.files.safetensors_file import StoredTensor
from xorpack.files.selection import select
from xorpack.masks import Block, Bmf
from xorpack.masks.bmf import Factors
from xorpack.tensors import DTYPES, as_matrix, n_groups

FLOATS = ("F32", "F16", "BF16")

BLOCK_OVERHEAD = 1.035
"""What a ``block`` mask takes over the entropy of a mask whose rows and columns differ, about."""

RECORD_BYTES, RECORD_NAMES = 1300, 5
"""What headers hold of an encoded tensor beyond those of a carried one, about: bytes, and repetitions of its name."""


@dataclass(frozen=True, slots=True)
class Preview:
    """What a tensor would become: its account by bounds, and what they are made from.

    ``planes`` is of the elements as they are, kept ones only, and None for quantized tensors.
    """

    account: Account
    mask: MaskBounds
    planes: PlaneEntropies | None


class CheckpointPlan:
    """Selected tensors of a plain checkpoint, and the settings for them.

    Attributes:
        selected: the tensors to encode, by name.
        carried: all others.
        left_out: the same, and why.
        quantizers: of each selected tensor, unless they are kept bit for bit.
        fitted: tensors whose activations are known.
        n_weights: of the selected tensors.
        n_parameters: of all tensors.
    """

    def __init__(
        self,
        settings: Settings,
        tensors: Mapping[str, StoredTensor],
        include: Sequence[str],
        exclude: Sequence[str],
        unsuitable: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        """See :func:`xorpack.encode_checkpoint`; ``unsuitable``: tensors that cannot be encoded, and why."""
        self.settings = settings
        known = DTYPES if settings.lossless else FLOATS
        why = {name: f"of type {t.dtype}" for name, t in tensors.items() if t.dtype not in known}
        why |= {name: f"of no weights, {t.shape}" for name, t in tensors.items() if _endless(t)}
        shapes = {name: stored.shape for name, stored in tensors.items()}
        also = tuple(settings.rates or ())
        selection = select(shapes, {**unsuitable, **why}, include, exclude, also)
        self.selected = {name: tensors[name] for name in selection.chosen}
        self.left_out = {
            name: LeftOut(why, tensors[name].n_bytes) for name, why in selection.left_out.items()
        }
        self.carried = {name: stored for name, stored in tensors.items() if name not in self.selected}
        self.n_weights = sum(math.prod(stored.shape) for stored in self.selected.values())
        self.n_parameters = sum(math.prod(shape) for shape in shapes.values())
        self.quantizers = {
            name: Quantizer(rate=settings.rate_of(name))
            if settings.is_trellis
            else Quantizer(bits=settings.bits)
            for name in self.selected
        }
        self.fitted: Container[str] = ()
        self._thresholds: dict[str, GlobalThreshold] = {}
        if settings.scope == "global" and settings.sparsity is not None:
            loaders = [lambda s=s: _matrix(s) for s in self.selected.values()]
            cut = global_thresholds(loaders, settings.sparsity)
            self._thresholds = {name: cut.only(index) for index, name in enumerate(self.selected)}

    def only(self, name: str) -> CheckpointPlan:
        """The same for one selected tensor, as if it stood alone; it can be sent to another process."""
        plan = copy(self)
        plan.selected, plan.carried, plan.left_out = {name: self.selected[name]}, {}, {}
        plan.quantizers = {name: self.quantizers[name]}
        plan.fitted = (name,) if name in self.fitted else ()
        plan._thresholds = {name: self._thresholds[name]} if name in self._thresholds else {}
        return plan

    def threshold(self, name: str) -> GlobalThreshold | None:
        """Where a tensor is cut if all are pruned together, else None."""
        return self._thresholds.get(name)

    def matrix(self, name: str) -> NDArray[Any]:
        """The matrix that a tensor is coded as."""
        stored = self.selected[name]
        return (
            coded_matrix(stored.array(), fields=self._fields) if self.settings.lossless else _matrix(stored)
        )

    @property
    def _fields(self) -> bool:
        """Whether lossless elements may get prefix codes."""
        return takes_fields("auto", self.settings.prefer)

    def mask(self, name: str) -> Words:
        """The mask that a tensor would have, uint32 (rows, chunks)."""
        matrix = self.matrix(name)
        if self.settings.lossless:
            return ElementSource(matrix).mask
        if self.settings.sparsity is None:
            zeros = zeros_mask(matrix)
            if not self.settings.is_trellis or popcount(zeros) <= (1 - PRUNED_FROM) * matrix.size:
                return zeros
            return np.tile(tail_mask(matrix.shape[1]), (len(matrix), 1))
        if self.settings.mask_codec == Bmf.NAME:
            return choose_factors(self.settings, matrix).mask()
        cut = self.threshold(name)
        return magnitude_mask(matrix, self.settings.sparsity) if cut is None else cut.mask(0, matrix)

    def preview(self, name: str) -> Preview:
        """What a tensor would become."""
        stored, settings = self.selected[name], self.settings
        if settings.mask_codec == Bmf.NAME:  # refuse what encoding would
            choose_tile(*as_matrix(stored.shape), settings.mask_bits or MASK_BITS, settings.rank)
        source = ElementSource(self.matrix(name)) if settings.lossless else None
        rows, cols = as_matrix(stored.shape) if source is None else source.elements.shape
        counts = MaskCounts.of([self.mask(name) if source is None else source.mask], cols)
        n, n_kept, mask = rows * cols, counts.n_kept, MaskBounds.of(counts)
        planes, scale_bytes, field_bytes, outlier_bytes, gain_bytes = None, 0, 0, 0, 0
        code: float
        bound: float
        if source is not None:
            planes = element_entropies(source.elements)
            bits, bound = source.n_bits, planes.symbol.value
            code, exceptions, field_bytes = _lossless_costs(source, self._fields)
        else:
            exceptions = 0.0
            chosen = self.quantizers[name]
            bits, bound, code = math.ceil(chosen.per_kept), chosen.per_kept, chosen.per_kept
            if chosen.bits and n_kept:
                bound = bcq_payload_bound(1 - n_kept / n, chosen.bits) * n / n_kept
                if settings.symbols == "entropy":
                    code = min(code, OVER_ENTROPY * bound)
            width = {"float32": 4, "float16": 2}.get(settings.scale_dtype, 2 if chosen.bits else 1)
            if chosen.bits:
                group_size = columns_per_scale(stored.shape, settings.group_size, n_kept)
                scale_bytes = rows * n_groups(cols, group_size) * bits * width
            else:
                scale_bytes = rows * n_groups(cols, settings.group_size or 0) * width
                gain_bytes = 2 * cols if name in self.fitted else 0
                outlier_bytes = (
                    self._outlier_bytes(name, chosen.rate) if chosen.rate else 0
                )  # 0: not chosen yet
        account = Account(
            n_weights=n,
            n_kept=n_kept,
            care_bits=n_kept * bits,
            wrong_bits=0,
            section_bytes={
                "code": math.ceil(code * n_kept / 8),
                "corrections": math.ceil(exceptions * n_kept / 8),
                "mask": self._mask_bytes(n, n_kept, mask),
                "scales": scale_bytes,
                "field": field_bytes,
                "gains": gain_bytes,
                "outliers": outlier_bytes,
                "starts": 0,
            },
            original_bytes=stored.n_bytes,
            payload_bound_bits=bound * n_kept,
            mask_iid_bits=mask.iid,
            mask_bound_bits=mask.best[1],
            n_octets=0 if n == math.prod(stored.shape) else n,
        )
        return Preview(account, mask, planes)

    def _outlier_bytes(self, name: str, rate: float) -> int:
        settings, matrix = self.settings, _matrix(self.selected[name])
        beyond = settings.outliers_at(rate, fitted=name in self.fitted)
        words = self.mask(name)
        mask = None if popcount(words) == matrix.size else words
        n = count_outliers(matrix, mask, rate, settings.group_size or 0, beyond)
        return sum(packed_sizes(n, matrix.size, 16))

    def curve(self, name: str, cost: float | None = None) -> Curve:
        """Bytes and error of a tensor by rate; ``cost``: see :meth:`Curve.of`."""
        matrix, words = _matrix(self.selected[name]), self.mask(name)
        kept = unpack(words, matrix.shape[1])
        mask = None if kept.all() else kept
        outliers_at = partial(self.settings.outliers_at, fitted=name in self.fitted)
        return Curve.of(matrix, mask, self.preview(name).account, self.settings.group_size, outliers_at, cost)

    def choose_quantizers(self, curves: Mapping[str, Curve]) -> None:
        """Take those of least error at the size that the settings ask for."""
        self.quantizers = choose_quantizers(curves, self._budget())

    def check_budget(self) -> None:
        """Raise ParameterError if a budget is below what masks, scales and the lowest rate take, outliers aside."""
        if self.settings.has_budget:
            accounts = [self.preview(name).account for name in self.selected]
            check_least(sum(least_bytes(account) for account in accounts), self._budget())

    def _budget(self) -> float:
        return budget_bytes(
            target_bits=self.settings.target_bits,
            max_size=self.settings.max_size,
            n_weights=self.n_weights,
            carried_bytes=sum(stored.n_bytes for stored in self.carried.values()),
            names=[*self.selected, *self.carried],
        )

    def becomes_smaller(self, name: str, account: Account) -> bool:
        """Whether a tensor takes fewer bytes encoded than carried, by its estimated account."""
        return account.n_bytes + RECORD_BYTES + RECORD_NAMES * len(name) < account.original_bytes

    def _mask_bytes(self, n: int, n_kept: int, mask: MaskBounds) -> int:
        settings = self.settings
        choice, prefer = settings.mask_codec, settings.prefer
        if choice == Bmf.NAME:  # pruning makes the mask as small as that
            return math.ceil(n * (settings.mask_bits or MASK_BITS) / 8)
        bits = n * estimate_bits(n_kept / max(n, 1), choice, prefer, packs=settings.packs)
        if choice == Block.NAME or (choice == "auto" and prefer == "size"):
            bits = min(bits, BLOCK_OVERHEAD * mask.best[1])
        return math.ceil(bits / 8)


def choose_factors(settings: Settings, array: NDArray[Any], jobs: int = 1) -> Factors:
    """Factors of a mask of codec ``bmf``: of one chosen for the sparsity asked for, or of the zeros of ``array``.

    Raises:
        DataError: the zeros are no product of factors as small as asked for.
    """
    matrix = array.reshape(as_matrix(array.shape))
    if settings.lossless:
        matrix = coded_matrix(array, fields=takes_fields("auto", settings.prefer))
    mask_bits = settings.mask_bits or MASK_BITS
    if settings.sparsity is not None:
        return fit(magnitudes(matrix), settings.sparsity, mask_bits=mask_bits, rank=settings.rank, jobs=jobs)
    mask = ElementSource(matrix).mask if settings.lossless else zeros_mask(matrix)
    return factor(mask, matrix.shape[1], *choose_tile(*matrix.shape, mask_bits, settings.rank))


def _lossless_costs(source: ElementSource, fields: bool) -> tuple[int, float, int]:
    """``(planes that are coded, bits for the exceptions of those that are not, per kept weight, bytes of a field)``."""
    field, field_bytes = None, 0
    if fields:
        field = choose_field(source.elements, *source.count_ones(), "auto")
    if field is not None:
        source = FieldSource(source, field.code, field.table())
        field_bytes = math.ceil((field.n_care + field.code.n_symbols * field.code.width) / 8)
    counts, n = source.count_ones()
    zeros, ones = choose_constants(counts, n)
    if field is not None:
        zeros |= field.code.unused
    left_out = [binary_entropy(count / n) for k, count in enumerate(counts) if n and (zeros | ones) >> k & 1]
    return source.n_planes - (zeros | ones).bit_count(), sum(left_out), field_bytes


def _endless(stored: StoredTensor) -> bool:
    """Whether a tensor without weights has rows or columns that would keep a loop over them busy: it is carried."""
    return 0 in stored.shape and math.prod(max(size, 1) for size in stored.shape) > MIN_DECLARED


def _matrix(stored: StoredTensor) -> NDArray[Any]:
    return stored.array().reshape(as_matrix(stored.shape))
