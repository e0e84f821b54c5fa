"""What comes before every speed: decoding bit for bit, products within float32 rounding, runs that repeat."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.measure import Checks
from xorpack.code.words import unpack
from xorpack.decoders import cpu
from xorpack.decoders.gpu import GpuTensor
from xorpack.encoded import EncodedTensor

DEPTH = 40
"""Roundings of float32 on the way of one term into a product, at the most."""
SLICE = 48
"""Rows that are compared at three places of a large tensor."""


def slices(rows: int) -> list[tuple[int, int]]:
    """First rows, middle rows, last rows."""
    starts = (0, rows // 2, max(0, rows - SLICE))
    return [(first, min(rows, first + SLICE)) for first in starts]


def check_decode(cupy: ModuleType, encoded: EncodedTensor, tensor: GpuTensor) -> None:
    """Weights into a poisoned array, against the CPU."""
    out = cupy.empty(encoded.shape, np.float16)
    out.view(np.uint16).fill(0xFFFF)
    tensor.decode("F16", out=out)
    Checks.require(int((out.view(np.uint16) == 0xFFFF).sum()) == 0, "decode leaves elements unwritten")
    for first, last in slices(encoded.rows):
        wanted = cpu.decode_rows(encoded, first, last)
        Checks.require(out[first:last].get().tobytes() == wanted.tobytes(), f"decode of rows {first}..{last}")


def check_product(
    cupy: ModuleType, encoded: EncodedTensor, tensor: GpuTensor, x: Any, algorithm: str
) -> None:
    """A product into a poisoned array, element by element against float64, three times the same bits."""
    out = cupy.full((x.shape[0], encoded.rows), np.nan, np.float32)
    tensor.matmul(x, out=out, algorithm=algorithm)
    first = out.get()
    what = f"{algorithm}, batch {x.shape[0]}, {encoded.shape}"
    Checks.require(bool(np.isfinite(first).all()), f"{what}: elements unwritten or not finite")
    rounding = 2.0**-11 if algorithm in ("decode", "trellis_tiles", "wide") else 0.0
    for begin, end in slices(encoded.rows):
        wanted, sizes = _products(encoded, begin, end, x.get())
        bound = (DEPTH * 2.0**-24 + rounding) * sizes + 1e-30
        if rounding:
            bound += np.abs(x.get().astype(np.float64)).sum(axis=1, keepdims=True) * 2.0**-25
        error = np.abs(first[:, begin:end] - wanted)
        worst = float((error / bound).max())
        Checks.require(worst <= 1, f"{what}: {worst:.3g} times the bound in rows {begin}..{end}")
    for _ in range(2):
        out.fill(np.nan)
        tensor.matmul(x, out=out, algorithm=algorithm)
        Checks.require(out.get().tobytes() == first.tobytes(), f"{what}: two runs differ")


def _products(
    encoded: EncodedTensor, first: int, last: int, x: NDArray[Any]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Products of some rows in float64, and those of all magnitudes. Of trellises without gains and outliers."""
    mask, planes = cpu.decode_planes(encoded, first, last)
    assert encoded.scales is not None
    if encoded.kind == "trellis":
        scales = encoded.trellis(None).alphas(first, last).astype(np.float64)
    else:
        scales = encoded.scales[first:last].astype(np.float64)
    group = np.arange(encoded.cols) // (encoded.group_size or encoded.cols)
    kept = unpack(mask, encoded.cols)
    weights, sizes = np.zeros(kept.shape), np.zeros(kept.shape)
    for k in range(encoded.bits):
        alpha = scales[:, group, k]
        weights += np.where(unpack(planes[k], encoded.cols), alpha, -alpha)
        sizes += np.abs(alpha)
    wide = x.astype(np.float64)
    return wide @ (weights * kept).T, np.abs(wide) @ (sizes * kept).T
