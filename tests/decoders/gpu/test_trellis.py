"""Kernels of trellis tensors, their own text run on the CPU, against the numpy reference."""

from __future__ import annotations

import functools

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
    ("binary", 3, "F32"),
    ("decode", 5, "F32"),
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
    check_product(y, encoded, x, dtype, rounded=dtype if algorithm == "decode" else None)


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
