"""Viterbi: the least number of unmatched care bits, exactly, in time exponential in the window.

Without rotations the 32 bits of a word are 32 streams that never meet. Lanes follow one another around
the ring, so a stream is ``n_groups`` groups ``x[g]`` of ``n_in`` stored bits (bit a of ``x[g]`` is in word
``n_in * g + a``), and the ``n_out`` outputs of step g are linear in

    window[g] = x[g] | x[g + 1] << n_in | ... | x[g + n_s] << n_in * n_s

Before step g the state is the window's low ``n_in * n_s`` bits, after it the high ones. The first n_s
groups of the ring are fixed to 0, which costs ``n_in * n_s`` of its m words: then the walk begins and ends
at state 0, and dynamic programming over 2^(n_in * n_s) states finds the best one. With n_s = 0 there is no
state, and each step is searched exhaustively.

Source: arXiv 2105.01869 (fixed-to-fixed encoding), whose windows reach back where these reach ahead: the
same up to relabelling.

Ties go to the lowest value: of equally good ways into a state, the lowest x[g].
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from xorpack.code.network import XorNetwork
from xorpack.encoding.rings.elimination import RingCode
from xorpack.encoding.rings.viterbi_kernels import find_wrong, search, walk
from xorpack.errors import ParameterError

MAX_WINDOW_BITS = 24
"""Widest window, in stored bits of one stream, rounded up to whole groups of n_in."""


def encode_ring(
    network: XorNetwork, care: NDArray[np.uint32], planes: NDArray[np.uint32], m_lane: int
) -> RingCode:
    """Choose the stored words of one ring so that the fewest care bits of each plane come out wrong.

    Memory: one byte (n_in <= 8, else two) per state and step.

    Args:
        network: ``dense``, ``sparse`` or ``identity``, of a window of at most 24 words.
        care: uint32 (lanes, n_steps), 1 where the bit matters.
        planes: uint32 (q, lanes, n_steps), the wanted bits; ignored where care is 0. q <= 64.
        m_lane: stored words per lane: ``network.n_code_words(n_steps, 1.0)``, or 0 to store nothing.

    Raises:
        ParameterError: the network has rotations, or its window is too wide; another m_lane.
    """
    q = planes.shape[0]
    lanes, n_steps = care.shape
    n_in, n_out = network.n_in, network.n_out
    n_s = -(-network.window // n_in) - 1
    if network.any_rate:
        raise ParameterError(
            f"viterbi needs 32 independent bit streams, and the rotations of a {network.family} network tie them"
        )
    if n_in * (n_s + 1) > MAX_WINDOW_BITS:
        raise ParameterError(
            f"viterbi searches windows of at most {MAX_WINDOW_BITS} words, "
            f"not {network.window} in groups of {n_in}"
        )
    if m_lane not in (0, network.n_code_words(n_steps, 1.0)):
        raise ParameterError(
            f"m_lane = {m_lane} is not the {network.n_code_words(n_steps, 1.0)} words "
            f"that {n_steps} steps take at {n_in} for {n_out}"
        )
    masks = _row_masks(network)
    care = np.ascontiguousarray(care)
    planes = np.ascontiguousarray(planes)
    code = np.zeros((q, lanes * m_lane), np.uint32)
    n_words = -(-min(n_out, max(n_steps, 1)) // 64)
    if m_lane and n_s == 0:
        search(care, planes, masks, n_in, n_out, np.empty((n_words, 1 << n_in), np.uint64), code)
    elif m_lane:
        shape = (lanes * m_lane // n_in, 1 << n_in * n_s)
        survivors = np.empty(shape, np.uint8 if n_in <= 8 else np.uint16)
        walk(care, planes, masks, n_in, n_out, n_s, n_words, survivors, code)
    n_care = int(np.bitwise_count(care).sum(dtype=np.int64))
    positions = np.empty(n_care, np.int64)
    values = np.empty(n_care, np.uint64)
    n_wrong = find_wrong(care, planes, masks, n_in, n_out, m_lane, code, positions, values)
    return RingCode(code, positions[:n_wrong].copy(), values[:n_wrong].copy())


def _row_masks(network: XorNetwork) -> NDArray[np.uint64]:
    """Taps of each row: bit a is set if the window's word a is one of them."""
    offsets, _, counts = network.taps()
    masks = np.zeros(len(counts), np.uint64)
    for row, count in enumerate(counts):
        for offset in offsets[row, :count]:
            masks[row] ^= np.uint64(1 << int(offset))
    return masks
