"""Networks: the hash, the taps (pinned for ever), the schedule, configs from untrusted files."""

from __future__ import annotations

import dataclasses
import doctest
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xorpack.code import network as module
from xorpack.code.network import XorNetwork, splitmix64
from xorpack.errors import FormatError, ParameterError

NETWORKS = [
    XorNetwork.quasi_cyclic(),
    XorNetwork.quasi_cyclic(window=1, n_taps=32, n_rows=2),
    XorNetwork.quasi_cyclic(window=4096, n_taps=3, n_rows=1, seed=(1 << 64) - 1),
    XorNetwork.dense(n_in=8, n_out=80),
    XorNetwork.dense(n_in=8, n_out=80, n_s=2, seed=5),
    XorNetwork.dense(n_in=1, n_out=40),
    XorNetwork.sparse(n_in=8, n_out=80),
    XorNetwork.sparse(n_in=3, n_out=5, n_s=1, n_taps=6),
    XorNetwork.identity(),
    XorNetwork.turned(),
    XorNetwork.turned(window=6, n_rows=16, hold=1, seed=(1 << 64) - 1),
    XorNetwork.turned(window=16, n_rows=496, hold=16),
]
CONFIGS: list[dict[str, Any]] = [
    {"family": "quasi-cyclic", "window": 12, "n_taps": 6, "n_rows": 16, "seed": 1},
    {"family": "dense", "window": 16, "n_in": 8, "n_out": 80, "seed": 1},
    {"family": "sparse", "window": 8, "n_in": 8, "n_out": 80, "n_taps": 2, "seed": 1},
    {"family": "turned", "window": 12, "n_rows": 256, "hold": 8, "seed": 1},
    {"family": "identity"},
]


def name(network: XorNetwork) -> str:
    return f"{network.family}{network.window}-{network.n_taps}-{network.n_rows}"


def test_doctests() -> None:
    results = doctest.testmod(module)
    assert results.attempted > 0
    assert results.failed == 0


def test_splitmix64_known_vectors() -> None:
    """The published sequence of seed 1234567, and Java's of seed 0."""
    assert [splitmix64(1234567, i) for i in range(5)] == [
        6457827717110365317,
        3203168211198807973,
        9817491932198370423,
        4593380528125082431,
        16408922859458223821,
    ]
    assert [splitmix64(0, i) for i in range(3)] == [
        0xE220A8397B1DCDAF,
        0x6E789E6AA1B965F4,
        0x06C45D188009454F,
    ]
    assert 0 <= splitmix64((1 << 64) - 1, (1 << 64) - 1) < 1 << 64


def test_taps_of_the_default_network_never_change() -> None:
    offsets, rotations, counts = XorNetwork.quasi_cyclic().taps()
    assert offsets.tolist() == OFFSETS
    assert rotations.tolist() == ROTATIONS
    assert counts.tolist() == [6] * 16


def test_taps_of_the_block_families_never_change() -> None:
    dense = XorNetwork.dense(n_in=4, n_out=3, n_s=1).taps()
    assert dense[0].tolist() == [[0, 1, 2, 5, 6, 7], [1, 3, 5, 0, 0, 0], [0, 1, 2, 3, 0, 0]]
    assert dense[2].tolist() == [6, 3, 4]
    sparse = XorNetwork.sparse(n_in=8, n_out=4).taps()
    assert sparse[0].tolist() == [[4, 1], [6, 3], [7, 5], [6, 4]]
    assert sparse[2].tolist() == [2, 2, 2, 2]


def test_taps_of_turned_networks_never_change() -> None:
    offsets, rotations, counts = XorNetwork.turned().taps()
    assert offsets[:4].tolist() == [
        [4, 1, 6, 8, 0, 7],
        [10, 7, 5, 0, 8, 6],
        [3, 5, 1, 4, 9, 0],
        [10, 4, 5, 2, 8, 0],
    ]
    assert rotations[::16, 0].tolist() == TURNS
    assert counts.tolist() == [6] * 256


