"""The CPU decoder: numba, random access by rows."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from xorpack import checks
from xorpack.code import dense
from xorpack.code.corrections import Corrections, check_kept
from xorpack.code.expand import expand
from xorpack.code.packed import PackedPlanes
from xorpack.code.planes import StoredPlanes
from xorpack.code.words import Words, n_chunks, popcount
from xorpack.decoders.cpu_kernels import correct
from xorpack.decoders.trellis import LoadedTrellis
from xorpack.elements import Bcq, Elements
from xorpack.encoded import EncodedTensor
from xorpack.errors import FormatError, ParameterError
from xorpack.fields.field import Field
from xorpack.fields.loaded_signs import LoadedSigns
from xorpack.fields.signs import SignField
from xorpack.fields.symbols import LoadedField
from xorpack.tensors import DTYPES
from xorpack.vector.threads import for_each

BLOCK_WORDS = 1 << 16
"""Words of a plane that are decoded at a time on the way to elements."""


def decode_planes(
    encoded: EncodedTensor,
    first: int = 0,
    last: int | None = None,
    *,
    jobs: int = 1,
    out: Words | None = None,
) -> tuple[Words, Words]:
    """``(mask, planes)`` of rows ``first .. last - 1``: uint32 (rows, chunks), (q, rows, chunks).

    Planes are of the elements: a field is decoded. Bits of a plane where the mask is 0 are 0. ``out``: an array for
    the planes that are coded, which are all of them unless some are constant.
    Equal to :func:`xorpack.decoders.reference.decode_planes`.

    Raises:
        ParameterError: rows outside the tensor.
        FormatError: the mask does not keep as many weights as the tensor says (whole tensors only).
    """
    mask = load_mask(encoded, first, last, jobs)
    return mask, load(encoded).planes(first, mask, jobs, out)


def decode_rows(encoded: EncodedTensor, first: int = 0, last: int | None = None) -> NDArray[Any]:
    """Elements of rows ``first .. last - 1`` of the tensor's matrix, of the tensor's dtype."""
    mask = load_mask(encoded, first, last)
    return filled(encoded, load(encoded), first, mask)


def decode_blocks(encoded: EncodedTensor) -> Iterator[NDArray[Any]]:
    """All rows in order, in blocks of about ``BLOCK_WORDS`` words; the mask is held whole."""
    mask, loaded = load_mask(encoded), load(encoded)
    step = encoded.rows_at_once(BLOCK_WORDS // max(n_chunks(encoded.cols), 1))
    for first in range(0, encoded.rows, step):
        yield filled(encoded, loaded, first, mask[first : first + step])


def decode_dense(encoded: EncodedTensor, *, jobs: int = 1) -> NDArray[Any]:
    """The whole tensor: its shape, its dtype."""
    mask = load_mask(encoded, jobs=jobs)
    return filled(encoded, load(encoded), 0, mask, jobs).reshape(encoded.shape)


class Loaded(Protocol):
    """An encoded tensor of which everything is unpacked that is needed whatever rows are decoded."""

    def planes(self, first: int, mask: Words, jobs: int = 1, out: Words | None = None) -> Words:
        """The elements' planes of the rows of ``mask``, those from ``first`` on: uint32 (q, rows, chunks)."""

    def fill(self, first: int, mask: Words, out: NDArray[Any], jobs: int = 1) -> None:
        """Put the elements of these rows into ``out`` (rows, cols)."""


def filled(encoded: EncodedTensor, loaded: Loaded, first: int, mask: Words, jobs: int = 1) -> NDArray[Any]:
    """The elements of the rows of ``mask``, those from ``first`` on, of the tensor's dtype."""
    out = np.empty((len(mask), encoded.cols), encoded.matrix_dtype)
    loaded.fill(first, mask, out, jobs)
    return out.view(DTYPES[encoded.dtype])


def check_encoded(encoded: Any) -> None:
    """Raise ParameterError unless it is an EncodedTensor."""
    if not isinstance(encoded, EncodedTensor):
        raise ParameterError(f"a {type(encoded).__name__} cannot be decoded: give an EncodedTensor")


