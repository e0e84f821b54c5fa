"""Laws of the quantizer, each with an oracle in plain numpy."""

from __future__ import annotations

import itertools
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from xorpack.code.words import pack, unpack
from xorpack.encoding.quantize import bcq_kernels, pruning
from xorpack.encoding.quantize.bcq import quantize
from xorpack.encoding.quantize.pruning import magnitude_mask
from xorpack.errors import DataError, ParameterError
from xorpack.tensors import BCQTensor, as_matrix

FLOATS = [np.dtype(np.float32), np.dtype(np.float16), np.dtype(ml_dtypes.bfloat16)]

quick = settings(derandomize=True, deadline=None, max_examples=50)


def normal(shape: Any, seed: int = 1, dtype: Any = np.float32) -> NDArray[Any]:
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


def unpacked(tensor: BCQTensor) -> tuple[NDArray[np.bool_], NDArray[np.int8]]:
    """Mask (rows, cols) and signs (q, rows, cols) in {-1, 0, 1}; don't-care bits must be 0."""
    cols = as_matrix(tensor.shape)[1]
    mask, planes = unpack(tensor.mask, cols), unpack(tensor.planes, cols)
    assert np.array_equal(pack(mask), tensor.mask)
    assert np.array_equal(pack(planes), tensor.planes)
    assert not (planes & ~mask).any()
    return mask, np.where(planes, 1, -1).astype(np.int8) * mask


def columns_alphas(tensor: BCQTensor) -> NDArray[np.float32]:
    """The alphas of every weight, float32 (q, rows, cols)."""
    cols = as_matrix(tensor.shape)[1]
    group = np.arange(cols) // (tensor.group_size or max(cols, 1))
    return np.moveaxis(tensor.scales.astype(np.float32)[:, group], 2, 0)


def dequantized(tensor: BCQTensor) -> NDArray[np.float32]:
    """The formula: float32 sums, plane by plane; +0 where pruned."""
    mask, signs = unpacked(tensor)
    total = np.zeros(mask.shape, np.float32)
    for alpha, sign in zip(columns_alphas(tensor), signs, strict=True):
        total = total + alpha * sign.astype(np.float32)
    return np.where(mask, total, np.float32(0))


def squared_error(tensor: BCQTensor, weight: NDArray[Any]) -> float:
    rest = weight.reshape(as_matrix(tensor.shape)).astype(np.float64) - dequantized(tensor)
    return float((rest[unpacked(tensor)[0]] ** 2).sum())


def greedy_alphas(values: NDArray[np.float64], bits: int) -> NDArray[np.float64]:
    alphas = np.zeros(bits)
    for k in range(bits):
        alphas[k] = np.abs(values).mean()
        values = values - np.where(values >= 0, alphas[k], -alphas[k])
    return np.sort(alphas)[::-1]


def alternating_alphas(values: NDArray[np.float64], bits: int) -> NDArray[np.float64]:
    alphas = np.zeros(0)
    rest = values
    for k in range(1, bits + 1):
        alphas = np.append(alphas, np.abs(rest).mean())
        signs = np.array(list(itertools.product([-1, 1], repeat=k)))
        before = None
        while before is None or not np.array_equal(before, alphas):
            before = alphas
            codes = signs[np.abs(values[:, None] - signs @ alphas).argmin(1)]
            alphas = np.sort(np.abs(np.linalg.lstsq(codes, values)[0]))[::-1]
        rest = values - (signs @ alphas)[np.abs(values[:, None] - signs @ alphas).argmin(1)]
    return alphas


@pytest.mark.parametrize(
    ("method", "oracle"), [("greedy", greedy_alphas), ("alternating", alternating_alphas)]
)
@pytest.mark.parametrize("bits", [1, 2, 3])
def test_scales_are_those_of_a_plain_quantizer(method: Any, oracle: Any, bits: int) -> None:
    weight = normal((6, 150))
    tensor = quantize(weight, bits=bits, sparsity=0.6, method=method, group_size=75, scale_dtype="float32")
    kept, _ = unpacked(tensor)
    for r, g in itertools.product(range(6), range(2)):
        here = slice(75 * g, 75 * g + 75)
        values = weight[r, here][kept[r, here]].astype(np.float64)
        np.testing.assert_allclose(tensor.scales[r, g], oracle(values, bits), rtol=1e-5)


