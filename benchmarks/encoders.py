"""Encoders: what Viterbi reaches, and how fast elimination is: alone, end to end, beside Viterbi."""

from __future__ import annotations

import math
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import numpy as np

import xorpack
from benchmarks.data import (
    NOT_INSTALLED,
    model_directory,
    model_matrices,
    random_bcq,
    random_lossless,
    random_ring,
)
from benchmarks.measure import Checks, Row, check_decodes, interleaved, ratios, times
from xorpack.code.network import XorNetwork
from xorpack.encoded import EncodedTensor
from xorpack.encoding.rings import elimination, viterbi
from xorpack.encoding.rings import viterbi_kernels as trellis
from xorpack.encoding.rings.elimination import RingCode
from xorpack.encoding.rings.gather import PlaneSource
from xorpack.tensors import BCQTensor

VITERBI = ((0, 20000, 93.2), (1, 4000, 98.5), (2, 640, 99.2))
"""n_s, steps of the trellis, goal for E in percent."""

SPEED = ((0.5, 45), (0.9, 140))
SIZE = 4096
N_OUT = 80
"""Decoded words per step of the dense networks: 8 stored bits for 8 care bits at S .9."""


def run(quick: bool) -> Iterator[Row]:
    """Rows of this theme."""
    for n_s, n_steps, goal in VITERBI:
        found, stored = _viterbi(n_s, n_steps // 2 if quick else n_steps)
        what = f"Viterbi, n_in 8, n_s {n_s}, S 0.9: E"
        note = f"stored/care bits {stored:.4f}"
        yield Row(what=what, samples=[found], unit="%", digits=3, at_least=goal, note=note)
    for sparsity, fast_enough in SPEED:
        for bits in (4,) if quick else (1, 2, 3, 4):
            yield from _elimination(sparsity, bits, fast_enough, 2 if quick else 5)
    yield from _as_by_default(2 if quick else 5)
    for sparsity, bits in ((0.5, 3), (0.9, 2)):
        yield from _two_cores(sparsity, bits, 2 if quick else 7)
    for dtype, sparsity in (
        ("BF16", 0.5),
        ("F16", 0.5),
        ("F32", 0.5),
        ("I8", 0.5),
        ("BF16", 0.9),
        ("F32", 0.9),
    ):
        yield _field(1024 if quick else 2048, dtype, sparsity, 2 if quick else 5)
    yield _not_pruned(2 if quick else 5)
    # The E to beat is the one of the last row of Viterbi, n_s 2, whose ends weigh least.
    yield from _against_viterbi(found, 2 if quick else 5)


def _field(size: int, dtype: str, sparsity: float, n: int) -> Row:
    """What a field costs."""
    array = random_lossless(size, sparsity, dtype)
    calls = [partial(xorpack.encode, array, field=field, mask_codec="bitmap") for field in ("auto", "none")]
    for call in calls:
        check_decodes(call(), array)
    auto, none = interleaved(calls, n)
    what = f"encode lossless {dtype}, {size} x {size}, S {sparsity}: time, with a field / without"
    note = f"{np.count_nonzero(array) / min(auto) / 1e6:.1f} M kept weights/s"
    return Row(what=what, samples=ratios(auto, none), unit="x", at_most=1.5, note=note)


def _not_pruned(n: int) -> Row:
    """Bfloat16 of which every weight is kept: what is left of the exponents is under a prefix code."""
    array = random_lossless(SIZE, 0.0, "BF16")
    encoded = xorpack.encode(array)
    check_decodes(encoded, array)
    found = times(partial(xorpack.encode, array), n)
    what = f"encode, end to end, lossless BF16, not pruned, {SIZE} x {SIZE}, one core"
    note = f"{8 * sum(encoded.section_bytes().values()) / array.size:.2f} bits per weight"
    speeds = [array.size / s / 1e6 for s in found]
    return Row(what=what, samples=speeds, unit="M weights/s", at_least=50, note=note)


def _dense_ring(n_s: int, n_steps: int, q: int = 1) -> tuple[tuple[Any, ...], int]:
    """Arguments of ``viterbi.encode_ring``, and the number of care positions."""
    network = XorNetwork.dense(n_in=8, n_out=N_OUT, n_s=n_s)
    care, planes = random_ring(4, q, N_OUT * n_steps, 0.1)
    return (network, care, planes, 8 * n_steps), int(np.bitwise_count(care).sum())


def _viterbi(n_s: int, n_steps: int) -> tuple[float, float]:
    arguments, n_care = _dense_ring(n_s, n_steps)
    stored = 32 * arguments[3] / n_care
    Checks.require(abs(stored - 1) < 0.01, f"stored/care bits is {stored}, not within 1 % of 1")
    return _efficiency(viterbi.encode_ring(*arguments), n_care), stored


def _efficiency(ring: RingCode, n_care_bits: int) -> float:
    return 100 * (1 - int(np.bitwise_count(ring.values).sum()) / n_care_bits)


def _eliminations(tensor: BCQTensor, encoded: EncodedTensor) -> list[partial[RingCode]]:
    """One call per ring, at the rate that was chosen."""
    source = PlaneSource(tensor.mask, tensor.planes)
    rings = (source.ring(encoded.layout, k) for k in range(encoded.layout.n_segments))
    return [partial(elimination.encode_ring, encoded.network, *ring, encoded.m_lane) for ring in rings]


def _in_turn(calls: list[partial[RingCode]]) -> None:
    for call in calls:
        call()


def _side_by_side(calls: list[partial[RingCode]]) -> None:
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda call: call(), calls))


