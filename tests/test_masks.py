"""Mask codecs: every mask comes back, by any range of rows."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xorpack import masks, words
from xorpack.errors import FormatError, ParameterError


@pytest.mark.parametrize("name", list(masks.CODECS))
@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    rows=st.integers(0, 40),
    cols=st.integers(0, 130),
    density=st.sampled_from([0.0, 0.3, 1.1]),
    data=st.data(),
)
def test_round_trip(name, rows, cols, density, data):
    mask = words.pack(np.random.default_rng(rows * 131 + cols).random((rows, cols)) < density)
    codec = masks.CODECS[name]
    encoded = codec.encode(mask, cols)
    if encoded is None:
        assert 0 < words.popcount(mask) < rows * cols
        return
    config, stored = encoded
    codec.check(config, stored.size, rows, cols)
    first = data.draw(st.integers(0, rows))
    last = data.draw(st.integers(first, rows))
    assert (codec.decode(config, stored, cols, first, last) == mask[first:last]).all()


def test_the_smallest_is_selected():
    some = words.pack(np.eye(40, dtype=bool))
    assert masks.select(some, 40)[0] == "bitmap"
    assert masks.select(some, 40)[2].size == 200
    assert masks.select(np.zeros_like(some), 40)[0] == "constant"
    assert masks.select(words.pack(np.ones((40, 40), bool)), 40)[0:2] == ("constant", {"value": 1})
    with pytest.raises(ParameterError, match="cannot store"):
        masks.select(some, 40, "constant")


def test_untrusted_configs():
    with pytest.raises(FormatError, match=r"unknown mask codec 'os\.system'"):
        masks.codec("os.system")
    for config in ({}, {"value": 2}, {"value": True}, {"value": 1, "x": 0}):
        with pytest.raises(FormatError, match="needs value 0 or 1"):
            masks.CODECS["constant"].check(config, 0, 3, 3)
    with pytest.raises(FormatError, match="takes 2 bytes, not 3"):
        masks.CODECS["bitmap"].check({}, 3, 3, 4)
    with pytest.raises(FormatError, match="no parameters"):
        masks.CODECS["bitmap"].check({"a": 1}, 2, 3, 4)
