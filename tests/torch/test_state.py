"""Encoded weights are saved, copied, moved, cast and loaded as any weight is, and their sections keep their bytes."""

from __future__ import annotations

import copy
import dataclasses
import io
import pickle
from collections.abc import Callable
from typing import Any

import pytest

torch = pytest.importorskip("torch")

import numpy as np
from torch import nn
from torch_cases import KINDS, close, dense, encoded, model, pair, weight

import xorpack
from xorpack.errors import CorruptError, ParameterError
from xorpack.torch import TiedWeight, XorWeight, decode_module

INDICES = torch.tensor([[1, 5, 49], [0, 2, 2]])


def bytes_of(module: nn.Module) -> dict[str, Any]:
    """All sections."""
    return {
        f"{name}.{section}": tensor.flatten().view(torch.uint8).tolist()
        for name, weight in module.named_modules()
        if isinstance(weight, XorWeight)
        for section, tensor in weight.sections().items()
    }


def saved(module: nn.Module) -> nn.Module:
    buffer = io.BytesIO()
    torch.save(module, buffer)
    buffer.seek(0)
    found: nn.Module = torch.load(buffer, weights_only=False)
    return found


COPIES: dict[str, Callable[[nn.Module], nn.Module]] = {
    "deepcopy": copy.deepcopy,
    "pickle": lambda module: pickle.loads(pickle.dumps(module)),
    "torch.save": saved,
    "share_memory": lambda module: copy.deepcopy(module).share_memory(),
    "channels_last": lambda module: copy.deepcopy(module).to(memory_format=torch.channels_last),
    "cpu": lambda module: copy.deepcopy(module).cpu(),
}


@pytest.mark.parametrize("how", COPIES)
@pytest.mark.parametrize("kind", ["bcq, cascade", "trellis", "F32"])
def test_copies(kind: str, how: str) -> None:
    original = model(kind)
    expected = original(INDICES)
    found = COPIES[how](original)
    assert torch.equal(found(INDICES), expected)
    assert bytes_of(found) == bytes_of(original)
    assert found.head.weight.source is found.embedding.weight
    assert found.embedding.weight is not original.embedding.weight
    assert int(found.embedding.weight.handle) != int(original.embedding.weight.handle)
    del original
    assert torch.equal(found(INDICES), expected)


def test_a_copy_does_not_share_sections() -> None:
    original = model()
    found = copy.deepcopy(original)
    found.first.weight.xor_code.zero_()
    assert torch.equal(original.first.weight(), dense("trellis", (33, 40)))


@pytest.mark.parametrize("kind", KINDS)
def test_casts_leave_sections_alone(kind: str) -> None:
    layer, twin = pair(nn.Linear(40, 33, bias=False), kind)
    before = bytes_of(layer)
    own = twin.weight.dtype
    for cast, dtype in (
        (nn.Module.half, torch.float16),
        (nn.Module.bfloat16, torch.bfloat16),
        (nn.Module.double, torch.float64),
        (lambda module: module.to(torch.float32), torch.float32),
        (lambda module: module.type(torch.float16), torch.float16),
    ):
        cast(layer)
        expected = dtype if own.is_floating_point else own
        assert layer.weight.dtype == (
            expected if kind != "I8" or dtype != torch.float16 else layer.weight.dtype
        )
        assert bytes_of(layer) == before
        assert torch.equal(layer.weight(), twin.weight.to(layer.weight.dtype))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("assign", [False, True])
def test_state_dicts(kind: str, assign: bool) -> None:
    layer, twin = pair(nn.Linear(40, 33, bias=False), kind)
    state = layer.state_dict()
    assert {key.removeprefix("weight.xor_") for key in state} == {
        *encoded(kind, (33, 40)).sections(),
        "record",
    }
    for other in (kind, "F32", "trellis", "bcq, block"):  # of another encoding, too
        fresh = copy.deepcopy(pair(nn.Linear(40, 33, bias=False), other)[0])
        fresh.load_state_dict(state, strict=True, assign=assign)
        assert torch.equal(fresh.weight(), twin.weight.to(fresh.weight.dtype))
        assert fresh.weight.record == layer.weight.record


