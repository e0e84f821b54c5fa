"""The encoded tensor: what one tensor of a file is made of."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xorpack.code.corrections import Corrections, packed_sizes, unpack
from xorpack.code.layout import MAX_STEPS, Layout
from xorpack.code.network import XorNetwork
from xorpack.code.planes import CodedPlanes, Expand
from xorpack.code.words import Words
from xorpack.errors import FormatError
from xorpack.fields.field import Field
from xorpack.masks import Mask
from xorpack.tensors import DTYPES, MAX_BITS, as_matrix, n_groups

SECTIONS = ("code", "corrections", "mask", "scales", "field")
"""Parts of an encoded tensor that hold bytes, in the order of a file."""

MAX_WEIGHTS = 1 << 48
MAX_ROWS = 1 << 31
"""Limits of the format (exclusive): products of a few indices stay within 64 bits."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class EncodedTensor:
    """A tensor as it is stored. Made by :func:`xorpack.encode` or :func:`xorpack.open`.

    Attributes:
        kind: ``bcq``, or ``lossless`` where planes are the bits of the elements.
        shape, dtype: of the tensor that was encoded; dtype is a safetensors name.
        bits: number of planes (q).
        n_kept: weights that the mask keeps.
        network, layout: how code becomes planes.
        constants: ``(zeros, ones)``: where bit k is set, plane k is that at every kept weight and not coded.
        code: uint32 (coded planes, n_segments, m_lane, lanes).
        n_corrections, corrections: count and bytes, see :mod:`xorpack.code.corrections`.
        mask: a value of one of :data:`xorpack.masks.CODECS`, for a tensor of this code.
        scales: float16 or float32 (rows, n_groups, q) of ``bcq``, else None.
        group_size: columns that share scales; 0 = the row.
        method: how the scales were fitted; information only.
        field: bits of ``lossless`` elements that are under a prefix code, or None. Planes, as they are coded, are
            those of the elements with the first bits of codewords in the field's place.
        content_sha256: of the decoded tensor's bytes, C order, little-endian.
        stored_sha256: of the stored sections' bytes, or "" for a tensor that was not read from a file.
    """

    kind: str
    shape: tuple[int, ...]
    dtype: str
    bits: int
    n_kept: int
    network: XorNetwork
    layout: Layout
    constants: tuple[int, int] = (0, 0)
    code: NDArray[np.uint32]
    n_corrections: int
    corrections: NDArray[np.uint8]
    mask: Mask
    scales: NDArray[Any] | None = None
    group_size: int = 0
    method: str = ""
    field: Field | None = None
    content_sha256: str = ""
    stored_sha256: str = ""

    def __post_init__(self) -> None:
        self._check()

    @property
    def rows(self) -> int:
        """Rows of the matrix that the tensor is coded as."""
        return as_matrix(self.shape)[0]

    @property
    def cols(self) -> int:
        """Columns of that matrix."""
        return as_matrix(self.shape)[1]

    @property
    def n_weights(self) -> int:
        """Weights, pruned ones included."""
        return math.prod(self.shape)

    @property
    def sparsity(self) -> float:
        """Fraction of weights pruned."""
        return 1 - self.n_kept / self.n_weights if self.n_weights else 0.0

    @property
    def m_lane(self) -> int:
        """Stored words per lane of a segment."""
        return int(self.code.shape[2])

    @property
    def mask_codec(self) -> str:
        """The mask codec's name."""
        return self.mask.NAME

    @property
    def mask_config(self) -> dict[str, Any]:
        """What the record says of the mask."""
        return self.mask.get_config()

    @property
    def n_care_bits(self) -> int:
        """Bits that matter, over all planes."""
        return self.n_kept * self.bits

    @property
    def efficiency(self) -> float:
        """E: care bits that the network reproduces / all care bits, before corrections."""
        if not self.n_care_bits:
            return 1.0
        wrong = int(np.bitwise_count(self.load_corrections().values).sum(dtype=np.int64))
        return 1 - wrong / self.n_care_bits

    @property
    def original_bytes(self) -> int:
        """Bytes of the tensor before encoding."""
        return self.n_weights * DTYPES[self.dtype].itemsize

    def sections(self) -> dict[str, NDArray[Any]]:
        """The stored arrays by name, in the order of :data:`SECTIONS`."""
        found: dict[str, NDArray[Any]] = {
            "code": self.code,
            "corrections": self.corrections,
            "mask": self.mask.data,
        }
        if self.scales is not None:
            found["scales"] = self.scales
        if self.field is not None:
            found["field"] = self.field.data
        return found

    def section_bytes(self) -> dict[str, int]:
        """Size of every section, 0 where absent."""
        return dict.fromkeys(SECTIONS, 0) | {k: v.nbytes for k, v in self.sections().items()}

    def load_corrections(self) -> Corrections:
        """The corrections, unpacked and checked."""
        return unpack(self.corrections, self.n_corrections, self.rows * self.cols, self.bits)

    @property
    def coded(self) -> CodedPlanes:
        """The planes' code."""
        return CodedPlanes(network=self.network, layout=self.layout, code=self.code)

    def place(self, coded: Words, mask: Words) -> Words:
        """All planes (q, rows, chunks) from the coded ones, before corrections and before a field is decoded."""
        zeros, ones = self.constants
        if not zeros | ones:
            return coded
        rest = iter(coded)
        planes = np.empty((self.bits, *mask.shape), np.uint32)
        for k in range(self.bits):
            planes[k] = 0 if zeros >> k & 1 else mask if ones >> k & 1 else next(rest)
        return planes

    def load_mask(self, expand: Expand, first: int = 0, last: int | None = None, *, jobs: int = 1) -> Words:
        """Mask words of rows ``first .. last - 1``; ``expand`` is the decoder's, ``jobs`` are threads."""
        end = self.rows if last is None else last
        return self.mask.rows(first, end, expand, jobs=jobs)

    def _check(self) -> None:
        rows, cols = as_matrix(self.shape)
        layout, q = self.layout, self.bits
        if self.kind == "bcq":
            known = self.dtype in ("F32", "F16", "BF16") and 1 <= q <= MAX_BITS and self.scales is not None
        elif self.kind == "lossless":
            known = self.dtype in DTYPES and q == 8 * DTYPES[self.dtype].itemsize and self.scales is None
        else:
            raise FormatError(f"unknown kind {self.kind!r}; known: bcq, lossless")
        if not known:
            raise FormatError(
                f"{self.kind} with dtype {self.dtype!r}, {q} planes and "
                f"{'no ' if self.scales is None else ''}scales"
            )
        if math.prod(max(size, 1) for size in self.shape) >= MAX_WEIGHTS or rows >= MAX_ROWS:
            raise FormatError(f"shape {list(self.shape)} is more than this format holds")
        if (layout.rows, layout.cols) != (rows, cols):
            raise FormatError(f"layout of {layout.rows} x {layout.cols} for {rows} x {cols} weights")
        if layout.n_steps > min(layout.total_steps, MAX_STEPS) or layout.row_stride > max(rows, 1):
            raise FormatError(
                f"n_steps {layout.n_steps} or row_stride {layout.row_stride} is more than "
                f"{layout.total_steps} steps of {rows} rows need"
            )
        if not 0 <= self.group_size < MAX_WEIGHTS or (self.kind == "lossless" and self.group_size):
            raise FormatError(f"group_size {self.group_size} of kind {self.kind}")
        if not 0 <= self.n_kept <= rows * cols or not 0 <= self.n_corrections <= self.n_kept:
            raise FormatError(
                f"{self.n_corrections} corrections and {self.n_kept} kept of {rows * cols} weights"
            )
        m_lane = self.coded.m_lane
        zeros, ones = self.constants
        if min(zeros, ones) < 0 or zeros & ones or (zeros | ones) >> q:
            raise FormatError(f"constant planes {zeros:#x} and {ones:#x} of {q}")
        n_coded = q - (zeros | ones).bit_count()
        if self.code.shape != (n_coded, layout.n_segments, m_lane, layout.lanes):
            raise FormatError(
                f"code of shape {self.code.shape}, not ({n_coded}, {layout.n_segments}, m, {layout.lanes})"
            )
        if m_lane > 2 * layout.n_steps + self.network.window or (m_lane == 0 and self.n_kept and n_coded):
            raise FormatError(f"{m_lane} stored words for {layout.n_steps} steps")
        if self.network.family != "quasi-cyclic" and layout.total_steps:
            expected = self.network.n_code_words(layout.n_steps, 1.0)
            if m_lane not in (expected, 0):
                raise FormatError(f"{m_lane} stored words, but {self.network.family} takes {expected}")
        expected_bytes = sum(packed_sizes(self.n_corrections, rows * cols, q))
        if self.corrections.size != expected_bytes:
            raise FormatError(f"{self.corrections.size} bytes of corrections, not {expected_bytes}")
        if self.field is not None:
            self._check_field(self.field)
        self.mask.check(self.coded)
        if self.scales is not None:
            shape = (rows, n_groups(cols, self.group_size), q)
            if self.scales.shape != shape:
                raise FormatError(f"scales of shape {self.scales.shape}, not {shape}")
            if self.scales.dtype not in (np.float16, np.float32):
                raise FormatError(f"scales of type {self.scales.dtype}, not float16 or float32")

    def _check_field(self, field: Field) -> None:
        code = field.code
        if self.kind != "lossless":
            raise FormatError(f"a field of a tensor of kind {self.kind}")
        if code.low + code.width > self.bits:
            raise FormatError(f"field of bits {code.low} to {code.low + code.width - 1} of {self.bits}")
        if code.unused & ~self.constants[0]:
            raise FormatError(
                f"planes {code.unused:#x} of the field are not all constantly 0: {self.constants[0]:#x}"
            )
        if (field.layout.rows, field.layout.cols) != code.plane_shape(self.rows, self.cols):
            raise FormatError(f"field: layout of {field.layout.rows} x {field.layout.cols} bits")


def sections_sha256(sections: Mapping[str, NDArray[Any]]) -> str:
    """SHA-256 over the bytes of the sections, in order."""
    digest = hashlib.sha256()
    for section in sections.values():
        digest.update(np.ascontiguousarray(section).reshape(-1).view(np.uint8).data)
    return digest.hexdigest()


def blocks_sha256(blocks: Iterator[NDArray[Any]]) -> str:
    """SHA-256 over the bytes of row blocks."""
    digest = hashlib.sha256()
    for block in blocks:
        digest.update(np.ascontiguousarray(block).reshape(-1).view(np.uint8).data)
    return digest.hexdigest()
