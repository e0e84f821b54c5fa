"""Models that are encoded in memory: the same tensors, by the same rules, as those of their checkpoints."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")

import numpy as np
from safetensors.torch import save_file
from torch import nn

import xorpack
from xorpack.errors import DataError, ParameterError
from xorpack.torch import TiedWeight, XorWeight, decode_module, encode_module, put
from xorpack.torch.arrays import to_torch

INDICES = torch.tensor([[1, 5, 49], [0, 2, 2]])


class Model(nn.Module):
    """An embedding that is its own head, two layers, a norm."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.embed_tokens = nn.Embedding(400, 96)
        self.up, self.down = nn.Linear(96, 160), nn.Linear(160, 96)
        self.norm = nn.LayerNorm(96)
        self.lm_head = nn.Linear(96, 400, bias=False)
        self.lm_head.weight = self.embed_tokens.weight

    def forward(self, indices: torch.Tensor) -> torch.Tensor:
        hidden = self.embed_tokens(indices)
        return self.lm_head(self.norm(hidden + self.down(torch.relu(self.up(hidden)))))


def encoded_names(model: nn.Module) -> set[str]:
    return {name for name, module in model.named_modules() if isinstance(module, XorWeight)}


@pytest.mark.parametrize(
    "options",
    [
        {"bits": 2, "sparsity": 0.5},
        {"rate": 2},
        {"target_bits": 3},
        {"lossless": True},
        {"include": ["re:.*"], "exclude": ["norm", "bias"], "rate": 1.5},
        {"bits": 1, "sparsity": 0.8, "scope": "global"},
    ],
    ids=lambda options: ", ".join(options),
)
def test_the_tensors_of_the_checkpoint(options: dict[str, Any], tmp_path: Path) -> None:
    model = Model()
    tensors = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    save_file(tensors, tmp_path / "model.safetensors")
    expected = xorpack.encode_checkpoint(
        tmp_path / "model.safetensors", tmp_path / "out.safetensors", **options
    )
    dense = Model()
    report = encode_module(model, jobs=2, **options)
    assert encoded_names(model) == set(report.accounts) == set(expected.accounts)
    assert report.left_out == expected.left_out
    assert (report.accounts, report.n_parameters) == (expected.accounts, expected.n_parameters)
    assert report.distortions == expected.distortions
    assert report.stored_bytes == pytest.approx(expected.stored_bytes, rel=0.01, abs=2000)
    with xorpack.open(tmp_path / "out.safetensors") as file:
        for name, tensor in file.items():
            decoded = xorpack.decode(tensor)
            array = decoded if isinstance(decoded, np.ndarray) else decoded.dequantize()
            assert torch.equal(model.get_submodule(name)(), to_torch(array))
            dense.get_parameter(name).data = to_torch(array)
    tied = isinstance(model.lm_head.weight, TiedWeight)
    assert tied == ("embed_tokens.weight" in report.accounts)
    if tied:
        assert model.lm_head.weight.source is model.embed_tokens.weight
    torch.testing.assert_close(model(INDICES), dense(INDICES), rtol=1e-4, atol=1e-4)
    if options.get("lossless"):
        assert torch.equal(model(INDICES), Model()(INDICES))
    assert decode_module(model).up.weight.shape == (160, 96)


def test_types_and_devices() -> None:
    model = Model().to(torch.bfloat16)
    model.position = nn.Parameter(torch.zeros(300, 300, dtype=torch.int64), requires_grad=False)
    report = encode_module(model, rate=2)
    assert model.up.weight.dtype == torch.bfloat16
    assert model(INDICES).dtype == torch.bfloat16
    assert report.left_out["position"].why == "of type I64"


def test_layers_that_keep_their_weights_in_lists() -> None:
    model = nn.ModuleDict({"lstm": nn.LSTM(64, 64), "linear": nn.Linear(64, 64)})
    report = encode_module(model, rate=2)
    assert encoded_names(model) == {"linear.weight"}
    assert "in lists" in report.left_out["lstm.weight_ih_l0"].why


def test_one_layer_in_two_places() -> None:
    layer = nn.Linear(96, 96)
    model = nn.Sequential(layer, nn.ReLU(), layer)
    report = encode_module(model, rate=2)
    assert list(report.accounts) == ["0.weight"]
    assert isinstance(model[2].weight, XorWeight)


def test_an_error_leaves_the_model_as_it_was() -> None:
    model = Model()
    expected = model(INDICES)
    model.down.weight.data[3, 4] = torch.nan
    with pytest.raises(DataError, match=r"'down\.weight': weight is nan"):
        encode_module(model, rate=2)
    assert not encoded_names(model)
    model.down.weight.data[3, 4] = Model().down.weight[3, 4]
    assert torch.equal(model(INDICES), expected)
    for options, message in (
        ({"include": ["nothing"]}, "pattern 'nothing' matches none"),
        ({"rate": 2, "bits": 3}, "bits is of binary codes"),
        ({"jobs": 0}, "jobs"),
        ({"rate": 2, "settings": xorpack.Settings()}, "not both"),
    ):
        with pytest.raises(ParameterError, match=message):
            encode_module(model, **options)
    with pytest.raises(ParameterError, match="a list is no module"):
        encode_module([], rate=2)
    with pytest.raises(ParameterError, match=r"parameter 'embed_tokens\.weight' has no bytes"):
        encode_module(copy.deepcopy(model).to("meta"), rate=2)


def test_progress_and_what_is_encoded_already() -> None:
    model, seen = Model(), []
    encode_module(model, rate=2, include=["up"], progress=lambda *told: seen.append(told))
    assert seen == [("up.weight", 96 * 160, 96 * 160)]
    before = model.up.weight
    report = encode_module(model, rate=2)
    assert list(report.accounts) == ["down.weight"]
    assert model.up.weight is before
    with pytest.raises(ParameterError, match="has no parameter 'weight'"):
        put(model.up, "weight", before)
