"""Planes that are constant over the kept weights, but for a few: not coded at all.

The upper exponent bits of trained weights are the same nearly everywhere. Such a plane is stored as its value;
the few weights that differ become corrections.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from xorpack.code.corrections import Corrections

SAVING = 0.9
"""A plane is left out where its exceptions cost less than this share of its care bits."""


def choose_constants(ones: Sequence[int], n_kept: int) -> tuple[int, int]:
    """``(zeros, ones)``: bit k is set where plane k is to be constantly 0, or 1.

    Args:
        ones: kept weights whose bit is 1, for each plane.
        n_kept: kept weights.
    """
    always = [0, 0]
    for k, count in enumerate(ones):
        value = int(2 * count > n_kept)
        if is_constant(n_kept - count if value else count, n_kept, len(ones)):
            always[value] |= 1 << k
    return always[0], always[1]


def is_constant(exceptions: int, n_kept: int, q: int) -> bool:
    """Whether a plane of q is left out, where ``exceptions`` of ``n_kept`` weights differ."""
    return n_kept > 0 and exception_bits(exceptions, n_kept, q) < SAVING * n_kept


def exception_bits(exceptions: int, n_kept: int, q: int) -> float:
    """What they cost as corrections."""
    return exceptions * (math.log2(max(n_kept / exceptions, 2)) + 4 + q) if exceptions else 0.0


def coded_planes(constants: int, q: int) -> list[int]:
    """Indices of the planes that are coded, where the bits of ``constants`` are not."""
    return [k for k in range(q) if not constants >> k & 1]


def merge(own: Corrections, coded: list[int], exceptions: Corrections) -> Corrections:
    """Corrections of the coded planes, their values spread to all planes, together with ``exceptions``."""
    values = np.zeros_like(own.values)
    for j, k in enumerate(coded):
        values |= ((own.values >> np.uint64(j)) & np.uint64(1)) << np.uint64(k)
    if not len(exceptions):
        return Corrections(own.positions, values)
    positions = np.concatenate([own.positions, exceptions.positions])
    values = np.concatenate([values, exceptions.values])
    order = np.argsort(positions, kind="stable")
    unique, first = np.unique(positions[order], return_index=True)
    return Corrections(unique, np.bitwise_or.reduceat(values[order], first))
