"""Kernels of trellis tensors, their own text run on the CPU, against the numpy reference."""

from __future__ import annotations

import functools
from dataclasses import replace

import gpu_cases
import host_device
import numpy as np
import pytest
from gpu_cases import TRELLIS, check_product
from samples import same

from xorpack.decoders import reference
from xorpack.decoders.gpu import products
from xorpack.errors import ParameterError
from xorpack.tensors import DTYPES

pytestmark = pytest.mark.skipif(
    host_device.COMPILER is None, reason="no C++ compiler: kernels are not run on the CPU"
)


@functools.cache
def encoded_case(name):
    return TRELLIS[name]()


@functools.cache
def loaded(name):
    return host_device.load(encoded_case(name))


def activations(n, cols, dtype, seed=0):
    return np.random.default_rng([seed, n, cols]).standard_normal((n, cols)).astype(DTYPES[dtype])


@pytest.mark.parametrize("name", TRELLIS)
def test_decode(name):
    encoded, tensor = encoded_case(name), loaded(name)
    wanted = reference.decode_dense(encoded).reshape(encoded.shape)
    assert same(tensor.decode(), wanted)
    tensor._device.poison()
    assert same(tensor.decode(), wanted)


@pytest.mark.parametrize("dtype", ["F32", "F16", "BF16"])
@pytest.mark.parametrize("name", ["trellis, odd", "trellis, low rate", "trellis, tiny numbers", "trellis"])
def test_decode_to_another_type(name, dtype):
    encoded = encoded_case(name)
    with np.errstate(over="ignore"):
        wanted = reference.decode_dense(encoded).astype(DTYPES[dtype]).reshape(encoded.shape)
    assert same(loaded(name).decode(dtype), wanted)


@pytest.mark.parametrize("name", ["trellis, period", "trellis, block", "trellis, tall"])
def test_any_rows(name):
    """As a product decodes them, tile by tile."""
    encoded, tensor = encoded_case(name), loaded(name)
    wanted = reference.decode_dense(encoded)
    for first, last in ((0, 7), (33, 66), (encoded.rows - 1, encoded.rows)):
        tile = np.zeros((last - first, encoded.cols), wanted.dtype)
        mask = tensor._resident.ready(None)
        tensor._resident.decode(tile.ctypes.data, encoded.dtype, mask, first, last, True, None)
        assert same(tile, np.ascontiguousarray(wanted[first:last]))


PRODUCTS = [
    ("binary", 1, "F16"),
    ("binary", 6, "F32"),
    ("decode", 5, "F32"),
    ("trellis_tiles", 9, "F16"),
    ("trellis_tiles", 20, "BF16"),
    ("wide", 3, "F16"),
]


@pytest.mark.parametrize(("algorithm", "n", "dtype"), PRODUCTS)
@pytest.mark.parametrize("name", TRELLIS)
def test_products(name, algorithm, n, dtype):
    encoded, tensor = encoded_case(name), loaded(name)
    x = activations(n, encoded.cols, dtype)
    reason = products.why_not(algorithm, encoded, n, dtype, 227 << 10)
    if reason:
        with pytest.raises(ParameterError, match="cannot run here"):
            tensor.matmul(x, algorithm=algorithm)
        return
    y = tensor.matmul(x, algorithm=algorithm)
    assert y.shape == (n, encoded.rows)
    check_product(
        y, encoded, x, dtype, rounded=dtype if algorithm in ("decode", "trellis_tiles", "wide") else None
    )


@pytest.mark.parametrize("algorithm", ["tables", "tensor_cores"])
def test_algorithms_of_coded_planes_say_why_not(algorithm):
    x = activations(1, 1056, "F16")
    with pytest.raises(ParameterError, match="one code for all planes"):
        loaded("trellis").matmul(x, algorithm=algorithm)
    with pytest.raises(ParameterError, match="one code for all planes"):
        loaded("trellis").decode_words()


