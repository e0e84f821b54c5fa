"""Kernel of :mod:`xorpack.masks.huffman`: four panels at a time, for each codeword waits for the one before it."""

from __future__ import annotations

import numpy as np

from xorpack.vector.compiled import njit


@njit(cache=True, nogil=True, inline="always")
def window(words, bit, last):
    """At least 33 bits from ``bit`` on; past the last pair of words, of that pair."""
    at = min(bit >> 5, last)
    both = np.uint64(words[at]) | np.uint64(words[at + 1]) << np.uint64(32)
    return both >> np.uint64(bit & 31)


@njit(cache=True, nogil=True)
def decode_panels(words, bits, first, end, table, panel_bytes, out):
    """Decode panels ``first .. end - 1`` to ``out``; the last panel whose codewords do not end at its end, or -1.

    ``words``: uint32, in which panel p has the bits from ``bits[p]`` to ``bits[p + 1]``; two words past all of them.
    ``table``: by the next 12 bits, the symbol and 256 times the bits of its codeword, 1 at the least.
    """
    last = np.int64(words.size - 2)
    low, symbol = np.uint64((1 << 12) - 1), np.uint16(255)
    bad = -1
    p = np.int64(first)
    while p < end:
        if p + 4 <= end and (p + 4) * panel_bytes <= out.size:
            a, b, c, d = bits[p], bits[p + 1], bits[p + 2], bits[p + 3]
            at = p * panel_bytes
            for i in range(at, at + panel_bytes):
                e = table[window(words, a, last) & low]
                f = table[window(words, b, last) & low]
                g = table[window(words, c, last) & low]
                h = table[window(words, d, last) & low]
                out[i] = e & symbol
                out[i + panel_bytes] = f & symbol
                out[i + 2 * panel_bytes] = g & symbol
                out[i + 3 * panel_bytes] = h & symbol
                a += np.int64(e >> 8)
                b += np.int64(f >> 8)
                c += np.int64(g >> 8)
                d += np.int64(h >> 8)
            for k, bit in enumerate((a, b, c, d)):
                if (bit + 7) >> 3 != bits[p + k + 1] >> 3:
                    bad = p + k
            p += 4
        else:
            bit = bits[p]
            for i in range(p * panel_bytes, min((p + 1) * panel_bytes, out.size)):
                e = table[window(words, bit, last) & low]
                out[i] = e & symbol
                bit += np.int64(e >> 8)
            if (bit + 7) >> 3 != bits[p + 1] >> 3:
                bad = p
            p += 1
    return bad
