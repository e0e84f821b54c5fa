"""Elimination: the linear-time encoder.

Every care bit of a ring is one linear equation over GF(2) in the stored bits. Equations arrive in
the order of their windows; each is reduced by the pivots that stand, then becomes a pivot at its
lowest free column, or turns out to depend on earlier ones: then it holds by luck or becomes a
correction, whose value is the residual right-hand side. All q planes share the mask and the network,
hence one elimination with a q-bit right-hand side.

Rows are taken some 32 at a time, and reduced four columns at a time: the pivots of a nibble of columns
span 16 sums, kept in a table that the nibble of each row indexes (the Method of Four Russians). CPUs that multiply
8 x 8 matrices of bits in an instruction (GFNI) take 16 rows and eight columns at a time; codes are the same.

The ring wraps around. In a small ring the columns of its first ``window`` words are set apart as a
*border* that every row carries along; rows left with border columns alone form a small dense system,
solved first when substituting back. In a large ring these words are fixed to 0 instead, which halves
the work and costs some 200 corrections a ring.

A row is ``width`` 64-bit words: ``half`` for its window (stored word w sits in 32-bit slot
``w % (2 * half)``, so rows of different windows need no shift), then the border, and last the right-hand
side. The same system is known as ribbon retrieval (Dillinger and Walzer, arXiv 2103.02515; BuRR,
arXiv 2109.01892).
"""

from __future__ import annotations

import threading
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from xorpack.code.network import XorNetwork
from xorpack.encoding.rings.elimination_kernels import eliminate
from xorpack.encoding.rings.maps_kernels import eliminate_maps, solve_maps
from xorpack.vector import gf2_bytes
from xorpack.vector.aligned import aligned
from xorpack.vector.llvm import VECTOR

BATCH = 32
"""Rows that are reduced side by side at the most."""

LARGE_RING = 16384
"""Stored words from which on a ring's first window is fixed to 0."""

MAPPED = ((7, 1), (15, 1), (4, 4), (7, 7), (8, 8))
"""64-bit words of window and tail of the rows that are reduced by maps where the CPU is fast at that: code is made for
each that is used. The tail ends with the border and the right-hand side."""


class GivenUpError(Exception):
    """A ring needs more corrections than its caller has use for."""


class RingCode(NamedTuple):
    """What an encoder returns for one ring.

    Attributes:
        code: stored words, uint32 (q, m).
        positions: bit positions ``32 * word + bit`` in the ring that the network gets wrong, rising.
        values: uint64, the q-bit XOR that mends each of them.
    """

    code: NDArray[np.uint32]
    positions: NDArray[np.int64]
    values: NDArray[np.uint64]


