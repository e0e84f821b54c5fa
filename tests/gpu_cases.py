"""Tensors that GPU tests share, on the CPU and on a device, and the products they must give."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import ml_dtypes
import numpy as np
from mask_samples import any_factors, crowded, with_mask
from numpy.typing import NDArray
from samples import bcq, fitted, halves, hostile, pruned

import xorpack
from xorpack import EncodedTensor, XorNetwork
from xorpack.code import layout
from xorpack.code.trellis import TrellisNetwork
from xorpack.code.words import n_chunks, pack, tail_mask, unpack
from xorpack.decoders import reference
from xorpack.elements import Trellis
from xorpack.tensors import BCQTensor, TrellisTensor, as_matrix, n_groups

EARLY = XorNetwork.quasi_cyclic()
"""What files of 0.1 have."""


def _plain(shape: tuple[int, ...], sparsity: float, bits: int, **options: Any) -> EncodedTensor:
    keys = ("group_size", "dtype", "seed")
    tensor = bcq(shape, sparsity, bits, **{key: options.pop(key) for key in keys if key in options})
    return xorpack.encode(tensor, **options)


def _constant_planes(shape: tuple[int, int] = (40, 200), **options: Any) -> EncodedTensor:
    tensor = bcq(shape, 0.6, 4, dtype="F16")
    planes = tensor.planes.copy()
    planes[1] = tensor.mask
    planes[3] = 0
    kept = int(tensor.mask[7, 2])
    planes[3, 7, 2] = kept & -kept  # an exception: a correction
    return xorpack.encode(replace(tensor, planes=planes), **options)


def _packed(
    shape: tuple[int, ...], sparsity: float, bits: int, **options: Any
) -> Callable[[], EncodedTensor]:
    return lambda: _plain(shape, sparsity, bits, payload="packed", **options)


def coded_words(encoded: EncodedTensor) -> NDArray[np.uint32]:
    """The coded planes before corrections, by the reference; all planes where they are under a prefix code."""
    mask, planes = reference.decode_planes(encoded)
    if encoded.kind == "bcq" and encoded.field is not None:
        return planes
    if encoded.packed is None:
        return reference.expand(encoded.coded, 0, encoded.rows, mask)
    starts = encoded.packed.row_starts(0, mask, lambda first, last: mask[first:last])
    return encoded.packed.unpack_reference(mask, starts)


def _wide_scales() -> EncodedTensor:
    """Float32 scales, subnormal and large ones, ties when rounded to float16, overflow."""
    tensor = bcq((37, 300), 0.4, 3, group_size=64, dtype="F16")
    rng = np.random.default_rng(5)
    scales = rng.choice([1e-40, -2e-45, 0.0, -0.0, 1.0, 2.0**-11, 65504.0, 3e-5], tensor.scales.shape)
    return xorpack.encode(replace(tensor, scales=scales.astype(np.float32)))


def _nearly_constant() -> BCQTensor:
    """A symbol that nearly all weights have, so that the first bit of codewords is constant but for a few."""
    tensor = fitted((100, 640), 0.4, 3)
    rare = pack(np.random.default_rng(4).random((100, 640)) < 0.02)
    return replace(tensor, planes=tensor.planes & rare | np.stack([tensor.mask & ~rare] * 3))


def _skewed(bits: int, sparsity: float, **options: Any) -> Callable[[], EncodedTensor]:
    """A layout of 32 lanes and full panels: the window in registers, masks in order of lanes."""
    shape = options.pop("shape", (150, 1024))
    return lambda: _plain(shape, sparsity, bits, lanes=32, **options)


def _segments() -> EncodedTensor:
    """Many segments, whose lengths are no multiples of what a window is held for, or of what a warp decodes."""
    usual, layout.RING_CODE = layout.RING_CODE, 300
    try:
        return _skewed(2, 0.6, shape=(150, 2048), network=XorNetwork.turned(n_rows=48, hold=4))()
    finally:
        layout.RING_CODE = usual


def _masked(kept: NDArray[np.bool_], codec: str = "block", bits: int = 1, **options: Any) -> EncodedTensor:
    return xorpack.encode(with_mask(kept, bits), mask_codec=codec, **options)


def _product(*case: int, bits: int = 1, lanes: int | None = None) -> Callable[[], EncodedTensor]:
    def make() -> EncodedTensor:
        factors = any_factors(*case)
        tensor = with_mask(unpack(factors.mask(), case[2]), bits)
        return xorpack.encode(tensor, mask_codec="bmf", factors=factors, lanes=lanes)

    return make


def _every_third_row() -> NDArray[np.bool_]:
    kept = np.zeros((256, 1024), np.bool_)
    kept[::3] = True
    return kept


MASKS: Mapping[str, Callable[[], EncodedTensor]] = {
    "cascade": lambda: _plain((120, 700), 0.9, 2, mask_codec="cascade"),
    "cascade, corrections": lambda: _plain((120, 700), 0.9, 2, mask_codec="cascade", rate=0.085),
    "cascade, unrolled": _skewed(2, 0.9, group_size=128, mask_codec="cascade"),
    "cascade, quasi-cyclic, unrolled": _skewed(2, 0.9, mask_codec="cascade", network=EARLY),
    "block": lambda: _plain((300, 777), 0.8, 2, mask_codec="block"),
    "block, unrolled": _skewed(2, 0.9, group_size=128, mask_codec="block"),
    "block, no deep bits": lambda: _plain((64, 130), 0.5, 2, mask_codec="block"),
    "block of 32": _skewed(1, 0.98, shape=(60, 2048), mask_codec="block"),
    "block, one row": lambda: _plain((1, 3000), 0.9, 1, mask_codec="block"),
    "block, one column": lambda: _plain((700, 1), 0.8, 1, mask_codec="block"),
    "block, crowded": lambda: _masked(crowded(70, 300, 8)),
    "block, classes of many rows": lambda: _masked(crowded(600, 200)),
    "block, sorted columns": lambda: _masked(crowded(400, 500, 3, 11), bits=2),
    "block, sorted columns, unrolled": lambda: _masked(crowded(300, 1100, 3, 11), lanes=32),
    "block, rows pruned whole": lambda: _masked(_every_third_row()),
    "bmf": _product(1, 40, 200, 3, 16, 2, bits=2),
    "bmf, unrolled": _product(2, 90, 1024, 5, 37, 3, lanes=32),
    "bmf, odd": _product(3, 33, 65, 1, 7, 1),
}
"""A tensor for each way to decode a mask."""


def _signs(
    *args: Any, group_size: int = 0, dtype: str = "F32", **options: Any
) -> Callable[[], EncodedTensor]:
    return lambda: xorpack.encode(
        fitted(*args, group_size=group_size, dtype=dtype), field="always", **options
    )


SIGNS: Mapping[str, Callable[[], EncodedTensor]] = {
    "signs": _signs((300, 777), 0.9, 2),
    "signs, unrolled": _signs((150, 1024), 0.5, 3, lanes=32, group_size=128, dtype="F16"),
    "signs, two panels": _signs((90, 1400), 0.3, 2, lanes=32, group_size=128),
    "signs, turns": _signs((90, 1100), 0.7, 3, lanes=16, dtype="BF16"),
    "signs, corrections": _signs((120, 512), 0.5, 3, rate=0.4, group_size=64, mask_codec="bitmap"),
    "signs, cascade": _signs((120, 700), 0.9, 2, mask_codec="cascade"),
    "signs, quasi-cyclic": _signs((60, 400), 0.6, 4, network=EARLY),
    "signs, nothing pruned": _signs((70, 1024), 0.0, 4),
    "signs, nearly constant": lambda: xorpack.encode(_nearly_constant(), field="always"),
    "signs, one row": _signs((1, 9000), 0.5, 3),
    "signs, one column": _signs((3000, 1), 0.5, 2),
}
"""Binary codes under a prefix code."""

BCQ: Mapping[str, Callable[[], EncodedTensor]] = {
    "small": lambda: _plain((64, 64), 0.5, 2, dtype="F16"),
    "odd columns": lambda: _plain((33, 100), 0.5, 1),
    "one row": lambda: _plain((1, 4096), 0.9, 2, group_size=128),
    "one column": lambda: _plain((70, 1), 0.5, 2),
    "one weight": lambda: _plain((), 0.0, 1),
    "conv": lambda: _plain((8, 3, 3, 3), 0.5, 2, dtype="BF16"),
    "16 lanes of 18": lambda: _plain((90, 1100), 0.9, 2, lanes=16, group_size=128),
    "unrolled": _skewed(2, 0.9, group_size=128, dtype="F16"),
    "unrolled, half": _skewed(3, 0.5, shape=(90, 2048), group_size=128),
    "quasi-cyclic, unrolled": _skewed(2, 0.9, group_size=128, dtype="F16", network=EARLY),
    "quasi-cyclic, unrolled, half": _skewed(3, 0.5, shape=(90, 2048), group_size=128, network=EARLY),
    "unrolled, row scales": _skewed(1, 0.8, dtype="BF16"),
    "quasi-cyclic, unrolled, R = 32": _skewed(
        2, 0.95, shape=(400, 1024), network=XorNetwork.quasi_cyclic(n_rows=32)
    ),
    "unrolled, 22 chunks": _skewed(2, 0.8, shape=(100, 1400), group_size=256),
    "unrolled, few words": _skewed(2, 0.98, shape=(40, 1024), network=XorNetwork.quasi_cyclic()),
    "unrolled, corrections": _skewed(2, 0.7, rate=0.25, group_size=32, mask_codec="bitmap"),
    "unrolled, four panels": _skewed(1, 0.9, shape=(50, 4096), dtype="F16"),
    "unrolled, groups of 512": _skewed(3, 0.6, shape=(40, 2048), group_size=512),
    "unrolled, 24 chunks": _skewed(2, 0.8, shape=(40, 768), group_size=256),
    "unrolled, 4 bits": lambda: _constant_planes((40, 1024), lanes=32),
    "unrolled, 4 planes": _skewed(4, 0.6, shape=(30, 1024)),
    "turned": lambda: _plain((90, 700), 0.8, 2, network=XorNetwork.turned()),
    "turned, unrolled, many turns": _skewed(2, 0.9, shape=(400, 1024), group_size=128),
    "turned, unrolled, few words": _skewed(2, 0.98, shape=(40, 1024), network=XorNetwork.turned()),
    "turned, unrolled, segments": _segments,
    "turned, unrolled, hold 16": _skewed(
        2, 0.95, shape=(333, 1024), network=XorNetwork.turned(window=6, n_rows=32, hold=16, seed=5)
    ),
    "turned, unrolled, hold 1": _skewed(
        1, 0.3, shape=(70, 1400), group_size=256, network=XorNetwork.turned(window=16, n_rows=16, hold=1)
    ),
    "wide": lambda: _plain((40, 5000), 0.7, 5, rate=0.25, mask_codec="bitmap"),
    "tall": lambda: _plain((8300, 40), 0.9, 1, mask_codec="cascade"),
    "many rows": lambda: _plain(
        (300, 500), 0.99, 2, mask_codec="bitmap", network=XorNetwork.quasi_cyclic(n_rows=256)
    ),
    "raw": lambda: _plain((20, 333), 0.0, 2, group_size=100),
    "raw, bitmap": lambda: _plain((20, 333), 0.001, 2, group_size=32),
    "raw, unrolled": lambda: _plain((70, 1024), 0.0, 2, group_size=128),
    "all pruned": lambda: _plain((20, 100), 1.1, 2),
    "empty": lambda: _plain((0, 5), 0.5, 2),
    "no columns": lambda: _plain((5, 0), 0.5, 2),
    "weight encryption": lambda: _plain((40, 200), 0.8, 2, network=XorNetwork.dense(n_in=8, n_out=30)),
    "fixed to fixed": lambda: _plain((40, 200), 0.8, 1, network=XorNetwork.dense(n_in=4, n_out=18, n_s=3)),
    "FleXOR": lambda: _plain((40, 200), 0.5, 2, network=XorNetwork.sparse(n_in=12, n_out=20)),
    "constant planes": _constant_planes,
    "wide scales": _wide_scales,
    "packed": _packed((300, 1024), 0.9, 2, group_size=128),
    "packed, odd": _packed((45, 301), 0.5, 3, dtype="F16"),
    "packed, block": _packed((300, 777), 0.8, 1, mask_codec="block"),
    "packed, nothing pruned": _packed((70, 1100), 0.0, 2, group_size=32),
    "packed, one column": _packed((70, 1), 0.5, 2),
    **SIGNS,
    "packed, all pruned": _packed((20, 100), 1.1, 2),
    "packed, constant planes": lambda: _constant_planes(payload="packed"),
    **MASKS,
}


def _skewed_bits(shape: tuple[int, int], kind: Any, kept: float, **options: Any) -> EncodedTensor:
    rng = np.random.default_rng([7, *shape])
    values = np.where(rng.random(shape) < kept, rng.standard_normal(shape) * 0.02, 0)
    if np.dtype(kind).itemsize == 1:
        values = values * 400
    return xorpack.encode(values.astype(kind), **options)


def _few_values(shape: tuple[int, int], kept: float, **options: Any) -> EncodedTensor:
    rng = np.random.default_rng([8, *shape])
    values = rng.standard_normal(20).astype(np.float32)[np.minimum(rng.geometric(0.2, shape), 20) - 1]
    return xorpack.encode(np.where(rng.random(shape) < kept, values, np.float32(0)), **options)


FIELDS: Mapping[str, Callable[[], EncodedTensor]] = {
    "field, bfloat16": lambda: _skewed_bits((90, 700), ml_dtypes.bfloat16, 0.5),
    "field, float16, unrolled": lambda: _skewed_bits((120, 1100), np.float16, 0.3, lanes=32),
    "field, float32": lambda: _skewed_bits((64, 333), np.float32, 0.7, mask_codec="bitmap", rate=0.6),
    "field, int8": lambda: _skewed_bits((200, 300), np.int8, 0.4, mask_codec="cascade"),
    "field, nothing pruned": lambda: _skewed_bits((70, 130), ml_dtypes.bfloat16, 1.1),
    "field, few values": lambda: _few_values((100, 500), 0.6),
}
"""Elements with bits under a prefix code."""

LOSSLESS: Mapping[str, Callable[[], EncodedTensor]] = {
    **{
        f"lossless {np.dtype(kind).name}": lambda kind=kind: xorpack.encode(pruned((45, 260), 0.7, kind))
        for kind in (np.float32, np.float16, ml_dtypes.bfloat16, np.int8, np.uint8)
    },
    "hostile float32": lambda: xorpack.encode(hostile(np.float32)),
    "hostile bfloat16": lambda: xorpack.encode(hostile(ml_dtypes.bfloat16), mask_codec="cascade"),
    **FIELDS,
    "packed float16": lambda: xorpack.encode(pruned((300, 260), 0.7, np.float16), payload="packed"),
    "packed, field": lambda: _skewed_bits((90, 700), ml_dtypes.bfloat16, 0.5, payload="packed"),
    "packed, hostile int8": lambda: xorpack.encode(hostile(np.int8), payload="packed"),
    "lossless unrolled": lambda: xorpack.encode(pruned((100, 1024), 0.7, np.int8), lanes=32),
}

NOT_MULTIPLIED: Mapping[str, Callable[[], EncodedTensor]] = {
    "octets of int32": lambda: xorpack.encode(halves((45, 60))),
    "octets of uint16, pruned": lambda: xorpack.encode(halves((45, 130), np.uint16, 0.3)),
    "octets, packed": lambda: xorpack.encode(halves((45, 60), kept=0.5), payload="packed"),
    "octets, unrolled": lambda: xorpack.encode(halves((100, 256)), lanes=32),
    "whole int32": lambda: xorpack.encode(np.arange(9000, dtype=np.int32).reshape(60, 150) // 900),
    "float8": lambda: xorpack.encode(pruned((45, 260), 0.7, ml_dtypes.float8_e4m3fn)),
}
"""Of types that no GPU multiplies."""


def trellis(
    shape: tuple[int, ...],
    rate: tuple[int, int] = (2, 1),
    bits: int = 6,
    window: int = 12,
    *,
    dtype: str = "F16",
    group_size: int = 0,
    gains: bool = False,
    outliers: int = 0,
    sparsity: float = 0.0,
    scales: type[np.generic] = np.float16,
    **options: Any,
) -> EncodedTensor:
    """A trellis tensor of random code, taps and numbers."""
    rows, cols = as_matrix(shape)
    rng = np.random.default_rng([rows, cols, *rate, bits])
    taps = rng.integers(1, 1 << window, (rate[1], bits)).tolist()
    network = TrellisNetwork(n_in=rate[0], n_out=rate[1], window=window, taps=tuple(map(tuple, taps)))
    code = rng.integers(0, 1 << 32, (network.n_stored(rows), n_chunks(cols)), dtype=np.uint32)
    kept = rng.random((rows, cols)) >= sparsity
    free = np.flatnonzero(kept)
    positions = np.sort(rng.choice(free, min(outliers, len(free)), replace=False)).astype(np.int64)
    values = (rng.choice([-1, 1], len(positions)) * rng.uniform(3, 9, len(positions))).astype(np.float16)
    sizes = rng.uniform(0.5, 2, (rows, n_groups(cols, group_size)))
    tensor = TrellisTensor(
        shape=shape,
        dtype=dtype,
        network=network,
        code=code & tail_mask(cols),
        a=(0.02 * 0.8 ** np.arange(bits)).astype(np.float32),
        scales=sizes.astype(scales),
        group_size=group_size,
        gains=rng.uniform(0.5, 2, cols).astype(np.float16) if gains else None,
        mask=pack(kept) if sparsity else None,
        positions=positions,
        values=values,
    )
    return xorpack.encode(tensor, **options)


def _tiny_numbers() -> EncodedTensor:
    """Scales, gains and outliers whose products are subnormal; a weight's sign of zero."""
    encoded = trellis((70, 300), bits=4, dtype="F32", gains=True, outliers=50, scales=np.float32)
    elements = encoded.elements
    assert isinstance(elements, Trellis)
    assert elements.gains is not None
    rng = np.random.default_rng(6)
    scales = rng.choice([1e-38, -3e-40, 2e-45, 0.0, -0.0, 1.0], elements.scales.shape).astype(np.float32)
    gains = rng.choice([6e-8, 1.0, 0.0, -2.0], elements.gains.shape).astype(np.float16)
    return replace(encoded, elements=replace(elements, scales=scales, gains=gains))


