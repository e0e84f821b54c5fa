"""Code to plane words on the CPU, any rows."""

from __future__ import annotations

from functools import lru_cache
from threading import local

import numpy as np

from xorpack.code.expand_kernels import expand_kernel
from xorpack.code.network import XorNetwork
from xorpack.code.planes import CodedPlanes
from xorpack.code.words import Words
from xorpack.errors import ParameterError
from xorpack.vector.aligned import aligned
from xorpack.vector.threads import for_each


def expand(
    coded: CodedPlanes,
    first: int,
    last: int,
    mask: Words | None = None,
    *,
    jobs: int = 1,
    out: Words | None = None,
) -> Words:
    """Rows ``first .. last - 1`` of the planes: uint32 (q, rows, chunks), ANDed with ``mask`` if given.

    ``out``: a C-contiguous array of that shape to write to.
    """
    layout, network = coded.layout, coded.network
    q, m_lane = coded.code.shape[0], coded.m_lane
    shape = (q, last - first, layout.chunks)
    if out is None:
        out = np.empty(shape, np.uint32)
    elif out.shape != shape or out.dtype != np.uint32 or not out.flags.c_contiguous:
        raise ParameterError(
            f"out of shape {out.shape} and type {out.dtype}, not C-contiguous {shape} uint32"
        )
    if not m_lane or not out.size:
        out[...] = 0
        return out
    if mask is None:
        mask = np.full(out.shape[1:], 0xFFFFFFFF, np.uint32)
    code = np.ascontiguousarray(coded.code).reshape(-1)
    flat_mask, flat_out = np.ascontiguousarray(mask).reshape(-1), out.reshape(-1)
    inverse = pow(layout.row_stride, -1, layout.rows) if layout.rows > 1 else 0
    whole = last - first == layout.rows
    share = -(-(last - first) // jobs)
    how = layout.params(), network.schedule(m_lane, layout.n_steps), network.taps()
    reaches = network.reach(), network.n_alike
    stretch = max(1, min(32, 256 // (q * layout.n_sub)))

    def run(begin: int) -> None:
        end = min(begin + share, last - first)
        scratch = expanding(network, q, layout.lanes, stretch * layout.n_sub)
        places = np.empty((3, stretch), np.int64)
        expand_kernel(
            code, m_lane, first, begin, end, whole, *how, inverse, *reaches, *scratch, places, flat_mask, flat_out
        )  # fmt: skip

    for_each(run, range(0, last - first, share), jobs)
    return out


def expanding(network: XorNetwork, q: int, lanes: int, n: int) -> tuple[Words, Words]:
    """Scratch of kernels that expand ``q`` planes, aligned: ``n`` steps, and what one near the end of a ring reads.

    It is the thread's own, until the next call: what makes it takes as long as to expand a small tensor.
    """
    made = n * q * 64
    size = made + q * ((furthest(network) + 1) * lanes + 32)
    scratch: Words | None = getattr(_kept, "scratch", None)
    if scratch is None or scratch.size < size:
        scratch = _kept.scratch = aligned(size)
    return scratch[:made], scratch[made:size]


_kept = local()


@lru_cache(16)
def furthest(network: XorNetwork) -> int:
    """The furthest offset of all taps."""
    return int(network.reach().max(initial=0))
