"""Mask codec ``cascade``: the mask by XOR and AND gates alone, near its entropy.

``n_filters`` *filter* planes, coded with the tensor's own planes, equal a fixed pseudo-random bit at every
kept position and agree elsewhere by chance, half of the time. Positions where all of them agree are the
*candidates*; one more plane, coded over the candidates, holds the mask there::

    mask = AND over k of ~(filter_k ^ target_k)  &  last  &  exists          then XOR 1 at the corrections
    target_k of word (row, chunk) = mix32(row * 0x9E3779B1 + chunk * 0x85EBCA77 + (k + 1) * 0xC2B2AE3D)

with arithmetic modulo 2^32. Network and order of coding are the tensor's; ``m_lane`` of the filters is that of
the tensor's planes. The section is the filters' code (n_filters, n_segments, m_lane, lanes), the last plane's
(1, n_segments, m_last, lanes), both little-endian words, then the corrections, packed with q = 1.

Config: ``{"n_filters": r, "m_last": m, "n_corrections": n}``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xorpack.code import corrections
from xorpack.code.planes import CodedPlanes, Expand
from xorpack.code.words import Words, tail_mask
from xorpack.errors import FormatError
from xorpack.masks.rows import by_rows
from xorpack.vector.compiled import njit

NAME = "cascade"

MAX_FILTERS = 16

CACHE_WORDS = 1 << 19
"""Words that are worked on at a time: all filters, the candidates and the mask of a block of rows."""


def targets(n_filters: int, first: int, last: int, chunks: int) -> Words:
    """Target words of rows ``first .. last - 1``: uint32 (n_filters, rows, chunks)."""
    out = np.empty((n_filters, last - first, chunks), np.uint32)
    fill_targets(first, out)
    return out


@njit(cache=True, nogil=True)
def _target(row, chunk, k):
    x = np.uint32(row) * np.uint32(0x9E3779B1) + np.uint32(k + 1) * np.uint32(0xC2B2AE3D)
    x = np.uint32(x + np.uint32(chunk) * np.uint32(0x85EBCA77))
    x = np.uint32((x ^ (x >> np.uint32(16))) * np.uint32(0x7FEB352D))
    x = np.uint32((x ^ (x >> np.uint32(15))) * np.uint32(0x846CA68B))
    return np.uint32(x ^ (x >> np.uint32(16)))


@njit(cache=True, nogil=True)
def fill_targets(first, out):
    """Kernel of :func:`targets`."""
    for k in range(out.shape[0]):
        for r in range(out.shape[1]):
            for c in range(out.shape[2]):
                out[k, r, c] = _target(first + r, c, k)


def candidates(filters: Words, first: int, cols: int) -> Words:
    """Positions where all filter planes (n_filters, rows, chunks) meet their targets: uint32 (rows, chunks)."""
    found: Words = np.tile(tail_mask(cols), (filters.shape[1], 1))
    meet_targets(filters, first, found)
    return found


@njit(cache=True, nogil=True)
def meet_targets(filters, first, found):
    """Kernel of :func:`candidates`: clear the bits of ``found`` where a filter differs from its target."""
    for k in range(filters.shape[0]):
        for r in range(filters.shape[1]):
            for c in range(filters.shape[2]):
                found[r, c] &= ~(_target(first + r, c, k) ^ filters[k, r, c])


def encode(
    filters: NDArray[np.uint32], last: NDArray[np.uint32], wrong: corrections.Corrections, universe: int
) -> tuple[dict[str, Any], NDArray[np.uint8]]:
    """``(config, section)`` from the two codes and the positions where the gates are wrong."""
    config = {"n_filters": filters.shape[0], "m_last": last.shape[2], "n_corrections": len(wrong)}
    octets = (np.ascontiguousarray(code, "<u4").reshape(-1).view(np.uint8) for code in (filters, last))
    return config, np.concatenate([*octets, corrections.pack(wrong, universe, 1)])


def check(config: Mapping[str, Any], n_bytes: int, tensor: CodedPlanes) -> None:
    """See :class:`xorpack.masks.MaskCodec`."""
    names = ("n_filters", "m_last", "n_corrections")
    if set(config) != set(names) or not all(type(config[name]) is int for name in names):
        raise FormatError(f"mask codec cascade needs integers {names}, has {dict(config)}")
    layout = tensor.layout
    n_filters, m_last, n = (config[name] for name in names)
    if tensor.network.family != "quasi-cyclic":
        raise FormatError(f"mask codec cascade needs a quasi-cyclic network, not {tensor.network.family}")
    if not 1 <= n_filters <= MAX_FILTERS or not 0 <= m_last <= layout.n_steps:
        raise FormatError(f"mask codec cascade: n_filters {n_filters} or m_last {m_last} out of range")
    if not 0 <= n <= layout.rows * layout.cols:
        raise FormatError(f"mask codec cascade: {n} corrections")
    expected = sum(_sizes(config, tensor))
    if n_bytes != expected:
        raise FormatError(f"mask codec cascade: section of {n_bytes} bytes, not {expected}")


def decode(
    config: Mapping[str, Any],
    data: NDArray[np.uint8],
    tensor: CodedPlanes,
    first: int,
    last: int,
    expand: Expand,
    *,
    jobs: int = 1,
) -> Words:
    """See :class:`xorpack.masks.MaskCodec`."""
    layout = tensor.layout
    n_filter, n_last, _ = _sizes(config, tensor)
    how = tensor.network, layout
    filters = CodedPlanes.of_bytes(*how, data[:n_filter], tensor.m_lane, config["n_filters"])
    final = CodedPlanes.of_bytes(*how, data[n_filter : n_filter + n_last], config["m_last"])
    universe = layout.rows * layout.cols
    wrong = corrections.unpack(data[n_filter + n_last :], config["n_corrections"], universe, 1)

    def part(begin: int, end: int) -> Words:
        found = candidates(expand(filters, begin, end, None), begin, layout.cols)
        mask: Words = expand(final, begin, end, found)[0]
        corrections.flip(mask, wrong.in_rows(begin, end, layout.cols), layout.cols)
        return mask

    block_words = CACHE_WORDS // (config["n_filters"] + 2)
    return by_rows(part, first, last, layout.chunks, jobs, block_words)


def _sizes(config: Mapping[str, Any], tensor: CodedPlanes) -> tuple[int, int, int]:
    """Bytes of the filters' code, of the last plane's, of the corrections."""
    layout = tensor.layout
    per_word = 4 * layout.n_segments * layout.lanes
    packed = corrections.packed_sizes(config["n_corrections"], layout.rows * layout.cols, 1)
    return config["n_filters"] * tensor.m_lane * per_word, config["m_last"] * per_word, sum(packed)
