"""Products on the CPU: what a float64 product of the decoded weights gives, within float32 rounding."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import replace

import ml_dtypes
import numpy as np
import pytest
from gpu_cases import BCQ, LOSSLESS, TRELLIS
from gpu_cases import products as wide_products
from samples import bcq, pruned

import xorpack
from xorpack.decoders import cpu, products, reference
from xorpack.decoders.products import fused, planes, trellis
from xorpack.errors import FormatError, ParameterError
from xorpack.product import PRECISIONS

QUANTIZED = {**BCQ, **TRELLIS}
EPSILON = 2.0**-24
TINY = 2.0**-126


def x_of(encoded, n=3, seed=0):
    return np.random.default_rng([seed, n, encoded.cols]).standard_normal((n, encoded.cols), np.float32)


def check(y, encoded, x):
    """Four roundings of the magnitudes for each doubling of the columns, and as much for scales and planes."""
    wanted, sizes = wide_product(encoded, x)
    assert y.shape == wanted.shape
    depth = 8 + 4 * np.log2(encoded.cols + 2) ** 0.5
    bound = depth * EPSILON * sizes + TINY * (1 + np.abs(x).sum(axis=-1, keepdims=True))
    error = np.abs(y - wanted)
    assert (error <= bound).all(), f"{float((error / bound).max())} times the bound"


def wide_product(encoded, x):
    if encoded.kind != "lossless":
        return wide_products(encoded, x)
    weights = reference.decode_dense(encoded).astype(np.float64)
    wide = x.astype(np.float64)
    return wide @ weights.T, np.abs(wide) @ np.abs(weights).T


@pytest.mark.parametrize("name", QUANTIZED)
def test_quantized(name, monkeypatch):
    monkeypatch.setattr(fused, "LEAST_PRODUCTS", 1)
    encoded = QUANTIZED[name]()
    product, x = encoded.product(), x_of(encoded)
    whole = product.matmul(x)
    assert whole.dtype == np.float32
    check(whole, encoded, x)
    one = product.matvec(x[1])
    assert one.shape == (encoded.rows,)
    check(one[None], encoded, x[1:2])
    for jobs in (2, 3, 5):
        assert product.matmul(x, jobs=jobs).tobytes() == whole.tobytes()
        assert product.matvec(x[1], jobs=jobs).tobytes() == one.tobytes()


@pytest.mark.parametrize("name", QUANTIZED)
def test_activations_of_8_bits(name, monkeypatch):
    """Rounding costs half a step of each; what is whole steps is exact."""
    monkeypatch.setattr(fused, "LEAST_PRODUCTS", 1)
    encoded = QUANTIZED[name]()
    product, x = encoded.product(), x_of(encoded)
    gains = getattr(encoded.elements, "gains", None)
    gained = np.abs(x) if gains is None else np.abs(x * gains.astype(np.float32))
    wanted, sizes = wide_product(encoded, x)
    rounding = wide_product(encoded, np.ones_like(x))[1] * gained.max(axis=1, initial=0, keepdims=True) / 254
    if gains is not None:  # half a step, by weights before gains
        with np.errstate(divide="ignore"):
            inverse = 1 / np.abs(gains.astype(np.float32))
        inverse[np.isinf(inverse)] = 0
        rounding = (
            wide_product(encoded, inverse * np.ones_like(x))[1] * gained.max(axis=1, keepdims=True) / 254
        )
    y = product.matmul(x, precision="int8")
    assert (np.abs(y - wanted) <= 1.001 * rounding + 1e-5 * sizes + 1e-30).all()
    assert product.matmul(x, precision="int8", jobs=2).tobytes() == y.tobytes()
    if gains is None and encoded.cols > 1:
        whole = np.rint(x * 30).clip(-127, 127)
        whole[:, 0] = 127
        check(product.matmul(whole, precision="int8"), encoded, whole)


def test_8_bits_of_what_is_not_fused():
    encoded = xorpack.encode(pruned((70, 300), 0.7))
    x = x_of(encoded)
    steps = np.abs(x).max(axis=1, keepdims=True) / np.float32(127)
    y = encoded.matmul(x, precision="int8")
    assert np.allclose(y, encoded.matmul(np.rint(x / steps) * steps), rtol=1e-5, atol=1e-3)
    assert not np.allclose(y, encoded.matmul(x), rtol=1e-5, atol=1e-3)
    x[1, 5] = np.nan
    assert np.isnan(encoded.matmul(x, precision="int8")[1]).all()


@pytest.mark.parametrize("name", [name for name in LOSSLESS if "hostile" not in name])
def test_lossless(name):
    encoded = LOSSLESS[name]()
    x = x_of(encoded)
    check(encoded.matmul(x), encoded, x)
    check(encoded.matvec(x[0])[None], encoded, x[:1])
    assert encoded.matmul(x, jobs=2).tobytes() == encoded.matmul(x).tobytes()


@pytest.mark.parametrize("dtype", [np.float32, ml_dtypes.bfloat16], ids=str)
def test_weights_that_are_nan_or_infinite(dtype):
    encoded = LOSSLESS[f"hostile {np.dtype(dtype).name}"]()
    x = x_of(encoded)
    with np.errstate(all="ignore"):
        wanted = x @ cpu.decode_dense(encoded).astype(np.float32).T
    y = encoded.matmul(x)
    assert np.array_equal(np.isnan(y), np.isnan(wanted))
    assert np.isnan(y).any()


TILED = {
    *("empty", "no columns", "all pruned", "trellis, empty", "trellis, no columns", "trellis, all pruned"),
    *("raw", "trellis, groups"),  # groups of 100 columns
    "packed, all pruned",
}


def test_what_is_not_fused():
    """Tensors whose groups of columns are no whole words, or that keep nothing."""
    found = {name for name, make in QUANTIZED.items() if make().product()._rows is None}
    assert found == TILED


@pytest.mark.parametrize("name", ["unrolled, half", "trellis, groups of half a panel", "lossless int8"])
def test_many_rows_of_x(name, monkeypatch):
    """More than are multiplied without weights; and so many that their tables take turns."""
    encoded = (QUANTIZED | LOSSLESS)[name]()
    x = x_of(encoded, products.MAX_FUSED + 1)
    product = encoded.product()
    check(product.matmul(x), encoded, x)
    few = product.matmul(x[:7])
    check(few, encoded, x[:7])
    monkeypatch.setattr(fused, "CACHED_TABLES", 3 * 16 * encoded.cols)
    assert product.matmul(x[:7]).tobytes() == few.tobytes()


@pytest.mark.parametrize(
    "name",
    [
        "small",
        "constant planes",
        "16 lanes of 18",
        "packed, odd",
        "packed, one column",
        "trellis, period",
        "trellis, bitmap",
    ],
)
def test_kernels_in_plain_python(name, monkeypatch):
    encoded = QUANTIZED[name]()
    product, x = encoded.product(), x_of(encoded, 2)
    wanted = [product.matmul(x, precision=precision).tobytes() for precision in PRECISIONS]
    monkeypatch.setattr(planes, "planes_kernel", planes.planes_kernel.py_func)
    monkeypatch.setattr(trellis, "trellis_kernel", trellis.trellis_kernel.py_func)
    monkeypatch.setattr(trellis, "outliers_kernel", trellis.outliers_kernel.py_func)
    monkeypatch.setattr(fused, "tables_kernel", fused.tables_kernel.py_func)
    monkeypatch.setattr(fused, "short_tables_kernel", fused.short_tables_kernel.py_func)
    assert [product.matmul(x, precision=precision).tobytes() for precision in PRECISIONS] == wanted


@pytest.mark.parametrize("rows", [15, 65, 130, 1000])
@pytest.mark.parametrize("rate", [1, 1.5, 3])
def test_threads_do_not_change_a_trellis_product(rows, rate, monkeypatch):
    monkeypatch.setattr(fused, "LEAST_PRODUCTS", 1)
    weight = pruned((rows, 70), 0)
    weight[rows // 2, 3] = 99
    product = xorpack.encode(xorpack.quantize(weight, method="trellis", rate=rate, outliers=3)).product()
    x = np.random.default_rng(4).standard_normal((5, 70), np.float32)
    wanted = product.matmul(x).tobytes()
    for jobs in (2, 3, 5, 300):
        for _ in range(5):
            assert product.matmul(x, jobs=jobs).tobytes() == wanted


def test_few_products_are_not_shared(monkeypatch):
    """What is shared pays for the threads."""
    asked = []

    def helped(n):
        asked.append(n)
        return nullcontext((0, np.zeros(64, np.int64)))

    monkeypatch.setattr(fused, "helped", helped)
    encoded = xorpack.encode(bcq((130, 100), 0.7, 2))  # 9 units of 16 rows
    product = encoded.product()
    for least, n in ((13001, 1), (13000, 1), (13000, 2), (1, 1), (1, 3)):
        monkeypatch.setattr(fused, "LEAST_PRODUCTS", least)
        product.matmul(np.ones((n, 100), np.float32), jobs=30)
    assert asked == [1, 2, 2]  # 13000 of one row, or fewer, are not shared


CASES = {
    "bcq": lambda: xorpack.encode(bcq((70, 300), 0.7, 2)),
    "trellis": lambda: TRELLIS["trellis, odd"](),
    "lossless": lambda: xorpack.encode(pruned((70, 300), 0.7)),
}


@pytest.fixture(params=CASES)
def case(request):
    return CASES[request.param]()


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 3e38])
def test_x_that_is_nan_or_infinite_gives_what_a_dense_product_gives(case, value):
    x = x_of(case)
    x[1, case.cols // 2] = value
    dense = np.zeros((case.rows, case.cols), np.float32)
    product = case.product()
    for c in range(case.cols):
        dense[:, c] = product.matvec(np.eye(1, case.cols, c, dtype=np.float32)[0])
    with np.errstate(all="ignore"):
        wanted = x @ dense.T
    y = product.matmul(x)
    assert np.array_equal(np.isnan(y), np.isnan(wanted))
    assert np.array_equal(np.isposinf(y), np.isposinf(wanted))
    assert np.array_equal(np.isneginf(y), np.isneginf(wanted))
    check(y[[0, 2]], case, x[[0, 2]])


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16, np.float64], ids=str)
def test_x_of_other_types(case, dtype):
    x = x_of(case).astype(dtype)
    assert case.matmul(x).tobytes() == case.matmul(x.astype(np.float32)).tobytes()


def test_x_of_any_layout(case):
    x = x_of(case, 4)
    wanted = case.matmul(x).tobytes()
    wide = np.zeros((4, 2 * case.cols), np.float32)
    wide[:, ::2] = x
    still = x.copy()
    still.flags.writeable = False
    for other in (wide[:, ::2], np.asfortranarray(x), x[::-1].copy()[::-1], still):
        assert case.matmul(other).tobytes() == wanted


def test_no_rows_of_x(case):
    assert case.matmul(np.zeros((0, case.cols), np.float32)).shape == (0, case.rows)


@pytest.mark.parametrize("dtype", [np.float32, np.float16, ml_dtypes.bfloat16, np.float64], ids=str)
def test_out_is_written_and_returned(case, dtype):
    x = x_of(case)
    y = case.matmul(x)
    wide = np.zeros((3, 2 * case.rows), dtype)
    out = wide[:, ::2]
    assert case.matmul(x, out=out) is out
    assert out.tobytes() == y.astype(dtype).tobytes()
    assert not wide[:, 1::2].any()


def test_bad_arguments_are_named(case):
    x, product = x_of(case), case.product()
    y = np.zeros((3, case.rows), np.float32)
    for what, call in {
        r"x of shape \(3, \d+\) is not": lambda: product.matmul(x[:, 1:]),
        r"x of shape \(1, 3, \d+\) is not": lambda: product.matmul(x[None]),
        r"x of shape \(\) is not": lambda: product.matmul(np.float32(1)),
        "use matmul": lambda: product.matvec(x),
        "x of type complex64 is not float32": lambda: product.matmul(x.astype(np.complex64)),
        "x of type int64 is not float32": lambda: product.matmul(x.astype(np.int64)),
        "x of type bool is not float32": lambda: product.matmul(x > 0),
        "precision 'int4' is not one of": lambda: product.matmul(x, precision="int4"),
        "jobs = 0 is less than 1": lambda: product.matmul(x, jobs=0),
        "jobs = -1 is less than 1": lambda: case.product(jobs=-1),
        r"out of shape \(3, \d+\) is not": lambda: product.matmul(x, out=y[:, 1:]),
        "out of type int32 is not an array": lambda: product.matmul(x, out=y.astype(np.int32)),
        "out of type list is not an array": lambda: product.matmul(x, out=[]),
        "out is read-only": lambda: product.matmul(x, out=np.broadcast_to(y[:1], y.shape)),
    }.items():
        with pytest.raises(ParameterError, match=what):
            call()
    assert not y.any()


def test_out_does_not_overlap_x():
    encoded = xorpack.encode(bcq((40, 40), 0.5, 2))
    x = x_of(encoded, 5)
    with pytest.raises(ParameterError, match="out overlaps x"):
        encoded.matmul(x[1:4], out=x[:3])


def test_a_tensor_that_contradicts_itself_is_refused():
    encoded = xorpack.encode(bcq((40, 40), 0.0, 2))
    wrong = replace(encoded, planes=replace(encoded.planes, n_kept=encoded.n_kept - 1))
    with pytest.raises(FormatError, match="the mask keeps 1600 weights, not 1599"):
        wrong.product()
