"""One encoding, measured: sizes and E, from what decodes, not from what the encoder says of itself."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import fmean
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from xorpack.analysis.bounds import binary_entropy
from xorpack.code.corrections import packed_sizes
from xorpack.code.expand import expand
from xorpack.code.layout import Layout
from xorpack.code.network import XorNetwork
from xorpack.code.planes import CodedPlanes
from xorpack.code.words import Words, popcount
from xorpack.encoding.rings.gather import PlaneSource
from xorpack.encoding.rings.tensor import encode_planes


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """Sizes of one encoding, in bits, over all planes.

    Attributes:
        care_bits: bits that matter; random ones cannot be stored in fewer.
        stored_bits: code.
        wrong_bits: care bits that the network gets wrong (1 - E of them).
        correction_bits: what the corrections take as they are stored.
        n_corrections: positions that are corrected, in all planes at once.
        n_planes: q.
    """

    care_bits: int
    stored_bits: int
    wrong_bits: int
    correction_bits: int
    n_corrections: int
    n_planes: int

    @property
    def rate(self) -> float:
        """Stored bits / care bits, corrections left out."""
        return self.stored_bits / self.care_bits

    @property
    def efficiency(self) -> float:
        """E: care bits that the network reproduces / all care bits."""
        return 1 - self.wrong_bits / self.care_bits

    @property
    def overhead(self) -> float:
        """Code + corrections, over the bound: one bit per care bit."""
        return (self.stored_bits + self.correction_bits) / self.care_bits

    @property
    def floor(self) -> float:
        """The same with corrections at their entropy, which is ``rate + H(1 - E)`` for one plane.

        With D the share of kept weights that are corrected, by one of ``2^q - 1`` values, ``rate + (H(D) +
        D log2(2^q - 1)) / q``. At least 1 for random bits: that is their rate-distortion function (Shannon, 1959).
        """
        q = self.n_planes
        share = self.n_corrections * q / self.care_bits
        return self.rate + (binary_entropy(share) + share * math.log2(2**q - 1)) / q

    def as_dict(self) -> dict[str, int]:
        """The sample as it stands in a cell."""
        return asdict(self)

    @classmethod
    def total(cls, samples: Sequence[Mapping[str, int]]) -> Sample:
        """Several of as many planes as one."""
        sizes = {name: sum(sample[name] for sample in samples) for name in samples[0]}
        return cls(**sizes | {"n_planes": samples[0]["n_planes"]})


def encode(
    network: XorNetwork,
    mask: Words,
    planes: Words,
    layout: Layout,
    *,
    encoder: Literal["elimination", "viterbi"] = "elimination",
    rate: float | None = None,
    n_streams: int = 32,
) -> Sample:
    """Encode planes in a given order, decode them, and compare.

    Args:
        network: any.
        mask: uint32 (rows, chunks).
        planes: uint32 (q, rows, chunks); ignored where the mask is 0.
        layout: of rows x cols.
        encoder: see :func:`xorpack.encode`.
        rate: stored bits per decoded bit, of a quasi-cyclic network; default: chosen for the least size.
        n_streams: bits of a word that are in use at all, the low ones. Without rotations the 32 bits of a
            word never meet, so some of them are a smaller experiment of the same kind.

    Raises:
        AssertionError: the encoder's corrections do not mend what decodes.
    """
    q = len(planes)
    n_kept = popcount(mask)
    planes = planes & mask
    code, corrections = encode_planes(
        network, PlaneSource(mask, planes), layout, n_kept, encoder, rate, jobs=1
    )
    coded = CodedPlanes(network=network, layout=layout, code=code)
    wrong = expand(coded, 0, layout.rows, mask) ^ planes
    n_wrong = popcount(wrong)
    if popcount(_mended(wrong, corrections.positions, corrections.values, layout.cols)):
        raise AssertionError("corrections do not mend what decodes")
    universe = layout.rows * layout.cols * n_streams // 32
    return Sample(
        care_bits=n_kept * q,
        stored_bits=8 * code.nbytes * n_streams // 32,
        wrong_bits=n_wrong,
        correction_bits=8 * sum(packed_sizes(len(corrections), universe, q)),
        n_corrections=len(corrections),
        n_planes=q,
    )


def _mended(wrong: Words, positions: NDArray[np.int64], values: NDArray[np.uint64], cols: int) -> Words:
    """``wrong`` (q, rows, chunks) with the corrections applied."""
    row, col = np.divmod(positions, max(cols, 1))
    for k, plane in enumerate(wrong):
        bit = ((values >> np.uint64(k)) & np.uint64(1)).astype(np.uint32) << (col & 31).astype(np.uint32)
        np.bitwise_xor.at(plane, (row, col >> 5), bit)
    return wrong


def ring_layout(n_steps: int) -> Layout:
    """One lane of ``n_steps`` words, coded in the order in which they stand: rows of one word."""
    return Layout(rows=n_steps, cols=32, lanes=1, n_steps=n_steps, row_stride=1)


def samples_of(result: Mapping[str, Any]) -> list[Sample]:
    """The samples of a cell, one per seed."""
    return [Sample(**sample) for sample in result["samples"]]


def mean(samples: Sequence[Sample], name: str) -> float:
    """Mean of a property over the seeds."""
    return fmean(getattr(sample, name) for sample in samples)


def half_range(samples: Sequence[Sample], name: str) -> float:
    """Half of the distance between the lowest and the highest seed."""
    values = [getattr(sample, name) for sample in samples]
    return float(max(values) - min(values)) / 2
