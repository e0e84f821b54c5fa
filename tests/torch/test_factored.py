"""Factored weights: what they compute is what encoded ones do, with the same gradients to scales, and gains besides."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")

from torch import nn
from torch_cases import Conv1D, close, model, pair

from xorpack.torch import trainable_scales
from xorpack.torch.factored import FactoredWeight, factor, unfactor
from xorpack.torch.scales import put_values

KINDS = ("trellis", "trellis, masked, gains")
INDICES = torch.tensor([[1, 5, 49], [0, 2, 2]])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["linear", "conv1d", "embedding"])
def test_they_compute_what_encoded_ones_do(kind: str, name: str) -> None:
    layers: dict[str, nn.Module] = {
        "linear": nn.Linear(70, 33),
        "conv1d": Conv1D(33, 70),
        "embedding": nn.Embedding(33, 70, padding_idx=2),
    }
    layer, twin = pair(layers[name], kind)
    x = INDICES % 33 if name == "embedding" else torch.randn(2, 5, 70 if name == "linear" else 33)
    (scales,) = trainable_scales(pair(layers[name].__class__(*_sizes(name)), kind)[0])
    before = layer.weight
    (factored,) = factor(layer).values()
    found = layer(x)
    close(found, twin(x))
    close(factored.decode(), twin.weight)
    assert torch.equal(factored.scales.reshape(-1), scales.detach().reshape(-1))
    unfactor(layer)
    assert layer.weight is before


def _sizes(name: str) -> tuple[int, int]:
    return {"linear": (70, 33), "conv1d": (33, 70), "embedding": (33, 70)}[name]


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_are_those_of_encoded_weights_and_derivatives(kind: str) -> None:
    layer, _ = pair(nn.Linear(70, 33, bias=False), kind)
    x = torch.randn(5, 70, requires_grad=True)
    (scales,) = trainable_scales(layer)
    direction = torch.randn(5, 33)
    expected = torch.autograd.grad((layer(x) * direction).sum(), [x, scales])
    layer, _ = pair(nn.Linear(70, 33, bias=False), kind)
    (weight,) = factor(layer).values()
    found = torch.autograd.grad((layer(x) * direction).sum(), [x, weight.scales])
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one.reshape(other.shape), other, rtol=1e-4, atol=1e-4)
    if weight.gains is None:
        return
    (slope,) = torch.autograd.grad((layer(x) * direction).sum(), [weight.gains])
    (same,) = torch.autograd.grad(
        (nn.functional.linear(x, weight.decode()) * direction).sum(), [weight.gains]
    )
    torch.testing.assert_close(slope, same, rtol=1e-4, atol=1e-4)
    assert slope.abs().max() > 0


@pytest.mark.parametrize("kind", KINDS)
def test_what_was_trained_is_put_back_rounded(kind: str) -> None:
    layer, _ = pair(nn.Linear(70, 33, bias=False), kind)
    (weight,) = factor(layer).values()
    with torch.no_grad():
        weight.scales.mul_(torch.linspace(0.9, 1.4, 33)[:, None])
        if weight.gains is not None:
            weight.gains.mul_(torch.linspace(0.5, 1.5, 70))
    expected = layer.weight.decode()
    unfactor(layer)
    stored = layer.weight.xor_scales.dtype
    put_values(layer.weight, weight.trained_values(), "weight", stored)
    if weight.gains is not None:  # they take up what scales in octets cannot hold
        assert layer.weight.xor_scales.dtype == stored
    found = layer.weight()
    assert (found - expected).abs().max() <= 0.012 * expected.abs().max()
    layer.weight.check()


def test_tied_weights_follow() -> None:
    original = model("trellis")
    expected = original(INDICES)
    found = factor(original)
    assert isinstance(original.head.weight.source, FactoredWeight)
    assert set(found) == {"embedding.weight", "first.weight", "second.weight"}
    close(original(INDICES), expected)
    original(INDICES).square().sum().backward()
    assert found["embedding.weight"].scales.grad is not None
    unfactor(original)
    assert torch.equal(original(INDICES), expected)
