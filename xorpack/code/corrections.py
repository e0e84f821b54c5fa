"""Corrections: where the network is wrong, and the q-bit XOR that mends it.

Positions are row-major element indices ``row * cols + col``, rising, so that those of a row are
neighbours. They are stored as an Elias-Fano code, about ``log2(rate) + 2 + q`` bits each for one
correction in ``rate`` elements: with ``n`` corrections among ``universe`` elements and
``low = floor(log2(universe / n))``,

=======  ==============================  ===============================================
part     bits                            content
=======  ==============================  ===============================================
high     ``n + (universe >> low) + 1``   bit ``(position_i >> low) + i`` is 1 for every i
low      ``n * low``                     the low bits of the positions, in order
values   ``n * q``                       the XOR values, in order; bit k is plane k
=======  ==============================  ===============================================

each padded with zeros to whole bytes; within a byte, bit 0 is first. No corrections: no bytes.
Source: Elias (1974), Fano (1971).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from xorpack.code.words import Words
from xorpack.errors import FormatError

_BLOCK = 1 << 16


@dataclass(frozen=True, slots=True, eq=False)
class Corrections:
    """Positions (int64, rising) and q-bit values (uint64, not 0) of the wrong elements."""

    positions: NDArray[np.int64]
    values: NDArray[np.uint64]

    def __len__(self) -> int:
        return len(self.positions)

    def in_rows(self, first: int, last: int, cols: int) -> Corrections:
        """Those of rows ``first .. last - 1``, with positions counted from ``first``."""
        a, b = np.searchsorted(self.positions, [first * cols, last * cols])
        return Corrections(self.positions[a:b] - first * cols, self.values[a:b])


def check_kept(corrections: Corrections, mask: Words, cols: int, what: str = "a correction") -> None:
    """Raise FormatError where ``what`` stands at a pruned weight of ``mask`` (rows, chunks)."""
    r, c = np.divmod(corrections.positions, max(cols, 1))
    if not (mask[r, c >> 5] >> (c & 31).astype(np.uint32) & np.uint32(1)).all():
        raise FormatError(f"{what} at a pruned weight")


def flip(words: Words, part: Corrections, cols: int) -> None:
    """Invert bits of ``words`` (rows, chunks) of ``cols`` columns at the positions of ``part``."""
    row, col = np.divmod(part.positions, max(cols, 1))
    np.bitwise_xor.at(words, (row, col >> 5), np.uint32(1) << (col & 31).astype(np.uint32))


NO_CORRECTIONS = Corrections(np.zeros(0, np.int64), np.zeros(0, np.uint64))
"""Nothing is wrong."""


def low_bits(n: int, universe: int) -> int:
    """Bits of a position that are stored as they are."""
    return max(0, (universe // n).bit_length() - 1) if n else 0


def packed_sizes(n: int, universe: int, q: int) -> tuple[int, int, int]:
    """Bytes of the three parts."""
    if n == 0:
        return 0, 0, 0
    low = low_bits(n, universe)
    high = n + (universe >> low) + 1
    return -(-high // 8), -(-n * low // 8), -(-n * q // 8)


def pack(corrections: Corrections, universe: int, q: int) -> NDArray[np.uint8]:
    """The stored bytes."""
    n = len(corrections)
    n_high, _, _ = packed_sizes(n, universe, q)
    if n == 0:
        return np.zeros(0, np.uint8)
    low = low_bits(n, universe)
    high = np.zeros(n_high, np.uint8)
    bit = (corrections.positions >> low) + np.arange(n)
    np.bitwise_or.at(high, bit >> 3, (1 << (bit & 7)).astype(np.uint8))
    lows = corrections.positions.astype(np.uint64) & np.uint64((1 << low) - 1)
    return np.concatenate([high, pack_fields(lows, low), pack_fields(corrections.values, q)])


def unpack(data: NDArray[np.uint8], n: int, universe: int, q: int) -> Corrections:
    """Inverse of :func:`pack`.

    Raises:
        FormatError: the bytes are not what ``n`` corrections in ``universe`` elements can give.
    """
    n_high, n_low, n_values = packed_sizes(n, universe, q)
    if data.size != n_high + n_low + n_values:
        raise FormatError(
            f"{data.size} bytes of corrections, but {n} of them in {universe} elements "
            f"take {n_high + n_low + n_values}"
        )
    if n == 0:
        return NO_CORRECTIONS
    low = low_bits(n, universe)
    ones = np.flatnonzero(np.unpackbits(data[:n_high], bitorder="little"))
    if ones.size != n:
        raise FormatError(f"corrections hold {ones.size} positions, not {n}")
    high = (ones - np.arange(n)).astype(np.int64)
    lows = unpack_fields(data[n_high : n_high + n_low], n, low)
    positions = (high << low) | lows.astype(np.int64)
    values = unpack_fields(data[n_high + n_low :], n, q)
    if positions[-1] >= universe or (n > 1 and not (np.diff(positions) > 0).all()):
        raise FormatError(f"positions of corrections do not rise below {universe}")
    if not values.all():
        raise FormatError("a correction that corrects nothing")
    return Corrections(positions, values)


def pack_fields(fields: NDArray[np.uint64], width: int) -> NDArray[np.uint8]:
    """Fields of ``width`` bits, one after the other, bit 0 first."""
    parts = []
    shifts = np.arange(width, dtype=np.uint64)
    for i in range(0, len(fields), _BLOCK):  # a multiple of 8 fields fills whole bytes
        bits = (fields[i : i + _BLOCK, None] >> shifts) & np.uint64(1)
        parts.append(np.packbits(bits.astype(np.uint8), bitorder="little"))
    return np.concatenate(parts) if parts else np.zeros(0, np.uint8)


def unpack_fields(data: NDArray[np.uint8], n: int, width: int) -> NDArray[np.uint64]:
    """Read ``n`` fields of ``width`` bits that :func:`pack_fields` wrote; ``data`` may be longer."""
    out = np.zeros(n, np.uint64)
    shifts = np.arange(width, dtype=np.uint64)
    for i in range(0, n, _BLOCK):
        count = min(_BLOCK, n - i)
        octets = data[i * width // 8 : -(-(i + count) * width // 8)]
        bits = np.unpackbits(octets, count=count * width, bitorder="little").reshape(count, width)
        out[i : i + count] = (bits.astype(np.uint64) << shifts).sum(axis=1, dtype=np.uint64)
    return out
