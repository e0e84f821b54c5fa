"""Masks against a stable sort: exact counts, ties, zeros, one tensor and many."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from xorpack.code.words import pack, popcount, unpack
from xorpack.encoding.quantize import pruning, pruning_kernels
from xorpack.encoding.quantize.pruning import global_thresholds, magnitude_mask, zeros_mask
from xorpack.errors import DataError, ParameterError

FLOATS = [np.dtype(np.float32), np.dtype(np.float16), np.dtype(ml_dtypes.bfloat16)]

quick = settings(derandomize=True, deadline=None, max_examples=60)


def oracle(weight: NDArray[Any], sparsity: float) -> NDArray[np.bool_]:
    """Kept weights (flat): sort by magnitude, among equals the later position first."""
    magnitude = np.abs(weight.astype(np.float64)).reshape(-1)
    order = np.lexsort((-np.arange(magnitude.size), magnitude))
    kept = np.ones(magnitude.size, np.bool_)
    kept[order[: round(sparsity * magnitude.size)]] = False
    return kept & (magnitude > 0)


def bits_of(mask: NDArray[np.uint32], weight: NDArray[Any]) -> NDArray[np.bool_]:
    """A packed mask as bits of the weight's size, after a look at the bits past the last column."""
    cols = weight.shape[1]
    bits = unpack(mask, cols)
    assert np.array_equal(pack(bits), mask)
    return bits.reshape(-1)


@quick
@given(
    st.integers(0, 2**32 - 1),
    st.integers(1, 7),
    st.integers(1, 70),
    st.sampled_from([0.0, 0.1, 0.5, 0.77, 0.9, 0.999]),
    st.sampled_from(FLOATS),
    st.sampled_from([1, 3, 40, 10**6]),
)
def test_exactly_the_least_are_pruned(
    seed: int, rows: int, cols: int, sparsity: float, dtype: np.dtype[Any], distinct: int
) -> None:
    rng = np.random.default_rng(seed)
    weight = (rng.integers(-distinct, distinct, (rows, cols)) / distinct * 3).astype(dtype)
    mask = magnitude_mask(weight, sparsity)
    assert np.array_equal(bits_of(mask, weight), oracle(weight, sparsity))


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
def test_magnitudes_of_every_size(dtype: np.dtype[Any]) -> None:
    every = np.arange(1 << 16, dtype=np.uint16)
    weight = (
        (every.astype(np.uint32) << 16 | 0x1234).view(np.float32)
        if dtype == np.float32
        else every.view(dtype)
    )
    weight = weight[np.isfinite(weight.astype(np.float32))]
    weight = np.random.default_rng(1).permutation(weight).reshape(8, -1)
    for sparsity in (0.0, 0.01, 0.3, 0.9):
        assert np.array_equal(bits_of(magnitude_mask(weight, sparsity), weight), oracle(weight, sparsity))


def test_zeros_of_both_signs_are_pruned_even_beyond_the_count() -> None:
    weight = np.array([[0.0, -0.0, 1e-45, -2.0, 0.0]], np.float32)
    for mask in (zeros_mask(weight), magnitude_mask(weight, 0.2), magnitude_mask(weight, 0.6)):
        assert mask.tolist() == [[0b01100]]
    assert magnitude_mask(weight, 0.8).tolist() == [[0b01000]]
    cut = global_thresholds([weight], 0.2)
    assert (cut.n_weights, cut.n_pruned) == (5, 3)


def test_of_equal_weights_the_later_are_pruned() -> None:
    weight = np.array([[1, -1, 1], [-1, 1, 5]], np.float32)
    assert magnitude_mask(weight, 0.5).tolist() == [[0b011], [0b100]]
    assert magnitude_mask(weight, 0.4).tolist() == [[0b111], [0b100]]


def test_the_count_rounds_halves_to_even() -> None:
    weight = np.arange(1, 6, dtype=np.float32).reshape(1, 5)
    assert popcount(magnitude_mask(weight, 0.5)) == 3
    assert popcount(magnitude_mask(weight, 0.3)) == 3
    assert popcount(magnitude_mask(weight, 0.7)) == 1


@quick
@given(
    st.integers(0, 2**32 - 1),
    st.integers(1, 5),
    st.sampled_from([0.0, 0.3, 0.5, 0.95]),
    st.sampled_from([1, 4, 1000]),
)
def test_global_is_one_long_tensor(seed: int, n_tensors: int, sparsity: float, distinct: int) -> None:
    rng = np.random.default_rng(seed)
    tensors = []
    for _ in range(n_tensors):
        shape = (int(rng.integers(0, 4)), int(rng.integers(1, 50)))
        tensors.append((rng.integers(-distinct, distinct, shape) / distinct).astype(rng.choice(["f2", "f4"])))
    cut = global_thresholds(tensors, sparsity)
    flat = np.concatenate([tensor.reshape(-1).astype(np.float32) for tensor in tensors])
    kept = np.concatenate([bits_of(cut.mask(i, tensor), tensor) for i, tensor in enumerate(tensors)])
    assert np.array_equal(kept, oracle(flat, sparsity))
    assert (cut.n_weights, cut.n_pruned) == (flat.size, int((~kept).sum()))
    loaders = [lambda tensor=tensor: tensor for tensor in tensors]
    assert global_thresholds(loaders, sparsity) == cut
    assert global_thresholds(lambda: iter(tensors), sparsity) == cut