def _elimination(sparsity: float, bits: int, goal: float, n: int) -> Iterator[Row]:
    tensor = random_bcq(SIZE, sparsity, bits)
    encoded = xorpack.encode(tensor, prefer="speed", payload="xor")
    check_decodes(encoded, tensor)
    whole = times(partial(xorpack.encode, tensor, prefer="speed", payload="xor"), n)
    alone = times(partial(_in_turn, _eliminations(tensor, encoded)), n)
    where = f"{SIZE} x {SIZE}, S {sparsity}, q {bits}, one core"
    for how, found in (("encode, end to end", whole), ("elimination alone", alone)):
        speeds = [SIZE * SIZE / s / 1e6 for s in found]
        yield Row(what=f"{how}, {where}", samples=speeds, unit="M weights/s", at_least=goal)


def _as_by_default(n: int) -> Iterator[Row]:
    """Of sparse tensors, whose masks are coded, too: a large one, and many small ones."""
    where = "encode, end to end, mask and all by default"
    large = f"{where}, {SIZE} x {SIZE}, S 0.9, q 2, one core"
    yield _speed(large, [random_bcq(SIZE, 0.9, 2)], n, 50)
    small = f"{where}, 36 matrices of all-MiniLM-L6-v2, S 0.9, q 2, one core"
    directory = model_directory()
    if directory is None:
        yield Row(what=small, note=NOT_INSTALLED)
        return
    weights = [weight for _, weight in model_matrices(directory)]
    yield _speed(small, [xorpack.quantize(weight, sparsity=0.9, bits=2) for weight in weights], n, 15)


def _speed(what: str, tensors: list[BCQTensor], n: int, goal: float) -> Row:
    """How fast ``tensors`` are encoded, one after another."""
    for tensor in tensors:
        check_decodes(xorpack.encode(tensor), tensor)
    found = times(lambda: [xorpack.encode(tensor) for tensor in tensors], n)
    n_weights = sum(math.prod(tensor.shape) for tensor in tensors)
    speeds = [n_weights / s / 1e6 for s in found]
    return Row(what=what, samples=speeds, unit="M weights/s", at_least=goal)


def _two_cores(sparsity: float, bits: int, n: int) -> Iterator[Row]:
    tensor = random_bcq(SIZE, sparsity, bits)
    one, two = (xorpack.encode(tensor, prefer="speed", payload="xor", jobs=jobs) for jobs in (1, 2))
    same = all(one.sections()[name].tobytes() == part.tobytes() for name, part in two.sections().items())
    Checks.require(same, "bytes depend on the number of threads")
    check_decodes(two, tensor)
    calls = _eliminations(tensor, one)
    pairs = {
        "encode, end to end": [
            partial(xorpack.encode, tensor, prefer="speed", payload="xor", jobs=jobs) for jobs in (1, 2)
        ],
        f"elimination alone, {len(calls)} rings": [partial(_in_turn, calls), partial(_side_by_side, calls)],
    }
    for how, pair in pairs.items():
        what = f"{how}, two cores / one, {SIZE} x {SIZE}, S {sparsity}, q {bits}"
        yield Row(what=what, samples=ratios(*interleaved(pair, n)), unit="x", at_least=1.8)


def _against_viterbi(exact_e: float, n: int, q: int = 2) -> Iterator[Row]:
    """Per care position, all planes of it. Viterbi is ours, and the paper's, which tries every branch."""
    tensor = random_bcq(SIZE, 0.9, q)
    encoded = xorpack.encode(tensor, prefer="speed", payload="xor")
    check_decodes(encoded, tensor)
    Checks.require(100 * encoded.efficiency > exact_e, "elimination's E is not above Viterbi's")
    eliminate = partial(_in_turn, _eliminations(tensor, encoded))
    arguments, n_care = _dense_ring(2, 20, q)
    fast, ours, step = interleaved([eliminate, partial(viterbi.encode_ring, *arguments), _paper_step()], n)
    fast = [1e6 * s / encoded.n_kept for s in fast]
    ours = [1e6 * s / n_care for s in ours]
    paper = [1e6 * q * s / 8 for s in step]
    per, note = f"q {q}, per care position", f"E {100 * encoded.efficiency:.3f} against {exact_e:.3f} %"
    yield Row(what=f"elimination, {per}", samples=fast, unit="us", digits=3)
    for name, slow in (("ours", ours), ("every branch, as in the paper", paper)):
        yield Row(what=f"Viterbi (8, 2), {name}, {per}", samples=slow, unit="us")
        what = f"elimination against Viterbi (8, 2), {name}, {per}"
        yield Row(what=what, samples=ratios(slow, fast), unit="x", digits=0, at_least=2000, note=note)


def _paper_step() -> partial[None]:
    """One step of 2^16 states with 2^8 branches each, 8 care bits, one plane."""
    rng = np.random.default_rng(3)
    tables = [rng.integers(0, 256, (1, 256), np.uint64) for _ in range(3)]
    target, cost = rng.integers(0, 256, 1, np.uint64), rng.integers(0, 9, 1 << 16, np.uint32)
    results = [(np.zeros(1 << 16, np.uint32), np.zeros(1 << 16, np.uint8)) for _ in range(2)]
    trellis.step_by_transform(cost, 8, 8, *tables, target, np.zeros(4096, np.uint32), 16, *results[0])
    step = partial(
        trellis.step_by_branches, cost, 8, 1, *tables, target, np.zeros(256, np.uint32), *results[1]
    )
    step()
    same = all((a == b).all() for a, b in zip(*results, strict=True))
    Checks.require(same, "both ways through a step of the trellis disagree")
    return step
