"""Which integers are coded octet by octet: those into which a tool packed smaller ones.

Two numbers of 4 bits are an octet, and a prefix code of octets is never worse than one of their halves (it may be the
product of two such codes). Numbers of 2 and of 8 bits fit as well; those of 3 bits, which straddle octets, lose most
of what could be saved.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xorpack.encoding.fields.choice import least_bits
from xorpack.encoding.rings.gather import SAMPLE, ElementSource
from xorpack.tensors import DTYPES, PACKED_DTYPES, as_matrix

_PACKED = tuple(DTYPES[name] for name in PACKED_DTYPES)


def coded_matrix(array: NDArray[Any], *, fields: bool = True) -> NDArray[Any]:
    """The matrix that an array is coded as, C-contiguous: its elements, or their octets where these take fewer bytes.

    Args:
        array: of any type that is encoded.
        fields: whether prefix codes are looked for; without, nothing is gained by octets.
    """
    matrix = np.ascontiguousarray(array).reshape(as_matrix(array.shape))
    if not fields or array.dtype not in _PACKED or not matrix.size:
        return matrix
    flat = matrix.reshape(1, -1)
    sample = np.ascontiguousarray(flat[:, :: max(1, flat.size // SAMPLE)])
    octets = matrix.view(np.uint8)
    return octets if _bits(sample.view(np.uint8)) < _bits(sample) else matrix


def _bits(elements: NDArray[Any]) -> float:
    """What elements (1, n) take, about: those that are not 0 under the best field, and which these are."""
    source = ElementSource(elements)
    n, kept = elements.size, int(np.count_nonzero(elements))
    mask = sum(-k * math.log2(k / n) for k in (kept, n - kept) if k)
    return mask + least_bits(source.elements, *source.count_ones())
