"""Layers with encoded weights give what they give with the decoded ones."""

from __future__ import annotations

from typing import Any

import pytest

torch = pytest.importorskip("torch")

from samples import halves, pruned
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch_cases import FLOATS, KINDS, QUANTIZED, Conv1D, close, dense, pair, weight

import xorpack.torch
from xorpack.tensors import DTYPES as DTYPES_OF_FILES
from xorpack.torch import XorWeight, ops
from xorpack.torch.arrays import to_numpy, to_torch

DTYPES = (torch.float32, torch.bfloat16, torch.float16, torch.float64)


def agree(found: torch.Tensor, expected: torch.Tensor, kind: str, exact: torch.Tensor | None = None) -> None:
    """Of lossless weights the same bits; of quantized ones the same within the rounding of sums.

    Where types are smaller than float32, no farther from the ``exact`` product, by weights that are not rounded.
    """
    assert (found.dtype, found.shape) == (expected.dtype, expected.shape)
    if kind not in QUANTIZED:
        assert torch.equal(found, expected)
    elif found.dtype in (torch.float32, torch.float64):
        close(found, expected)
    else:
        assert exact is not None
        assert (found - exact).norm() <= 1.01 * (expected - exact).norm()


def product(layer: nn.Module, kind: str, x: torch.Tensor) -> torch.Tensor:
    """What a layer gives, float64."""
    return x.double() @ dense(kind, tuple(layer.weight.shape)).double().T + layer.bias.double()


@pytest.mark.parametrize("kind", FLOATS)
@pytest.mark.parametrize(("n_in", "n_out"), [(64, 32), (33, 7), (1, 5), (100, 1)])
def test_linear(kind: str, n_in: int, n_out: int) -> None:
    layer, twin = pair(nn.Linear(n_in, n_out), kind)
    for shape in [(5, n_in), (30, n_in), (2, 3, n_in), (n_in,), (0, n_in), (2, 0, n_in)]:
        x = torch.randn(shape).to(twin.weight.dtype)
        agree(layer(x), twin(x), kind)
    x = torch.randn(n_in, 6).to(twin.weight.dtype)
    agree(layer(x.T), twin(x.T), kind)
    agree(layer(x.T[::2]), twin(x.T[::2]), kind)
    agree(layer(x.T[:1].expand(4, n_in)), twin(x.T[:1].expand(4, n_in)), kind)


@pytest.mark.parametrize("kind", KINDS)
def test_embedding(kind: str) -> None:
    layer, twin = pair(nn.Embedding(50, 33, padding_idx=3), kind)
    for indices in (
        torch.tensor([[0, 49, 3], [7, 7, 8]]),
        torch.tensor(49),
        torch.tensor([], dtype=torch.long),
        torch.arange(50, dtype=torch.int32),
        torch.arange(50).flip(0)[::3],
        torch.randint(0, 50, (4, 300)),
    ):
        assert torch.equal(layer(indices), twin(indices))


@pytest.mark.parametrize("kind", FLOATS)
def test_conv1d(kind: str) -> None:
    layer, twin = pair(Conv1D(33, 20), kind)
    x = torch.randn(2, 3, 33).to(twin.weight.dtype)
    assert torch.equal(layer(x), twin(x))


@pytest.mark.parametrize("kind", ["bcq, bitmap", "trellis", "F32"])
def test_convolutions(kind: str) -> None:
    layer, twin = pair(nn.Conv2d(3, 8, 3, padding=1), kind)
    x = torch.randn(2, 3, 9, 9, requires_grad=True)
    assert torch.equal(layer(x), twin(x))
    (gradient,) = torch.autograd.grad(layer(x).square().sum(), x)
    assert torch.equal(gradient, torch.autograd.grad(twin(x).square().sum(), x)[0])


