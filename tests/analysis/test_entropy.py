"""Empirical entropies against counts made the slow way."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest
from samples import bcq, hostile

import xorpack
from xorpack.analysis.bounds import binary_entropy
from xorpack.analysis.counting_kernels import count_symbols
from xorpack.analysis.entropy import entropy_of_counts
from xorpack.analysis.inspect import element_entropies, plane_entropies, row_blocks, sample_blocks
from xorpack.code import dense, words
from xorpack.tensors import as_matrix


@pytest.mark.parametrize("shape", [(64, 64), (3, 33), (1, 7), (17, 1025)])
@pytest.mark.parametrize("bits", [1, 3])
def test_symbols_of_quantized_planes(shape, bits) -> None:
    tensor = bcq(shape, 0.5, bits)
    _, cols = as_matrix(shape)
    kept = words.unpack(tensor.mask, cols)
    symbols = sum(words.unpack(p, cols)[kept].astype(int) << k for k, p in enumerate(tensor.planes))
    counts = np.bincount(symbols, minlength=1 << bits)
    found = np.zeros(1 << bits, np.int64)
    flat = tensor.planes.reshape(bits, -1)
    for kernel in (count_symbols, count_symbols.py_func):
        found[:] = 0
        kernel(tensor.mask.reshape(-1), flat, found)
        assert (found == counts).all()
    entropies = plane_entropies(xorpack.encode(tensor))
    assert entropies.n_sampled == kept.sum()
    assert np.isclose(entropies.symbol.value, entropy_of_counts(counts).value)
    for share, plane in zip(entropies.ones, tensor.planes, strict=True):
        assert np.isclose(share, words.popcount(plane) / kept.sum())


@pytest.mark.parametrize("dtype", [np.float32, np.float16, ml_dtypes.bfloat16, np.int8, np.uint8])
def test_planes_of_elements_and_of_their_encoding_are_the_same(dtype) -> None:
    array = hostile(dtype)
    found = element_entropies(array)
    assert found == plane_entropies(xorpack.encode(array))
    mask, planes = dense.split_planes(array)
    for k, share in enumerate(found.ones):
        assert np.isclose(share, words.popcount(planes[k]) / words.popcount(mask))
        assert found.planes[k] == binary_entropy(found.ones[k])
    assert found.symbol.value <= found.separate + 0.35  # few weights: a bias is left


def test_nothing_kept() -> None:
    found = element_entropies(np.zeros((5, 40), np.float32))
    assert found.n_sampled == 0
    assert found.symbol.value == found.separate == 0


def test_exponent_planes_of_trained_floats_are_far_below_one_bit() -> None:
    weight = np.random.default_rng(0).standard_normal((512, 512), np.float32) * np.float32(0.04)
    found = element_entropies(weight)
    exponent = found.planes[23:31]
    assert sum(exponent) < 4
    assert max(found.planes[:20]) > 0.999
    assert 23 + 1 + 2 < found.symbol.value < found.separate < 32


def test_the_estimate_corrects_the_bias_of_a_sample() -> None:
    rng = np.random.default_rng(1)
    errors = [
        entropy_of_counts(np.bincount(rng.integers(0, 64, 500), minlength=64)).value - 6 for _ in range(200)
    ]
    plain = (64 - 1) / (2 * 500 * np.log(2))
    assert abs(np.mean(errors)) < plain / 5


@pytest.mark.parametrize("rows", [1, 7, 8, 9, 100, 1000])
def test_blocks_cover_and_samples_stay_inside(rows: int) -> None:
    cols = 300
    covered = [r for first, last in row_blocks(rows, cols, 2000) for r in range(first, last)]
    assert covered == list(range(rows))
    taken = [r for first, last in sample_blocks(rows, cols, 20 * cols) for r in range(first, last)]
    assert len(set(taken)) == len(taken) <= max(24, rows if rows < 8 else 0)
    assert set(taken) <= set(range(rows))


@pytest.mark.parametrize("n", [1, 5, 4096, 4097])
def test_symbols_of_32_planes_are_counted_whole_where_they_are_few(n) -> None:
    """Low planes that follow from the upper ones: one by one, they would seem to cost more than they do."""
    values = np.random.default_rng(n).choice(1 << 32, n, replace=False).astype(np.uint32) | np.uint32(1)
    array = np.concatenate([np.resize(values, (3, 3 * n)), np.zeros((2, 3 * n), np.uint32)]).view(np.float32)
    found = element_entropies(array)
    counts = np.unique(array.view(np.uint32)[:3], return_counts=True)[1]
    if n <= 4096:
        assert found.symbol == entropy_of_counts(counts)
        assert found.symbol.value <= np.log2(n) + 1e-9
    else:
        assert found.symbol.value > np.log2(n) + 10
    assert plane_entropies(xorpack.encode(array)) == found
