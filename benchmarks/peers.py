"""Peers: encoding beside zstd on the bytes of the same float32 weights, and packed bits beside zstd on a bitmap and
packed values, one core each, taken in turns.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np
import zstandard

import xorpack
from benchmarks.data import model_directory, model_matrices, random_weight
from benchmarks.measure import Checks, Row, check_decodes, interleaved, ratios
from xorpack.analysis import coders
from xorpack.decoders import cpu
from xorpack.encoded import EncodedTensor

CASES = ((0.5, 3), (0.9, 2))
PACKED_CASES = ((0.5, 3), (0.9, 2))
PACKED_SIZE = 4096
LEVELS = ((19, 20.0, 1.0), (3, None, None))
"""zstd level, and the goals: times faster, times smaller."""


def run(quick: bool) -> Iterator[Row]:
    """Rows of this theme."""
    size = 1024 if quick else 2048
    weight = random_weight(size)
    for sparsity, bits in CASES[-1:] if quick else CASES:
        yield from _case(f"{size} x {size}", weight, sparsity, bits, quick)
    for sparsity, bits in PACKED_CASES:
        large = random_weight(1024 if quick else PACKED_SIZE)
        yield from _packed(f"{len(large)} x {len(large)}", large, sparsity, bits, quick)
    directory = model_directory()
    if directory is not None:
        matrices = [matrix for name, matrix in model_matrices(directory) if "intermediate" in name]
        real = np.concatenate(matrices[:1] if quick else matrices)
        yield from _case("all-MiniLM-L6-v2, intermediate", real, 0.9, 2, quick)
        for sparsity, bits in PACKED_CASES:
            yield from _packed("all-MiniLM-L6-v2, intermediate", real, sparsity, bits, quick)


def _case(name: str, weight: np.ndarray[Any, Any], sparsity: float, bits: int, quick: bool) -> Iterator[Row]:
    quantized = xorpack.quantize(weight, bits=bits, sparsity=sparsity, group_size=0)
    kept = xorpack.quantize(weight, bits=1, sparsity=sparsity, group_size=0)
    pruned = np.where(kept.dequantize() != 0, weight, np.float32(0))
    where = f"{name}, S {sparsity}"
    yield from _against(f"BCQ q {bits}, {where}", quantized, quantized.dequantize(), quick)
    yield from _against(f"lossless, {where}", pruned, pruned, quick)


def _against(name: str, tensor: Any, dense: np.ndarray[Any, Any], quick: bool) -> Iterator[Row]:
    encoded = {prefer: xorpack.encode(tensor, prefer=prefer) for prefer in ("speed", "size")}
    for found in encoded.values():
        check_decodes(found, tensor)
    for level, faster, smaller in LEVELS:
        compressor = zstandard.ZstdCompressor(level=level)
        packed = compressor.compress(dense)
        Checks.require(zstandard.decompress(packed) == dense.tobytes(), "zstd does not give the bytes back")
        calls = [partial(xorpack.encode, tensor, prefer=prefer) for prefer in encoded]
        *ours, theirs = interleaved([*calls, partial(compressor.compress, dense)], 1 if quick else 3)
        for (prefer, found), samples in zip(encoded.items(), ours, strict=True):
            what = f"encode against zstd -{level}, {name}, prefer {prefer}"
            yield Row(what=f"{what}: speed", samples=ratios(theirs, samples), unit="x", at_least=faster)
            yield Row(
                what=f"{what}: size, zstd / ours",
                samples=[len(packed) / _stored_bytes(found)],
                unit="x",
                digits=3,
                at_least=smaller,
                note=f"{len(packed)} / {_stored_bytes(found)} bytes of {dense.nbytes}",
            )


def _packed(
    name: str, weight: np.ndarray[Any, Any], sparsity: float, bits: int, quick: bool
) -> Iterator[Row]:
    """``prefer="speed"``, to planes and back, beside zstd -3 on bitmap and packed values, whose making is not timed."""
    tensor = xorpack.quantize(weight, bits=bits, sparsity=sparsity, group_size=0)
    encoded = xorpack.encode(tensor, prefer="speed")
    check_decodes(encoded, tensor)
    content = coders.Content.of(tensor)
    data = coders.sparse_bytes(content)
    compressor, decompressor = zstandard.ZstdCompressor(level=3), zstandard.ZstdDecompressor()
    packed = compressor.compress(data)
    calls = [
        partial(xorpack.encode, tensor, prefer="speed"),
        partial(compressor.compress, data),
        partial(cpu.decode_planes, encoded),
        partial(decompressor.decompress, packed),
    ]
    ours, theirs, back, their_back = interleaved(calls, 3 if quick else 9)
    where = f"packed bits, q {bits}, {name}, S {sparsity}"
    goal = None if "MiniLM" in name or quick else 1.0
    for what, times, others in (("encode", ours, theirs), ("decode to planes", back, their_back)):
        speeds = [weight.size / s / 1e9 for s in times]
        yield Row(what=f"{what}, {where}", samples=speeds, unit="G weights/s", at_least=goal)
        yield Row(
            what=f"{what} against zstd -3 on bitmap and values, {where}",
            samples=ratios(others, times),
            unit="x",
        )
    own, theirs_bytes = _stored_bytes(encoded), len(packed) + content.extra_bytes
    yield Row(
        what=f"size / zstd -3 on bitmap and values, {where}",
        samples=[own / theirs_bytes],
        unit="x",
        digits=3,
        at_most=1.02,
        note=f"{own} / {theirs_bytes} bytes; mask {encoded.mask_codec}",
    )
    yield Row(
        what=f"size / default, {where}",
        samples=[own / _stored_bytes(xorpack.encode(tensor))],
        unit="x",
        digits=3,
    )


def _stored_bytes(encoded: EncodedTensor) -> int:
    return sum(encoded.section_bytes().values())