TRELLIS: Mapping[str, Callable[[], EncodedTensor]] = {
    "trellis": lambda: trellis((100, 1056)),
    "trellis, row of panels": lambda: trellis((70, 2304), (1, 1), 4, outliers=300, gains=True),
    "trellis, odd": lambda: trellis((45, 301), outliers=40, gains=True, dtype="F32", scales=np.float32),
    "trellis, period": lambda: trellis((133, 640), (3, 2), 5, 14, outliers=100),
    "trellis, low rate": lambda: trellis((300, 512), (1, 4), 2, dtype="BF16", outliers=90),
    "trellis, long period": lambda: trellis((70, 96), (7, 9), 3, 9),
    "trellis, 4 bits": lambda: trellis((50, 544), (4, 1), 8, 16, gains=True),
    "trellis, 16 planes": lambda: trellis((40, 130), (6, 1), 16, 20, dtype="F32"),
    "trellis, groups": lambda: trellis((60, 1100), group_size=100, outliers=30),
    "trellis, even groups": lambda: trellis((60, 2048), group_size=512, outliers=30),
    "trellis, groups of half a panel": lambda: trellis((60, 2048), (1, 1), 4, group_size=256),
    "trellis, one row": lambda: trellis((1, 1000), gains=True),
    "trellis, one column": lambda: trellis((500, 1), (1, 2), 3, 9),
    "trellis, one weight": lambda: trellis((), (1, 1), 2, 7),
    "trellis, conv": lambda: trellis((16, 3, 3, 7), dtype="BF16"),
    "trellis, tall": lambda: trellis((2100, 33), (1, 1), 4, outliers=200),
    "trellis, empty": lambda: trellis((0, 5)),
    "trellis, no columns": lambda: trellis((5, 0)),
    "trellis, tiny numbers": _tiny_numbers,
    "trellis, bitmap": lambda: trellis((70, 1100), sparsity=0.6, outliers=50, mask_codec="bitmap"),
    "trellis, block": lambda: trellis((200, 700), (1, 1), 4, sparsity=0.8, mask_codec="block", gains=True),
    "trellis, all pruned": lambda: trellis((20, 100), sparsity=1.1),
}
"""Trellis codes: every way of the kernels through rates, windows, scales, masks."""

