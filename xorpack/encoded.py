"""The encoded tensor: what one tensor of a file is made of."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xorpack.code.corrections import NO_CORRECTIONS, Corrections
from xorpack.code.layout import Layout
from xorpack.code.network import XorNetwork
from xorpack.code.packed import PackedPlanes
from xorpack.code.planes import CodedPlanes, Expand, StoredPlanes, TrellisPlanes
from xorpack.code.words import Words
from xorpack.elements import Bcq, Elements, Lossless, Trellis, octets
from xorpack.errors import FormatError, ParameterError
from xorpack.fields.field import Field
from xorpack.fields.signs import SignField
from xorpack.masks import Mask
from xorpack.product import PreparedProduct
from xorpack.tensors import DTYPES, TrellisTensor, as_matrix

SECTIONS = ("code", "corrections", "mask", "scales", "field", "gains", "outliers", "starts")
"""Parts of an encoded tensor that hold bytes, in the order of a file."""

PLANES = "planes:"
"""What a digest of planes (:func:`planes_sha256`) begins with."""

MAX_WEIGHTS = 1 << 48
MAX_ROWS = 1 << 31
"""Limits of the format (exclusive): products of a few indices stay within 64 bits."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class EncodedTensor:
    """A tensor as it is stored: planes, a mask, and what they mean.

    :func:`xorpack.encode` and :func:`xorpack.open` make one.

    Attributes:
        shape, dtype: of the tensor that was encoded; dtype is a safetensors name.
        planes: code or packed bits, constant planes and corrections; or a trellis's one code.
        mask: a value of one of :data:`xorpack.masks.CODECS`, for a tensor of this code.
        elements: what the planes mean.
        content_sha256: of the decoded tensor's bytes, C order, little-endian; of signs and scales that
            :func:`xorpack.encode` has seen, :func:`planes_sha256`.
        stored_sha256: of the stored sections' bytes, or "" for a tensor that was not read from a file.
    """

    shape: tuple[int, ...]
    dtype: str
    planes: StoredPlanes | TrellisPlanes
    mask: Mask
    elements: Elements
    content_sha256: str = ""
    stored_sha256: str = ""

    def __post_init__(self) -> None:
        rows, cols = check_shape(self.shape, self.octets)
        if self.planes.shape != (rows, cols):
            raise FormatError(
                f"layout of {' x '.join(map(str, self.planes.shape))} for {rows} x {cols} weights"
            )
        if isinstance(self.planes, TrellisPlanes) != isinstance(self.elements, Trellis):
            raise FormatError(f"{type(self.planes).__name__} cannot hold elements of kind {self.kind}")
        if isinstance(self.elements, Trellis) and self.elements.n_outliers > self.n_kept:
            raise FormatError(f"n_outliers {self.elements.n_outliers} of {self.n_kept} kept weights")
        self.elements.check(self.shape, self.dtype, self.bits, self.planes.constants)
        if isinstance(self.field, SignField):
            self.field.check(self.planes)
        self.mask.check(self.planes.host)

    @property
    def rows(self) -> int:
        """Rows of the matrix that the tensor is coded as."""
        return as_matrix(self.shape)[0]

    @property
    def octets(self) -> int:
        """Elements of that matrix for one of the tensor: its octets where they are coded one by one, else 1."""
        return octets(self.kind, self.dtype, self.bits)

    @property
    def cols(self) -> int:
        """Columns of that matrix."""
        return as_matrix(self.shape)[1] * self.octets

    @property
    def matrix_dtype(self) -> np.dtype[Any]:
        """Type of the elements of that matrix, from which a view makes those of the tensor."""
        return np.dtype(np.uint8) if self.octets > 1 else DTYPES[self.dtype]

    @property
    def n_weights(self) -> int:
        """Elements of the matrix: weights, pruned ones included."""
        return math.prod(self.shape) * self.octets

    @property
    def n_kept(self) -> int:
        """Weights that the mask keeps."""
        return self.planes.n_kept

    @property
    def sparsity(self) -> float:
        """Fraction of weights pruned."""
        return 1 - self.n_kept / self.n_weights if self.n_weights else 0.0

    @property
    def bits(self) -> int:
        """Number of planes (q)."""
        return self.planes.bits

    @property
    def kind(self) -> str:
        """What the planes mean, in a word: ``bcq``, ``lossless`` or ``trellis``."""
        return self.elements.KIND

    @property
    def scales(self) -> NDArray[Any] | None:
        """Scales of quantized weights; None of lossless elements."""
        return None if isinstance(self.elements, Lossless) else self.elements.scales

    @property
    def group_size(self) -> int:
        """Columns that share a scale, 0 for all of a row; 0 of lossless elements, too."""
        return 0 if isinstance(self.elements, Lossless) else self.elements.group_size

    @property
    def field(self) -> Field | SignField | None:
        """The field of lossless elements or binary codes that have one, else None."""
        return None if isinstance(self.elements, Trellis) else self.elements.field

    @property
    def n_corrections(self) -> int:
        """Positions where the planes' code is wrong."""
        return self.planes.n_corrections

    @property
    def packed(self) -> PackedPlanes | None:
        """The packed bits of planes that are stored so; None of all others."""
        coded = self.planes.coded if isinstance(self.planes, StoredPlanes) else None
        return coded if isinstance(coded, PackedPlanes) else None

    @property
    def digests_planes(self) -> bool:
        """Whether ``content_sha256`` is of planes: it says so, or bits are packed, and it was so before it said so."""
        of_planes = self.content_sha256.startswith(PLANES) or self.packed is not None
        return of_planes and isinstance(self.elements, Bcq)

    def rows_at_once(self, n: int) -> int:
        """About ``n`` rows, 1 at the least: so many from the first on, and so on, are decoded with least effort."""
        panel = 1 if self.packed is None else self.packed.panel_rows
        return max(1, n - n % panel if n > panel else n)

    @property
    def coded(self) -> CodedPlanes:
        """The code of planes that are coded one by one.

        Raises:
            ParameterError: the planes are a trellis's, which has one code for all; or their bits are packed.
        """
        if isinstance(self.planes, TrellisPlanes):
            raise ParameterError(
                "a trellis tensor has one code for all planes: it has no network or layout of its own"
            )
        if isinstance(self.planes.coded, PackedPlanes):
            raise ParameterError("the bits of this tensor are packed: it has no network or layout")
        return self.planes.coded

    @property
    def network(self) -> XorNetwork:
        """The network that expands the code."""
        return self.coded.network

    @property
    def layout(self) -> Layout:
        """The order of coding."""
        return self.coded.layout

    @property
    def code(self) -> NDArray[np.uint32]:
        """Stored words: uint32 (coded planes, n_segments, m_lane, lanes); (coded planes, words) of packed bits; or a
        trellis's (m, chunks).
        """
        return self.planes.code

    @property
    def m_lane(self) -> int:
        """Stored words per lane of a segment."""
        return self.coded.m_lane

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
        return self.n_weights * self.matrix_dtype.itemsize

    def sections(self) -> dict[str, NDArray[Any]]:
        """The stored arrays by name, in the order of :data:`SECTIONS`."""
        own: dict[str, NDArray[Any]] = {"code": self.code}
        if isinstance(self.planes, StoredPlanes):
            own["corrections"] = self.planes.corrections
        last = {} if self.packed is None else {"starts": self.packed.starts}
        return own | {"mask": self.mask.data} | dict(self.elements.sections()) | last

    def section_bytes(self) -> dict[str, int]:
        """Size of every section, 0 where absent."""
        return dict.fromkeys(SECTIONS, 0) | {k: v.nbytes for k, v in self.sections().items()}

    def load_corrections(self) -> Corrections:
        """The corrections, unpacked and checked."""
        return self.planes.load_corrections() if isinstance(self.planes, StoredPlanes) else NO_CORRECTIONS

    def trellis(self, mask: Words | None) -> TrellisTensor:
        """The trellis tensor that was encoded, with ``mask`` (rows, chunks) for its mask, or None for none.

        Raises:
            ParameterError: it is no trellis tensor.
            FormatError: its bytes break a rule.
        """
        elements, planes = self.elements, self.planes
        if not isinstance(elements, Trellis) or not isinstance(planes, TrellisPlanes):
            raise ParameterError(f"a tensor of kind {self.kind} is no trellis tensor")
        outliers = elements.load_outliers(self.n_weights)
        try:
            return TrellisTensor(
                shape=self.shape,
                dtype=self.dtype,
                network=planes.network,
                code=planes.code,
                a=elements.a,
                scales=elements.scales,
                group_size=elements.group_size,
                gains=elements.gains,
                mask=mask,
                positions=outliers.positions,
                values=outliers.values.astype(np.uint16).view(np.float16),
            )
        except ParameterError as error:
            raise FormatError(str(error)) from None

    def load_mask(self, expand: Expand, first: int = 0, last: int | None = None, *, jobs: int = 1) -> Words:
        """Mask words of rows ``first .. last - 1``; ``expand`` is the decoder's, ``jobs`` are threads."""
        end = self.rows if last is None else last
        return self.mask.rows(first, end, expand, jobs=jobs)

    def product(self, *, jobs: int = 1) -> PreparedProduct:
        """This tensor made ready for many products on the CPU: :class:`xorpack.product.PreparedProduct`.

        Args:
            jobs: threads that unpack its mask.

        Raises:
            FormatError: the tensor contradicts itself.
            ParameterError: it is of integers of 16 or 32 bits, into which a tool packed smaller ones.
        """
        # A decoder's, and decoders import this module: looked up, not imported.
        made: PreparedProduct = import_module("xorpack.decoders.products").EncodedProduct(self, jobs=jobs)
        return made

    def matvec(
        self, x: Any, *, jobs: int = 1, out: NDArray[Any] | None = None, precision: str = "float32"
    ) -> NDArray[Any]:
        """``W x`` on the CPU, x (cols,): :meth:`xorpack.product.PreparedProduct.matvec`, once."""
        return self.product(jobs=jobs).matvec(x, jobs=jobs, out=out, precision=precision)

    def matmul(
        self, x: Any, *, jobs: int = 1, out: NDArray[Any] | None = None, precision: str = "float32"
    ) -> NDArray[Any]:
        """``x W^T`` on the CPU, x (n, cols) or (cols,): :meth:`xorpack.product.PreparedProduct.matmul`, once."""
        return self.product(jobs=jobs).matmul(x, jobs=jobs, out=out, precision=precision)


def check_shape(shape: tuple[int, ...], octets: int = 1) -> tuple[int, int]:
    """``(rows, cols)`` of a tensor's matrix, of so many ``octets`` for an element.

    Raises:
        FormatError: the format holds no such tensor.
    """
    rows, cols = as_matrix(shape)
    if octets * math.prod(max(size, 1) for size in shape) >= MAX_WEIGHTS or rows >= MAX_ROWS:
        raise FormatError(f"shape {list(shape)} is more than this format holds")
    return rows, cols * octets


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


def planes_sha256(mask: Words, planes: Words, scales: NDArray[Any]) -> str:
    """``planes:`` and a SHA-256: over the mask (rows, chunks), each plane (q, rows, chunks) where the mask is 1,
    and scales, of which weights are made.

    A tenth of the weights' bytes, which are never made to be hashed.
    """
    digest = hashlib.sha256(np.ascontiguousarray(mask).data)
    for plane in planes:
        digest.update((plane & mask).data)
    digest.update(np.ascontiguousarray(scales).data)
    return PLANES + digest.hexdigest()
