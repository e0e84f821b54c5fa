"""Tensors of full size whose code is random: they decode as fast as encoded ones, and need no encoding.

Rates, corrections and orders are those that the encoder would choose, so that bytes and work are real.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from xorpack import XorNetwork
from xorpack.code.corrections import Corrections, pack
from xorpack.code.layout import Layout
from xorpack.code.planes import CodedPlanes, StoredPlanes, TrellisPlanes
from xorpack.code.words import Words, popcount, tail_mask
from xorpack.elements import Bcq, Trellis
from xorpack.encoded import EncodedTensor
from xorpack.encoding.plan import default_network
from xorpack.encoding.quantize.trellis_design import design
from xorpack.encoding.rings.rate import CorrectionCurve
from xorpack.masks import Bitmap, Constant

GROUP = 128


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A shape (output x input) and a setting, with the least speed over cuBLAS fp16 at batch 1 and 8.

    ``group``: columns that share scales; 0: all of a row.
    """

    rows: int
    cols: int
    sparsity: float
    bits: int
    group: int = GROUP
    at_least: float | None = None
    at_least_8: float | None = None

    @property
    def name(self) -> str:
        """The case as rows of the table name it."""
        scales = "" if self.group else ", row scales"
        return f"{self.rows} x {self.cols}, S {self.sparsity}, q {self.bits}{scales}"


SMALLER = 0.75
"""What smaller shapes have to reach of the ratio of the largest."""
LARGEST = 49152, 12288
BATCH_8, BATCH_256, COPY_SHARE = 4, 1 / 1.2, 70
"""Goals of any format: times cuBLAS fp16 at batch 8, at 256; percent of the copy bandwidth, batch 1, largest shape."""


def _goals(rows: int, cols: int) -> tuple[Case, ...]:
    part = 1 if (rows, cols) == LARGEST else SMALLER
    return (
        Case(rows=rows, cols=cols, sparsity=0.9, bits=2, at_least=7 * part, at_least_8=BATCH_8),
        Case(rows=rows, cols=cols, sparsity=0.5, bits=3, at_least=4.2 * part, at_least_8=BATCH_8),
        Case(rows=rows, cols=cols, sparsity=0.9, bits=2, group=0, at_least=9 * part, at_least_8=BATCH_8),
    )


