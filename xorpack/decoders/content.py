"""The digest of a tensor's content, made as it is decoded: of its elements, or of the planes that they follow from."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xorpack.code import dense
from xorpack.code.words import Words, n_chunks
from xorpack.decoders import cpu
from xorpack.elements import Bcq
from xorpack.encoded import PLANES, EncodedTensor, blocks_sha256, planes_sha256
from xorpack.tensors import DTYPES

Watch = Callable[[Iterator[NDArray[Any]]], Iterator[NDArray[Any]]]
"""What looks at blocks of rows, the first rows first, and hands them on."""


def content_sha256(encoded: EncodedTensor, watch: Watch | None = None) -> str:
    """Decode a tensor: the digest that ``encoded.content_sha256`` must be.

    Args:
        encoded: the tensor.
        watch: sees the elements of all rows, in blocks. Where the digest is of planes these are held whole, and no
            elements are made unless they are watched.

    Raises:
        FormatError: the tensor contradicts itself.
    """
    if not encoded.digests_planes:
        blocks = cpu.decode_blocks(encoded)
        return blocks_sha256(blocks if watch is None else watch(blocks))
    mask, planes = cpu.decode_planes(encoded)
    if watch is not None:
        deque(watch(_joined(encoded, mask, planes)), 0)
    return _planes_sha256(encoded, mask, planes)


def decode_digested(encoded: EncodedTensor) -> tuple[NDArray[Any], str]:
    """:func:`xorpack.decoders.cpu.decode_dense` and :func:`content_sha256`, of a tensor that is decoded once.

    Raises:
        FormatError: the tensor contradicts itself.
    """
    if not encoded.digests_planes:
        array = cpu.decode_dense(encoded)
        return array, blocks_sha256(iter([array]))
    mask, planes = cpu.decode_planes(encoded)
    out = np.empty((encoded.rows, encoded.cols), DTYPES[encoded.dtype])
    _join(encoded, mask, planes, 0, out)
    return out.reshape(encoded.shape), _planes_sha256(encoded, mask, planes)


def _joined(encoded: EncodedTensor, mask: Words, planes: Words) -> Iterator[NDArray[Any]]:
    """Elements of planes, in blocks of rows."""
    step = max(1, cpu.BLOCK_WORDS // max(n_chunks(encoded.cols), 1))
    for first in range(0, encoded.rows, step):
        out = np.empty((min(step, encoded.rows - first), encoded.cols), DTYPES[encoded.dtype])
        _join(encoded, mask, planes, first, out)
        yield out


def _join(encoded: EncodedTensor, mask: Words, planes: Words, first: int, out: NDArray[Any]) -> None:
    """Put the elements of rows from ``first`` on into ``out``."""
    assert isinstance(encoded.elements, Bcq)
    rows = slice(first, first + len(out))
    dense.expand_bcq(
        mask[rows], planes[:, rows], encoded.elements.scales[rows], encoded.elements.group_size, out
    )


def _planes_sha256(encoded: EncodedTensor, mask: Words, planes: Words) -> str:
    """The digest of planes, written as the tensor has it."""
    assert isinstance(encoded.elements, Bcq)
    found = planes_sha256(mask, planes, encoded.elements.scales)
    return found if encoded.content_sha256.startswith(PLANES) else found.removeprefix(PLANES)