def load(encoded: EncodedTensor) -> Loaded:
    """Unpack what stands beside the code."""
    if isinstance(encoded.planes, StoredPlanes):
        return LoadedPlanes.of(encoded, encoded.planes)
    return LoadedTrellis.of(encoded)


def load_mask(encoded: EncodedTensor, first: int = 0, last: int | None = None, jobs: int = 1) -> Words:
    """The mask of rows ``first .. last - 1``, counted if these are all."""
    check_encoded(encoded)
    end = encoded.rows if last is None else last
    first, end = (checks.whole("rows", row, -checks.LARGEST) for row in (first, end))
    if not 0 <= first <= end <= encoded.rows:
        raise ParameterError(f"rows {first}..{end} are outside the tensor's {encoded.rows}")
    mask = encoded.load_mask(expand, first, end, jobs=jobs)
    if end - first == encoded.rows and popcount(mask) != encoded.n_kept:
        raise FormatError(f"the mask keeps {popcount(mask)} weights, not {encoded.n_kept}")
    return mask


class LoadedPlanes(NamedTuple):
    """See :class:`Loaded`; of planes that are coded one by one."""

    stored: StoredPlanes
    elements: Elements
    cols: int
    mask_rows: Callable[[int, int], Words]
    corrections: Corrections
    field: LoadedField | None
    signs: LoadedSigns | None

    @classmethod
    def of(cls, encoded: EncodedTensor, stored: StoredPlanes) -> LoadedPlanes:
        """Unpack corrections and field."""
        rows, field = partial(load_mask, encoded), encoded.field
        signs = LoadedSigns.of(field) if isinstance(field, SignField) else None
        loaded = LoadedField.of(field) if isinstance(field, Field) else None
        return cls(stored, encoded.elements, stored.shape[1], rows, stored.load_corrections(), loaded, signs)

    def planes(self, first: int, mask: Words, jobs: int = 1, out: Words | None = None) -> Words:
        """See :class:`Loaded`."""
        planes = self._as_coded(first, mask, jobs, out)
        if self.signs is not None:
            return self.signs.replace(planes, mask, first, jobs=jobs)
        if self.field is not None:
            self.field.replace(planes, mask, first, self.cols, jobs=jobs)
        return planes

    def fill(self, first: int, mask: Words, out: NDArray[Any], jobs: int = 1) -> None:
        """See :class:`Loaded`."""
        planes = self._as_coded(first, mask, jobs)
        if self.signs is not None:
            planes = self.signs.replace(planes, mask, first, jobs=jobs)
        step = max(1, -(-len(mask) // (4 * jobs))) if jobs > 1 else max(len(mask), 1)

        def part(r: int) -> None:
            self._join(first + r, mask[r : r + step], planes[:, r : r + step], out[r : r + step])

        for_each(part, range(0, len(mask), step), jobs)

    def _as_coded(self, first: int, mask: Words, jobs: int, out: Words | None = None) -> Words:
        """Planes as they are coded: those of a field hold the first bits of codewords."""
        last = first + len(mask)
        coded = self.stored.coded
        if isinstance(coded, PackedPlanes):
            starts = coded.row_starts(first, mask, self.mask_rows)
            words = coded.unpack(mask, starts, jobs=jobs, out=out)
        else:
            words = expand(coded, first, last, mask, jobs=jobs, out=out)
        planes = self.stored.place(words, mask)
        wrong = self.corrections.in_rows(first, last, self.cols)
        check_kept(wrong, mask, self.cols)
        correct(planes, wrong.positions, wrong.values, max(self.cols, 1))
        return planes

    def _join(self, first: int, mask: Words, planes: Words, out: NDArray[Any]) -> None:
        if isinstance(self.elements, Bcq):
            scales = self.elements.scales[first : first + len(mask)]
            dense.expand_bcq(mask, planes, scales, self.elements.group_size, out)
        elif self.field is not None:
            self.field.join(planes, mask, first, out)
        else:
            dense.join_planes(planes, out)
