"""Settings of the quality benchmark, without its model: what they are, what they make of a weight, what they count."""

from __future__ import annotations

import numpy as np
import pytest

import xorpack
from benchmarks.quality.incoherence import rotation
from benchmarks.quality.setting import Setting


def test_a_setting_is_read():
    setting = Setting.parse("trellis:rate=2.5,column_gains=True,scale_dtype='float16',rotate=True")
    assert setting.options == {"rate": 2.5, "column_gains": True, "scale_dtype": "float16"}
    assert setting.rotate
    assert Setting.parse("dense").options == {}


@pytest.mark.parametrize(
    ("text", "why"), [("gptq:bits=4", "gptq"), ("bcq:bits", "NAME=VALUE"), ("bcq:bits=x", "'x' is no value")]
)
def test_what_is_no_setting_is_refused(text, why):
    with pytest.raises(ValueError, match=why):
        Setting.parse(text)


@pytest.mark.parametrize("n", [1, 9, 64, 96, 576, 1536])
def test_the_rotation_is_orthogonal_and_spreads(n):
    turn = rotation(n).astype(np.float64)
    assert np.allclose(turn @ turn.T, np.eye(n), atol=1e-5)
    assert np.abs(turn).max() <= np.sqrt(2 / n) + 1e-6 or n == 1


@pytest.mark.parametrize("extra", ["", ",rotate=True"])
def test_a_setting_counts_every_section(extra):
    weight = np.random.default_rng(3).standard_normal((160, 96)).astype(np.float32)
    decoded, n_bytes = Setting.parse("trellis:rate=3,window=9" + extra).apply(weight, 1)
    assert ((decoded - weight) ** 2).mean() < 0.04
    assert 3 * weight.size / 8 < n_bytes < 3.4 * weight.size / 8
    if not extra:
        tensor = xorpack.quantize(weight, method="trellis", rate=3, window=9)
        assert np.array_equal(tensor.dequantize(), decoded)
    assert Setting.parse("dense").apply(weight, 1)[1] == 4 * weight.size
