"""Kernels of :mod:`xorpack.encoding.masks.huffman`."""

from __future__ import annotations

import numpy as np

from xorpack.vector.compiled import njit


@njit(cache=True, nogil=True)
def count_bytes(octets, counts):
    """Add to ``counts`` (256,) how often each byte occurs: in four tables, for neighbours are often the same."""
    four = np.zeros((4, 256), np.int64)
    whole = octets.size // 4 * 4
    for i in range(0, whole, 4):
        four[0, octets[i]] += 1
        four[1, octets[i + 1]] += 1
        four[2, octets[i + 2]] += 1
        four[3, octets[i + 3]] += 1
    for i in range(whole, octets.size):
        four[0, octets[i]] += 1
    for k in range(4):
        for s in range(256):
            counts[s] += four[k, s]


@njit(cache=True, nogil=True)
def encode_panels(octets, panel_bytes, codes, lengths, sizes, out):
    """Write the codewords of ``octets`` to ``out``, each panel from a byte of its own on; the bytes that it takes.

    ``codes``, ``lengths`` (256,): codewords, the first bit lowest. ``sizes`` (panels,): filled with bytes of each.
    """
    part = np.zeros(panel_bytes * 12 // 32 + 2, np.uint32)  # a codeword has 12 bits at the most
    to = np.int64(0)
    for p in range(sizes.size):
        at, room, n = np.int64(0), np.uint64(0), np.uint64(0)
        for i in range(p * panel_bytes, min((p + 1) * panel_bytes, octets.size)):
            s = octets[i]
            room |= np.uint64(codes[s]) << n
            n += np.uint64(lengths[s])
            part[at] = np.uint32(
                room & np.uint64(0xFFFFFFFF)
            )  # whether it is full or not: faster than to ask
            full = n >> np.uint64(5)
            room >>= full << np.uint64(5)
            n &= np.uint64(31)
            at += np.int64(full)
        part[at] = np.uint32(room)
        size = 4 * at + np.int64((n + np.uint64(7)) >> np.uint64(3))
        for k in range(size):
            out[to + k] = np.uint8(part[k >> 2] >> np.uint32(8 * (k & 3)) & np.uint32(255))
        sizes[p] = size
        to += size
    return to