@pytest.mark.parametrize("name", ["trellis", "trellis, row of panels", "trellis, block", "trellis, tall"])
def test_memory_is_what_is_stored(name):
    """Within 1 %, and what lists of outliers take more than their Elias-Fano code: 6 bits each or so."""
    memory = loaded(name).memory()
    n = len(encoded_case(name).trellis(None).positions)
    assert memory["total"] <= 1.01 * memory["stored"] + n + 512


FUSED = ["trellis", "trellis, row of panels", "trellis, odd", "trellis, period", "trellis, even groups"]


@pytest.mark.parametrize("name", FUSED)
def test_same_bits_whatever_the_order_of_threads(name):
    encoded = encoded_case(name)
    x = activations(2, encoded.cols, "F32")
    first = loaded(name).matvec(x, algorithm="binary")
    for options in (
        {"turns": "falling"},
        {"turns": "a warp ahead"},
        {"n_multiprocessors": 1},
        {"n_multiprocessors": 132},
    ):
        other = host_device.load(encoded, **options)
        assert same(other.matvec(x, algorithm="binary"), first)
        other._device.poison()
        assert same(other.matvec(x, algorithm="binary"), first)


@pytest.mark.parametrize("name", FUSED)
def test_activations_of_any_size(name):
    """As exact as sums in float32, also where one activation is far larger than its panel's rest."""
    encoded, rng = encoded_case(name), np.random.default_rng(3)
    x = activations(2, encoded.cols, "F32")
    for factors in ([1e-30, 1.0, 1e30], [1.0, 1e3], [1e-3, 3e33], [1e-37]):
        sized = x * rng.choice(factors, x.shape).astype(np.float32)
        check_product(loaded(name).matvec(sized, algorithm="binary"), encoded, sized, "F32")
    small = -np.abs(x) * np.float32(2.0**-22)
    small[:, 5] = 1
    check_product(loaded(name).matvec(small, algorithm="binary"), encoded, small, "F32")
    check_product(loaded(name).matvec(0 * x, algorithm="binary"), encoded, 0 * x, "F32")


@pytest.mark.parametrize("largest", [1.0, 1.9677734375, 1.96826171875, 1.9999998807907104, 2.0])
def test_digits_hold_the_largest_number(largest):
    encoded = encoded_case("trellis")
    for sign in (-1, 1):
        x = np.full((1, encoded.cols), sign * largest, np.float32)
        check_product(loaded("trellis").matvec(x, algorithm="binary"), encoded, x, "F32")


@pytest.mark.parametrize("name", FUSED)
def test_fast_products(name):
    """Within what rounding of activations explains, ten times as far from exact as the default at least."""
    encoded, tensor = encoded_case(name), loaded(name)
    x = np.clip(activations(3, encoded.cols, "F32"), -2, 2)
    x[:, ::128] = 2
    wanted, sizes = gpu_cases.products(encoded, x)
    error = np.abs(tensor.matvec(x, precision="fast") - wanted)
    exact = np.abs(tensor.matvec(x) - wanted)
    assert (error <= gpu_cases.products(encoded, 0 * x + 2)[1] / 30583 + 2.0**-22 * sizes).all()
    assert np.sqrt((error**2).mean()) > 10 * np.sqrt((exact**2).mean())


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_activations_that_are_not_finite(value):
    encoded = encoded_case("trellis, row of panels")
    x = activations(2, encoded.cols, "F16")
    x[1, 77] = value
    y = loaded("trellis, row of panels").matvec(x, algorithm="binary")
    assert np.isnan(y[1]).all()
    assert np.isfinite(y[0]).all()


def test_out_of_any_type_with_strides():
    encoded, tensor = encoded_case("trellis"), loaded("trellis")
    x = activations(6, encoded.cols + 9, "F16")[::2, : encoded.cols]
    for dtype in ("F32", "F16", "BF16"):
        frame = np.full((3, encoded.rows + 5), 7, DTYPES[dtype])
        out = frame[:, : encoded.rows]
        tensor.matvec(x, out=out)
        before = tensor._device.allocations
        assert tensor.matvec(x, out=out) is out
        assert tensor._device.allocations == before
        check_product(out, encoded, x, dtype)
        assert (frame[:, encoded.rows :] == 7).all()


