"""Accounting: every byte of encoded tensors and files by its part, beside the bounds."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from xorpack.analysis.entropy import PlaneEntropies
from xorpack.analysis.inspect import mask_counts, plane_entropies
from xorpack.analysis.mask_models import MaskBounds
from xorpack.code.planes import TrellisPlanes
from xorpack.encoded import SECTIONS, EncodedTensor

PAYLOAD = ("code", "corrections", "field", "outliers", "starts")
"""The sections that hold the kept weights."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """Sizes of one encoded tensor, or of several together.

    Attributes:
        n_weights, n_kept: weights, and those kept.
        n_octets: of the weights, those that are octets of integers, each coded as a weight.
        care_bits, wrong_bits: bits that matter, and those the network gets wrong.
        section_bytes: size of each part.
        metadata_bytes: bytes of the file that are in no section: its headers.
        original_bytes: before encoding.
        payload_bound_bits: bound of code + corrections + field in bits: the entropy of the kept weights' symbols, which
            is below the number of planes, for planes depend on each other; of a trellis, whose bits are chosen for the
            error, those bits.
        mask_iid_bits: entropy of the mask in bits were its weights independent.
        mask_bound_bits: the same by the best model of its rows and columns, never more.
    """

    n_weights: int
    n_kept: int
    care_bits: int
    wrong_bits: int
    section_bytes: Mapping[str, int]
    metadata_bytes: int = 0
    original_bytes: int
    payload_bound_bits: float
    mask_iid_bits: float
    mask_bound_bits: float
    n_octets: int = 0

    @classmethod
    def of(
        cls, tensor: EncodedTensor, mask: MaskBounds | None = None, planes: PlaneEntropies | None = None
    ) -> Account:
        """Account of one tensor; ``mask`` and ``planes`` are worked out where they are not given."""
        values = tensor.load_corrections().values
        bounds = mask or MaskBounds.of(mask_counts(tensor))
        if isinstance(tensor.planes, TrellisPlanes):
            rows, cols = tensor.planes.shape
            per_kept = tensor.planes.network.n_stored(rows) * cols / max(tensor.n_kept, 1)
        else:
            per_kept = (planes or plane_entropies(tensor)).symbol.value
        return cls(
            n_weights=tensor.n_weights,
            n_kept=tensor.n_kept,
            care_bits=tensor.n_care_bits,
            wrong_bits=int(np.bitwise_count(values).sum(dtype=np.int64)),
            section_bytes=tensor.section_bytes(),
            original_bytes=tensor.original_bytes,
            payload_bound_bits=per_kept * tensor.n_kept,
            mask_iid_bits=bounds.iid,
            mask_bound_bits=bounds.best[1],
            n_octets=tensor.n_weights if tensor.octets > 1 else 0,
        )

    @classmethod
    def total(cls, accounts: Iterable[Account], *, metadata_bytes: int = 0) -> Account:
        """Sum of accounts."""
        parts = list(accounts)
        return cls(
            n_weights=sum(a.n_weights for a in parts),
            n_kept=sum(a.n_kept for a in parts),
            care_bits=sum(a.care_bits for a in parts),
            wrong_bits=sum(a.wrong_bits for a in parts),
            section_bytes={name: sum(a.section_bytes[name] for a in parts) for name in SECTIONS},
            metadata_bytes=metadata_bytes + sum(a.metadata_bytes for a in parts),
            original_bytes=sum(a.original_bytes for a in parts),
            payload_bound_bits=sum(a.payload_bound_bits for a in parts),
            mask_iid_bits=sum(a.mask_iid_bits for a in parts),
            mask_bound_bits=sum(a.mask_bound_bits for a in parts),
            n_octets=sum(a.n_octets for a in parts),
        )

    @property
    def n_bytes(self) -> int:
        """All bytes."""
        return sum(self.section_bytes.values()) + self.metadata_bytes

    @property
    def sparsity(self) -> float:
        """Fraction of weights pruned."""
        return 1 - self.n_kept / self.n_weights if self.n_weights else 0.0

    @property
    def efficiency(self) -> float:
        """E: care bits that networks reproduce / all care bits."""
        return 1 - self.wrong_bits / self.care_bits if self.care_bits else 1.0

    @property
    def payload_bytes(self) -> int:
        """Code + corrections + field + outliers + starts."""
        return sum(self.section_bytes[name] for name in PAYLOAD)

    @property
    def scale_bytes(self) -> int:
        """Scales + gains."""
        return self.section_bytes["scales"] + self.section_bytes["gains"]

    def per_weight(self, n_bytes: float) -> float:
        """Bits per weight of ``n_bytes``."""
        return 8 * n_bytes / self.n_weights if self.n_weights else 0.0

    @property
    def payload_overhead(self) -> float | None:
        """Payload / bound; None where the bound is 0."""
        return 8 * self.payload_bytes / self.payload_bound_bits if self.payload_bound_bits else None

    @property
    def mask_overhead(self) -> float | None:
        """Mask / bound; None where that is 0."""
        return 8 * self.section_bytes["mask"] / self.mask_bound_bits if self.mask_bound_bits else None

    @property
    def total_overhead(self) -> float | None:
        """All bytes / (payload bound + mask bound + scales); None where that is 0."""
        bound = self.payload_bound_bits + self.mask_bound_bits + 8 * self.scale_bytes
        return 8 * self.n_bytes / bound if bound else None

    def as_dict(self) -> dict[str, Any]:
        """The account as ``info --json`` prints it."""
        sizes = {**self.section_bytes, "metadata": self.metadata_bytes}
        weights = self.n_weights or 1
        return {
            "n_weights": self.n_weights,
            "n_kept": self.n_kept,
            **({"n_octets": self.n_octets} if self.n_octets else {}),
            "sparsity": self.sparsity,
            "efficiency": self.efficiency,
            "bytes": {"total": self.n_bytes, **sizes, "original": self.original_bytes},
            "bits_per_weight": {
                "total": self.per_weight(self.n_bytes),
                **{name: self.per_weight(size) for name, size in sizes.items()},
            },
            "bound": {
                "payload": self.payload_bound_bits / weights,
                "mask": self.mask_bound_bits / weights,
                "mask_iid": self.mask_iid_bits / weights,
            },
            "overhead": {
                "payload": self.payload_overhead,
                "mask": self.mask_overhead,
                "total": self.total_overhead,
            },
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Pruned:
    """What became of one tensor.

    Attributes:
        n_weights, n_kept: weights, and those kept.
        importance: sum of the importance (magnitudes, unless given) of all weights,
        kept: of those kept,
        best: of as many of the largest.
    """

    n_weights: int
    n_kept: int
    importance: float
    kept: float
    best: float

    @property
    def sparsity(self) -> float:
        """Fraction of weights pruned."""
        return 1 - self.n_kept / self.n_weights if self.n_weights else 0.0

    @classmethod
    def total(cls, parts: Iterable[Pruned]) -> Pruned:
        """All tensors together."""
        parts = list(parts)
        return cls(
            n_weights=sum(part.n_weights for part in parts),
            n_kept=sum(part.n_kept for part in parts),
            importance=sum(part.importance for part in parts),
            kept=sum(part.kept for part in parts),
            best=sum(part.best for part in parts),
        )


@dataclass(frozen=True, slots=True)
class LeftOut:
    """Why a tensor is carried as it is, and its bytes."""

    why: str
    n_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Speed:
    """Time that decoding takes.

    Attributes:
        n_weights: that were decoded.
        mask, planes: seconds of the masks alone, and of masks and planes together.
    """

    n_weights: int
    mask: float
    planes: float