def test_weights_that_cannot_be_iterated_twice_are_refused() -> None:
    tensors = [np.ones((2, 3), np.float32), np.ones((1, 4), np.float32)]
    with pytest.raises(ParameterError, match=r"2 tensors of 10 weights, then 0 of 0; .* iterable twice"):
        global_thresholds(iter(tensors), 0.5)


def test_no_tensors_and_empty_tensors() -> None:
    assert global_thresholds([], 0.5).n_weights == 0
    for shape in ((0, 5), (5, 0)):
        weight = np.zeros(shape, np.float32)
        assert magnitude_mask(weight, 0.5).shape == zeros_mask(weight).shape == (shape[0], -(-shape[1] // 32))


@pytest.mark.parametrize("sparsity", [-0.1, 1.0, 1.5, float("nan"), float("inf")])
def test_sparsity_out_of_range(sparsity: float) -> None:
    with pytest.raises(ParameterError, match=rf"sparsity = {sparsity} is outside \[0, 1\)"):
        magnitude_mask(np.ones((1, 1), np.float32), sparsity)


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
@pytest.mark.parametrize(("value", "text"), [(np.nan, "nan"), (np.inf, "inf"), (-np.inf, "-inf")])
def test_what_is_not_finite_is_named_with_its_position(
    dtype: np.dtype[Any], value: float, text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pruning, "BLOCK_ELEMENTS", 64)
    weight = np.ones((9, 33), dtype)
    weight[7, 5:] = value
    weight[8, 0] = np.nan
    for call in (zeros_mask, lambda w: magnitude_mask(w, 0.5), lambda w: global_thresholds([w], 0.5)):
        with pytest.raises(DataError, match=rf"is {text} at flat position {7 * 33 + 5}$"):
            call(weight)
    with pytest.raises(DataError, match=r"^weights\[1\] is"):
        global_thresholds([weight[:2], weight], 0.5)


@pytest.mark.parametrize("call", [zeros_mask, lambda w: magnitude_mask(w, 0.5)])
def test_other_dtypes_are_refused(call: Any) -> None:
    with pytest.raises(ParameterError, match="float64; cast it"):
        call(np.ones((2, 2)))
    with pytest.raises(ParameterError, match="int8"):
        call(np.ones((2, 2), np.int8))


@pytest.mark.parametrize("block", [1, 50, 1 << 18])
def test_blocks_strides_and_shapes_do_not_matter(block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pruning, "BLOCK_ELEMENTS", block)
    rng = np.random.default_rng(5)
    weight = rng.integers(-4, 5, (6, 80)).astype(np.float32)
    weight.flags.writeable = False
    expected = pack(oracle(weight, 0.6).reshape(6, 80))
    assert np.array_equal(magnitude_mask(weight, 0.6), expected)
    assert np.array_equal(magnitude_mask(np.asfortranarray(weight), 0.6), expected)
    assert np.array_equal(magnitude_mask(weight.reshape(6, 4, 5, 4), 0.6), expected)
    wide = np.zeros((12, 160), np.float32)
    wide[::2, ::-2] = weight
    assert np.array_equal(magnitude_mask(wide[::2, ::-2], 0.6), expected)
    assert np.array_equal(magnitude_mask(weight[0], 0.6)[0], pack(oracle(weight[0], 0.6)))


def test_kernels_run_as_plain_python() -> None:
    rng = np.random.default_rng(6)
    bits = rng.integers(-3, 4, (3, 37)).astype(np.float32).view(np.uint32)
    one = int(np.float32(1).view(np.uint32))
    results = []
    for plain in (False, True):
        high, low, nonfinite, keep = (
            kernel.py_func if plain else kernel
            for kernel in (
                pruning_kernels.high_kernel,
                pruning_kernels.low_kernel,
                pruning_kernels.nonfinite_kernel,
                pruning_kernels.mask_kernel,
            )
        )
        counts = np.zeros((2, 1 << 16), np.int64)
        mask = np.empty((3, 2), np.uint32)
        zeros = high(bits, counts[0])
        low(bits, one >> 16, counts[1])
        left = keep(bits, one, 2, mask)
        bad = np.array([0x12345678, 0xFF800001], np.uint32)
        results.append(
            (
                int(zeros),
                counts.tolist(),
                int(left),
                mask.tolist(),
                int(nonfinite(bad)),
                int(nonfinite(bad[:1])),
            )
        )
    assert results[0] == results[1]
    assert results[0][4:] == (1, -1)