GOALS = (*_goals(*LARGEST), *_goals(28672, 8192), *_goals(14336, 4096))
CASES = (
    *GOALS,
    Case(rows=12288, cols=12288, sparsity=0.9, bits=2),
    Case(rows=8192, cols=8192, sparsity=0.9, bits=2),
    Case(rows=4096, cols=4096, sparsity=0.9, bits=2),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class TrellisCase:
    """A shape and a rate, with the least speed over cuBLAS fp16 at batch 1 and 8. Row scales, no mask, no outliers."""

    rows: int
    cols: int
    rate: Fraction
    at_least: float
    at_least_8: float | None = BATCH_8

    @property
    def name(self) -> str:
        """The name that rows of the table give it."""
        return f"{self.rows} x {self.cols}, trellis R {self.rate}"


TRELLIS = (
    TrellisCase(rows=49152, cols=12288, rate=Fraction(2), at_least=5.5),
    TrellisCase(rows=49152, cols=12288, rate=Fraction(1), at_least=10),
    TrellisCase(rows=28672, cols=8192, rate=Fraction(2), at_least=5.5 * SMALLER),
    TrellisCase(rows=28672, cols=8192, rate=Fraction(1), at_least=10 * SMALLER),
    TrellisCase(rows=14336, cols=4096, rate=Fraction(2), at_least=5.5 * SMALLER),
    TrellisCase(rows=14336, cols=4096, rate=Fraction(1), at_least=10 * SMALLER),
    TrellisCase(rows=4096, cols=4096, rate=Fraction(2), at_least=1, at_least_8=None),
)


def trellis(case: TrellisCase, seed: int = 0) -> EncodedTensor:
    """A tensor of random code by the rate's own network, with outliers as normal weights would have them: none."""
    rng = np.random.default_rng([seed, case.rows, case.cols])
    chosen, chunks = design(case.rate), -(-case.cols // 32)
    shape = (chosen.network.n_stored(case.rows), chunks)
    code = rng.integers(0, 1 << 32, shape, np.uint32) & tail_mask(case.cols)
    scales = (0.01 + rng.random((case.rows, 1), np.float32)) / np.float32(case.cols**0.5)
    return EncodedTensor(
        shape=(case.rows, case.cols),
        dtype="F16",
        planes=TrellisPlanes(
            network=chosen.network, shape=(case.rows, case.cols), n_kept=case.rows * case.cols, code=code
        ),
        mask=Constant(shape=(case.rows, case.cols), data=np.zeros(0, np.uint8), value=1),
        elements=Trellis(
            a=np.array(chosen.a, np.float32), scales=scales.astype(np.float16), outliers=np.zeros(0, np.uint8)
        ),
    )


def random_words(rng: np.random.Generator, shape: tuple[int, ...], density: float) -> Words:
    """Words whose bits are 1 with probability ``density``, to ten binary places."""
    words = np.zeros(shape, np.uint32)
    for place in range(10):
        more = rng.integers(0, 1 << 32, shape, np.uint32)
        words = words | more if round(density * 1024) >> place & 1 else words & more
    return words


def synthetic(case: Case, seed: int = 0) -> EncodedTensor:
    """A tensor with random code, mask and scales, and as many corrections as the best rate leaves."""
    rng = np.random.default_rng([seed, case.rows, case.cols, case.bits])
    rows, cols, q = case.rows, case.cols, case.bits
    chunks = -(-cols // 32)
    mask = random_words(rng, (rows, chunks), 1 - case.sparsity) & tail_mask(cols)
    n_kept = popcount(mask)
    layout = Layout.choose(rows, cols, n_kept)
    n_lanes = layout.n_segments * layout.lanes
    curve = CorrectionCurve(q, n_kept, n_lanes, layout.n_steps)
    m_lane, _ = curve.best()
    code = rng.integers(0, 1 << 32, (q, layout.n_segments, m_lane, layout.lanes), np.uint32)
    wrong = _corrections(rng, mask, cols, round(curve.corrections(m_lane)), q)
    return EncodedTensor(
        shape=(rows, cols),
        dtype="F16",
        planes=StoredPlanes(
            bits=q,
            n_kept=n_kept,
            coded=CodedPlanes(network=default_network(n_kept, rows * cols), layout=layout, code=code),
            n_corrections=len(wrong),
            corrections=pack(wrong, rows * cols, q),
        ),
        mask=Bitmap.of(mask, cols),
        elements=Bcq(scales=_scales(rng, rows, cols, q, case.group or cols), group_size=case.group),
    )


def dense(rows: int, cols: int, bits: int, seed: int = 0) -> EncodedTensor:
    """Raw planes and no mask: what LUT-GEMM multiplies by."""
    rng = np.random.default_rng([seed, rows, cols])
    layout = Layout.raw(rows, cols)
    shape = (bits, layout.n_segments, layout.n_steps, layout.lanes)
    code = rng.integers(0, 1 << 32, shape, np.uint32)
    return EncodedTensor(
        shape=(rows, cols),
        dtype="F16",
        planes=StoredPlanes(
            bits=bits,
            n_kept=rows * cols,
            coded=CodedPlanes(network=XorNetwork.identity(), layout=layout, code=code),
            n_corrections=0,
            corrections=np.zeros(0, np.uint8),
        ),
        mask=Constant(shape=(rows, cols), data=np.zeros(0, np.uint8), value=1),
        elements=Bcq(scales=_scales(rng, rows, cols, bits), group_size=GROUP),
    )


def _scales(
    rng: np.random.Generator, rows: int, cols: int, q: int, group: int = GROUP
) -> NDArray[np.float16]:
    scales = 0.01 + rng.random((rows, -(-cols // group), q), np.float32)
    return (scales / np.float32(cols**0.5)).astype(np.float16)


def _corrections(rng: np.random.Generator, mask: Words, cols: int, n: int, q: int) -> Corrections:
    rows = mask.shape[0]
    draws = max(16, 2 * n * mask.size * 32 // max(popcount(mask), 1))
    row, col = rng.integers(0, rows, draws), rng.integers(0, cols, draws)
    kept = mask[row, col // 32] >> (col % 32).astype(np.uint32) & np.uint32(1) == 1
    positions = np.unique(rng.permutation((row * cols + col)[kept])[:n]).astype(np.int64)
    return Corrections(positions, rng.integers(1, 1 << q, len(positions), np.uint64))
