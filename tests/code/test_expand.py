"""Expansion on the CPU: compiled, in plain Python, and the reference's are one."""

from __future__ import annotations

import numpy as np
import pytest

from xorpack.code import expand as module
from xorpack.code import expand_kernels as kernels
from xorpack.code.layout import Layout
from xorpack.code.network import XorNetwork
from xorpack.code.planes import CodedPlanes
from xorpack.decoders import reference

CASES = {
    "whole panels": (5, 2048, 32, 3),
    "a panel that ends early": (7, 2000, 32, 2),
    "turns": (9, 700, 5, 4),
    "one lane": (40, 33, 1, 2),
}

NETWORKS = [XorNetwork.quasi_cyclic(window=3, n_rows=8), XorNetwork.turned(window=6, n_rows=32, hold=4)]


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("network", NETWORKS, ids=lambda network: network.family)
@pytest.mark.parametrize("compiled", [True, False], ids=["jit", "python"])
def test_any_rows_are_the_reference_s(
    case: str, network: XorNetwork, compiled: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not compiled:
        monkeypatch.setattr(module, "expand_kernel", kernels.expand_kernel.py_func)
    rows, cols, lanes, n_planes = CASES[case]
    rng = np.random.default_rng(rows)
    layout = Layout.choose(rows, cols, rows * cols // 8, lanes=lanes)
    shape = (n_planes, layout.n_segments, max(2, layout.n_steps // 4), layout.lanes)
    coded = CodedPlanes(network=network, layout=layout, code=rng.integers(0, 1 << 32, shape, np.uint32))
    mask = rng.integers(0, 1 << 32, (rows, layout.chunks), np.uint32)
    expected = reference.expand(coded, 0, rows, mask)
    for first, last in ((0, rows), (1, rows - 1), (rows // 2, rows // 2 + 1)):
        for jobs in (1, 2):
            found = module.expand(coded, first, last, mask[first:last], jobs=jobs)
            assert (found == expected[:, first:last]).all()


@pytest.mark.parametrize(
    ("network", "n"),
    [
        (XorNetwork.turned(), 3),
        (XorNetwork.turned(n_rows=32), 3),
        (XorNetwork.quasi_cyclic(), 0),
        (XorNetwork.identity(), 0),
        (XorNetwork.dense(n_in=4, n_out=9), 0),
    ],
)
def test_taps_that_turn_alike_are_what_the_network_says(network: XorNetwork, n: int) -> None:
    assert network.n_alike == n
    _, rotations, counts = network.taps()
    if n:
        assert (counts == 2 * n).all()
        assert (rotations[:, :n] == rotations[:, :1]).all()
        assert (rotations[:, n:] == 0).all()
