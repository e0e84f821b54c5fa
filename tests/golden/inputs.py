"""Inputs of the golden files, from an integer hash: the same everywhere."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xorpack import BCQTensor, TrellisTensor
from xorpack.code import words
from xorpack.code.trellis import TrellisNetwork
from xorpack.masks.bmf import Factors
from xorpack.tensors import DTYPES, as_matrix, n_groups

UNSIGNED = {1: np.uint8, 2: np.uint16, 4: np.uint32}


def hashed(n: int, salt: int) -> NDArray[np.uint64]:
    """``n`` integers of 64 bits, by the finalizer of MurmurHash3."""
    h = np.arange(1, n + 1, dtype=np.uint64) * np.uint64(0xD1B54A32D192ED03) + np.uint64(salt * 2654435761)
    for factor in (0xFF51AFD7ED558CCD, 0xC4CEB9FE1A85EC53):
        h = (h ^ h >> np.uint64(33)) * np.uint64(factor)
    return h ^ h >> np.uint64(33)


def bcq(
    salt: int,
    shape: tuple[int, ...],
    bits: int,
    kept: int,
    dtype: str = "F32",
    group_size: int = 0,
    scales: NDArray[Any] | None = None,
) -> BCQTensor:
    """A quantized tensor that keeps ``kept`` of 1000 weights; kept ones crowd towards the last rows."""
    rows, cols = as_matrix(shape)
    lean = np.arange(1, rows + 1)[:, None] * 2 / (rows + 1) if 0 < kept < 1000 else 1
    mask = hashed(rows * cols, salt).reshape(rows, cols) % 1000 < lean * kept
    signs = hashed(bits * rows * cols, salt + 1).reshape(bits, rows, cols) >> np.uint64(63) != 0
    if scales is None:
        size = rows * n_groups(cols, group_size) * bits
        scales = ((hashed(size, salt + 2) % 1021 + 3) / 256).astype(np.float16)
    scales = scales.reshape(rows, n_groups(cols, group_size), bits)
    packed = words.pack(mask)
    return BCQTensor(
        shape=shape,
        dtype=dtype,
        mask=packed,
        planes=words.pack(signs) & packed,
        scales=scales,
        group_size=group_size,
        method="golden",
    )


def signs(
    salt: int,
    shape: tuple[int, ...],
    bits: int,
    kept: int,
    dtype: str = "F32",
    group_size: int = 0,
    differ: int = 150,
) -> BCQTensor:
    """:func:`bcq` with planes each of which differs from the one before at ``differ`` of 1000 weights."""
    tensor = bcq(salt, shape, bits, kept, dtype, group_size)
    rows, cols = as_matrix(shape)
    planes = list(tensor.planes[:1])
    for k in range(1, bits):
        flips = words.pack(hashed(rows * cols, salt + 2 + k).reshape(rows, cols) % 1000 < differ)
        planes.append((planes[-1] ^ flips) & tensor.mask)
    return replace(tensor, planes=np.stack(planes))


def crowded(salt: int, shape: tuple[int, int], bits: int, period: int = 0) -> BCQTensor:
    """A quantized tensor whose kept weights crowd: rows keep from nearly all to none, columns differ.

    ``period``: each column differs from its neighbours.
    """
    rows, cols = shape
    share = (np.arange(rows)[:, None] * 7919 % rows * 1000 // rows) ** 3 // 10**6
    share = np.where(np.arange(cols) // 40 % 2 == 1, share // 2, share)
    if period:
        share = share * (np.arange(cols) * 3 % period) // period
    mask = hashed(rows * cols, salt).reshape(rows, cols) % 1000 < share
    full = bcq(salt, shape, bits, 1000)
    return replace(full, mask=words.pack(mask), planes=full.planes & words.pack(mask))


def bmf(salt: int, shape: tuple[int, int], rank: int, tile: tuple[int, int]) -> tuple[BCQTensor, Factors]:
    """A quantized tensor whose mask is a Boolean product, with its factors."""
    rows, cols = shape
    left = hashed(rows * -(-cols // tile[1]) * rank, salt).reshape(rows, -1, rank) % 3 == 0
    right = hashed(-(-rows // tile[0]) * rank * cols, salt + 1).reshape(-1, rank, cols) % 4 == 0
    factors = Factors(
        tile_rows=tile[0], tile_cols=tile[1], left=left.astype(np.uint8), right=words.pack(right)
    )
    full = bcq(salt + 2, shape, 2, 1000)
    return replace(full, mask=factors.mask(), planes=full.planes & factors.mask()), factors


def plain(salt: int, shape: tuple[int, ...], kept: int, dtype: str) -> NDArray[Any]:
    """Any bits, NaN payloads among them, of which ``kept`` of 1000 elements are not zero; never all zeros."""
    unsigned = UNSIGNED[DTYPES[dtype].itemsize]
    n = int(np.prod(shape))
    whole = hashed(n, salt).astype(unsigned) | unsigned(1)
    special = {
        "F32": [0x80000000, 1, 0x7F800000, 0xFF800000, 0x7FC00001, 0xFFA12345, 0x807FFFFF, 0x3F800000],
        "F16": [0x8000, 1, 0x7C00, 0xFC00, 0x7E01, 0xFD23, 0x83FF, 0x3C00],
        "BF16": [0x8000, 1, 0x7F80, 0xFF80, 0x7FC1, 0xFFA1, 0x807F, 0x3F80],
        "I8": [0x80, 0x7F, 0xFF],
        "U8": [0xFF, 0x80, 1],
    }[dtype]
    whole[hashed(n, salt + 1) % 1000 >= kept] = 0
    whole[3 : 3 + 2 * len(special) : 2] = special
    return whole.view(DTYPES[dtype]).reshape(shape)


def odd_scales() -> NDArray[np.float32]:
    """Scales of 3 rows, 2 groups, 4 planes: overflow of F16, ties, subnormals, negative ones, -0."""
    big = [65504, 20, 3.0e38, 2.5e38, 1.0e-40, 3.0e-42, 1, 2**-24]
    signed = [-0.0, 0.0, -0.0, 0, 1 + 2**-8, -3, 2**-9, 0.1]
    small = [1024.5, 0.25, 0.125, 1 / 3, 6.0e-8, 2.0e-8, 7.7e-6, 5.0e-5]
    return np.array([*big, *signed, *small], np.float32)


def small(salt: int, shape: tuple[int, ...], kept: int, n_odd: int = 0) -> NDArray[np.float32]:
    """Weights from 2^-15 to 2: the same upper exponent bits, but for ``n_odd`` elements and zeros."""
    n = int(np.prod(shape))
    h = hashed(n, salt)
    whole = (h & np.uint64(0x80FFFFFF)).astype(np.uint32)  # sign, lowest bit of the exponent, mantissa
    whole |= (112 + (h >> np.uint64(40)) % 8 * 2 << np.uint64(23)).astype(np.uint32)
    whole[h >> np.uint64(32) & np.uint64(0xFFFF) >= kept * 65.536] = 0
    odd = np.array([0x40490FDB, 0xFF800000, 0x80000000, 0x7FC00001, 1, 0x1E3CE508, 0xC2F6E979], np.uint32)
    whole[(7 + 61 * np.arange(n_odd)) % n] = odd[np.arange(n_odd) % odd.size]
    return whole.view(np.float32).reshape(shape)


def skewed(salt: int, shape: tuple[int, ...], kept: int, dtype: str) -> NDArray[Any]:
    """Elements of which ``kept`` of 1000 are not zero: each exponent half as frequent as the one above it.

    Of integers, the number of bits is skewed so.
    """
    n = int(np.prod(shape))
    unsigned, q = UNSIGNED[DTYPES[dtype].itemsize], 8 * DTYPES[dtype].itemsize
    mantissa = {"F32": 23, "F16": 10, "BF16": 7}.get(dtype, 3)
    h = hashed(n, salt)
    zeros = np.bitwise_count(~h & (h - np.uint64(1)))  # before the lowest one
    largest = {"F32": 121, "F16": 14, "BF16": 121}.get(dtype, 9)
    whole = (np.maximum(largest - zeros.astype(np.int64), 1).astype(np.uint64) << np.uint64(mantissa)) | (
        (h >> np.uint64(20)) & np.uint64((1 << mantissa) - 1)
    )
    whole |= (h >> np.uint64(63)) << np.uint64(q - 1)
    whole[hashed(n, salt + 1) % 1000 >= kept] = 0
    return whole.astype(unsigned).view(DTYPES[dtype]).reshape(shape)


def few(salt: int, shape: tuple[int, ...], kept: int, dtype: str, n_values: int) -> NDArray[Any]:
    """Elements of which ``kept`` of 1000 are not zero, of some ``n_values`` bit patterns."""
    n = int(np.prod(shape))
    unsigned = UNSIGNED[DTYPES[dtype].itemsize]
    values = hashed(n_values, salt).astype(unsigned) | unsigned(1)
    whole = values[(hashed(n, salt + 1) % n_values).astype(np.int64)]
    whole[hashed(n, salt + 2) % 1000 >= kept] = 0
    return whole.view(DTYPES[dtype]).reshape(shape)


def few_signs(tensor: BCQTensor, salt: int, plane: int, value: int, n_odd: int = 0) -> BCQTensor:
    """``tensor`` with a plane that is ``value`` at kept weights, but for some ``n_odd`` of them."""
    rows, cols = as_matrix(tensor.shape)
    bits = np.full(rows * cols, value, np.uint8)
    bits[hashed(n_odd, salt) % (rows * cols)] ^= 1
    planes = tensor.planes.copy()
    planes[plane] = words.pack(bits.reshape(rows, cols) != 0) & tensor.mask
    return replace(tensor, planes=planes)


def trellis(
    salt: int,
    shape: tuple[int, ...],
    rate: tuple[int, int],
    window: int,
    q: int,
    *,
    dtype: str = "F32",
    kept: int = 1000,
    mask: NDArray[np.uint32] | None = None,
    group_size: int = 0,
    a: NDArray[np.float32] | None = None,
    scales: NDArray[Any] | None = None,
    gains: bool = False,
    n_outliers: int = 0,
) -> TrellisTensor:
    """A trellis tensor of any taps, code and scales, chosen for nothing; see :func:`bcq` for ``kept``.

    ``rate`` is ``(n_in, n_out)``; there are ``n_outliers`` or some fewer, at kept weights.
    """
    rows, cols = as_matrix(shape)
    n_in, n_out = rate
    taps = hashed(n_out * q, salt) % ((1 << window) - 1) + 1
    network = TrellisNetwork(
        n_in=n_in, n_out=n_out, window=window, taps=tuple(map(tuple, taps.reshape(n_out, q).tolist()))
    )
    chunks, m = words.n_chunks(cols), network.n_stored(rows)
    code = hashed(m * chunks, salt + 1).astype(np.uint32).reshape(m, chunks) & words.tail_mask(cols)
    if scales is None:
        size = rows * n_groups(cols, group_size)
        scales = ((hashed(size, salt + 2) % 1021 + 3) / 256).astype(np.float16)
    if a is None:
        a = ((hashed(q, salt + 3) % 4093 + 1) / 1024).astype(np.float32)
    if mask is None and kept < 1000:
        mask = bcq(salt + 4, shape, 1, kept).mask
    gain = ((hashed(cols, salt + 5) % 509 + 2).astype(np.float64) / 128).astype(np.float16)
    gain[2::7] *= np.float16(-1)
    positions = np.unique(hashed(n_outliers, salt + 6) % max(rows * cols, 1)).astype(np.int64)
    if mask is not None:
        positions = positions[words.unpack(mask, cols).reshape(-1)[positions]]
    values = hashed(len(positions), salt + 7).astype(np.uint16)
    values[values & 0x7C00 == 0x7C00] ^= 0x4000  # neither infinite nor NaN
    values[values & 0x7FFF == 0] |= 1
    return TrellisTensor(
        shape=shape,
        dtype=dtype,
        network=network,
        code=code,
        a=a,
        scales=scales.reshape(rows, n_groups(cols, group_size)),
        group_size=group_size,
        gains=gain if gains else None,
        mask=mask,
        positions=positions,
        values=values.view(np.float16),
    )


def halves(salt: int, shape: tuple[int, ...], kept: int, dtype: str) -> NDArray[Any]:
    """Integers of 4 bits, two in an octet, those in the middle most frequent; ``kept`` of 1000 octets are not 0."""
    n = int(np.prod(shape)) * DTYPES[dtype].itemsize
    small = np.bitwise_count(hashed(2 * n, salt) & np.uint64(0x7FFF))
    octets = small[::2] | small[1::2] << np.uint8(4)
    octets[hashed(n, salt + 1) % 1000 >= kept] = 0
    return octets.view(DTYPES[dtype]).reshape(shape)
