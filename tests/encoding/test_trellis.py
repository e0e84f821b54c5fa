"""Trellis quantization: the search against brute force, the bound, ugly shapes, and what must not matter."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

import xorpack
from xorpack.code.corrections import packed_sizes
from xorpack.code.trellis import TrellisNetwork, expand_reference
from xorpack.code.words import pack, unpack
from xorpack.encoding.quantize import trellis_fit, trellis_fit_kernels, trellis_kernels
from xorpack.encoding.quantize.trellis import quantize_trellis
from xorpack.encoding.quantize.trellis_design import design, exact_rate, kinds
from xorpack.encoding.quantize.trellis_search import Search
from xorpack.errors import DataError, ParameterError
from xorpack.tensors import TrellisTensor


def distortion(weight: np.ndarray, tensor: TrellisTensor) -> float:
    error = weight.astype(np.float64) - tensor.dequantize().astype(np.float64)
    return float((error**2).sum() / (weight.astype(np.float64) ** 2).sum())


def search_of(x: np.ndarray, network: TrellisNetwork, a: list[float], fine: bool = False) -> Search:
    rows, cols = x.shape
    return Search(
        weight=x.astype(np.float32),
        network=network,
        a=np.array(a),
        scales=np.ones((rows, 1)),
        gains=np.ones(cols),
        group=max(cols, 1),
        care=pack(np.ones(x.shape, np.bool_)),
        importance=np.ones((1, cols), np.float32),
        fine=fine,
    )


def errors_of_all_codes(x: np.ndarray, network: TrellisNetwork, a: list[float]) -> np.ndarray:
    """Squared error of one column (rows,) under every column of stored bits."""
    rows = len(x)
    m = network.n_stored(rows)
    n = 1 << m
    bits = (np.arange(n)[None, :] >> np.arange(m)[:, None] & 1).astype(
        np.bool_
    )  # (m, n): a column for each code
    signs = np.where(unpack(expand_reference(network, pack(bits), rows), n), 1.0, -1.0)
    return ((x[:, None] - np.einsum("j,jrn->rn", a, signs)) ** 2).sum(0)


A, TAPS = [0.7, 0.45, 0.3], ((0b1000101, 0b0110010, 0b1011100),)
SEVEN = TrellisNetwork(n_in=1, n_out=1, window=7, taps=TAPS)


@pytest.mark.parametrize("rows", [1, 2, 6, 12])
def test_few_bits_is_exhaustive(rows):
    x = np.random.default_rng(rows).standard_normal((rows, 40))
    code = np.zeros((rows, 2), np.uint32)
    search_of(x, SEVEN, A).run(code, range(2), 1)
    bits = unpack(code, 40)
    for c in range(40):
        chosen = int((bits[:, c] << np.arange(rows)).sum())
        errors = errors_of_all_codes(x[:, c], SEVEN, A)
        assert errors[chosen] == pytest.approx(errors.min(), abs=1e-3)


@pytest.mark.parametrize("rows", [13, 16, 18])
def test_search_is_nearly_brute_force(rows):
    """The start is guessed, the rest exact: many columns reach the least error, on average it is near."""
    x = np.random.default_rng(rows).standard_normal((rows, 32))
    code = np.zeros((rows, 1), np.uint32)
    search_of(x, SEVEN, A).run(code, range(1), 1)
    bits = unpack(code, 32)
    excess = []
    for c in range(32):
        errors = errors_of_all_codes(x[:, c], SEVEN, A)
        excess.append(errors[int((bits[:, c] << np.arange(rows)).sum())] / errors.min())
    assert min(excess) >= 1 - 1e-3
    assert np.mean(np.array(excess) < 1.002) > 0.4
    assert np.mean(excess) < 1.2


@pytest.mark.parametrize(("n_in", "n_out"), [(1, 1), (2, 1), (3, 2), (1, 2)])
def test_path_between_given_ends_is_the_best(n_in, n_out):
    """With both ends fixed the kernel is exact: brute force over all paths, in the kernel's own integers."""
    rng = np.random.default_rng([n_in, n_out])
    network = TrellisNetwork(n_in=n_in, n_out=n_out, window=8, taps=((77, 178, 91),) * n_out)
    rows = -(-10 * n_out // n_in)
    x = rng.standard_normal((rows, 1))
    search = search_of(x, network, A)
    targets = np.clip(np.rint(x[:, 0] * search.unit), -search.limit, search.limit).astype(np.int16)
    n_steps, window = len(search.firsts), network.window
    chosen = np.zeros(n_steps, np.int64)
    stride = (1 << window) // 32 * int(search.new_bits.max())
    scratch = np.empty((2, 32 << 8), np.int16)
    survivors = np.zeros(search.capacity * stride, np.uint32)
    small = np.zeros((3, 8), np.int64)
    state = int(rng.integers(1 << window - int(search.new_bits[0])))
    arguments = (
        targets, np.full(rows, 32767, np.int16), False, False, search.firsts, search.new_bits, search.counts,
        search.tables, search.levels, window, 0, n_steps, search.edge, search.capacity, state, scratch, survivors,
        stride, small[0], small[1].astype(np.int16), small[2].astype(np.int16), chosen,
    )  # fmt: skip
    assert trellis_kernels.run(*arguments)[0] == state
    compiled = chosen.copy()
    chosen[:] = 0
    assert trellis_kernels.run.py_func(*arguments)[0] == state
    np.testing.assert_array_equal(chosen, compiled)
    levels = np.rint(network.levels(np.array(A)) * search.unit).astype(np.int64)

    def cost(path: tuple[int, ...]) -> int | None:
        full, total = state, 0
        for s, bits in enumerate(path):
            new, dropped = int(search.new_bits[s]), int(search.new_bits[(s + 1) % n_steps])
            whole = bits << window - new | full
            for r in range(search.firsts[s], search.firsts[s] + search.counts[s]):
                total += int(targets[r] - levels[r % n_out, whole]) ** 2 >> 16
            full = whole >> dropped
        return total if full == state else None

    paths = itertools.product(*(range(1 << int(n)) for n in search.new_bits))
    found = [c for c in map(cost, paths) if c is not None]
    assert found
    assert cost(tuple(int(b) for b in chosen)) == min(found)


@pytest.mark.parametrize("rows", [9, 14])
def test_kernels_as_plain_python(rows):
    x = np.random.default_rng(rows).standard_normal((rows, 2))
    search = search_of(x, SEVEN, A)
    codes = []
    targets = np.rint(x.T * search.unit).astype(np.int16)
    shares = np.array([[32767] * rows, [9000] * rows], np.int16)
    for kernel in (trellis_kernels.search_kernel, trellis_kernels.search_kernel.py_func):
        code = np.zeros((rows, 1), np.uint32)
        kernel(
            targets, shares, True, False, search.firsts, search.new_bits, search.counts, search.tables, search.levels,
            7, search.edge, search.capacity, code, 0,
        )  # fmt: skip
        codes.append(code)
    np.testing.assert_array_equal(*codes)
    assert codes[0].any()


def test_long_columns_are_decided_in_parts():
    """Fewer survivors than steps: hardly more error than of a search that keeps them all."""
    x = np.random.default_rng(2).standard_normal((700, 32))
    plan = design(exact_rate(1.5), 10)
    whole, parts = np.zeros((2, plan.network.n_stored(700), 1), np.uint32)
    search = search_of(x, plan.network, list(plan.a))
    search.run(whole, range(1), 1)
    assert search.capacity == 700
    search.capacity = 5 * search.edge + 1
    assert search.capacity < len(search.firsts)
    search.run(parts, range(1), 1)
    errors = []
    for code in (whole, parts):
        signs = np.where(unpack(expand_reference(plan.network, code, 700), 32), 1.0, -1.0)
        errors.append(((x - np.einsum("j,jrc->rc", plan.a, signs)) ** 2).sum())
    assert errors[0] < errors[1] < 1.03 * errors[0]


@pytest.mark.parametrize("rate", [0.25, 0.5, 2 / 3, 1, 1.25, 2, 2.5, 3, 4])
def test_no_less_error_than_the_bound(rate):
    """Shannon: no code of R bits per weight brings white Gaussian weights below D = 4**-R."""
    for seed in range(3):
        weight = np.random.default_rng([seed, int(10 * rate)]).standard_normal((384, 96)).astype(np.float32)
        tensor = quantize_trellis(weight, rate=rate, window=max(10, 2 * int(np.ceil(rate)) + 4))
        bits = tensor.payload_bits / weight.size
        assert distortion(weight, tensor) > 4.0**-bits
        assert distortion(weight, tensor) < 4.0**-rate * (1.25 if rate < 3 else 1.5)


GOALS = [(0.5, 0.523), (1, 0.272), (1.5, 0.141), (2, 0.0725), (3, 0.0192), (4, 0.0052)]
"""Rate, error: what the taps were found to reach on 4096 x 4096 Gaussian weights, and a little."""


@pytest.mark.parametrize(("rate", "goal"), GOALS)
def test_taps_are_as_good_as_they_were(rate, goal):
    weight = np.random.default_rng(17).standard_normal((2048, 32)).astype(np.float32)
    plan = design(exact_rate(rate), 12)
    code = np.zeros((plan.network.n_stored(2048), 1), np.uint32)
    search = search_of(weight, plan.network, list(plan.a), fine=rate >= 3)
    search.run(code, range(1), 1)
    signs = np.where(unpack(expand_reference(plan.network, code, 2048), 32), 1.0, -1.0)
    error = weight - np.einsum("j,jrc->rc", plan.a, signs)
    assert (error**2).sum() / (weight**2).sum() < goal


@pytest.mark.parametrize("jobs", [2, 3])
def test_any_number_of_threads(jobs):
    rng = np.random.default_rng(4)
    weight = rng.standard_normal((600, 200)).astype(np.float32) * rng.random((600, 1)).astype(np.float32)
    weight[3, 5] = 40
    options = {"rate": 1.5, "window": 9, "group_size": 48, "column_gains": True}
    one, many = (quantize_trellis(weight, jobs=n, **options) for n in (1, jobs))
    for name in ("code", "a", "scales", "gains", "positions", "values"):
        assert getattr(one, name).tobytes() == getattr(many, name).tobytes()


@pytest.mark.parametrize("shape", [(1, 1), (1, 70), (33,), (2, 3, 5), (3, 31), (40, 1), (100, 33), (13, 64)])
@pytest.mark.parametrize("rate", [0.25, 1.5, 2, 6])
def test_ugly_shapes(shape, rate):
    weight = np.random.default_rng(5).standard_normal(shape).astype(np.float32)
    tensor = quantize_trellis(weight, rate=rate)
    assert tensor.dequantize().shape == shape
    assert tensor.network.n_stored(tensor.planes().shape[1]) == len(tensor.code)
    assert distortion(weight, tensor) < (1 if rate < 1 else 0.35)


@pytest.mark.parametrize("shape", [(0, 5), (5, 0), (0,)])
def test_nothing(shape):
    assert quantize_trellis(np.zeros(shape, np.float32)).dequantize().shape == shape


def test_zeros():
    weight = np.zeros((40, 40), np.float32)
    assert not quantize_trellis(weight).dequantize().any()
    weight[7] = np.random.default_rng(6).standard_normal(40)
    weight[9] = 0.5
    values = quantize_trellis(weight, rate=2).dequantize()
    assert not np.delete(values, [7, 9], axis=0).any()
    assert np.abs(values[9] - 0.5).mean() < 0.2
    assert distortion(weight, quantize_trellis(weight, rate=2)) < 0.15


def test_one_column_is_scales():
    weight = np.random.default_rng(7).standard_normal((50, 1)).astype(np.float32)
    assert distortion(weight, quantize_trellis(weight, rate=1, scale_dtype="float16")) < 1e-6


@pytest.mark.parametrize("magnitude", [1e-30, 1e-6, 1, 1e30])
def test_magnitude_does_not_matter(magnitude):
    weight = np.random.default_rng(8).standard_normal((200, 64)).astype(np.float32)
    weight[5, 6] = 30
    scaled = (weight.astype(np.float64) * magnitude).astype(np.float32)
    assert distortion(scaled, quantize_trellis(scaled)) == pytest.approx(
        distortion(weight, quantize_trellis(weight)), rel=0.02
    )


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_types(dtype):
    import ml_dtypes

    weight = (
        np.random.default_rng(9)
        .standard_normal((200, 64))
        .astype(ml_dtypes.bfloat16 if dtype == "bfloat16" else dtype)
    )
    tensor = quantize_trellis(weight)
    assert tensor.dequantize().dtype == weight.dtype
    assert distortion(weight, tensor) < 0.085


def test_pruned_weights_are_zero_and_free():
    rng = np.random.default_rng(10)
    weight = rng.standard_normal((800, 64)).astype(np.float32)
    mask = rng.random(weight.shape) < 0.1
    tensor = quantize_trellis(weight, rate=2, mask=mask, window=12)
    values = tensor.dequantize()
    assert not values[~mask].any()
    kept = np.where(mask, weight, 0)
    assert distortion(kept, tensor) < 0.11
    assert tensor.network.rate <= 2.01 * mask.mean()
    packed = quantize_trellis(weight, rate=2, mask=pack(mask), window=12)
    assert packed.code.tobytes() == tensor.code.tobytes()
    assert not quantize_trellis(weight, mask=np.zeros_like(mask)).dequantize().any()


def test_outliers_are_kept_and_change_little_else():
    rng = np.random.default_rng(11)
    weight = rng.standard_normal((400, 96)).astype(np.float32).astype(np.float16).astype(np.float32)
    loud = weight.copy()
    loud[20, 30] = 1000
    loud[21, 31] = -28.5
    tensor = quantize_trellis(loud, rate=3, window=10)
    values = tensor.dequantize()
    assert values[20, 30] == 1000
    assert values[21, 31] == -28.5
    np.testing.assert_array_equal(values.reshape(-1)[tensor.positions], loud.reshape(-1)[tensor.positions])
    loud[20, 30], loud[21, 31] = values[20, 30], values[21, 31] = 0, 0
    assert ((values - loud) ** 2).sum() < 0.025 * (loud**2).sum()
    without = quantize_trellis(weight, rate=3, window=10, outliers=False)
    assert len(without.positions) == 0


@pytest.mark.parametrize("group", [0, 64])
def test_outliers_begin_where_they_are_asked_to(group):
    weight = np.random.default_rng(12).standard_t(5, (300, 128)).astype(np.float32)
    weight *= np.exp2(np.arange(300) % 5)[:, None].astype(np.float32)
    tensor = quantize_trellis(weight, rate=2, window=10, outliers=3, group_size=group)
    errors = (tensor.dequantize() - weight).reshape(300, -1, group or 128)
    parts = weight.reshape(errors.shape)
    listed = np.zeros(weight.size, bool)
    listed[tensor.positions] = True
    listed = listed.reshape(parts.shape)
    deviation = np.sqrt(np.where(listed, 0, parts**2).sum(2) / (~listed).sum(2))[:, :, None]
    assert np.abs(np.where(listed, 0, parts) / deviation).max() < 3.6  # deviations settle in two rounds
    assert np.abs(parts / deviation)[listed].min() > 3
    assert (np.abs(errors)[listed] < 2.0**-10 * np.abs(parts)[listed]).all()
    assert quantize_trellis(weight, window=10, outliers=100.0).positions.size == 0


def test_importance_is_heeded():
    rng = np.random.default_rng(12)
    weight = rng.standard_normal((500, 64)).astype(np.float32)
    importance = np.where(rng.random(weight.shape) < 0.3, 1, 0.02).astype(np.float32)
    plain, heeding = (quantize_trellis(weight, importance=i, window=10) for i in (None, importance))
    errors = [(importance * (weight - t.dequantize()) ** 2).sum() for t in (plain, heeding)]
    assert errors[1] < 0.75 * errors[0]
    by_column = quantize_trellis(weight, importance=np.linspace(0.1, 3, 64), window=10)
    assert distortion(weight, by_column) < 0.09


def test_balance_of_rows():
    """With balance 0 a quiet row is followed as closely as a loud one; by default the total error counts."""
    weight = np.random.default_rng(17).standard_normal((400, 64)).astype(np.float32)
    weight[::2] *= 0.1
    total, even = (quantize_trellis(weight, balance=balance, window=10) for balance in (1.0, 0.0))
    assert distortion(weight, total) < 0.5 * distortion(weight, even)
    quiet = even.dequantize()[::2]
    assert ((weight[::2] - quiet) ** 2).sum() < 0.09 * (weight[::2] ** 2).sum()


def test_groups_and_gains_help_where_magnitudes_differ():
    rng = np.random.default_rng(13)
    weight = rng.standard_normal((400, 128)).astype(np.float32)
    weight *= np.exp(rng.standard_normal(128)).astype(np.float32)
    row = distortion(weight, quantize_trellis(weight, window=10, outliers=False))
    gains = distortion(weight, quantize_trellis(weight, window=10, outliers=False, column_gains=True))
    assert gains < 0.085 < row
    weight = rng.standard_normal((400, 128)).astype(np.float32)
    weight[:, 64:] *= 20
    groups = quantize_trellis(weight, window=10, outliers=False, group_size=64)
    assert groups.scales.shape == (400, 2)
    assert distortion(weight[:, :64], _columns(groups, 64)) < 0.085


def test_scales_in_octets():
    rng = np.random.default_rng(16)
    weight = rng.standard_normal((300, 64)).astype(np.float32)
    weight *= np.exp(0.5 * rng.standard_normal((300, 1))).astype(np.float32)
    auto, octets, floats = (
        quantize_trellis(weight, scale_dtype=dtype, window=10) for dtype in ("auto", "uint8", "float16")
    )
    assert auto.scales.dtype == np.uint8
    assert auto.scales.tobytes() == octets.scales.tobytes()
    assert distortion(weight, octets) < 1.01 * distortion(weight, floats)
    assert octets.payload_bits == floats.payload_bits - 8 * 300 + 8 * _outlier_bytes(
        octets
    ) - 8 * _outlier_bytes(floats)
    weight[7] *= 1e-4
    assert quantize_trellis(weight, window=10).scales.dtype == np.float16
    assert quantize_trellis(weight, scale_dtype="float32", window=10).scales.dtype == np.float32
    wide = rng.standard_normal((16, 4096)).astype(np.float32)
    assert quantize_trellis(wide, rate=4).scales.dtype == np.float16


def _outlier_bytes(tensor: TrellisTensor) -> int:
    return sum(packed_sizes(len(tensor.positions), tensor.n_weights, 16))


def _columns(tensor: TrellisTensor, n: int) -> TrellisTensor:
    """The first columns of a tensor."""
    return TrellisTensor(
        shape=(tensor.shape[0], n), dtype="F32", network=tensor.network, code=tensor.code[:, : n // 32].copy(),
        a=tensor.a, scales=tensor.scales[:, :1], group_size=0,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rate": 0.3333}, "nearest is 1/3"),
        ({"rate": 2.017}, "nearest is"),
        ({"rate": 0.01}, "outside"),
        ({"rate": 6.5}, "outside"),
        ({"rate": float("nan")}, "outside"),
        ({"window": 5}, "window 5"),
        ({"window": 21}, "window 21"),
        ({"group_size": -1}, "group_size"),
        ({"balance": 1.5}, "balance"),
        ({"outliers": 0.0}, "outliers = 0.0 is not positive"),
        ({"outliers": float("nan")}, "outliers = nan is not a finite number"),
        ({"outliers": "all"}, "outliers = 'all' is not a finite number"),
        ({"jobs": 0}, "jobs"),
        ({"scale_dtype": "int8"}, "scale_dtype"),
        ({"mask": np.ones((3, 3), np.bool_)}, "mask of shape"),
        ({"importance": np.ones(3)}, "importance of shape"),
        ({"importance": -np.ones(16)}, "negative"),
        ({"importance": np.full(16, np.nan)}, "NaN"),
    ],
)
def test_bad_arguments(options, message):
    with pytest.raises(ParameterError, match=message):
        quantize_trellis(np.ones((8, 16), np.float32), **options)


def test_bad_weights():
    weight = np.ones((8, 16), np.float32)
    weight[2, 3] = np.nan
    with pytest.raises(DataError, match="flat position 35"):
        quantize_trellis(weight)
    with pytest.raises(ParameterError, match="float64"):
        quantize_trellis(np.ones((8, 16)))


def test_kinds_of_rows():
    for n_out in range(1, 33):
        for n_in in range(1, 6 * n_out + 1):
            rate = exact_rate(n_in / n_out)
            plan = design(rate)
            assert plan.network.rate == n_in / n_out
            assert len(kinds(rate)) == rate.denominator


def test_equal_to_bcq_of_float32_scales():
    weight = np.random.default_rng(14).standard_normal((60, 70)).astype(np.float32)
    tensor = quantize_trellis(weight, rate=2, group_size=33, outliers=False)
    bcq = xorpack.BCQTensor(
        shape=weight.shape,
        dtype="F32",
        mask=pack(np.ones(weight.shape, np.bool_)),
        planes=tensor.planes(),
        scales=tensor.alphas(),
        group_size=33,
    )
    assert bcq.dequantize().tobytes() == tensor.dequantize().tobytes()


def test_fit_kernels_as_plain_python():
    rng = np.random.default_rng(15)
    block = rng.standard_normal((3, 40)).astype(np.float32)
    care = pack(rng.random((4, 40)) < 0.7)
    planes = rng.integers(0, 1 << 32, (3, 3, 2), dtype=np.uint32)
    gains, importance = rng.random(40), rng.random((1, 40)).astype(np.float32)
    scales = rng.random((3, 2))
    for plain in (False, True):
        weights = np.ones((1, 40), np.float32) if plain else importance
        g = np.ones(40) if plain else gains
        normals = np.empty((2, 3, 2, 3, 4))
        for kernel, out in zip(
            (trellis_fit_kernels.normal_kernel, trellis_fit_kernels.normal_kernel.py_func),
            normals,
            strict=True,
        ):
            kernel(block, 1, care, planes, g, weights, plain, 24, out)
        np.testing.assert_allclose(*normals, rtol=1e-12)
        signs = np.where(unpack(planes, 40), 1.0, -1.0)
        shares = unpack(care[1:], 40) * weights * g * g
        expected = np.einsum("jrc,krc,rc->rjk", signs[..., :24], signs[..., :24], shares[:, :24])
        np.testing.assert_allclose(normals[0, :, 0, :, :3], expected, rtol=1e-5, atol=1e-6)
    found = []
    for kernel in (trellis_fit_kernels.moments_kernel, trellis_fit_kernels.moments_kernel.py_func):
        sums, counts = np.empty((3, 2)), np.empty((3, 2), np.int64)
        histogram = np.zeros(trellis_fit.N_BINS, np.int64)
        kernel(block, 1, care, scales, gains, 3.0, 24, sums, counts, histogram)
        found.append((sums, counts, histogram))
    for a, b in zip(*found, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-12)
    assert found[0][2].sum() == unpack(care[1:], 40).sum()