@pytest.mark.parametrize("kind", ["bcq, block", "trellis", "F32", "BF16"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_types_of_x(kind: str, dtype: torch.dtype) -> None:
    layer, twin = pair(nn.Linear(64, 32), kind)
    for n in (5, 30):  # by the fused product, and decoded
        x = torch.randn(n, 64, dtype=dtype)
        agree(layer.to(dtype)(x), twin.to(dtype)(x), kind, product(layer, kind, x))


@pytest.mark.parametrize("kind", ["bcq, block", "trellis", "F32", "BF16"])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_autocast(kind: str, dtype: torch.dtype) -> None:
    layer, twin = pair(nn.Linear(64, 32), kind)
    x = torch.randn(5, 64, requires_grad=True)
    with torch.autocast("cpu", dtype):
        found, expected = layer(x), twin(x)
    agree(found, expected, kind, product(layer, kind, x.to(dtype)))
    assert found.dtype == dtype
    found.sum().backward()
    assert x.grad is not None
    assert x.grad.dtype == torch.float32


@pytest.mark.parametrize("kind", ["bcq, block", "trellis", "F32"])
def test_inference_mode(kind: str) -> None:
    with torch.inference_mode():
        layer, twin = pair(nn.Linear(64, 32), kind)
        x = torch.randn(5, 64)
        agree(layer(x), twin(x), kind)
    layer, twin = pair(nn.Linear(64, 32), kind)
    with torch.inference_mode():
        agree(layer(x), twin(x), kind)
    agree(layer(x.clone()), twin(x.clone()), kind)


@pytest.mark.parametrize("kind", ["bcq, block", "trellis", "F32"])
def test_gradients_are_those_of_the_dense_layer(kind: str) -> None:
    layer, twin = pair(nn.Linear(33, 7), kind)
    x = torch.randn(2, 3, 33, requires_grad=True)
    for module in (layer, twin):
        module(x).square().sum().backward()
    found = torch.autograd.grad(layer(x).square().sum(), (x, layer.bias))
    expected = torch.autograd.grad(twin(x).square().sum(), (x, twin.bias))
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("kind", ["bcq, block", "trellis", "F32"])
def test_gradients_are_derivatives(kind: str) -> None:
    layer, _ = pair(nn.Linear(9, 4), kind)
    layer.double()
    x = torch.randn(3, 9, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(layer, (x,), eps=1e-3, atol=1e-3)
    assert torch.autograd.gradgradcheck(layer, (x,), eps=1e-3, atol=1e-3)


@pytest.mark.parametrize("kind", ["bcq, block", "trellis", "F32"])
def test_functions_that_know_nothing_of_encoded_weights(kind: str) -> None:
    encoded, plain = weight(kind, (8, 12)), dense(kind, (8, 12))
    x = torch.randn(5, 12)
    assert torch.equal(torch.matmul(x, torch.transpose(encoded, 0, 1)), x @ plain.T)
    assert torch.equal(torch.stack([encoded, plain]), torch.stack([plain, plain]))
    assert torch.equal(torch.nn.functional.linear(encoded, plain), plain @ plain.T)
    assert torch.equal(torch.nn.functional.linear(x, plain), x @ plain.T)
    assert torch.equal(encoded(), plain)


def test_attention_of_pytorch() -> None:
    layer = nn.MultiheadAttention(16, 2, batch_first=True)
    layer, twin = pair(layer, "trellis", "in_proj_weight")
    x = torch.randn(2, 5, 16, requires_grad=True)
    assert torch.equal(layer(x, x, x)[0], twin(x, x, x)[0])


def test_what_a_weight_says_of_itself() -> None:
    found = weight("trellis", (64, 32), name="a.weight")
    assert found.shape == torch.Size([64, 32])
    assert (found.ndim, found.dim(), found.size(0), found.size(), found.numel()) == (
        2,
        2,
        64,
        found.shape,
        2048,
    )
    assert (found.dtype, found.device, found.is_meta) == (torch.float32, torch.device("cpu"), False)
    assert not found.requires_grad
    assert found.data is found
    assert "XorWeight((64, 32), trellis, 2." in repr(nn.Sequential(found))
    assert "bits per weight" in repr(found)
    assert "((64, 32), tied)" in repr(xorpack.torch.TiedWeight(found))
    assert isinstance(found, XorWeight)


def test_where_nobody_watches_no_operator_is_called(monkeypatch: pytest.MonkeyPatch) -> None:
    """It takes longer than a small product; what it gives is the same, and whoever watches sees it."""
    seen: list[str] = []

    class Watch(TorchDispatchMode):
        def __torch_dispatch__(self, op: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            seen.append(str(op))
            return op(*args, **(kwargs or {}))

    layer, _ = pair(nn.Linear(64, 32), "trellis")
    x = torch.randn(2, 64)
    expected = layer(x)
    with torch.no_grad(), Watch():
        assert torch.equal(layer(x), expected)
    assert "xorpack.linear.default" in seen
    monkeypatch.setattr(ops, "linear", None)
    for quiet in (torch.no_grad(), torch.inference_mode()):
        with quiet:
            assert torch.equal(layer(x), expected)
    with pytest.raises(TypeError):
        layer(x)


@pytest.mark.parametrize("dtype", ["F8_E4M3", "F8_E5M2", "I16", "I32"])
def test_elements_of_other_types(dtype: str) -> None:
    """What stands in files beside the weights of layers: decoded, it is the very tensor."""
    kind = DTYPES_OF_FILES[dtype]
    array = pruned((24, 70), 0.4, kind) if dtype.startswith("F8") else halves((24, 70), kind.type)
    wanted = to_torch(array)
    assert to_numpy(wanted).tobytes() == array.tobytes()
    weight = XorWeight.of(xorpack.encode(array))
    assert weight.dense().dtype == wanted.dtype
    assert torch.equal(weight.dense().view(torch.uint8), wanted.view(torch.uint8))
    assert torch.equal(weight.rows(torch.tensor([5, 0])).view(torch.uint8), wanted.view(torch.uint8)[[5, 0]])
    if dtype.startswith("F8"):
        x = torch.randn(3, 70)
        found = XorWeight.of(xorpack.encode(array), dtype=torch.float32).product(x, None)
        assert torch.equal(found, nn.functional.linear(x, wanted.float()))