def encode_ring(
    network: XorNetwork,
    care: NDArray[np.uint32],
    planes: NDArray[np.uint32],
    m_lane: int,
    *,
    most: int | None = None,
    large: int = LARGE_RING,
    maps: bool | None = None,
) -> RingCode:
    """Choose the stored words of one ring so that as many care bits as possible come out right.

    Args:
        network: any network.
        care: uint32 (lanes, n_steps), 1 where the bit matters.
        planes: uint32 (q, lanes, n_steps), the wanted bits; ignored where care is 0. q <= 64.
        m_lane: stored words per lane.
        most: corrections with which the ring is given up; default: any number will do.
        large: stored words from which on the border is fixed to 0.
        maps: whether to reduce by maps, where rows fit one of :data:`MAPPED`; default: whether that is fast.

    Raises:
        GivenUpError: there are ``most`` corrections, or more.
    """
    q = planes.shape[0]
    lanes, n_steps = care.shape
    m = lanes * m_lane
    window = network.window
    n_border = 0 if m >= large else -(-window // 2)
    width = VECTOR * -(-(-(-window // 2) + 2 + n_border) // VECTOR)
    half = width - 1 - n_border
    code = np.zeros((q, m), np.uint32)
    n_care = int(np.bitwise_count(care).sum(dtype=np.int64))
    positions = np.empty(n_care, np.int64)
    values = np.empty(n_care, np.uint64)
    care, planes = np.ascontiguousarray(care), np.ascontiguousarray(planes)
    wiring = network.schedule(m_lane, n_steps), network.taps(), window, n_border
    has = np.zeros((m + 64) // 2 * 2, np.uint32)
    enough = n_care + 1 if most is None else most
    fitting = [shape for shape in MAPPED if shape[0] > -(-window // 2) and shape[1] > n_border]
    if fitting and (gf2_bytes.is_fast() if maps is None else maps):
        shape: gf2_bytes.Shape = (0,) * fitting[0][0], (0,) * fitting[0][1]
        n, n_pairs = 8 * gf2_bytes.N_GROUPS, max((m + 1) // 2 - window // 2, 0)
        pivots = scratch.take(n_pairs * gf2_bytes.map_size(shape))
        words = _words(n * width + 64 * gf2_bytes.N_GROUPS + 64)
        rows, tails, work = np.split(words, [n * width, n * width + 64 * gf2_bytes.N_GROUPS])
        groups = np.zeros(gf2_bytes.N_GROUPS * gf2_bytes.group_size(shape), np.uint8)
        maps_of, pairs = pivots.view(np.uint8), has.view(np.uint64)
        border = np.empty((64 * n_border, n_border + 1), np.uint64), np.zeros(n_border + 1, np.uint64)
        scratches = np.empty(2 * n, np.int64), tails, work, np.zeros(7, np.int64)
        n_wrong = eliminate_maps(
            care.reshape(-1), planes.reshape(-1), (q, lanes, n_steps, m_lane), *wiring, shape,
            patterns_of(network, *fitting[0]).copy(), maps_of, pivots, has, pairs, has.view(np.uint8), groups, rows,
            *scratches, *border, enough, positions, values,
        )  # fmt: skip
        if n_wrong < enough and q:
            solved = np.zeros((q, len(shape[1])), np.uint64)
            stream = np.zeros(q * (n_pairs + len(shape[0])), np.uint64)
            known = solved, solved.reshape(-1), stream, np.empty(q, np.uint64)
            solve_maps(maps_of, pairs, window, n_border, shape, *border, *known, code)
    else:
        pivots = scratch.take(max(m - window, 0) * 32 * width)
        rows, tables = _words((BATCH + 1) * width), _words(2 * half * 8 * 16 * width)
        out = enough, code, positions, values
        n_wrong = eliminate(care, planes, m_lane, *wiring, width, pivots, has, rows, tables, *out)
    scratch.give(pivots)
    if most is not None and n_wrong >= most:
        raise GivenUpError(f"{n_wrong} corrections")
    order = np.argsort(positions[:n_wrong], kind="stable")
    return RingCode(code, positions[:n_wrong][order], values[:n_wrong][order])


@lru_cache(16)
def patterns_of(network: XorNetwork, half: int, tail: int) -> NDArray[np.uint32]:
    """The equation of bit 0 for each row of the network, after as many words as a window may begin late; one more."""
    offsets, rotations, counts = network.taps()
    lead = 2 * half - network.window
    size = lead + 2 * VECTOR * -(-(half + tail) // VECTOR)
    patterns = np.zeros((offsets.shape[0] + 1, size), np.uint32)
    for k in range(offsets.shape[1]):
        (rows,) = np.nonzero(k < counts)
        bits = np.uint32(1) << (-rotations[rows, k] & 31).astype(np.uint32)
        patterns[rows, lead + offsets[rows, k]] ^= bits
    return patterns.reshape(-1)


class Scratch:
    """Buffers of pivots that rings use one after another: a fresh one costs the kernel as much as half of its use.

    Inside ``with scratch:``, on any thread, buffers are kept for the next ring; the last to leave frees them.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._users = 0
        self._free: list[NDArray[np.uint64]] = []

    def __enter__(self) -> None:
        with self._lock:
            self._users += 1

    def __exit__(self, *exception: object) -> None:
        with self._lock:
            self._users -= 1
            if not self._users:
                self._free.clear()

    def take(self, n: int) -> NDArray[np.uint64]:
        """A buffer of at least ``n`` words."""
        with self._lock:
            fitting = [i for i, buffer in enumerate(self._free) if buffer.size >= n]
            if fitting:
                return self._free.pop(min(fitting, key=lambda i: self._free[i].size))
            if self._free:
                self._free.pop()  # a larger one takes its place
        # Rounded up, so that the rings of planes and those of masks share it.
        return _words(1 << max(n - 1, 0).bit_length())

    def give(self, buffer: NDArray[np.uint64]) -> None:
        """Leave a buffer for the next ring."""
        with self._lock:
            if self._users:
                self._free.append(buffer)


scratch = Scratch()


def _words(n: int) -> NDArray[np.uint64]:
    """``n`` uninitialised words on a cache line's boundary."""
    return aligned(2 * n).view(np.uint64)
