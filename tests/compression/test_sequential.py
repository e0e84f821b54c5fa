"""Layers that make up for those before them: targets are of least squares, the model is nearer to the dense one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from small_llama import make_model  # noqa: E402

import xorpack.hf  # noqa: E402
from xorpack.calibration.run import sequences_of  # noqa: E402
from xorpack.calibration.walk import DAMPING, FIRST, ModelWalk  # noqa: E402
from xorpack.compression import compress_checkpoint  # noqa: E402
from xorpack.errors import DataError, ParameterError  # noqa: E402
from xorpack.files import hessians  # noqa: E402

ASKED: dict[str, Any] = {"rate": 2.0, "length": 64}


class Chain(torch.nn.Module):
    """Two layers, and one of which inputs are no rows of the batch."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = torch.nn.Embedding(50, 12)
        self.first = torch.nn.Linear(12, 16)
        self.flat = torch.nn.Linear(16, 16)
        self.second = torch.nn.Linear(16, 8)

    def forward(self, tokens: Any, use_cache: bool) -> Any:
        assert not use_cache
        x = self.first(self.embedding(tokens))
        return self.second(self.flat(x.reshape(-1, 16)).reshape(x.shape))


@pytest.fixture
def chain() -> Chain:
    torch.manual_seed(0)
    return Chain().eval()


TOKENS = np.random.default_rng(0).integers(0, 50, (4, 100))


def test_a_target_is_what_comes_nearest_to_the_dense_layer(chain: Chain) -> None:
    rng, targets = np.random.default_rng(1), {}
    weights = {name: value.detach().numpy().copy() for name, value in chain.named_parameters()}
    noise = rng.standard_normal((16, 12)).astype(np.float32) / 10

    def fit(name: str, target: Any) -> Any:
        targets[name] = target
        return target + noise if name == "first.weight" else target

    ModelWalk(chain, torch.tensor(TOKENS))(
        ["first.weight", "flat.weight", "second.weight", "other.weight"], fit
    )
    assert list(targets) == ["first.weight", "second.weight"]
    assert np.array_equal(targets["first.weight"], weights["first.weight"])
    inputs = weights["embedding.weight"][TOKENS.reshape(-1)].astype(np.float64)

    def behind(first: Any) -> Any:
        x = inputs @ first.T + weights["first.bias"]
        return x @ weights["flat.weight"].T + weights["flat.bias"]

    dense, given = behind(weights["first.weight"]), behind(weights["first.weight"] + noise)
    n, length = TOKENS.shape
    share = 1 / np.square(dense).sum(1)
    share.reshape(n, length)[:, 0] *= FIRST * length
    h = (given.T * share) @ given
    h += DAMPING * np.diag(h).mean() * np.eye(16)
    wanted = weights["second.weight"] @ (
        np.eye(16) + np.linalg.solve(h, (given.T * share) @ (dense - given)).T
    )
    assert np.allclose(targets["second.weight"], wanted, atol=1e-4)
    errors = [
        np.square(given @ weight.T - dense @ weights["second.weight"].T).sum()
        for weight in (targets["second.weight"], weights["second.weight"])
    ]
    assert errors[0] < 0.7 * errors[1]
    assert all(
        np.array_equal(value.detach().numpy(), weights[name]) for name, value in chain.named_parameters()
    )


def test_a_run_ends_at_the_last_layer_and_nothing_stays(chain: Chain) -> None:
    chain.second.register_forward_hook(lambda *_: pytest.fail("the run goes on"))
    ModelWalk(chain, torch.tensor(TOKENS))(["first.weight"], lambda name, target: None)
    assert not chain.first._forward_hooks


def test_what_is_carried_changes_nothing(chain: Chain) -> None:
    targets: dict[str, Any] = {}
    ModelWalk(chain, torch.tensor(TOKENS))(
        ["first.weight", "second.weight"], lambda name, target: targets.update({name: target})
    )
    assert np.allclose(targets["second.weight"], chain.second.weight.detach().numpy(), atol=1e-6)


def test_nan_behind_compressed_layers_is_an_error(chain: Chain) -> None:
    with pytest.raises(DataError, match="layer 'second' is given NaN or infinity when those before it"):
        ModelWalk(chain, torch.tensor(TOKENS))(
            ["first.weight", "second.weight"], lambda name, target: np.full_like(target, np.nan)
        )


