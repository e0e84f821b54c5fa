"""Tensors that tests share: random and ugly, from fixed seeds."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

import xorpack
from xorpack import EncodedTensor
from xorpack.code import words
from xorpack.decoders import cpu
from xorpack.encoded import PLANES, blocks_sha256
from xorpack.tensors import BCQTensor, as_matrix, n_groups

SHAPES: list[tuple[int, ...]] = [
    (), (0,), (1,), (31,), (5000,), (0, 5), (5, 0), (1, 7), (7, 1), (1, 4096), (3, 33), (64, 64),
    (33, 100), (300, 31), (17, 1025), (2, 2080), (8, 3, 3, 3), (257, 384),
]  # fmt: skip
SPARSITIES = (0.0, 0.5, 0.9, 0.999, 1.1)


def bcq(
    shape: tuple[int, ...] = (64, 64),
    sparsity: float = 0.5,
    bits: int = 2,
    *,
    group_size: int = 0,
    dtype: str = "F32",
    seed: int = 0,
) -> BCQTensor:
    """A random quantized tensor; sparsity above 1 prunes everything."""
    rng = np.random.default_rng([seed, bits, *shape])
    rows, cols = as_matrix(shape)
    kept = rng.random((rows, cols)) >= sparsity
    planes = np.stack([words.pack((rng.random((rows, cols)) < 0.5) & kept) for _ in range(bits)])
    scales = rng.random((rows, n_groups(cols, group_size), bits)).astype(np.float16)
    return BCQTensor(
        shape=shape,
        dtype=dtype,
        mask=words.pack(kept),
        planes=planes,
        scales=scales,
        group_size=group_size,
    )


def fitted(
    shape: tuple[int, ...] = (64, 64),
    sparsity: float = 0.5,
    bits: int = 2,
    *,
    agree: float = 0.85,
    **options: Any,
) -> BCQTensor:
    """:func:`bcq`, but planes that say something of each other: each is the one before at a share of ``agree``."""
    tensor = bcq(shape, sparsity, bits, **options)
    rng = np.random.default_rng([9, bits, *shape])
    rows, cols = as_matrix(shape)
    planes = list(tensor.planes[:1])
    for _ in range(bits - 1):
        planes.append((planes[-1] ^ words.pack(rng.random((rows, cols)) >= agree)) & tensor.mask)
    return replace(tensor, planes=np.stack(planes))


def with_digest_of_weights(encoded: EncodedTensor) -> EncodedTensor:
    """``encoded`` as it was written before there were digests of planes, in versions 1 and 2 for instance."""
    if encoded.kind != "bcq":
        return encoded
    if encoded.packed is not None:
        return replace(encoded, content_sha256=encoded.content_sha256.removeprefix(PLANES))
    return replace(encoded, content_sha256=blocks_sha256(cpu.decode_blocks(encoded)))


def pruned(shape: tuple[int, ...], sparsity: float, dtype: Any = np.float32, seed: int = 0) -> NDArray[Any]:
    """A random array of any type with exact zeros."""
    rng = np.random.default_rng([seed, *shape])
    values = (rng.standard_normal(shape) * 40).astype(dtype)
    return np.where(rng.random(shape) < sparsity, np.zeros((), dtype), values).astype(dtype)


def hostile(dtype: Any) -> NDArray[Any]:
    """NaN payloads, both infinities, -0.0, subnormals, in an odd shape."""
    dtype = np.dtype(dtype)
    unsigned = {1: np.uint8, 2: np.uint16, 4: np.uint32}[dtype.itemsize]
    rng = np.random.default_rng(7)
    raw = rng.integers(0, np.iinfo(unsigned).max, (45, 77), dtype=unsigned, endpoint=True)
    raw[rng.random(raw.shape) < 0.6] = 0
    top = unsigned(1) << unsigned(8 * dtype.itemsize - 1)
    raw[0, :3] = top, 1, top | unsigned(1)
    if dtype.kind == "f" or dtype == ml_dtypes.bfloat16:
        raw[1, :4] = np.array([np.nan, np.inf, -np.inf, -0.0], dtype).view(unsigned)
        raw[2, 0] = np.array(np.nan, dtype).view(unsigned) | unsigned(3)
    return raw.view(dtype)


def same(a: Any, b: Any) -> bool:
    """Bit for bit: the same type, shape and bytes."""
    if isinstance(a, xorpack.BCQTensor):
        return (
            isinstance(b, xorpack.BCQTensor)
            and (a.shape, a.dtype, a.group_size, a.method) == (b.shape, b.dtype, b.group_size, b.method)
            and all(same(x, y) for x, y in ((a.mask, b.mask), (a.planes, b.planes), (a.scales, b.scales)))
        )
    return (a.dtype, a.shape) == (b.dtype, b.shape) and a.tobytes() == b.tobytes()


def replaced(encoded: EncodedTensor, **changes: Any) -> EncodedTensor:
    """An encoded tensor with other values, in whichever of its parts they belong."""
    parts = {
        "": encoded,
        "planes": encoded.planes,
        "coded": encoded.planes.coded,
        "elements": encoded.elements,
    }
    own: dict[str, dict[str, Any]] = {name: {} for name in parts}
    for key, value in changes.items():
        place = next(name for name, part in parts.items() if key in type(part).__dataclass_fields__)
        own[place][key] = value
    planes = replace(encoded.planes, coded=replace(encoded.coded, **own["coded"]), **own["planes"])
    return replace(encoded, planes=planes, elements=replace(encoded.elements, **own["elements"]), **own[""])


def halves(shape: tuple[int, ...], kind: type = np.int32, kept: float = 1, seed: int = 0) -> NDArray[Any]:
    """Integers into which numbers of 4 bits are packed, normal ones; ``kept``: share of the octets that are not 0."""
    rng = np.random.default_rng([seed, 4])
    whole = np.dtype(kind)
    octets = int(np.prod(shape)) * whole.itemsize
    small = np.clip(np.rint(rng.standard_normal((octets, 2)) * 2.5 + 8), 1, 15).astype(np.uint8)
    packed = np.where(rng.random(octets) < kept, small[:, 0] | small[:, 1] << 4, 0).astype(np.uint8)
    return packed.view(whole).reshape(shape)