def test_few_columns_are_fused_and_many_decoded():
    names = {n: [kernel.name for kernel, _ in loaded("trellis").kernels(n)] for n in (1, 8, 9, 128, 129)}
    assert names[1] == names[8] == ["digits", "trellis_product", "trellis_finish"]
    assert names[9] == names[128] == ["trellis_fragments", "trellis_matmul", "trellis_finish"]
    assert names[129] == ["wide_activations", "trellis_wide", "trellis_finish"]
    other = host_device.load(encoded_case("trellis"), warpgroups=False)
    assert [kernel.name for kernel, _ in other.kernels(129)] == ["trellis_decode", "trellis_finish"]
    wide = [kernel.name for kernel, _ in loaded("trellis").kernels(9, "F32")]
    assert wide == ["trellis_decode", "trellis_finish"]
    assert "trellis_product" not in [kernel.name for kernel, _ in loaded("trellis, bitmap").kernels(1)]


@pytest.mark.parametrize("n", [1, 9, 70])
@pytest.mark.parametrize("name", ["trellis", "trellis, odd", "trellis, period"])
def test_tiles_do_not_depend_on_turns_and_launch(name, n):
    """Parts of a sum are as many as the device asks for: the sums differ by float32 rounding, never between turns."""
    encoded = encoded_case(name)
    x = activations(n, encoded.cols, "F16")
    for n_multiprocessors in (1, 40):
        found = []
        for turns in ("rising", "falling", "a warp ahead"):
            tensor = host_device.load(encoded, turns=turns, n_multiprocessors=n_multiprocessors)
            found.append(tensor.matmul(x, algorithm="trellis_tiles"))
        assert same(found[0], found[1])
        assert same(found[0], found[2])
        check_product(found[0], encoded, x, "F16", rounded="F16")


@pytest.mark.parametrize("power", [-90, -20, 12])
def test_tiles_of_tiny_and_large_weights(power):
    """Levels are rounded beside a power of two: float16 has no subnormals of them."""
    encoded = encoded_case("trellis, period")
    x, out = activations(9, encoded.cols, "F16"), np.empty((2, 9, encoded.rows), np.float32)
    a = (encoded.elements.a * np.float32(2.0**power)).astype(np.float32)
    other = replace(
        encoded, elements=replace(encoded.elements, a=a, outliers=np.zeros(0, np.uint8), n_outliers=0)
    )
    plain = replace(encoded, elements=replace(encoded.elements, outliers=np.zeros(0, np.uint8), n_outliers=0))
    for to, tensor in zip(out, (plain, other), strict=True):
        host_device.load(tensor).matmul(x, out=to, algorithm="trellis_tiles")
    assert np.abs(out[0]).max() > 0
    assert same(out[0] * np.float32(2.0**power), out[1])


@pytest.mark.parametrize(
    ("name", "dtype", "why"),
    [
        ("trellis, bitmap", "F16", "some weights are pruned"),
        ("trellis, groups", "F16", "scales change within a row"),
        ("trellis", "F32", "activations are float32"),
    ],
)
def test_what_tiles_do_not_take_says_why(name, dtype, why):
    x = activations(9, encoded_case(name).cols, dtype)
    with pytest.raises(ParameterError, match=why):
        loaded(name).matmul(x, algorithm="trellis_tiles")


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("trellis, bitmap", "weights are pruned"),
        ("trellis, long period", "after 18 rows"),
        ("trellis, groups", "no multiple of 256"),
    ],
)
def test_what_is_not_fused_says_why(name, why):
    x = activations(1, encoded_case(name).cols, "F16")
    with pytest.raises(ParameterError, match=why):
        loaded(name).matvec(x, algorithm="binary")
    with pytest.raises(ParameterError, match="9 columns are more than 8"):
        loaded("trellis").matmul(activations(9, 1056, "F16"), algorithm="binary")
