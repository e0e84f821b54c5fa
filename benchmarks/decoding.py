"""Decoding on one core: planes, then dense float32, beside plain copies of as many bytes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

import numpy as np

import xorpack
from benchmarks.data import random_bcq, random_lossless
from benchmarks.measure import Checks, Row, check_decodes, interleaved, ratios, times
from xorpack.code import dense
from xorpack.decoders import cpu
from xorpack.encoded import EncodedTensor
from xorpack.tensors import BCQTensor

CASES = ((0.5, 3), (0.7, 3), (0.9, 2))


def run(quick: bool) -> Iterator[Row]:
    """Rows of this theme."""
    size, n = (2048, 3) if quick else (4096, 7)
    for sparsity, bits in CASES:
        tensor = random_bcq(size, sparsity, bits)
        encoded = xorpack.encode(tensor, prefer="speed", payload="xor", jobs=2)
        check_decodes(encoded, tensor)
        Checks.require(encoded.layout.lanes == 32, "not 32 lanes")
        where = f"{size} x {size}, S {sparsity}, q {bits}"
        yield from _planes(where, tensor, encoded, n)
        yield from _dense(where, tensor, encoded, n)
    for dtype in ("BF16", "F16", "F32", "I8", "16 values"):
        yield from _lossless(size // 2, dtype, n)


def _lossless(size: int, dtype: str, n: int) -> Iterator[Row]:
    """Half of the weights kept at random: kept ones per second with a field, and all ones beside those without."""
    array = random_lossless(size, 0.5, dtype)
    encoded = {
        field: xorpack.encode(array, field=field, mask_codec="bitmap", jobs=2) for field in ("auto", "none")
    }
    for found in encoded.values():
        check_decodes(found, array)
    calls = [partial(cpu.decode_dense, found) for found in encoded.values()]
    auto, none = interleaved(calls, n)
    where = f"lossless {dtype}, {size} x {size}, S 0.5"
    kept = encoded["auto"].n_kept / 1e6
    speeds = [kept / s for s in auto]
    goal = None if dtype == "F32" else 100  # float32 has 32 planes: without a field it is hardly faster
    yield Row(what=f"decode, {where}", samples=speeds, unit="M kept weights/s", digits=0, at_least=goal)
    yield Row(what=f"decode, {where}: time, with a field / without", samples=ratios(auto, none), unit="x")


def _planes(where: str, tensor: BCQTensor, encoded: EncodedTensor, n: int) -> Iterator[Row]:
    gigabits = tensor.planes.nbytes * 8 / 1e9
    planes = np.full_like(tensor.planes, 0xFFFFFFFF)
    reuse = _into(encoded, planes)
    reuse()
    Checks.require(planes.tobytes() == tensor.planes.tobytes(), "planes decoded into a buffer differ")
    target = np.empty_like(planes)
    copies = times(lambda: np.copyto(target, planes), n, repeat=20)
    for how, call in (("reused", reuse), ("fresh", lambda: cpu.decode_planes(encoded))):
        samples = [gigabits / s for s in times(call, n, repeat=3)]
        yield Row(
            what=f"decode planes, {where}, 32 lanes, {how} buffers",
            samples=samples,
            unit="Gbit/s",
            at_least=20,
        )
    yield Row(what=f"np.copyto of the planes, {where}", samples=[gigabits / s for s in copies], unit="Gbit/s")


def _into(encoded: EncodedTensor, planes: np.ndarray) -> Callable[[], None]:
    """Everything that :func:`xorpack.decoders.cpu.decode_planes` does, into planes that exist."""

    def call() -> None:
        cpu.decode_planes(encoded, out=planes)

    return call


def _dense(where: str, tensor: BCQTensor, encoded: EncodedTensor, n: int) -> Iterator[Row]:
    wanted, out = tensor.dequantize(), np.empty(tensor.shape, np.float32)
    planes = np.empty_like(tensor.planes)

    def reuse() -> None:
        mask, _ = cpu.decode_planes(encoded, out=planes)
        dense.expand_bcq(mask, planes, tensor.scales, tensor.group_size, out)

    reuse()
    Checks.require(out.tobytes() == wanted.tobytes(), "weights decoded into a buffer differ")
    Checks.require(cpu.decode_dense(encoded).tobytes() == wanted.tobytes(), "decoded weights differ")
    copies = times(lambda: np.copyto(out, wanted), n, repeat=3)
    for how, call in (("reused", reuse), ("fresh", lambda: cpu.decode_dense(encoded))):
        yield _weights(f"decode to dense float32, {where}, {how} buffers", out.size, times(call, n), 300)
    yield _weights(f"np.copyto of the float32, {where}", out.size, copies, None)


def _weights(what: str, n_weights: int, samples: list[float], goal: float | None) -> Row:
    speeds = [n_weights / s / 1e6 for s in samples]
    return Row(what=what, samples=speeds, unit="M weights/s", digits=0, at_least=goal)
