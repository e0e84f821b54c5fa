"""Scales as they are stored: floats, or one octet each on a logarithmic grid.

Octet ``i < 255`` is the float16 nearest to ``2**(-i / 32)``, octet 255 is 0: eight octaves in steps of 2.2 %, so that
rounding a scale costs a relative squared error of 4e-5. A tensor's magnitude stands elsewhere.

>>> scale_values(np.array([0, 32, 254, 255], np.uint8))
array([1.        , 0.5       , 0.00408173, 0.        ], dtype=float32)
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

STEPS = 32
"""Octets of one octave."""

ROUNDING = 4e-5
"""Mean relative squared error that octets cost: ``(2**(1 / 64) - 1)**2 / 3``."""

LOWEST = 2.0 ** (-254 / STEPS)
"""Least scale above 0."""

_VALUES = np.append(np.exp2(-np.arange(255) / STEPS).astype(np.float16), np.float16(0)).astype(np.float32)
_VALUES.flags.writeable = False


def scale_values(stored: NDArray[Any]) -> NDArray[np.float32]:
    """What scales of uint8, float16 or float32 stand for."""
    return _VALUES[stored] if stored.dtype == np.uint8 else stored.astype(np.float32)


def scale_octets(values: NDArray[np.float64]) -> NDArray[np.uint8]:
    """Octets of scales from 0 to 1, the nearest by ratio; what is not above 0 becomes 0."""
    positive = values > 0
    steps = np.rint(-STEPS * np.log2(np.where(positive, values, 1)))
    return np.where(positive, np.clip(steps, 0, 254), 255).astype(np.uint8)
