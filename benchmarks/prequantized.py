"""Weights that other tools quantized, kept bit for bit: sizes beside entropy, Huffman and zstd, and speeds, one core.

``python -m benchmarks.prequantized MODEL OUT FORM`` writes a directory of dense weights as such a tool would, rounded
to nearest: ``gptq`` (AutoGPTQ's tensors), ``awq-like`` (compressed-tensors' ``weight_packed``, with zero points) or
``fp8`` (blocks of 128 x 128, as DeepSeek's).
"""

from __future__ import annotations

import argparse
import json
import shutil
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import zstandard
from numpy.typing import NDArray

import xorpack
from benchmarks.data import random_weight
from benchmarks.measure import Checks, Row, check_decodes, interleaved, ratios
from xorpack.encoding.fields.huffman import limited_lengths
from xorpack.files import safetensors_file
from xorpack.files.safetensors_file import StoredTensor
from xorpack.files.selection import left_out

GROUP = 128
LEVELS = (3, 19)
Tensors = dict[str, NDArray[Any]]


def run(quick: bool) -> Iterator[Row]:
    """Rows of this theme."""
    weight = random_weight(1024 if quick else 4096)
    for name, symmetric in (("symmetric", True), ("asymmetric", False)):
        small, _, _ = int4(weight, symmetric=symmetric)
        octets = small[:, ::2] | small[:, 1::2] << np.uint8(4)
        yield from _rows(f"int4, {name}, groups of {GROUP}", octets.view(np.int32), small, quick)
    scaled, _ = float8(weight)
    yield from _rows("FP8 e4m3", scaled, scaled.view(np.uint8), quick)


def _rows(name: str, tensor: NDArray[Any], symbols: NDArray[np.uint8], quick: bool) -> Iterator[Row]:
    """``symbols``: uint8, the numbers that ``tensor`` holds; zstd sees two of 4 bits as an octet."""
    encoded = xorpack.encode(tensor)
    check_decodes(encoded, tensor)
    data = tensor.tobytes()
    n, counts = symbols.size, np.sort(np.bincount(symbols.reshape(-1)))[::-1]
    counts = counts[counts > 0]
    entropy = float(-(counts @ np.log2(counts / n)))
    n_bytes = sum(encoded.section_bytes().values())

    def size(what: str, found: float, **goal: Any) -> Row:
        note = f"{8 * found / n:.4f} bits a weight of {8 * len(data) / n:g}; entropy {entropy / n:.4f}"
        return Row(
            what=f"{what}, {name}: size / entropy",
            samples=[8 * found / entropy],
            unit="x",
            digits=4,
            note=note,
            **goal,
        )

    yield size("ours", n_bytes, at_most=1.02)
    yield size("Huffman, number by number", float(limited_lengths(counts, 0, 16) @ counts) / 8)
    for level in LEVELS:
        compressor, decompressor = zstandard.ZstdCompressor(level=level), zstandard.ZstdDecompressor()
        packed = compressor.compress(data)
        Checks.require(decompressor.decompress(packed) == data, "zstd does not give the bytes back")
        yield size(f"zstd -{level}", len(packed))
        calls = [
            partial(xorpack.encode, tensor),
            partial(compressor.compress, data),
            partial(xorpack.decode, encoded),
            partial(decompressor.decompress, packed),
        ]
        mine, theirs, back, their_back = interleaved(calls, 1 if quick or level > 9 else 5)
        for what, own, others in (("encode", mine, theirs), ("decode", back, their_back)):
            if level == LEVELS[0]:
                yield Row(what=f"{what}, {name}", samples=[n / s / 1e6 for s in own], unit="M weights/s")
            yield Row(what=f"{what} against zstd -{level}, {name}", samples=ratios(others, own), unit="x")


