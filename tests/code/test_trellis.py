"""Trellis networks: the equation of a bit, what an untrusted config may say, and fast expansion."""

from __future__ import annotations

import numpy as np
import pytest

from xorpack.code import trellis_kernels
from xorpack.code.trellis import MAX_PLANES, TrellisNetwork, expand_reference
from xorpack.code.trellis_kernels import expand_dense, expand_trellis
from xorpack.errors import FormatError, ParameterError


def network_of(n_in: int, n_out: int, window: int, q: int, seed: int = 0) -> TrellisNetwork:
    rng = np.random.default_rng([n_in, n_out, window, q, seed])
    taps = rng.integers(1, 1 << window, (n_out, q)).tolist()
    return TrellisNetwork(n_in=n_in, n_out=n_out, window=window, taps=tuple(map(tuple, taps)))


CASES = [
    (2, 1, 12, 6, 45),
    (1, 2, 9, 3, 31),
    (3, 2, 10, 5, 7),
    (1, 8, 12, 2, 20),
    (6, 1, 12, 4, 1),
    (5, 4, 13, 7, 65),
]


@pytest.mark.parametrize(("n_in", "n_out", "window", "q", "rows"), CASES)
def test_every_bit_is_what_the_equation_says(n_in, n_out, window, q, rows):
    network = network_of(n_in, n_out, window, q)
    m = network.n_stored(rows)
    assert m == -(-rows * n_in // n_out)
    code = np.random.default_rng(rows).integers(0, 1 << 32, (m, 2), dtype=np.uint32)
    planes = expand_reference(network, code, rows)
    for r in range(rows):
        end = -(-(r + 1) * n_in // n_out)
        for j in range(q):
            for c in (0, 5, 31, 32, 63):
                bits = [int(code[(end - 1 - a) % m, c // 32]) >> c % 32 & 1 for a in range(window)]
                expected = sum(bits[a] for a in range(window) if network.taps[r % n_out][j] >> a & 1) % 2
                assert int(planes[j, r, c // 32]) >> c % 32 & 1 == expected
    np.testing.assert_array_equal(expand_trellis(network, code, rows), planes)
    first, last = rows // 3, rows - rows // 4
    np.testing.assert_array_equal(expand_trellis(network, code, rows, first, last), planes[:, first:last])
    np.testing.assert_array_equal(expand_reference(network, code, rows, first, last), planes[:, first:last])


@pytest.mark.parametrize(("n_in", "n_out", "window", "q", "rows"), CASES)
def test_expansion_is_linear(n_in, n_out, window, q, rows):
    network = network_of(n_in, n_out, window, q)
    a, b = np.random.default_rng(1).integers(0, 1 << 32, (2, network.n_stored(rows), 1), dtype=np.uint32)
    both = expand_trellis(network, a, rows) ^ expand_trellis(network, b, rows)
    np.testing.assert_array_equal(expand_trellis(network, a ^ b, rows), both)


def test_levels_are_the_sums_of_the_planes():
    network = network_of(2, 1, 8, 3)
    a = np.array([0.7, 0.4, 0.2])
    code = np.random.default_rng(3).integers(0, 1 << 32, (40, 1), dtype=np.uint32)
    planes = expand_reference(network, code, 20)
    levels = network.levels(a)
    for r in range(20):
        for c in range(32):
            state = sum(
                (int(code[(2 * r + 1 - age) % 40, 0]) >> c & 1) << network.window - 1 - age
                for age in range(network.window)
            )
            signs = [1 if int(planes[j, r, 0]) >> c & 1 else -1 for j in range(3)]
            assert levels[0, state] == pytest.approx(np.dot(signs, a))


def test_kernels_as_plain_python():
    network = network_of(3, 2, 10, 5)
    code = np.random.default_rng(2).integers(0, 1 << 32, (network.n_stored(5), 2), dtype=np.uint32)
    ages, bounds = trellis_kernels.ages_of(network)
    expected = expand_reference(network, code, 5)
    row = np.empty((5, 2), np.uint32)
    for r in range(5):
        trellis_kernels.row_kernel.py_func(code, 3, 2, ages, bounds, r, row)
        np.testing.assert_array_equal(row, expected[:, r])
    planes = np.empty_like(expected)
    trellis_kernels.planes_kernel.py_func(code, 3, 2, ages, bounds, 0, planes)
    np.testing.assert_array_equal(planes, expected)
    rng = np.random.default_rng(4)
    alphas, gains = rng.random((5, 3, 5)).astype(np.float32), rng.random(60).astype(np.float32)
    plain, compiled = np.empty((2, 5, 60), np.float32)
    trellis_kernels.dense_kernel.py_func(code, 3, 2, ages, bounds, alphas, gains, 24, 0, plain)
    expand_dense(network, code, alphas, gains, 24, 0, compiled)
    assert plain.tobytes() == compiled.tobytes()


@pytest.mark.parametrize(("n_in", "n_out", "window", "q", "rows"), CASES)
def test_config_comes_back(n_in, n_out, window, q, rows):
    network = network_of(n_in, n_out, window, q)
    assert TrellisNetwork.from_config(network.get_config()) == network
    assert network.rate == n_in / n_out


@pytest.mark.parametrize(
    "change",
    [
        {"n_in": 0},
        {"n_in": 9},
        {"n_in": True},
        {"n_in": "2"},
        {"n_out": 0},
        {"n_out": 2},
        {"n_out": 1 << 70},
        {"window": 7},
        {"window": 21},
        {"window": 12.0},
        {"taps": []},
        {"taps": [[]]},
        {"taps": [[1, 2], [1, 2]]},
        {"taps": [[0, 1]]},
        {"taps": [[1 << 12]]},
        {"taps": [[-1]]},
        {"taps": [["1"]]},
        {"taps": [[1.0]]},
        {"taps": ((1, 2),)},
        {"taps": [[1] * (MAX_PLANES + 1)]},
        {"taps": "ab"},
        {"seed": 1},
    ],
)
def test_untrusted_config(change):
    config = network_of(2, 1, 12, 2).get_config()
    assert TrellisNetwork.from_config(config)
    with pytest.raises(FormatError, match="trellis"):
        TrellisNetwork.from_config({**config, **change})


def test_missing_name():
    config = network_of(2, 1, 12, 2).get_config()
    del config["taps"]
    with pytest.raises(FormatError, match="trellis network needs"):
        TrellisNetwork.from_config(config)


def test_rows_of_unequal_planes():
    with pytest.raises(ParameterError, match="alike"):
        TrellisNetwork(n_in=1, n_out=2, window=8, taps=((1,), (1, 2)))
