"""Layers that are trained as bits: what they compute, how they learn, what is exported."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")

import numpy as np
from torch import nn

import xorpack
from xorpack.errors import DataError, ParameterError
from xorpack.torch import XorLinear, XorWeight
from xorpack.torch.flexor import _Xor

CASES = [(1.0, 1, 2), (0.8, 1, 2), (0.6, 1, 3), (0.4, 1, 2), (0.5, 2, 1), (1.0, 3, 2), (1 / 3, 1, 4)]


@pytest.mark.parametrize(("rate", "planes", "n_taps"), CASES)
@pytest.mark.parametrize(("n_in", "n_out"), [(33, 20), (64, 65), (1, 1)])
def test_what_is_exported_is_what_was_trained(
    rate: float, planes: int, n_taps: int, n_in: int, n_out: int
) -> None:
    layer = XorLinear(n_in, n_out, rate=rate, planes=planes, n_taps=n_taps, seed=3)
    with torch.no_grad():
        layer.scales.copy_(torch.randn(n_out))
        layer.a.copy_(torch.randn(planes))
        layer.bias.copy_(torch.randn(n_out))
    encoded = layer.encoded()
    assert np.array_equal(xorpack.decode(encoded).dequantize(), layer.weight.detach().numpy())
    exported, x = layer.export(), torch.randn(3, n_in)
    assert isinstance(exported.weight, XorWeight)
    torch.testing.assert_close(exported(x), layer(x))
    assert encoded.planes.network.n_stored(n_out) == -(-round(64 * rate * planes * n_out, 6) // 64)


def test_signs_are_xors() -> None:
    bits = torch.randn(5, 4)
    index = torch.tensor([[0, 1, 2], [4, 0, 3]])
    found = _Xor.apply(bits, index, 1.0)
    expected = torch.stack([(bits[row] > 0).sum(0) % 2 for row in index]) * 2 - 1
    assert torch.equal(found, expected.float())


@pytest.mark.parametrize("slope", [1.0, 7.0])
def test_gradients_are_those_of_tanh(slope: float) -> None:
    """Of the product of taps with tanh for one sign and signs for the others, one by one."""
    torch.manual_seed(1)
    bits = torch.randn(6, 3, dtype=torch.float64, requires_grad=True)
    index = torch.tensor([[0, 1, 2], [4, 0, 3], [5, 4, 1]])
    direction = torch.randn(3, 3, dtype=torch.float64)
    _Xor.apply(bits, index, slope).backward(direction)
    soft = bits.detach().clone().requires_grad_()
    signs = torch.where(soft.detach() > 0, 1.0, -1.0).double()
    total = torch.zeros((), dtype=torch.float64)
    for row, taps in enumerate(index):
        for one in taps:
            others = torch.stack([signs[tap] for tap in taps if tap != one]).prod(0)
            total = total + (direction[row] * others * torch.tanh(slope * soft[one])).sum()
    total.backward()
    torch.testing.assert_close(bits.grad, soft.grad)


def test_it_learns() -> None:
    torch.manual_seed(0)
    centers = 2 * torch.randn(4, 20)
    labels = torch.randint(0, 4, (400,))
    x = centers[labels] + torch.randn(400, 20)
    model = nn.Sequential(
        XorLinear(20, 64, rate=0.5), nn.BatchNorm1d(64), nn.ReLU(), XorLinear(64, 4, rate=0.8)
    )
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    for _ in range(60):
        loss = nn.functional.cross_entropy(model(x), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    frozen = nn.Sequential(model[0].export(), model[1], model[2], model[3].export()).eval()
    assert (frozen(x).argmax(-1) == labels).float().mean() > 0.85
    torch.testing.assert_close(frozen(x), model.eval()(x))


def test_wrong_arguments() -> None:
    for options, message in (
        ({"rate": 1.5}, "rate = 1.5 is no fraction"),
        ({"rate": 0}, "rate"),
        ({"planes": 9}, "planes"),
        ({"n_taps": 0}, "n_taps"),
        ({"slope": -1.0}, "slope"),
    ):
        with pytest.raises(ParameterError, match=message):
            XorLinear(8, 8, **options)
    with pytest.raises(ParameterError, match="in_features"):
        XorLinear(0, 8)
    layer = XorLinear(8, 8)
    assert "rate=0.8" in repr(layer)
    layer.scales.data[0] = torch.inf
    with pytest.raises(DataError, match="scales of an XorLinear are NaN"):
        layer.encoded()
