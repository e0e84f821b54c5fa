"""Sizes that the same weights have in other formats, by formula.

Per tensor: ``n`` weights in ``rows`` rows, ``k`` of them kept, ``v`` bits per value (q of a quantized tensor, the
element's width of a lossless one), and scales, which every format of quantized values needs alike.

Sources: EIE and Deep Compression (arXiv 1510.00149) for relative indices; compressed-tensors' sparse-bitmask for bitmap
+ values; LUT-GEMM (arXiv 2206.09557) for dense BCQ.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

INDEX_BITS = 4
"""Width of a relative index."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TensorCounts:
    """What the size of a tensor depends on in other formats.

    Attributes:
        rows, n, kept: rows, weights, kept weights.
        value_bits: of one value.
        scale_bits: of all scales.
        original_bits: width of the element before encoding.
        payload_bits, mask_bits: bounds of the whole tensor.
    """

    rows: int
    n: int
    kept: int
    value_bits: int
    scale_bits: int
    original_bits: int
    payload_bits: float
    mask_bits: float


def relative_index_bits(w: TensorCounts) -> float:
    """``(k + fillers) (v + 4)``: a filler value bridges every gap of 16 positions, here of i.i.d. masks.

    A gap is longer than 16 j with probability ``S^(16 j)``, so there are ``x / (1 - x)`` fillers for a value, with
    ``x = S^16``.
    """
    if w.kept == 0:
        return 0.0
    x = (1 - w.kept / w.n) ** (1 << INDEX_BITS)
    return w.kept * (1 + x / (1 - x)) * (w.value_bits + INDEX_BITS) + w.scale_bits


def csr_bits(w: TensorCounts, index_bits: int) -> float:
    """``k (v + index) + 32 (rows + 1)``."""
    return w.kept * (w.value_bits + index_bits) + 32 * (w.rows + 1) + w.scale_bits


BOUND = "bound, given mask"

FORMATS: Mapping[str, tuple[Callable[[TensorCounts], float], str]] = {
    "dense float32": (lambda w: 32.0 * w.n, "32 n"),
    "dense float16": (lambda w: 16.0 * w.n, "16 n; loses bits of float32"),
    "dense, packed": (
        lambda w: w.n * w.value_bits + w.scale_bits,
        "n v; quantized: no code is left for the zeros",
    ),
    "CSR, 32-bit indices": (lambda w: csr_bits(w, 32), "k (v + 32) + 32 (rows + 1)"),
    "CSR, 16-bit indices": (lambda w: csr_bits(w, 16), "k (v + 16) + 32 (rows + 1)"),
    "relative index, 4 bits": (relative_index_bits, "(k + fillers) (v + 4)"),
    "bitmap + values": (lambda w: w.n + w.kept * w.value_bits + w.scale_bits, "n + k v"),
    BOUND: (
        lambda w: w.mask_bits + w.payload_bits + w.scale_bits,
        "entropy of mask and values",
    ),
}
"""Name: bits of a tensor, and the formula in words."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FormatRow:
    """One format of a comparison.

    Attributes:
        name, note: what it is, and the formula or what was measured.
        bits_per_weight: scales included.
        measured: on real bytes; else by formula.
        encode, decode: weights per second on one core, where measured.
    """

    name: str
    note: str
    bits_per_weight: float
    measured: bool = False
    encode: float | None = None
    decode: float | None = None


@dataclass(frozen=True, slots=True)
class FormatTable:
    """Formats of the same ``n_weights`` weights, ours first."""

    n_weights: int
    rows: tuple[FormatRow, ...]


def by_formula(ours: FormatRow, tensors: Iterable[TensorCounts]) -> FormatTable:
    """Our format beside all of :data:`FORMATS`, for several tensors together.

    ``dense float16`` is left out where values are 16 bits wide or less.
    """
    listed = list(tensors)
    n = sum(w.n for w in listed)
    wide = any(w.original_bits > 16 for w in listed)
    others = (
        FormatRow(name=name, note=note, bits_per_weight=sum(bits(w) for w in listed) / n)
        for name, (bits, note) in FORMATS.items()
        if n and (wide or name not in ("dense float32", "dense float16"))
    )
    return FormatTable(n, (ours, *others))
