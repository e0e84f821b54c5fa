"""The CPU decoder: numba, random access by rows."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from xorpack import checks
from xorpack.code import dense
from xorpack.code.corrections import Corrections, check_kept
from xorpack.code.expand import expand
from xorpack.code.words import Words, popcount
from xorpack.encoded import EncodedTensor
from xorpack.errors import FormatError, ParameterError
from xorpack.fields.symbols import LoadedField
from xorpack.tensors import DTYPES
from xorpack.vector.compiled import njit
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
    loaded = _Loaded.of(encoded)
    mask, planes = _masked_planes(encoded, loaded, first, last, jobs, out)
    if loaded.field is not None:
        loaded.field.replace(planes, mask, first, encoded.cols, jobs=jobs)
    return mask, planes


def decode_rows(encoded: EncodedTensor, first: int = 0, last: int | None = None) -> NDArray[Any]:
    """Elements of rows ``first .. last - 1`` of the tensor's matrix, of the tensor's dtype."""
    loaded = _Loaded.of(encoded)
    mask, planes = _masked_planes(encoded, loaded, first, last)
    out = np.empty((len(mask), encoded.cols), DTYPES[encoded.dtype])
    _fill(encoded, loaded, first, mask, planes, out)
    return out


def decode_blocks(encoded: EncodedTensor) -> Iterator[NDArray[Any]]:
    """All rows in order, in blocks of about ``BLOCK_WORDS`` words; the mask is held whole."""
    check_encoded(encoded)
    step = max(1, BLOCK_WORDS // max(encoded.layout.chunks, 1))
    mask, loaded = encoded.load_mask(expand), _Loaded.of(encoded)
    _check_count(encoded, mask)
    for first in range(0, encoded.rows, step):
        part = mask[first : first + step]
        planes = _expand(encoded, first, first + len(part), part, loaded)
        out = np.empty((len(part), encoded.cols), DTYPES[encoded.dtype])
        _fill(encoded, loaded, first, part, planes, out)
        yield out


def decode_dense(encoded: EncodedTensor, *, jobs: int = 1) -> NDArray[Any]:
    """The whole tensor: its shape, its dtype."""
    loaded = _Loaded.of(encoded)
    mask, planes = _masked_planes(encoded, loaded, jobs=jobs)
    out = np.empty((encoded.rows, encoded.cols), DTYPES[encoded.dtype])
    step = max(1, -(-encoded.rows // (4 * jobs))) if jobs > 1 else max(encoded.rows, 1)

    def fill(r: int) -> None:
        end = r + step
        _fill(encoded, loaded, r, mask[r:end], planes[:, r:end], out[r:end])

    for_each(fill, range(0, encoded.rows, step), jobs)
    return out.reshape(encoded.shape)


def check_encoded(encoded: Any) -> None:
    """Raise ParameterError unless it is an EncodedTensor."""
    if not isinstance(encoded, EncodedTensor):
        raise ParameterError(f"a {type(encoded).__name__} cannot be decoded: give an EncodedTensor")


class _Loaded(NamedTuple):
    """What is unpacked once, whatever rows are decoded then."""

    corrections: Corrections
    field: LoadedField | None

    @classmethod
    def of(cls, encoded: EncodedTensor) -> _Loaded:
        check_encoded(encoded)
        field = None if encoded.field is None else LoadedField.of(encoded.field)
        return cls(encoded.load_corrections(), field)


def _check_count(encoded: EncodedTensor, mask: Words) -> None:
    if popcount(mask) != encoded.n_kept:
        raise FormatError(f"the mask keeps {popcount(mask)} weights, not {encoded.n_kept}")


def _masked_planes(
    encoded: EncodedTensor,
    loaded: _Loaded,
    first: int = 0,
    last: int | None = None,
    jobs: int = 1,
    out: Words | None = None,
) -> tuple[Words, Words]:
    """The mask and, as they are coded, the planes; see :func:`decode_planes`."""
    end = encoded.rows if last is None else last
    first, end = (checks.whole("rows", row, -checks.LARGEST) for row in (first, end))
    if not 0 <= first <= end <= encoded.rows:
        raise ParameterError(f"rows {first}..{end} are outside the tensor's {encoded.rows}")
    mask = encoded.load_mask(expand, first, end, jobs=jobs)
    if end - first == encoded.rows:
        _check_count(encoded, mask)
    return mask, _expand(encoded, first, end, mask, loaded, jobs, out)


def _expand(
    encoded: EncodedTensor,
    first: int,
    last: int,
    mask: Words,
    loaded: _Loaded,
    jobs: int = 1,
    out: Words | None = None,
) -> Words:
    planes = encoded.place(expand(encoded.coded, first, last, mask, jobs=jobs, out=out), mask)
    wrong = loaded.corrections.in_rows(first, last, encoded.cols)
    check_kept(wrong, mask, encoded.cols)
    correct(planes, wrong.positions, wrong.values, max(encoded.cols, 1))
    return planes


def _fill(
    encoded: EncodedTensor, loaded: _Loaded, first: int, mask: Words, planes: Words, out: NDArray[Any]
) -> None:
    """Elements of rows from ``first`` on to ``out`` (rows, cols), from planes as they are coded."""
    if encoded.scales is not None:
        scales = encoded.scales[first : first + len(mask)]
        dense.expand_bcq(mask, planes, scales, encoded.group_size, out)
    elif loaded.field is not None:
        loaded.field.join(planes, mask, first, out)
    else:
        dense.join_planes(planes, out)


@njit(cache=True, nogil=True)
def correct(planes, positions, values, cols):
    """XOR the bits of ``values`` into planes (q, rows, chunks) at element indices ``positions``."""
    for n in range(positions.size):
        r = positions[n] // cols
        c = positions[n] - r * cols
        for k in range(planes.shape[0]):
            bit = np.uint32((values[n] >> np.uint64(k)) & np.uint64(1))
            planes[k, r, c // 32] ^= bit << np.uint32(c % 32)
