"""The rate of a tensor's code: near the best of all, found in one try or two."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import xorpack
from xorpack.encoding.rings import rate
from xorpack.encoding.rings.rate import CorrectionCurve


@pytest.fixture
def tried(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Rates, in stored words per lane, that rings were encoded at in search of the best."""
    found: list[int] = []
    encode_ring: Callable[..., Any] = rate.encode_ring

    def counted(network: Any, care: Any, planes: Any, m: int, **how: Any) -> Any:
        found.append(m)
        return encode_ring(network, care, planes, m, **how)

    monkeypatch.setattr(rate, "encode_ring", counted)
    return found


@pytest.mark.parametrize(("shape", "sparsity", "bits"), [
    ((200, 300), 0.9, 2), ((200, 300), 0.5, 1), ((64, 96), 0.3, 4), ((9, 40), 0.5, 2),
])  # fmt: skip
def test_few_tries_find_a_rate_near_the_best(
    shape: tuple[int, int], sparsity: float, bits: int, tried: list[int]
) -> None:
    weight = np.random.default_rng(0).standard_normal(shape, np.float32)
    tensor = xorpack.quantize(weight, bits=bits, sparsity=sparsity)
    found = sum(xorpack.encode(tensor, mask_codec="bitmap").section_bytes().values())
    assert len(set(tried)) <= 2
    best = min(
        sum(xorpack.encode(tensor, mask_codec="bitmap", rate=share).section_bytes().values())
        for share in (1 - sparsity) * np.linspace(0.95, 1.05, 21)
    )
    assert found <= 1.005 * best + 8


def test_a_mask_that_needs_more_is_given_more(tried: list[int]) -> None:
    rng = np.random.default_rng(0)
    mask = np.zeros((256, 512), np.float32)
    mask[:40] = 1  # a few rows hold everything
    weight = rng.standard_normal(mask.shape, np.float32) * mask
    xorpack.encode(xorpack.quantize(weight, bits=2))
    assert len(set(tried)) <= rate.MAX_TRIES
    assert tried[-1] >= tried[0]


@pytest.mark.parametrize("jobs", [1, 3])
def test_tries_that_are_given_up_would_not_have_been_taken(
    monkeypatch: pytest.MonkeyPatch, jobs: int
) -> None:
    given_up, rng = [], np.random.default_rng(3)
    encode_ring: Callable[..., Any] = rate.encode_ring

    def noted(*ring: Any, most: int | None) -> Any:
        try:
            return encode_ring(*ring, most=most)
        except rate.GivenUpError:
            given_up.append(most)
            raise

    tensors = [
        xorpack.quantize(rng.standard_normal(shape, np.float32), bits=bits, sparsity=sparsity)
        for shape, sparsity, bits in [((256, 384), 0.5, 3), ((384, 384), 0.9, 2), ((300, 256), 0.8, 1)]
    ]
    monkeypatch.setattr(rate, "encode_ring", noted)
    found = [xorpack.encode(tensor, jobs=jobs) for tensor in tensors]
    assert given_up
    assert all(most is not None and most > 0 for most in given_up)
    monkeypatch.setattr(rate, "_lost", lambda *_: None)
    for encoded, tensor in zip(found, tensors, strict=True):
        whole = xorpack.encode(tensor, jobs=jobs)
        assert {k: v.tobytes() for k, v in whole.sections().items()} == {
            k: v.tobytes() for k, v in encoded.sections().items()
        }


def test_a_curve_passes_through_what_was_found() -> None:
    curve = CorrectionCurve(2, 20_000, 8, 4000)
    for m, found in ((79, 40), (78, 300), (80, 0), (60, 5000)):
        assert abs(curve.moved(m, found).corrections(m) - max(found, 0.5)) < 0.01 * found + 0.01
    m, bits = curve.best()
    assert bits == min(curve.bits(k, curve.corrections(k)) for k in range(60, 100))
    assert 32 * 8 * m >= 20_000  # never fewer bits than are to be solved
    assert CorrectionCurve(2, 20_000, 8, 40, off=1e9).best()[0] == 40


def test_of_unsolved_bits_those_are_wrong_that_chance_does_not_make_right() -> None:
    for q, share in ((1, 0.5), (2, 0.75), (4, 0.9375)):
        curve = CorrectionCurve(q, 32_000, 10, 4000)
        assert curve.corrections(50) == pytest.approx(share * 16_000)  # half as many bits as are to be solved
