"""What cannot be is said in a line, as a dense layer says it where that has an error of its own."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")

from torch import nn
from torch_cases import encoded, model, pair, weight

from xorpack.errors import DeviceError, ParameterError
from xorpack.torch import XorWeight, ops, put, tie


@pytest.mark.parametrize("kind", ["bcq, block", "trellis", "F32"])
def test_types_that_do_not_match(kind: str) -> None:
    layer, twin = pair(nn.Linear(12, 8), kind)
    for dtype in (torch.float64, torch.bfloat16):
        x = torch.zeros(2, 12, dtype=dtype)
        with pytest.raises(RuntimeError):
            twin(x)
        with pytest.raises(
            RuntimeError, match=f"x is {dtype}, and the encoded weight decodes to torch.float32"
        ):
            layer(x)
    layer.bias.data = layer.bias.data.half()
    with pytest.raises(RuntimeError, match=r"the bias is torch.float16: cast one"):
        layer(torch.zeros(2, 12))


def test_shapes_that_do_not_match() -> None:
    layer, twin = pair(nn.Linear(12, 8), "trellis")
    for module in (layer, twin):
        with pytest.raises(RuntimeError, match="cannot be multiplied"):
            module(torch.zeros(2, 13))


def test_embeddings() -> None:
    layer, _ = pair(nn.Embedding(50, 33), "trellis")
    with pytest.raises(IndexError, match="row 50 is outside the 50 rows"):
        layer(torch.tensor([0, 50]))
    with pytest.raises(IndexError, match="row -1 is outside"):
        layer(torch.tensor([3, -1]))
    with pytest.raises(RuntimeError, match=r"indices of an embedding are torch.float32, not int32"):
        layer(torch.zeros(3))
    layer.max_norm = 1.0
    with pytest.raises(ParameterError, match="max_norm changes rows"):
        layer(torch.tensor([0]))


def test_places_that_a_weight_does_not_fit() -> None:
    found = weight("trellis", (12, 8), name="a.weight")
    with pytest.raises(
        ParameterError, match=r"'a.weight' is \(12, 8\), and Linear has 'weight' of \(8, 12\)"
    ):
        put(nn.Linear(12, 8), "weight", found)
    with pytest.raises(ParameterError, match="Linear has no parameter 'wait'"):
        put(nn.Linear(8, 12), "wait", found)
    with pytest.raises(ParameterError, match="Linear has no parameter 'bias'"):
        tie(nn.Linear(8, 12, bias=False), "bias", found)
    with pytest.raises(ParameterError, match="LSTM keeps its weights in lists of its own"):
        put(nn.LSTM(2, 3), "weight_ih_l0", found)


def test_a_weight_that_is_gone() -> None:
    handle = weight("trellis", (12, 8)).handle
    with pytest.raises(ParameterError, match="no encoded weight has the handle"):
        ops.linear(torch.zeros(1, 8), None, None, handle, 12)


def test_a_gpu_without_cupy() -> None:
    found = XorWeight.of(encoded("trellis", (12, 8))).loaded(None)
    found.device = torch.device("cuda", 0)
    try:
        import cupy  # noqa: F401
    except ImportError:
        with pytest.raises(DeviceError, match="CuPy"):
            _ = found._on_gpu
    else:
        pytest.skip("CuPy is here")


def test_tied_layers_follow_their_source() -> None:
    found = model()
    found.embedding.weight.name = "embedding.weight"
    with pytest.raises(ParameterError, match=r"'embedding.weight' is \(50, 40\)"):
        tie(nn.Linear(40, 33), "weight", found.embedding.weight)
