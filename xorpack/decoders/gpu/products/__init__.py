"""Products with a tensor's weights, which are decoded on the way: a module per algorithm, and the choice."""

from __future__ import annotations

from collections.abc import Mapping

from xorpack.checks import choice
from xorpack.cuda.arrays import TYPES
from xorpack.decoders.gpu.products.binary import Binary
from xorpack.decoders.gpu.products.coded_binary import CodedBinary
from xorpack.decoders.gpu.products.coded_wide import CodedWide
from xorpack.decoders.gpu.products.decode import Decode
from xorpack.decoders.gpu.products.product import PRECISIONS, Product
from xorpack.decoders.gpu.products.tables import Tables
from xorpack.decoders.gpu.products.tensor_cores import TensorCores
from xorpack.decoders.gpu.products.trellis_binary import TrellisBinary
from xorpack.decoders.gpu.products.trellis_tiles import TrellisTiles
from xorpack.decoders.gpu.products.trellis_wide import TrellisWide
from xorpack.decoders.gpu.products.wide import Wide
from xorpack.elements import Lossless
from xorpack.encoded import EncodedTensor
from xorpack.errors import ParameterError

__all__ = ["ALGORITHMS", "MAX_FUSED", "PRECISIONS", "Product", "algorithm_of", "choose", "why_not"]

ALGORITHMS: Mapping[str, type[Product]] = {
    each.NAME: each for each in (Tables, TensorCores, CodedBinary, TrellisTiles, CodedWide, Decode)
}
"""By name, of planes that are coded one by one."""

TRELLIS: Mapping[str, type[Product]] = {
    **ALGORITHMS,
    **{each.NAME: each for each in (TrellisBinary, TrellisTiles, TrellisWide)},
}
"""The same, of one code for all planes."""

MAX_FUSED = 128
"""Columns above which ``auto`` takes ``wide`` or ``decode``: by counted instructions, not measured."""


def algorithm_of(name: str, encoded: EncodedTensor) -> type[Product]:
    """The algorithm of that name for a tensor."""
    return (TRELLIS if encoded.kind == "trellis" else ALGORITHMS)[name]


def why_not(algorithm: str, encoded: EncodedTensor, n: int, x_dtype: str, shared_limit: int) -> str:
    """Why ``algorithm`` cannot multiply ``n`` columns of that type; "" where it can."""
    if isinstance(encoded.elements, Lossless):
        if encoded.dtype not in TYPES:
            return f"a lossless tensor of {encoded.dtype} is decoded on a GPU, not multiplied"
        reason = f"a lossless tensor of {encoded.dtype} is multiplied by decoding, with activations of its own type"
        if encoded.dtype != x_dtype:
            return f"{reason}, not {x_dtype}"
        if algorithm != Decode.NAME:
            return reason
    if encoded.kind == "trellis" and algorithm in (Tables.NAME, TensorCores.NAME):
        return "a trellis tensor has one code for all planes"
    return algorithm_of(algorithm, encoded).why_not(encoded, n, x_dtype, shared_limit)


def choose(
    algorithm: str,
    encoded: EncodedTensor,
    n: int,
    x_dtype: str,
    shared_limit: int,
    *,
    counts_bits: bool = True,
    warpgroups: bool = True,
    precision: str = PRECISIONS[0],
) -> str:
    """The name of the algorithm of a product; ``auto``: by the number of columns.

    Args:
        algorithm, encoded, n, x_dtype, shared_limit: of the product.
        counts_bits: the device has binary tensor cores; where they are emulated, ``auto`` looks sums up instead.
        warpgroups: the device has tensor cores of warpgroups, which ``wide`` is for.
        precision: ``fast`` is a matter of binary tensor cores.

    Raises:
        ParameterError: it is unknown, or cannot run, or not in that precision, and why.
    """
    choice("precision", precision, PRECISIONS)
    if algorithm not in ("auto", *ALGORITHMS):
        raise ParameterError(f"algorithm {algorithm!r} is not one of auto, {', '.join(ALGORITHMS)}")
    if precision != PRECISIONS[0]:
        reason = (
            f"it is for algorithm {Binary.NAME!r}, not {algorithm!r}"
            if algorithm not in ("auto", Binary.NAME)
            else "the GPU has no binary tensor cores (compute capability 8.0 to 9.0 has)"
            if not counts_bits
            else why_not(Binary.NAME, encoded, n, x_dtype, shared_limit)
        )
        if reason:
            raise ParameterError(f"precision {precision!r} cannot be had here: {reason}")
        return Binary.NAME
    if algorithm != "auto":
        reason = (
            "the GPU has no tensor cores of warpgroups (compute capability 9.0 has)"
            if algorithm == Wide.NAME and not warpgroups
            else why_not(algorithm, encoded, n, x_dtype, shared_limit)
        )
        if reason:
            raise ParameterError(f"algorithm {algorithm!r} cannot run here: {reason}")
        return algorithm
    order = [Tables.NAME, TensorCores.NAME] if n == 1 else [TensorCores.NAME, Tables.NAME]
    if counts_bits:
        order.insert(0, CodedBinary.NAME)
    if n > 8:
        order = [TensorCores.NAME]
    if encoded.kind == "trellis":
        order = [TrellisBinary.NAME, TrellisTiles.NAME]
    if n > MAX_FUSED:
        order = [Wide.NAME] if warpgroups and algorithm_of(Wide.NAME, encoded).pays(encoded) else []
    for name in (*order, Decode.NAME):
        if not why_not(name, encoded, n, x_dtype, shared_limit):
            return name
    raise ParameterError(f"no algorithm can run: {why_not(Decode.NAME, encoded, n, x_dtype, shared_limit)}")