EPSILON = {"F32": 2.0**-24, "F16": 2.0**-11, "BF16": 2.0**-8}
TINY = {"F32": 2.0**-149, "F16": 2.0**-24, "BF16": 2.0**-133}
DEPTH = 40
"""Roundings of float32 on the way of one term into a product, at the most."""


def products(encoded: EncodedTensor, x: NDArray[Any]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """``x W^T`` of the unrounded quantized weights in float64, and the same of magnitudes: (n, rows) each."""
    weights, sizes = _weights(encoded)
    wide = x.astype(np.float64)
    return wide @ weights.T, np.abs(wide) @ sizes.T


def _weights(encoded: EncodedTensor) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Unrounded weights, and the sums of the magnitudes of their terms: (rows, cols)."""
    mask, planes = reference.decode_planes(encoded)
    assert encoded.scales is not None
    group = np.arange(encoded.cols) // (encoded.group_size or max(encoded.cols, 1))
    weights = np.zeros((encoded.rows, encoded.cols))
    sizes = np.zeros_like(weights)
    kept = unpack(mask, encoded.cols)
    tensor = encoded.trellis(None) if encoded.kind == "trellis" else None
    scales = encoded.scales.astype(np.float64) if tensor is None else tensor.alphas().astype(np.float64)
    for k in range(encoded.bits):
        alpha = scales[:, group, k]
        weights += np.where(unpack(planes[k], encoded.cols), alpha, -alpha)
        sizes += np.abs(alpha)
    if tensor is not None:
        if tensor.gains is not None:
            weights *= tensor.gains.astype(np.float64)
            sizes *= np.abs(tensor.gains.astype(np.float64))
        values = tensor.values.astype(np.float64) * tensor.outlier_unit
        weights.reshape(-1)[tensor.positions] = values
        sizes.reshape(-1)[tensor.positions] += np.abs(values)
    return weights * kept, sizes * kept


def check_product(
    y: NDArray[Any], encoded: EncodedTensor, x: NDArray[Any], dtype: str, *, rounded: str | None = None
) -> None:
    """Element by element: float32 rounding of the magnitudes, and the rounding of the result.

    ``rounded``: the type that the weights were rounded to before.
    """
    wanted, sizes = products(encoded, x)
    own = {"F32": 0.0, "F16": 2.0**-11, "BF16": 2.0**-8}
    extra = own[encoded.dtype] + own[rounded] if rounded else 0.0
    bound = (DEPTH * EPSILON["F32"] + extra) * sizes
    # A GPU takes subnormal terms for 0.
    bound += DEPTH * 2.0**-126 * (1 + np.abs(x.astype(np.float64)).sum(axis=1, keepdims=True))
    if rounded:
        bound += np.abs(x.astype(np.float64)).sum(axis=1, keepdims=True) * 2.0**-24
    bound += EPSILON[dtype] * (np.abs(wanted) + bound) + TINY[dtype]
    limit = {"F32": 3.4028e38, "F16": 65504.0, "BF16": 3.3895e38}[dtype]
    right = np.isinf(y) & (np.sign(y) == np.sign(wanted)) & (np.abs(wanted) + bound > limit)
    error = np.where(right, 0, np.abs(np.where(right, 0, y.astype(np.float64)) - np.where(right, 0, wanted)))
    assert (error <= bound).all(), f"{float((error / bound).max())} times the bound"