@pytest.mark.parametrize("network", NETWORKS[-3:], ids=name)
def test_turned_rows_share_offsets_or_a_rotation(network: XorNetwork) -> None:
    offsets, rotations, _ = network.taps()
    assert (rotations[:, :3] == rotations[:, :1]).all()
    assert not rotations[:, 3:].any()
    for kind in range(16):
        assert (offsets[kind::16] == offsets[kind]).all()
        assert len({*offsets[kind].tolist()}) == 6
        assert (rotations[kind::16, 0] == rotations[::16, 0]).all()
    turns = rotations[::16, 0].tolist()
    assert len({*turns}) == len(turns) == network.n_rows // 16
    assert 0 not in turns
    few = XorNetwork.turned(window=network.window, n_rows=16, hold=network.hold, seed=network.seed).taps()
    assert (few[0] == offsets[:16]).all()
    assert (few[1] == rotations[:16]).all()


@pytest.mark.parametrize("network", NETWORKS, ids=name)
def test_taps_are_distinct_in_range_and_read_only(network: XorNetwork) -> None:
    offsets, rotations, counts = network.taps()
    assert offsets.shape == rotations.shape == (network.n_rows, counts.max())
    assert counts.shape == (network.n_rows,)
    for array in (offsets, rotations, counts):
        assert array.dtype == np.int32
        assert not array.flags.writeable
    assert offsets.min() >= 0
    assert offsets.max() < network.window
    assert rotations.min() >= 0
    assert rotations.max() < 32
    assert counts.min() >= 1
    if network.family != "dense":
        assert (counts == network.n_taps).all()
    if not network.any_rate:
        assert not rotations.any()
    for row in range(network.n_rows):
        taps = {(int(offsets[row, k]), int(rotations[row, k])) for k in range(counts[row])}
        assert len(taps) == counts[row]


@pytest.mark.parametrize("network", NETWORKS, ids=name)
def test_taps_are_drawn_alike_every_time(network: XorNetwork) -> None:
    again = module._taps.__wrapped__(network)
    for one, other in zip(network.taps(), again, strict=True):
        assert (one == other).all()


def test_seeds_give_different_networks() -> None:
    drawn = {tuple(XorNetwork.quasi_cyclic(seed=s).taps()[0].ravel().tolist()) for s in range(20)}
    assert len(drawn) == 20


def test_dense_taps_are_half_of_the_window() -> None:
    counts = XorNetwork.dense(n_in=24, n_out=400).taps()[2]
    assert abs(counts.mean() / 24 - 0.5) < 0.02
    assert XorNetwork.dense(n_in=1, n_out=40).taps()[2].tolist() == [1] * 40  # never without a tap


