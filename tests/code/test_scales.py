"""Scales in octets: the grid, its ends, and what rounding to it costs."""

from __future__ import annotations

import numpy as np

from xorpack.code.scales import LOWEST, ROUNDING, scale_octets, scale_values


def test_octets_come_back():
    octets = np.arange(256, dtype=np.uint8)
    values = scale_values(octets)
    assert (np.diff(values) < 0).all()
    assert values[0] == 1
    assert values[255] == 0
    np.testing.assert_array_equal(scale_octets(values.astype(np.float64)), octets)
    np.testing.assert_array_equal(values, values.astype(np.float16))


def test_rounding_costs_what_it_says():
    scales = np.exp2(-np.random.default_rng(1).random(20000) * 7.9)
    relative = scale_values(scale_octets(scales)) / scales - 1
    assert 0.9 * ROUNDING < (relative**2).mean() < 1.1 * ROUNDING
    assert np.abs(relative).max() < 2 ** (1 / 64) - 1 + 2.0**-10


def test_ends():
    np.testing.assert_array_equal(
        scale_octets(np.array([2.0, 0.0, -1.0, LOWEST, 1e-9])), [0, 255, 255, 254, 254]
    )


def test_floats_are_themselves():
    for dtype in (np.float16, np.float32):
        np.testing.assert_array_equal(
            scale_values(np.array([-2, 0.5], dtype)), np.array([-2, 0.5], np.float32)
        )