def test_a_state_dict_stands_for_a_file() -> None:
    state = model("bcq, block").state_dict()
    sections = {
        key.removeprefix("first.weight.xor_"): value.numpy()
        for key, value in state.items()
        if key.startswith("first.weight.xor_")
    }
    record = sections.pop("record")
    found = xorpack.from_sections(record, sections, name="first.weight")
    assert np.array_equal(xorpack.decode(found).dequantize(), dense("bcq, block", (33, 40)).numpy())


def test_meta_and_back() -> None:
    original = model()
    state, expected = original.state_dict(), original(INDICES)
    empty = copy.deepcopy(original).to("meta")
    assert empty.first.weight.is_meta
    assert empty(INDICES.to("meta")).shape == (2, 3, 50)
    with pytest.raises(ParameterError, match="its sections were not loaded"):
        empty.first.weight.encoded()
    empty.to_empty(device="cpu")
    empty.load_state_dict(state)
    assert torch.equal(empty(INDICES), expected)
    assigned = copy.deepcopy(original).to("meta")
    assigned.load_state_dict(state, assign=True)
    assert torch.equal(assigned(INDICES), expected)


def test_sections_without_bytes_are_no_random_matrix() -> None:
    empty = copy.deepcopy(model()).to("meta").to_empty(device="cpu")
    with torch.no_grad():
        for buffer in empty.buffers():
            buffer.zero_()
    with pytest.raises(CorruptError, match="do not match their checksum"):
        empty(INDICES)


def test_sections_that_change_are_seen() -> None:
    found = weight("bcq, block", (33, 40))
    found()
    found.xor_scales.mul_(2)
    with pytest.raises(CorruptError, match="do not match their checksum"):
        found()
    other = weight("trellis", (33, 40))
    other.load_state_dict(weight("bcq, block", (33, 40)).state_dict())
    assert torch.equal(other(), dense("bcq, block", (33, 40)))


def test_state_dicts_that_do_not_fit() -> None:
    layer, _ = pair(nn.Linear(40, 33, bias=False), "trellis")
    with pytest.raises(RuntimeError, match=r"(?s)Missing key.*xor_code.*Unexpected key.*: \"weight\""):
        layer.load_state_dict({"weight": torch.zeros(33, 40)})
    with pytest.raises(RuntimeError, match=r"of shape \[40, 33\] cannot be loaded into \[33, 40\]"):
        layer.load_state_dict(pair(nn.Linear(33, 40, bias=False), "F32")[0].state_dict())
    state = layer.state_dict()
    state["weight.xor_record"] = state["weight.xor_record"].flip(0)
    with pytest.raises(RuntimeError, match="weight: record: "):
        layer.load_state_dict(state)
    del state["weight.xor_record"], state["weight.xor_code"]
    with pytest.raises(RuntimeError, match=r"Missing key\(s\).*xor_code"):
        layer.load_state_dict(state)


def test_tied_weights_are_saved_once() -> None:
    found = model("bcq, block")
    assert isinstance(found.head.weight, TiedWeight)
    assert [key for key in found.state_dict() if key.startswith("head")] == ["head.bias"]
    found.to(torch.bfloat16)
    assert found.head.weight.dtype == found.embedding.weight.dtype == torch.bfloat16


@pytest.mark.parametrize("kind", ["bcq, block", "trellis", "F32"])
def test_decoded_modules(kind: str) -> None:
    original = model(kind)
    expected = original(INDICES)
    found = decode_module(copy.deepcopy(original))
    assert found.head.weight is found.embedding.weight
    assert not found.first.weight.requires_grad
    assert {type(module) for module in found.modules()} == {type(found), nn.Embedding, nn.Linear}
    close(found(INDICES), expected)
    assert torch.equal(found.first.weight, dense(kind, (33, 40)))
    half = decode_module(copy.deepcopy(original), torch.float16)
    assert half.first.weight.dtype == half.head.weight.dtype == torch.float16


def test_a_weight_of_one_element() -> None:
    tensor = xorpack.quantize(np.array([[2.5]], np.float32), method="trellis", rate=2, window=8)
    found = XorWeight.of(xorpack.encode(dataclasses.replace(tensor, scales=np.ones(1, np.float32)[:, None])))
    expected = found()
    assert torch.equal(found.half().float()(), expected)