@quick
@given(
    st.integers(0, 2**32 - 1),
    st.integers(1, 8),
    st.sampled_from([0.0, 0.5, 0.9]),
    st.sampled_from([0, 1, 7, 32, 45]),
    st.sampled_from(["greedy", "alternating"]),
    st.sampled_from(["float16", "float32"]),
    st.sampled_from([2, 10**6]),
)
def test_codes_are_nearest_and_scales_canonical(
    seed: int, bits: int, sparsity: float, group: int, method: Any, scale: Any, distinct: int
) -> None:
    rng = np.random.default_rng(seed)
    weight = (rng.integers(-distinct, distinct + 1, (3, 70)) / distinct).astype(rng.choice(["f2", "f4"]))
    tensor = quantize(
        weight, bits=bits, sparsity=sparsity, group_size=group, method=method, scale_dtype=scale
    )
    mask, _ = unpacked(tensor)
    assert np.array_equal(tensor.mask, magnitude_mask(weight, sparsity))
    assert (tensor.scales >= 0).all()
    assert (np.diff(tensor.scales, axis=2) <= 0).all()
    alphas = columns_alphas(tensor)
    best = np.full(weight.shape, np.inf)
    for signs in itertools.product([-1, 1], repeat=bits):
        level = np.zeros(weight.shape, np.float32)
        for sign, alpha in zip(signs, alphas, strict=True):
            level += np.float32(sign) * alpha
        best = np.minimum(best, np.abs(weight.astype(np.float64) - level))
    rest = np.abs(weight.astype(np.float64) - dequantized(tensor))
    assert np.array_equal(rest[mask], best[mask])


@pytest.mark.parametrize("bits", [1, 2, 3, 5, 8])
@pytest.mark.parametrize("group", [0, 12])
def test_alternating_ends_at_least_squares(bits: int, group: int) -> None:
    weight = normal((20, 96), seed=bits)
    tensor = quantize(weight, bits=bits, sparsity=0.5, group_size=group, scale_dtype="float32")
    rest = weight * unpacked(tensor)[0] - dequantized(tensor)
    for sign in unpacked(tensor)[1]:
        slope = np.add.reduceat(rest * sign, np.arange(0, 96, group or 96), axis=1)
        assert np.abs(slope).max() < 1e-4


def test_alternating_beats_greedy_and_more_planes_beat_fewer() -> None:
    weight = normal((40, 90), seed=9)
    for group in (0, 6, 30):
        before = np.inf
        for bits in range(1, 9):
            greedy, alternating = (
                [
                    quantize(row, bits=bits, sparsity=0.5, group_size=group, method=method)
                    for row in weight[:, None]
                ]
                for method in ("greedy", "alternating")
            )
            errors = [squared_error(tensor, row) for tensor, row in zip(alternating, weight, strict=True)]
            for ours, tensor, row in zip(errors, greedy, weight, strict=True):
                assert ours <= squared_error(tensor, row) * (1 + 1e-12)
            assert sum(errors) < before
            before = sum(errors)


