"""Scales that are trained: their gradients, what becomes of them, and the files that hold them."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")

import numpy as np
from safetensors import safe_open
from safetensors.numpy import load_file, save_file
from torch import nn
from torch_cases import Conv1D, close, encoded, model, pair

import xorpack
from xorpack.code.scales import scale_values
from xorpack.code.words import unpack
from xorpack.decoders import reference
from xorpack.errors import DataError, DestinationError, FormatError, MismatchError, ParameterError
from xorpack.torch import XorWeight, freeze_scales, load_scales, put, save_scales, trainable_scales
from xorpack.torch.arrays import to_torch

INDICES = torch.tensor([[1, 5, 49], [0, 2, 2]])
KINDS = ("bcq, block", "bcq, constant", "trellis", "trellis, masked, gains")


def explicit(
    kind: str, shape: tuple[int, ...]
) -> tuple[Callable[[torch.Tensor], torch.Tensor], torch.Tensor]:
    """The weight as a function of its scales, by the formula, float64; and the scales."""
    tensor = encoded(kind, shape)
    rows, cols = tensor.rows, tensor.cols
    mask, planes = reference.decode_planes(tensor)
    signs = torch.from_numpy(np.where(unpack(planes, cols), 1.0, -1.0) * unpack(mask, cols))
    group = tensor.group_size or cols
    columns = torch.arange(cols) // group
    if tensor.kind == "bcq":
        scales = torch.from_numpy(tensor.scales.astype(np.float64))
        return lambda s: (signs * s[:, columns].permute(2, 0, 1)).sum(0), scales
    trellis = tensor.trellis(None)
    unit = (signs * torch.from_numpy(trellis.a.astype(np.float64))[:, None, None]).sum(0)
    if trellis.gains is not None:
        unit = unit * torch.from_numpy(trellis.gains.astype(np.float64))
    apart = torch.zeros(rows * cols, dtype=torch.float64)
    apart[torch.from_numpy(trellis.positions)] = (
        torch.from_numpy(trellis.values.astype(np.float64)) * trellis.outlier_unit
    )
    free = apart.reshape(rows, cols) == 0
    assert bool((~free).any()) == bool(len(trellis.positions))
    scales = torch.from_numpy(scale_values(tensor.scales).astype(np.float64))
    return lambda s: torch.where(free, unit * s[:, columns], apart.reshape(rows, cols)), scales


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["linear", "conv1d", "embedding"])
def test_gradients_by_the_formula(kind: str, name: str) -> None:
    layers: dict[str, nn.Module] = {
        "linear": nn.Linear(70, 33, bias=False),
        "conv1d": Conv1D(33, 70),
        "embedding": nn.Embedding(33, 70, padding_idx=2),
    }
    layer, _ = pair(layers[name], kind)
    formula, values = explicit(kind, (33, 70))
    values = values.requires_grad_()
    plain = formula(values)
    torch.testing.assert_close(layer.weight(), plain.float())
    (scales,) = trainable_scales(layer)
    assert torch.equal(scales, values.float())
    x = INDICES % 33 if name == "embedding" else torch.randn(2, 5, 70 if name == "linear" else 33)
    found = layer(x)
    direction = torch.randn(found.shape)
    (found * direction).sum().backward()
    kept = direction.double() * (x != 2)[..., None] if name == "embedding" else direction.double()
    twins: dict[str, Callable[[], torch.Tensor]] = {
        "linear": lambda: x.double() @ plain.T,
        "conv1d": lambda: x.double() @ plain,
        "embedding": lambda: plain[x],
    }
    (twins[name]() * kept).sum().backward()
    assert values.grad is not None
    torch.testing.assert_close(scales.grad, values.grad.float(), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_are_derivatives(kind: str) -> None:
    layer, _ = pair(nn.Linear(9, 4), kind)
    layer.double()
    (scales,) = trainable_scales(layer)
    x = torch.randn(3, 9, dtype=torch.float64, requires_grad=True)

    def of(x: torch.Tensor, scales: torch.Tensor) -> Any:
        return xorpack.torch.ops.linear(x, None, scales, layer.weight.handle, 4)

    wide = scales.detach().clone().requires_grad_()
    with pytest.warns(UserWarning, match="double precision"):
        assert torch.autograd.gradcheck(of, (x, wide), eps=2**-7, atol=1e-3)


def test_training_by_distillation() -> None:
    torch.manual_seed(0)
    teacher, student = nn.Linear(70, 33), nn.Linear(70, 33)
    student.bias = teacher.bias
    weight = teacher.weight.detach().numpy()
    quantized = xorpack.quantize(weight, method="trellis", rate=1, window=8, group_size=10)
    put(student, "weight", XorWeight.of(xorpack.encode(quantized)))
    x = torch.randn(200, 70) @ torch.randn(70, 70).tril()  # neither white nor alike
    target = teacher(x).detach()
    optimizer = torch.optim.Adam(trainable_scales(student), lr=1e-2)
    losses = []
    for _ in range(40):
        loss = (student(x) - target).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.9 * losses[0]
    freeze_scales(student)
    assert (student(x) - target).square().mean().item() < 0.9 * losses[0]


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_changes_before_a_step(kind: str) -> None:
    original = model(kind)
    expected, weight, state = original(INDICES), original.first.weight(), original.state_dict()
    first = trainable_scales(original)
    assert all(one is other for one, other in zip(first, trainable_scales(original), strict=True))
    assert len(first) == 3
    assert {scales.dtype for scales in first} == {torch.float32}
    assert torch.equal(original.first.weight(), weight)
    close(original(INDICES), expected)
    assert "scales trained" in repr(original)
    freeze_scales(original)
    after = original.state_dict()
    assert set(after) == set(state)
    for key, value in state.items():
        assert torch.equal(after[key].view(torch.uint8), value.view(torch.uint8)), key
    assert not list(original.first.weight.parameters())


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("factor", [0.9, 1.3, 1e6])
def test_frozen_scales_are_a_file_again(kind: str, factor: float) -> None:
    layer, _ = pair(nn.Linear(70, 33, bias=False), kind)
    (scales,) = trainable_scales(layer)
    with torch.no_grad():
        scales.mul_(factor * torch.linspace(0.9, 1, 33).reshape(-1, *[1] * (scales.dim() - 1)))
    expected = layer.weight()
    freeze_scales(layer)
    state = layer.state_dict()
    sections = {key.removeprefix("weight.xor_"): value.numpy() for key, value in state.items()}
    found = xorpack.from_sections(sections.pop("record"), sections)
    decoded = to_torch(xorpack.decode(found).dequantize())
    assert torch.equal(layer.weight(), decoded)
    bound = 0.012 if sections["scales"].dtype == np.uint8 else 1e-3
    assert (decoded - expected).abs().max() <= bound * expected.abs().max()
    fresh, _ = pair(nn.Linear(70, 33, bias=False), kind)
    fresh.load_state_dict(state)
    assert torch.equal(fresh.weight(), decoded)


def test_scales_that_are_trained_in_copies_and_casts() -> None:
    original = model()
    (first, *_) = trainable_scales(original)
    copied = copy.deepcopy(original)
    assert copied.embedding.weight.trained is not first
    optimizer = torch.optim.SGD(trainable_scales(copied), lr=0.1)
    copied.to(torch.bfloat16)
    assert {scales.dtype for scales in trainable_scales(copied)} == {torch.float32}
    before = copied.first.weight.trained.clone()
    copied(INDICES).float().square().sum().backward()
    optimizer.step()
    assert not torch.equal(before, copied.first.weight.trained)
    state = copied.state_dict()
    original.load_state_dict(state)
    assert torch.equal(original.first.weight.trained, copied.first.weight.trained)
    on_meta = copied.to("meta")
    assert on_meta.first.weight.trained.is_meta


def test_compiled() -> None:
    torch._dynamo.reset()
    layer, _ = pair(nn.Linear(70, 33), "trellis")
    (scales,) = trainable_scales(layer)
    x = torch.randn(3, 70)
    compiled = torch.compile(layer, fullgraph=True, backend="aot_eager")
    expected = torch.autograd.grad(layer(x).square().sum(), scales)[0]
    assert torch.equal(torch.autograd.grad(compiled(x).square().sum(), scales)[0], expected)


def test_deltas(tmp_path: Path) -> None:
    base, path = model("trellis"), tmp_path / "task.safetensors"
    task = copy.deepcopy(base)
    with torch.no_grad():
        for scales in trainable_scales(task):
            scales.mul_(0.8)
    with pytest.raises(ParameterError, match="its scales are being trained; call freeze_scales first"):
        save_scales(task, path)
    freeze_scales(task)
    save_scales(task, path)
    with pytest.raises(DestinationError, match="exists"):
        save_scales(task, path)
    assert set(load_file(path)) == {f"{name}.weight.xor_scales" for name in ("embedding", "first", "second")}
    fresh = copy.deepcopy(base)
    assert not torch.equal(fresh(INDICES), task(INDICES))
    load_scales(fresh, path)
    assert torch.equal(fresh(INDICES), task(INDICES))
    for key, value in task.state_dict().items():
        assert torch.equal(fresh.state_dict()[key].view(torch.uint8), value.view(torch.uint8)), key
    save_scales(base, path, overwrite=True)
    load_scales(fresh, path)
    assert torch.equal(fresh(INDICES), base(INDICES))


def test_deltas_that_do_not_fit(tmp_path: Path) -> None:
    path, other = tmp_path / "task.safetensors", tmp_path / "other.safetensors"
    base = model("trellis")
    save_scales(base, path)
    before = base.state_dict()
    with pytest.raises(MismatchError, match="were trained with other codes"):
        load_scales(model("trellis, masked, gains"), path)
    with pytest.raises(MismatchError, match=r"no quantized weight 'embedding\.weight'"):
        load_scales(pair(nn.Linear(70, 33), "trellis")[0], path)
    with pytest.raises(ParameterError, match="no quantized weight"):
        load_scales(model("F32"), path)
    save_file({"a": np.zeros(2)}, other)
    with pytest.raises(FormatError, match="no file of scales"):
        load_scales(base, other)
    tensors = load_file(path)
    with safe_open(path, "numpy") as file:
        metadata = file.metadata()
    for change, message in (
        ({"second.weight.xor_scales": np.zeros((2, 2), np.float16)}, r"are of shape \(2, 2\)"),
        ({"second.weight.xor_scales": np.full((40, 1), np.nan, np.float16)}, "NaN"),
        ({"second.weight.xor_scales": np.zeros((40, 1))}, "is F64"),
        ({"third.weight.xor_scales": np.zeros((40, 1), np.float16)}, "are not those that its metadata names"),
    ):
        save_file(tensors | change, other, metadata)
        with pytest.raises((FormatError, MismatchError), match=message):
            load_scales(base, other)
    for key, value in base.state_dict().items():
        assert torch.equal(before[key], value)


def test_what_has_no_scales() -> None:
    with pytest.raises(ParameterError, match="Linear has no quantized weight: lossless ones"):
        trainable_scales(pair(nn.Linear(9, 4), "F32")[0])
    layer, _ = pair(nn.Linear(9, 4), "trellis")
    (scales,) = trainable_scales(layer)
    scales.data[0] = torch.nan
    with pytest.raises(DataError, match="'weight': scales are NaN"):
        freeze_scales(layer)
    assert isinstance(layer.weight, XorWeight)


def test_the_page_of_docs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = Path(__file__).parents[2] / "docs" / "tuning.md"
    if not page.is_file():
        pytest.skip("no docs beside these tests")
    monkeypatch.chdir(tmp_path)
    sources = re.findall(
        r"^```python\n(.*?)^```$", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL
    )
    names: dict[str, Any] = {}
    for source in sources[1:]:  # the first has a model that the reader brings
        exec(source, names)
    x = torch.randn(5, 64)
    assert torch.equal(names["other"](x), names["student"](x))
