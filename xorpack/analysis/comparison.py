"""Real runs on a sample of weights: xorpack beside the coders of :mod:`xorpack.analysis.coders`, one core each."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from xorpack.analysis import coders
from xorpack.analysis.coders import CoderResult, Content
from xorpack.analysis.formats import FormatRow
from xorpack.code.expand import expand
from xorpack.decoders import cpu
from xorpack.encoding.encoder import encode
from xorpack.encoding.masks.choice import Prefer
from xorpack.errors import ParameterError
from xorpack.tensors import BCQTensor

OURS = "xorpack"
FAST = "xorpack, --prefer speed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """Formats measured on the same weights.

    Attributes:
        rows: ours first; bits per weight and speeds.
        n_weights, n_tensors: of the sample.
        mask_decode: weights per second, our masks alone.
        missing: packages without which coders were left out.
    """

    rows: tuple[FormatRow, ...]
    n_weights: int
    n_tensors: int
    mask_decode: float
    missing: tuple[str, ...]


def compare(samples: Iterable[BCQTensor | NDArray[Any]]) -> Comparison:
    """Encode and decode every sample with every coder; each must give back what it was given.

    Args:
        samples: quantized tensors, or arrays to be kept bit for bit.
    """
    found: dict[str, list[CoderResult]] = {}
    notes = {
        OURS: "XOR code, mask, corrections, scales",
        FAST: "packed bits and a Huffman code or bitmap; lossless: no fields",
    }
    n_weights = n_tensors = 0
    mask_seconds = 0.0
    for tensor in samples:
        if not found:
            for prefer in ("size", "speed"):  # compiles what is not compiled yet
                _ours(tensor, Content.of(tensor), prefer)
        content = Content.of(tensor)
        n_weights, n_tensors = n_weights + content.mask.size, n_tensors + 1
        coded, seconds = _ours(tensor, content, "size")
        mask_seconds += seconds
        found.setdefault(OURS, []).append(coded)
        found.setdefault(FAST, []).append(_ours(tensor, content, "speed")[0])
        for name, (what, coder) in coders.available().items():
            notes[name] = what
            found.setdefault(name, []).append(coder(content))
    if n_weights == 0:
        raise ParameterError("the sample holds no weights")
    return Comparison(
        rows=tuple(_row(name, notes[name], runs, n_weights) for name, runs in found.items()),
        n_weights=n_weights,
        n_tensors=n_tensors,
        mask_decode=n_weights / mask_seconds,
        missing=tuple(coders.missing()),
    )


def _ours(tensor: BCQTensor | NDArray[Any], content: Content, prefer: Prefer) -> tuple[CoderResult, float]:
    began = time.perf_counter()
    encoded = encode(tensor, prefer=prefer)
    middle = time.perf_counter()
    back = cpu.decode_dense(encoded)
    end = time.perf_counter()
    if back.tobytes() != content.dense:
        raise coders.CoderError("xorpack does not give back its input")
    encoded.load_mask(expand)
    mask_seconds = time.perf_counter() - end
    return CoderResult(sum(encoded.section_bytes().values()), middle - began, end - middle), mask_seconds


def _row(name: str, note: str, runs: list[CoderResult], n: int) -> FormatRow:
    return FormatRow(
        name=name,
        note=note,
        bits_per_weight=8 * sum(run.n_bytes for run in runs) / n,
        measured=True,
        encode=n / sum(run.encode_seconds for run in runs),
        decode=n / sum(run.decode_seconds for run in runs),
    )