@quick
@given(
    st.integers(0, 2**32 - 1),
    st.integers(1, 4),
    st.sampled_from(FLOATS),
    st.sampled_from([0, 5, 32, 33, 64, 100]),
)
def test_dequantize_is_the_formula_bit_for_bit(
    seed: int, bits: int, dtype: np.dtype[Any], group: int
) -> None:
    weight = normal((3, 98), seed, dtype)
    tensor = quantize(weight, bits=bits, sparsity=0.4, group_size=group, scale_dtype="float32")
    out = tensor.dequantize()
    assert (out.dtype, out.shape) == (dtype, weight.shape)
    assert out.tobytes() == dequantized(tensor).astype(dtype).tobytes()


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
def test_layout_of_the_input_does_not_matter(dtype: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    weight = normal((6, 4, 5, 3), 3, dtype)
    kept = normal((6, 4, 5, 3), 4) > 0

    def everything(weight: Any, mask: Any, **options: Any) -> bytes:
        t = quantize(weight, mask=mask, bits=3, group_size=7, **options)
        return t.mask.tobytes() + t.planes.tobytes() + t.scales.tobytes()

    expected = everything(weight, kept)
    packed = pack(kept.reshape(6, 60))
    wide = np.zeros((12, 4, 5, 6), dtype)
    wide[::2, ..., ::-2] = weight
    fixed = weight.copy()
    fixed.flags.writeable = False
    assert everything(wide[::2, ..., ::-2], packed) == expected
    assert everything(np.asfortranarray(weight), np.asfortranarray(kept)) == expected
    assert everything(fixed, packed) == everything(weight.astype(np.float32), kept) == expected
    assert everything(weight.reshape(6, 60), packed) == expected
    for block in (1, 130):
        monkeypatch.setattr(pruning, "BLOCK_ELEMENTS", block)
        assert everything(weight, kept, jobs=1) == everything(weight, kept, jobs=2) == expected
        assert everything(wide[::2, ..., ::-2], kept, jobs=3) == expected


@pytest.mark.parametrize(
    "shape", [(), (1,), (40,), (0,), (0, 5), (5, 0), (2, 0, 3), (1, 33), (33, 1), (2, 3, 2, 2)]
)
@pytest.mark.parametrize("kept", ["all", "none", "some"])
def test_shapes(shape: tuple[int, ...], kept: str) -> None:
    weight = np.asarray(normal(shape, 8))
    mask = np.asarray({"all": weight == weight, "none": weight != weight, "some": weight > 0}[kept])
    tensor = quantize(weight, mask=mask, bits=2, group_size=4)
    assert tensor.shape == shape
    assert np.array_equal(tensor.dequantize() != 0, mask)
    if kept == "none":
        assert not tensor.scales.any()


def test_few_values_are_exact() -> None:
    weight = np.array(
        [[0.5, 0, -0.5, 0, 0.5], [3, 1, -1, -3, 0], [0, 0, 0, 0, 0], [0, 7, 0, 0, 0]], np.float32
    )
    tensor = quantize(weight, bits=2)
    assert np.array_equal(tensor.dequantize(), weight)
    assert tensor.scales[:, 0].tolist() == [[0.5, 0], [2, 1], [0, 0], [7, 0]]
    zeros = quantize(np.array([[0.0, -0.0, 1.0]], np.float32), mask=np.ones((1, 3), np.bool_), bits=1)
    assert zeros.planes.tolist() == [[[0b111]]]


def test_the_kernel_runs_as_plain_python() -> None:
    weight, kept = normal((3, 70)), pack(normal((3, 70), 2) > 0)
    results = []
    for kernel in (bcq_kernels.quantize_kernel, bcq_kernels.quantize_kernel.py_func):
        for n_iterations, half in ((100, True), (-1, False)):
            planes, scales = np.full((3, 3, 3), 7, np.uint32), np.full((3, 4, 3), 7, np.float32)
            kernel(weight, 0, kept, 20, n_iterations, half, np.inf, planes, scales)
            results.append(planes.tobytes() + scales.tobytes())
    assert results[:2] == results[2:]


def test_scales_that_float16_cannot_hold() -> None:
    big = np.array([[1, 1], [70000, -70000]], np.float32)
    with pytest.raises(
        DataError, match=r'scale 70000.0 of row 1, group 0 .* 65504; use scale_dtype="float32"'
    ):
        quantize(big, scale_dtype="float16")
    small = np.array([[1, 2], [1e-9, -2e-9]], np.float32)
    with pytest.raises(DataError, match=r'row 1, group 0 is 0, too small for float16.*scale_dtype="float32"'):
        quantize(small, scale_dtype="float16")
    for weight in (big, small):
        assert quantize(weight).scales.dtype == np.float32
        np.testing.assert_allclose(quantize(weight).dequantize(), weight, rtol=1e-6)
        np.testing.assert_allclose(quantize(weight, scale_dtype="float32").dequantize(), weight, rtol=1e-6)


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
@pytest.mark.parametrize("mean", [1.0, 0.6, 0.999])
def test_the_largest_weights_decode_to_finite_ones(dtype: Any, mean: float) -> None:
    largest = float(ml_dtypes.finfo(dtype).max)
    weight = (np.linspace(mean, 1, 50) * largest).astype(dtype).reshape(1, 50)
    for bits in (1, 2, 4):
        tensor = quantize(weight, bits=bits, scale_dtype="float32")
        assert np.isfinite(tensor.dequantize().astype(np.float64)).all()


@pytest.mark.parametrize(
    "options", [{}, {"sparsity": 0.5}, {"mask": np.zeros((4, 3), np.bool_)}, {"jobs": 2}]
)
@pytest.mark.parametrize(("value", "text"), [(np.nan, "nan"), (-np.inf, "-inf")])
def test_what_is_not_finite_is_refused(options: Any, value: float, text: str) -> None:
    weight = normal((4, 3))
    weight[2, 1:] = value
    with pytest.raises(DataError, match=f"weight is {text} at flat position 7$"):
        quantize(weight, **options)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"bits": 0}, "bits = 0 is"),
        ({"bits": 9}, "bits = 9 is"),
        ({"method": "best"}, "method 'best'"),
        ({"scale_dtype": "bfloat16"}, "scale_dtype 'bfloat16'"),
        ({"group_size": -1}, "group_size = -1 is"),
        ({"n_iterations": -1}, "n_iterations = -1 is"),
        ({"jobs": 0}, "jobs = 0 is"),
        ({"sparsity": 1.0}, "sparsity = 1.0 is"),
        ({"sparsity": 0.5, "mask": np.ones((2, 40), np.bool_)}, "exclude one another"),
        ({"mask": np.ones((40, 2), np.bool_)}, r"mask of shape \(40, 2\)"),
        ({"mask": np.ones((2, 40), np.uint8)}, "dtype uint8"),
        ({"mask": np.full((2, 2), 1 << 8, np.uint32)}, "past the last column, 39"),
    ],
)
def test_arguments_are_checked(options: Any, text: str) -> None:
    with pytest.raises(ParameterError, match=text):
        quantize(normal((2, 40)), **options)