@settings(derandomize=True, deadline=None)
@given(m=st.integers(1, 3000), n=st.integers(1, 3000))
def test_windows_start_within_the_code_and_rise(m: int, n: int) -> None:
    i = np.arange(n, dtype=np.int64)
    starts = XorNetwork.quasi_cyclic().start(i, m, n)
    assert starts.tolist() == [k * m // n for k in range(n)]
    for network in NETWORKS[-3:]:
        hold = network.hold
        assert network.start(i, m, n).tolist() == [(k - k % hold) * m // n for k in range(n)]
    for network in NETWORKS[3:-3]:
        m = network.n_code_words(n, 0.5)
        starts = network.start(i, m, n)
        assert starts.tolist() == [network.n_in * (k // network.n_out) for k in range(n)]
        assert m == starts[-1] + network.n_in


@pytest.mark.parametrize("network", [XorNetwork.quasi_cyclic(), XorNetwork.turned()], ids=name)
def test_networks_with_rotations_choose_their_rate(network: XorNetwork) -> None:
    assert [network.n_code_words(1000, rate) for rate in (0, 0.1234, 1, 7)] == [0, 123, 1000, 1000]
    assert XorNetwork.dense(n_in=8, n_out=80).n_code_words(81, 0.1) == 16
    assert XorNetwork.identity().n_code_words(81, 0.1) == 81
    assert [other.n_code_words(0, 0.5) for other in NETWORKS] == [0] * len(NETWORKS)


@pytest.mark.parametrize("network", NETWORKS, ids=name)
def test_config_round_trip(network: XorNetwork) -> None:
    config = network.get_config()
    assert all(type(value) in (int, str) for value in config.values())
    assert XorNetwork.from_config(config) == network


@pytest.mark.parametrize("config", CONFIGS, ids=[c["family"] for c in CONFIGS])
def test_configs_are_what_they_were(config: dict[str, Any]) -> None:
    assert XorNetwork.from_config(config).get_config() == config


@pytest.mark.parametrize("config", CONFIGS, ids=[c["family"] for c in CONFIGS])
def test_config_with_a_missing_or_an_extra_key_is_refused(config: dict[str, Any]) -> None:
    for key in config:
        with pytest.raises(FormatError, match="family" if key == "family" else "needs"):
            XorNetwork.from_config({k: v for k, v in config.items() if k != key})
    for key in ("bits", "", "Window"):
        with pytest.raises(FormatError, match="needs"):
            XorNetwork.from_config({**config, key: 1})


@pytest.mark.parametrize("family", ["Dense", "", "qc", None, 3, True, [], {}, 1.5])
def test_config_of_an_unknown_family_is_refused(family: Any) -> None:
    with pytest.raises(FormatError, match="unknown network family"):
        XorNetwork.from_config({**CONFIGS[0], "family": family})


@pytest.mark.parametrize("config", CONFIGS[:4], ids=[c["family"] for c in CONFIGS[:4]])
@pytest.mark.parametrize("value", [True, False, 4.0, float("nan"), "4", None, [4], {}, np.int64(4)], ids=repr)
def test_config_value_that_is_no_integer_is_refused(config: dict[str, Any], value: Any) -> None:
    for key in config.keys() - {"family"}:
        with pytest.raises(FormatError, match=f"{key} = .* is not an integer"):
            XorNetwork.from_config({**config, key: value})


@pytest.mark.parametrize("config", CONFIGS[:4], ids=[c["family"] for c in CONFIGS[:4]])
@pytest.mark.parametrize("value", [-1, -(1 << 70), 1 << 70])
def test_config_value_out_of_range_is_refused(config: dict[str, Any], value: int) -> None:
    for key in config.keys() - {"family"}:
        with pytest.raises(FormatError, match="outside"):
            XorNetwork.from_config({**config, key: value})


@pytest.mark.parametrize(
    "change",
    [
        {"window": 0},
        {"window": 4097},
        {"n_taps": 0},
        {"n_taps": 12 * 32 + 1},
        {"n_rows": 0},
        {"n_rows": 65537},
        {"seed": 1 << 64},
    ],
    ids=repr,
)
def test_quasi_cyclic_bounds(change: dict[str, int]) -> None:
    with pytest.raises(FormatError, match=next(iter(change))):
        XorNetwork.from_config({**CONFIGS[0], **change})
    with pytest.raises(ParameterError, match=next(iter(change))):
        XorNetwork.quasi_cyclic(**change)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"window": 5}, "window = 5 is outside 6..16"),
        ({"window": 17}, "window = 17 is outside 6..16"),
        ({"n_rows": 0}, "n_rows = 0 is outside"),
        ({"n_rows": 24}, "n_rows = 24 is not a multiple of 16"),
        ({"n_rows": 512}, "n_rows = 512 is outside 16..496"),
        ({"hold": 0}, "hold = 0 is outside 1..16"),
        ({"hold": 3}, "hold = 3 does not divide 16"),
        ({"hold": 32}, "hold = 32 is outside 1..16"),
        ({"seed": 1 << 64}, "seed = 18446744073709551616 is outside"),
    ],
    ids=repr,
)
def test_turned_bounds(change: dict[str, int], reason: str) -> None:
    with pytest.raises(FormatError, match=reason):
        XorNetwork.from_config({**CONFIGS[3], **change})
    with pytest.raises(ParameterError, match=reason):
        XorNetwork.turned(**change)