def hidden(path: Path, model: Path, text: Path) -> Any:
    """What a model's last block gives out, behind the tokens of the calibration."""
    tokens = sequences_of(model, text, 31, 64)[27:]
    network = xorpack.hf.load(path, decode=True, dtype=torch.float32).eval() if path != model else None
    network = network or transformers.AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32).eval()
    with torch.no_grad():
        return network.model(tokens).last_hidden_state.numpy()


def test_a_compressed_model_is_nearer_to_the_dense_one(model: Path, text: Path, tmp_path: Path) -> None:
    stats, errors = tmp_path / "stats", {}
    dense = hidden(model, model, text)
    for name, options in {"plain": {}, "walked": {"sequential": True}}.items():
        compress_checkpoint(model, tmp_path / name, calibration=text, stats=stats, **options, **ASKED)
        errors[name] = np.square(hidden(tmp_path / name, model, text) - dense).sum()
    assert errors["walked"] < 0.85 * errors["plain"]
    compress_checkpoint(
        model, tmp_path / "two", calibration=text, stats=stats, sequential=True, jobs=2, **ASKED
    )
    assert encoded(tmp_path / "two") == encoded(tmp_path / "walked")


def encoded(path: Path) -> bytes:
    return (path / "model.safetensors").read_bytes()


def test_a_walk_that_is_stopped_is_gone_on_with(text: Path, tmp_path: Path, monkeypatch: Any) -> None:
    """Of a model in bfloat16."""
    model = make_model(tmp_path / "model", dtype="bfloat16")
    out, stats = tmp_path / "out", tmp_path / "stats"
    asked: dict[str, Any] = {"calibration": text, "stats": stats, "sequential": True, **ASKED}
    compress_checkpoint(model, tmp_path / "once", **asked)
    from xorpack.checkpoint import shards

    encode, names = shards.encode_tensor, list[str]()

    def watched(task: Any) -> Any:
        names.append(task.name)
        if len(names) == 6:
            raise KeyboardInterrupt
        return encode(task)

    monkeypatch.setattr(shards, "encode_tensor", watched)
    with pytest.raises(KeyboardInterrupt, match="is kept in"):
        compress_checkpoint(model, out, resume=True, **asked)
    with pytest.raises(ParameterError, match=r"was begun with sequential '.*', not None"):
        compress_checkpoint(model, out, resume=True, **{**asked, "sequential": False})
    compress_checkpoint(model, out, resume=True, **asked)
    assert len(names) == 15
    assert encoded(out) == encoded(tmp_path / "once")


class Halves:
    """A walk that fits weights to half of what they are, and a little more."""

    digest = "halves"

    def __init__(self, weights: dict[str, Any]) -> None:
        self.weights, self.decoded = weights, dict[str, Any]()

    def __call__(self, names: Any, fit: Any) -> None:
        self.decoded = {name: fit(name, self.weights[name] / 2 + 0.05) for name in names if name != "c"}


def test_what_is_pruned_stays_so_and_what_is_not_walked_is_encoded_as_ever(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    weights = {name: rng.standard_normal((64, 128), dtype=np.float32) for name in "abc"}
    weights["a"][:, ::2] = 0
    weights["b"][0, :5] = 0
    save_file(weights, tmp_path / "m.safetensors")
    hessians.write(
        tmp_path / "stats", dict.fromkeys(weights, "x"), {"x": 128},
        iter([("x", np.eye(128, dtype=np.float32), 1000)]),
    )  # fmt: skip
    walk, asked = Halves(weights), {"hessian": tmp_path / "stats", "rate": 3.0}
    xorpack.encode_checkpoint(tmp_path / "m.safetensors", tmp_path / "x", walk=walk, **asked)
    xorpack.encode_checkpoint(tmp_path / "m.safetensors", tmp_path / "plain", **asked)
    with xorpack.open(tmp_path / "x") as found, xorpack.open(tmp_path / "plain") as plain:
        decoded = {name: xorpack.decode(tensor).dequantize() for name, tensor in found.items()}
        assert np.array_equal(decoded["c"], xorpack.decode(plain["c"]).dequantize())
    assert not decoded["a"][:, ::2].any()
    assert decoded["b"][0, :5].any()
    for name in "ab":
        assert np.array_equal(decoded[name], walk.decoded[name])
        assert np.square(decoded[name] - weights[name] / 2).mean() < 0.1 * np.square(weights[name]).mean()
