"""The network that a tensor gets: which family, and that the cheaper one takes as many bytes."""

from __future__ import annotations

import numpy as np
import pytest
from samples import bcq

import xorpack
from xorpack import XorNetwork
from xorpack.analysis.accounting import Account
from xorpack.encoding.plan import default_network, quasi_cyclic_network


@pytest.mark.parametrize(
    ("kept", "hold"), [(20, 8), (100, 8), (275, 8), (276, 4), (500, 4), (550, 4), (551, 2), (1000, 2)]
)
def test_a_window_is_held_as_long_as_it_moves_by_two_words_or_so(kept: int, hold: int) -> None:
    assert default_network(100 * kept, 100_000) == XorNetwork.turned(hold=hold)


def test_few_weights_have_a_network_whose_taps_do_not_meet() -> None:
    assert default_network(1024, 5000).family == "turned"
    assert default_network(1023, 5000) == XorNetwork.quasi_cyclic()
    assert default_network(50, 5000) == XorNetwork.quasi_cyclic(n_rows=256)
    assert default_network(0, 0).family == "quasi-cyclic"
    assert quasi_cyclic_network(0.0).n_rows == 4096


@pytest.mark.parametrize(("sparsity", "bits"), [(0.2, 2), (0.5, 3), (0.7, 2), (0.9, 2), (0.98, 2)])
def test_it_takes_as_many_bytes_as_a_quasi_cyclic_one(sparsity: float, bits: int) -> None:
    tensor = bcq((1024, 1024), sparsity, bits)
    found = {}
    for network in (None, quasi_cyclic_network(1 - sparsity)):
        encoded = xorpack.encode(tensor, network=network, jobs=2)
        found[encoded.network.family] = Account.of(encoded).payload_overhead
    assert set(found) == {"turned", "quasi-cyclic"}
    assert found["turned"] < min(1.02, 1.002 * found["quasi-cyclic"])


def test_columns_that_differ_take_no_more() -> None:
    """What one rotation for all rows would: the same bits of a word are kept in row after row."""
    rng = np.random.default_rng(7)
    weight = rng.standard_normal((512, 2048)) * np.exp(1.2 * rng.standard_normal(2048))
    tensor = xorpack.quantize(weight.astype(np.float32), bits=2, sparsity=0.9, group_size=0)
    one, turned, early = (
        Account.of(xorpack.encode(tensor, network=network)).payload_overhead
        for network in (XorNetwork.turned(n_rows=16), None, XorNetwork.quasi_cyclic())
    )
    assert turned < min(one, 1.003 * early)
