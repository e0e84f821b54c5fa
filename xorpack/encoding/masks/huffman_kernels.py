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
    to = np.int64(0)
    for p in range(sizes.size):
        begin, room, n = to, np.uint64(0), np.uint64(0)
        for i in range(p * panel_bytes, min((p + 1) * panel_bytes, octets.size)):
            s = octets[i]
            room |= np.uint64(codes[s]) << n
            n += np.uint64(lengths[s])
            if n >= np.uint64(32):
                for k in range(4):
                    out[to + k] = np.uint8(room >> np.uint64(8 * k) & np.uint64(255))
                to += 4
                room >>= np.uint64(32)
                n -= np.uint64(32)
        while n > np.uint64(0):
            out[to] = np.uint8(room & np.uint64(255))
            to += 1
            room >>= np.uint64(8)
            n = n - np.uint64(8) if n > np.uint64(8) else np.uint64(0)
        sizes[p] = to - begin
    return to
