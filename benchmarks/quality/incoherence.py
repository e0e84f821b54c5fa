"""A seeded randomized Hadamard transform of the inputs, outside the file format: what it would be worth."""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.typing import NDArray


@cache
def rotation(n: int) -> NDArray[np.float32]:
    """An orthogonal matrix (n, n): random signs, then Hadamard's of the power of two in ``n`` by a cosine transform."""
    power = n & -n
    odd = n // power
    hadamard = np.ones((1, 1))
    while len(hadamard) < power:
        hadamard = np.block([[hadamard, hadamard], [hadamard, -hadamard]]) / np.sqrt(2)
    i = np.arange(odd)
    cosine = np.cos(np.pi * (i[:, None] + 0.5) * i / odd) * np.sqrt(np.where(i, 2, 1) / odd)
    signs = np.where(np.random.default_rng(n).integers(0, 2, n), 1.0, -1.0)
    return (signs[:, None] * np.kron(cosine, hadamard)).astype(np.float32)