def test_float64_is_refused() -> None:
    with pytest.raises(ParameterError, match="float64; cast it"):
        quantize(normal((2, 2)).astype(np.float64))


def test_rows_of_tiny_weights_are_not_lost() -> None:
    weight = normal((64, 256))
    weight[10] *= 1e-8
    weight[11] = 0
    tensor = quantize(weight)
    assert tensor.scales.dtype == np.float32
    error = np.linalg.norm(tensor.dequantize() - weight, axis=1) / np.linalg.norm(weight, axis=1).clip(1e-30)
    assert error[10] < 0.5
    assert not tensor.dequantize()[11].any()
    with pytest.raises(DataError, match=r"scale of row 10, group 0 is .*too small for float16"):
        quantize(weight, scale_dtype="float16")
    weight[10] = 0
    assert quantize(weight).scales.dtype == np.float16
    weight[10] = normal((64, 256))[10] * 2.0**-16  # 2^-18 and above are held to within 2^-7
    assert quantize(weight, bits=1).scales.dtype == np.float16


@pytest.mark.parametrize(
    ("shape", "group_size", "sparsity", "expected"),
    [
        ((8, 512), None, 0, 64), ((8, 512), None, 0.25, 64), ((8, 512), None, 0.35, 128), ((8, 512), None, 0.79, 256),
        ((8, 512), None, 0.8, 0), ((64, 256), None, 0.7, 0), ((64, 64), None, 0, 0), ((64, 65), None, 0, 64),
        ((64, 256), 0, 0, 0), ((64, 256), 512, 0, 512), ((1, 1023), None, 0.8, 0), ((5, 0), None, None, 0),
        ((8, 32, 96), 0, 0, 96), ((8, 32, 96), None, 0.9, 96), ((8, 32, 96), None, 0.5, 96), ((8, 32, 96), 64, 0, 64),
        ((8, 32, 256), None, 0, 64), ((8, 32, 256), 1024, 0, 256), ((8, 32, 3, 3), None, 0, 64),
        ((8, 32, 3, 3), 0, 0, 0), ((8, 64, 9), None, 0.9, 0), ((2, 3, 4, 64), 0, 0, 64),
    ],
)  # fmt: skip
def test_which_columns_share_scales(shape: Any, group_size: Any, sparsity: Any, expected: int) -> None:
    tensor = quantize(normal(shape), bits=1, sparsity=sparsity, group_size=group_size)
    assert tensor.group_size == expected


def test_a_row_of_scales_of_fused_experts_is_a_row_of_one_expert() -> None:
    weight = normal((8, 32, 256)) * np.exp2(np.arange(32, dtype=np.float32) % 7)[None, :, None]
    fused = quantize(weight, bits=2, group_size=0)
    assert fused.scales.shape == (8, 32, 2)
    for expert, own in zip(fused.dequantize(), weight, strict=True):
        assert np.array_equal(expert, quantize(own, bits=2, group_size=0).dequantize())
    error = np.linalg.norm(fused.dequantize() - weight) / np.linalg.norm(weight)
    assert error < 0.36