def test_what_is_not_of_a_family() -> None:
    with pytest.raises(ParameterError, match=r"n_taps = 5 is outside 6\.\.6"):
        XorNetwork(family="turned", window=12, n_rows=16, n_taps=5)
    with pytest.raises(ParameterError, match="hold = 8 is of turned networks; this one is quasi-cyclic"):
        XorNetwork(family="quasi-cyclic", window=12, n_rows=16, n_taps=6, hold=8)


@pytest.mark.parametrize("n_taps", [0, 9, 256])
def test_sparse_taps_must_fit_the_window(n_taps: int) -> None:
    with pytest.raises(FormatError, match="n_taps"):
        XorNetwork.from_config({**CONFIGS[2], "n_taps": n_taps})
    with pytest.raises(ParameterError, match=f"n_taps = {n_taps} is outside 1..8"):
        XorNetwork.sparse(n_in=8, n_out=20, n_taps=n_taps)


def test_block_bounds() -> None:
    for change in ({"n_in": 0}, {"n_in": 17}, {"n_out": 0}, {"n_out": 65537}, {"window": 7}):
        with pytest.raises(FormatError, match="outside"):
            XorNetwork.from_config({**CONFIGS[1], **change})
    with pytest.raises(ParameterError, match="family 'ring' is not one of"):
        XorNetwork(family="ring", window=1, n_rows=1)


def test_networks_are_values() -> None:
    network = XorNetwork.quasi_cyclic()
    assert network == XorNetwork.from_config(network.get_config())
    assert len({*NETWORKS, *NETWORKS}) == len(NETWORKS)
    with pytest.raises(dataclasses.FrozenInstanceError):
        network.window = 3  # type: ignore[misc]


# fmt: off
TURNS = [15, 20, 5, 12, 3, 10, 31, 23, 4, 7, 19, 21, 11, 24, 16, 1]
OFFSETS = [
    [4, 1, 6, 8, 0, 7], [10, 7, 5, 7, 0, 8], [3, 5, 1, 4, 9, 0], [10, 4, 5, 2, 8, 2],
    [2, 1, 0, 5, 11, 3], [10, 9, 6, 3, 3, 5], [4, 10, 11, 4, 5, 4], [4, 0, 10, 4, 9, 10],
    [9, 9, 8, 1, 3, 0], [8, 3, 0, 2, 2, 5], [6, 9, 2, 8, 9, 6], [0, 2, 5, 3, 5, 7],
    [8, 3, 6, 11, 3, 7], [11, 11, 2, 6, 9, 3], [8, 8, 0, 1, 10, 1], [5, 9, 9, 8, 1, 9],
]
ROTATIONS = [
    [1, 7, 30, 11, 25, 0], [23, 21, 21, 6, 31, 30], [2, 13, 7, 17, 27, 11], [14, 20, 25, 30, 6, 2],
    [13, 17, 18, 16, 26, 2], [28, 15, 26, 23, 12, 4], [25, 7, 26, 2, 14, 8], [31, 7, 18, 15, 7, 21],
    [11, 10, 8, 11, 23, 31], [12, 15, 10, 19, 1, 31], [17, 9, 7, 23, 2, 3], [2, 28, 30, 13, 10, 29],
    [12, 3, 6, 14, 13, 8], [3, 12, 17, 9, 30, 27], [28, 21, 7, 1, 9, 8], [4, 13, 20, 11, 27, 29],
]
# fmt: on
