"""Compiled models: in one graph, compiled once for all layers of a class, whatever happens to their weights."""

from __future__ import annotations

import copy
import shutil
from collections.abc import Callable, Iterator
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from torch import nn
from torch_cases import QUANTIZED, Conv1D, encoded, model, pair, weight

from xorpack.torch import ops, put

INDICES = torch.tensor([[1, 5, 49], [0, 2, 2]])
FULL = {"fullgraph": True, "backend": "aot_eager"}


@pytest.fixture(autouse=True)
def _forget() -> Iterator[None]:
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


@pytest.mark.parametrize("kind", ["bcq, block", "trellis", "F32"])
def test_whole_models(kind: str) -> None:
    plain = model(kind)
    compiled = torch.compile(plain, **FULL)
    assert torch.equal(compiled(INDICES), plain(INDICES))
    assert torch.equal(compiled(INDICES[:1]), plain(INDICES[:1]))


@pytest.mark.parametrize("layer", [nn.Linear(33, 20), Conv1D(33, 20)], ids=["Linear", "Conv1D"])
def test_gradients(layer: nn.Module) -> None:
    plain, _ = pair(layer, "trellis")
    compiled = torch.compile(plain, **FULL)
    x = torch.randn(4, 33, requires_grad=True)
    for module in (plain, compiled):
        (module(x).square().sum()).backward()
    found = torch.autograd.grad(compiled(x).square().sum(), x)[0]
    assert torch.equal(found, torch.autograd.grad(plain(x).square().sum(), x)[0])


def test_what_happens_to_a_model_that_is_compiled() -> None:
    plain, other = model("trellis"), model("bcq, block", seed=1)
    compiled = torch.compile(plain, **FULL)
    compiled(INDICES)
    compiled.load_state_dict({f"_orig_mod.{key}": value for key, value in other.state_dict().items()})
    assert torch.equal(compiled(INDICES), other(INDICES))
    copied = copy.deepcopy(plain)
    assert torch.equal(torch.compile(copied, **FULL)(INDICES), other(INDICES))
    half = copied.to(torch.bfloat16)
    assert torch.equal(torch.compile(half, **FULL)(INDICES), half(INDICES))


def test_autocast() -> None:
    plain, _ = pair(nn.Linear(33, 20), "trellis")
    compiled = torch.compile(plain, **FULL)
    x = torch.randn(4, 33)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(compiled(x), plain(x))


def test_sizes_that_are_not_fixed() -> None:
    plain, _ = pair(nn.Linear(33, 20), "trellis")
    seen: list[Any] = []
    compiled = torch.compile(plain, fullgraph=True, dynamic=True, backend=_counting(seen))
    for n in (2, 3, 5, 17):
        x = torch.randn(n, 33)
        assert torch.equal(compiled(x), plain(x))
    assert len(seen) == 1


class Block(nn.Module):
    """A layer of a stack."""

    def __init__(self, kind: str, seed: int) -> None:
        super().__init__()
        self.linear = nn.Linear(64, 64)
        # Of different sizes, as corrections and outliers of layers are.
        put(self.linear, "weight", weight(kind, (64, 64)))
        self.norm = nn.LayerNorm(64)
        self.seed = seed  # what an attribute of a number would do

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.linear(self.norm(x))


def _counting(seen: list[Any]) -> Callable[[Any, Any], Any]:
    def backend(graph: Any, inputs: Any) -> Any:
        seen.append(graph)
        return graph.forward

    return backend


@pytest.mark.parametrize("kinds", [("trellis",) * 20, QUANTIZED])
def test_layers_of_a_class_are_compiled_once(kinds: tuple[str, ...]) -> None:
    """More of them than a code object may have been compiled for, of sections of all sizes."""
    stack = nn.Sequential(*(Block(kind, i) for i, kind in enumerate(kinds)))
    x = torch.randn(3, 64)
    with torch.no_grad():
        expected = stack(x)
    seen: list[Any] = []
    backend = _counting(seen)
    for block in stack:
        block.compile(fullgraph=True, backend=backend)
    with torch._dynamo.config.patch(error_on_recompile=True), torch.no_grad():
        assert torch.equal(stack(x), expected)
    assert len(seen) == 1


@pytest.mark.skipif(shutil.which("g++") is None, reason="inductor needs a C++ compiler")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # PyTorch's own
@pytest.mark.slow
def test_inductor() -> None:
    plain, _ = pair(nn.Linear(33, 20), "trellis")
    compiled = torch.compile(plain, fullgraph=True)
    x = torch.randn(4, 33, requires_grad=True)
    assert torch.equal(compiled(x), plain(x))
    compiled(x).square().sum().backward()
    assert x.grad is not None


def _of_linear(trained: bool) -> tuple[Any, ...]:
    found = weight("trellis", (20, 33))
    x = torch.randn(2, 4, 33, requires_grad=True)
    scales = torch.rand(20, 1, requires_grad=True) if trained else None
    return found, x, scales


@pytest.mark.parametrize("trained", [False, True])
def test_operators_are_what_pytorch_asks_for(trained: bool) -> None:
    found, x, scales = _of_linear(trained)
    bias = torch.randn(20, requires_grad=True)
    torch.library.opcheck(ops.linear, (x, bias, scales, found.handle, 20))
    torch.library.opcheck(ops.linear, (x, None, scales, found.handle, 20))
    gradient = torch.randn(2, 4, 20, requires_grad=True)
    torch.library.opcheck(ops.input_gradient, (gradient, None, found.handle, 33))
    decoding = (scales, found.handle, [20, 33], torch.float32, torch.device("cpu"))
    torch.library.opcheck(ops.decode, decoding)
    indices = torch.tensor([[3, 19], [0, 3]])
    torch.library.opcheck(ops.rows, (indices, scales, found.handle, [33], torch.float32, -1))
    torch.library.opcheck(ops.scale_gradient, (torch.randn(20, 33), None, found.handle, [20, 1]))
    torch.library.opcheck(ops.scale_gradient, (torch.randn(4, 33), indices, found.handle, [20, 1]))


def test_cases_are_of_one_shape() -> None:
    sizes = {encoded(kind, (64, 64)).section_bytes()["mask"] for kind in QUANTIZED}
    assert len(sizes) > 2
