"""Entropy bounds, in bits per weight. Source: Shannon (1948)."""

from __future__ import annotations

import math


def binary_entropy(p: float) -> float:
    """H(p) of one bit that is 1 with probability p.

    >>> binary_entropy(0.5), binary_entropy(0.0)
    (1.0, 0.0)
    """
    if p <= 0 or p >= 1:
        return 0.0
    return -p * math.log2(p) - (1 - p) * math.log2(1 - p)


def payload_bound(sparsity: float, bits: int) -> float:
    """``(1 - S) q``: each of q planes of a kept weight carries one incompressible bit."""
    return (1 - sparsity) * bits


def mask_bound(sparsity: float) -> float:
    """``H(S)``: a mask of independent, identically distributed weights."""
    return binary_entropy(sparsity)