def int4(weight: NDArray[Any], *, symmetric: bool) -> tuple[NDArray[np.uint8], NDArray[Any], NDArray[Any]]:
    """4-bit numbers (rows, cols), scales and zeros (rows, cols / GROUP), rounded to nearest in groups of a row."""
    rows, cols = weight.shape
    padded = np.zeros((rows, -(-cols // GROUP) * GROUP), np.float32)
    padded[:, :cols] = weight
    groups = padded.reshape(rows, -1, GROUP)
    if symmetric:
        scales = np.abs(groups).max(2, keepdims=True) / 7
        zeros = np.full_like(scales, 8)
    else:
        low, high = np.minimum(groups.min(2, keepdims=True), 0), np.maximum(groups.max(2, keepdims=True), 0)
        scales = (high - low) / 15
        zeros = np.rint(-low / np.maximum(scales, 1e-9))
    scales = np.maximum(scales, 1e-9).astype(np.float16).astype(np.float32)
    numbers = np.clip(np.rint(groups / np.maximum(scales, 1e-7)) + zeros, 0, 15)
    return (
        numbers.astype(np.uint8).reshape(padded.shape)[:, :cols],
        scales[..., 0],
        zeros[..., 0].astype(np.uint8),
    )


def float8(weight: NDArray[Any], block: int = 128) -> tuple[NDArray[Any], NDArray[np.float32]]:
    """FP8 e4m3 of ``weight``, and the inverse scales of its blocks."""
    rows, cols = weight.shape
    padded = np.zeros((-(-rows // block) * block, -(-cols // block) * block), np.float32)
    padded[:rows, :cols] = weight
    blocks = padded.reshape(-(-rows // block), block, -1, block)
    scales = np.maximum(np.abs(blocks).max((1, 3), keepdims=True) / 448, 1e-12)
    scaled = (blocks / scales).reshape(padded.shape)[:rows, :cols]
    return scaled.astype(ml_dtypes.float8_e4m3fn), scales[:, 0, :, 0]


def _eights(numbers: NDArray[np.uint8]) -> NDArray[np.int32]:
    """Eight numbers along the last axis in an int32, the first one lowest."""
    octets = numbers[..., ::2] | numbers[..., 1::2] << np.uint8(4)
    return np.ascontiguousarray(octets).view(np.int32)


def gptq(name: str, weight: NDArray[Any]) -> Tensors:
    """As AutoGPTQ packs a layer: inputs along the rows, eight of them in an int32."""
    numbers, scales, zeros = int4(weight, symmetric=True)
    return {
        f"{name}.qweight": np.ascontiguousarray(_eights(numbers).T),
        f"{name}.qzeros": _eights((zeros - 1).T),
        f"{name}.scales": np.ascontiguousarray(scales.T.astype(np.float16)),
        f"{name}.g_idx": (np.arange(weight.shape[1]) // GROUP).astype(np.int32),
    }


def packed(name: str, weight: NDArray[Any]) -> Tensors:
    """As compressed-tensors packs a layer, with zero points."""
    numbers, scales, zeros = int4(weight, symmetric=False)
    return {
        f"{name}.weight_packed": _eights(numbers),
        f"{name}.weight_scale": scales.astype(np.float16),
        f"{name}.weight_zero_point": zeros,
        f"{name}.weight_shape": np.array(weight.shape, np.int32),
    }


def fp8(name: str, weight: NDArray[Any]) -> Tensors:
    """As DeepSeek's checkpoints have a layer."""
    scaled, scales = float8(weight)
    return {f"{name}.weight": scaled, f"{name}.weight_scale_inv": scales}


FORMS = {"gptq": gptq, "awq-like": packed, "fp8": fp8}
METHODS = {"gptq": "gptq", "awq-like": "compressed-tensors", "fp8": "fp8"}


def write(model: Path, out: Path, form: str) -> None:
    """Write the directory ``out``: ``model`` as a tool would have quantized it."""
    file = safetensors_file.read(model / "model.safetensors")
    tensors: dict[str, StoredTensor] = {}
    for name, stored in file.tensors.items():
        cols = stored.shape[-1] if stored.shape else 0
        if left_out(name, stored.shape) or len(stored.shape) != 2 or cols % 8:
            tensors[name] = stored
            continue
        made = FORMS[form](name.removesuffix(".weight"), np.array(stored.array(), np.float32))
        tensors |= {key: StoredTensor.of(array) for key, array in made.items()}
    out.mkdir()
    path = out / "model.safetensors"
    safetensors_file.write(path, tensors, safetensors_file.header_bytes(tensors, {"format": "pt"}))
    for other in model.iterdir():
        if other.is_file() and other.name not in (path.name, "config.json"):
            shutil.copy(other, out)
    config = json.loads((model / "config.json").read_text(encoding="utf-8"))
    config["quantization_config"] = {"quant_method": METHODS[form], "bits": 8 if form == "fp8" else 4}
    (out / "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m benchmarks.prequantized", description=__doc__)
    parser.add_argument("model", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("form", choices=list(FORMS))
    options = parser.parse_args()
    write(options.model, options.out, options.form)
