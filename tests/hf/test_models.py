"""Encoded directories as models of transformers: they answer as the dense ones do, and stay encoded."""

from __future__ import annotations

import copy
import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from hf_models import BCQ, EVERYTHING, IDS, KINDS, LOSSLESS, TRELLIS, load, logits, weights
from safetensors.numpy import load_file
from transformers import core_model_loading

import xorpack
import xorpack.hf
from xorpack.encoding.fields import signs
from xorpack.torch import TiedWeight

N_DECODED = {"Mixtral": 2 * 4 * 3}
"""Experts: transformers keeps all of a layer in one parameter."""


def check_equal(a: Any, b: Any) -> None:
    """Two models give the same bits, and they are worth comparing."""
    x, y = logits(a), logits(b)
    assert torch.equal(x, y)
    assert x.std() > 0
    assert not x.isnan().any()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["F32", "BF16"])
@pytest.mark.parametrize("kind", KINDS)
def test_without_loss_every_bit_is_that_of_the_dense_model(models: Any, kind: str, dtype: Any) -> None:
    path = models.encoded(kind, LOSSLESS)
    model = load(kind, path, dtype=dtype)
    check_equal(model, load(kind, models.dense(kind), dtype=dtype))
    assert len(weights(model)) == len(xorpack.open(path)) - N_DECODED.get(kind, 0) > 5


@pytest.mark.parametrize("settings", [BCQ, TRELLIS], ids=["bcq", "trellis"])
@pytest.mark.parametrize("kind", KINDS)
def test_quantized_it_answers_as_its_decoded_twin(models: Any, kind: str, settings: dict[str, Any]) -> None:
    model = load(kind, models.encoded(kind, settings))
    assert {weight.record["kind"] for weight in weights(model).values()} == {
        "bcq" if settings is BCQ else "trellis"
    }
    expected = logits(load(kind, models.twin(kind, settings)))
    torch.testing.assert_close(logits(model), expected, rtol=1e-5, atol=1e-6 * float(expected.abs().max()))


def test_binary_codes_under_a_prefix_code(models: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("CONFIG_BYTES", "DEPTH_BYTES"):
        monkeypatch.setattr(signs, name, 0)  # of these small matrices nothing else would be worth it
    settings = {**BCQ, "symbols": "entropy"}
    model = load("Llama", models.encoded("Llama", settings))
    assert any("field" in weight.record for weight in weights(model).values())
    expected = logits(load("Llama", models.twin("Llama", settings)))
    torch.testing.assert_close(logits(model), expected, rtol=1e-5, atol=1e-6 * float(expected.abs().max()))


@pytest.mark.parametrize("kind", ["tied Llama", "T5"])
def test_embeddings_that_are_tied_and_encoded(models: Any, kind: str, tmp_path: Path) -> None:
    dense, model = load(kind, models.dense(kind)), load(kind, models.encoded(kind, EVERYTHING))
    check_equal(model, dense)
    assert any(isinstance(module, TiedWeight) for module in model.modules())
    head, embedding = model.get_output_embeddings().weight, model.get_input_embeddings().weight
    assert head.source is embedding.source
    model.save_pretrained(tmp_path / "s")
    check_equal(load(kind, tmp_path / "s"), dense)
    check_equal(copy.deepcopy(model), dense)


def test_a_head_of_another_task(models: Any) -> None:
    """It is new, and the layers below are those of the directory."""
    path = models.encoded("Bert", LOSSLESS)
    model = transformers.BertForSequenceClassification.from_pretrained(path)
    dense = transformers.BertForSequenceClassification.from_pretrained(models.dense("Bert"))
    assert len(weights(model)) == len(xorpack.open(path))
    dense.bert.pooler, dense.classifier = model.bert.pooler, model.classifier
    check_equal(model, dense)


def test_a_model_without_the_head_that_is_encoded(models: Any, tmp_path: Path) -> None:
    path = models.encoded("Llama", EVERYTHING)
    assert "lm_head.weight" in xorpack.open(path)
    model = transformers.AutoModel.from_pretrained(path)
    check_equal(model, transformers.AutoModel.from_pretrained(models.dense("Llama")))
    model.save_pretrained(tmp_path / "s")
    check_equal(transformers.AutoModel.from_pretrained(tmp_path / "s"), model)


@pytest.mark.parametrize("settings", [LOSSLESS, BCQ], ids=["lossless", "bcq"])
def test_dequantized(models: Any, tmp_path: Path, settings: dict[str, Any]) -> None:
    model = load("GPT2", models.encoded("GPT2", settings)).dequantize()
    assert not weights(model)
    check_equal(model, load("GPT2", models.twin("GPT2", settings)))
    check_equal(model, xorpack.hf.load(models.encoded("GPT2", settings), decode=True))
    model.save_pretrained(tmp_path / "s")
    assert "xorpack" not in (tmp_path / "s" / "config.json").read_text()
    check_equal(load("GPT2", tmp_path / "s"), model)


@pytest.mark.parametrize("kind", KINDS)
def test_saved_in_small_shards(models: Any, kind: str, tmp_path: Path) -> None:
    """The shards are cut between the sections of a tensor; transformers and xorpack read them."""
    model = load(kind, models.encoded(kind, LOSSLESS))
    model.save_pretrained(tmp_path / "s", max_shard_size="60KB")
    assert len(list((tmp_path / "s").glob("*.safetensors"))) > 5
    check_equal(load(kind, tmp_path / "s"), load(kind, models.dense(kind)))
    verified = xorpack.verify_checkpoint(tmp_path / "s")
    assert verified.n_tensors == len(weights(model))
    xorpack.decode_checkpoint(tmp_path / "s", tmp_path / "plain")
    parts = [load_file(path) for path in (tmp_path / "plain").glob("*.safetensors")]
    dense = load_file(models.dense(kind) / "model.safetensors")
    found = {name: array for part in parts for name, array in part.items()}
    assert set(found) == set(dense)
    assert all(np.array_equal(found[name], dense[name]) for name in dense)


def test_copies(models: Any) -> None:
    model = load("Llama", models.encoded("Llama", BCQ))
    stream = io.BytesIO()
    torch.save(model, stream)
    stream.seek(0)
    for other in (copy.deepcopy(model), torch.load(stream, weights_only=False)):
        assert len(weights(other)) == len(weights(model))
        check_equal(other, model)
        for weight in weights(other).values():
            weight.xor_scales.zero_()
    assert all(weight.xor_scales.any() for weight in weights(model).values())


def test_sections_are_read_by_xorpack(models: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Transformers, which is slow at it, loads what is carried, and reports nothing but what it should."""
    loaded: list[Any] = []
    materialize = core_model_loading.spawn_materialize
    monkeypatch.setattr(
        core_model_loading,
        "spawn_materialize",
        lambda *args, **how: loaded.append(args[1]) or materialize(*args, **how),
    )
    path = models.encoded("Llama", EVERYTHING)
    model, info = load("Llama", path, output_loading_info=True)
    assert len(loaded) == sum(len(file.carried) for file in xorpack.open(path).files) > 0
    assert not any(info.values())
    weight = weights(model)["lm_head.weight"]
    assert not weight._non_persistent_buffers_set
    assert weight.loaded(None).encoded.code.ctypes.data == weight.xor_code.data_ptr()
    info = transformers.AutoModel.from_pretrained(path, output_loading_info=True)[1]
    assert not info["missing_keys"]
    assert {key.partition(".xor_")[0] for key in info["unexpected_keys"]} == {"lm_head.weight"}


@pytest.mark.parametrize("device_map", [{"": "cpu"}, "auto"], ids=["cpu", "auto"])
def test_device_maps(models: Any, device_map: Any) -> None:
    pytest.importorskip("accelerate")
    for kind in ("tied Llama", "Mixtral"):
        model = load(kind, models.encoded(kind, LOSSLESS), device_map=device_map)
        check_equal(model.to("cpu"), load(kind, models.dense(kind)))


@pytest.mark.parametrize("how", ["grouped_mm", "eager", "batched_mm"])
def test_experts_that_are_encoded_as_one_tensor(models: Any, how: str) -> None:
    """Products take them as they are: all at once, or those of the experts that are asked."""
    fused = {"save_original_format": False}
    model = load("Mixtral", models.encoded("Mixtral", LOSSLESS, **fused), experts_implementation=how)
    dense = load("Mixtral", models.dense("Mixtral", **fused), experts_implementation=how)
    check_equal(model, dense)
    experts = model.model.layers[1].mlp.experts
    assert "model.layers.1.mlp.experts.down_proj" in weights(model)
    whole = dense.model.layers[1].mlp.experts.down_proj
    for index in (2, -1, torch.tensor(3), torch.tensor([1, 1, 0]), slice(1, 3), (0, 5)):
        assert torch.equal(experts.down_proj[index], whole[index])
    with pytest.raises(IndexError, match="row 4 is outside"):
        experts.down_proj[torch.tensor(4)]


def test_layers_that_are_kept_in_float32(models: Any) -> None:
    model = load("T5", models.encoded("T5", LOSSLESS), dtype=torch.float16)
    kept = [name for name, weight in weights(model).items() if weight.dtype == torch.float32]
    assert kept
    assert all(".wo." in name for name in kept)
    check_equal(model, load("T5", models.dense("T5"), dtype=torch.float16))


def test_generating(models: Any) -> None:
    how = {"max_new_tokens": 12, "do_sample": False, "pad_token_id": 0}
    for settings in (LOSSLESS, TRELLIS):
        model = load("tied Llama", models.encoded("tied Llama", settings))
        twin = load("tied Llama", models.twin("tied Llama", settings))
        found = model.generate(IDS, **how)
        assert torch.equal(found, twin.generate(IDS, **how))
        assert found.shape[1] > IDS.shape[1]


def test_what_a_loaded_model_says_of_itself(models: Any, tmp_path: Path) -> None:
    """And of what was decoded meanwhile."""
    path = models.encoded("Mixtral", LOSSLESS)
    model = xorpack.hf.load(path)
    assert type(model).__name__ == "MixtralForCausalLM"
    assert "lossless" in repr(model.model.layers[0].self_attn.q_proj)
    assert model.hf_quantizer.quantization_config.n_encoded == 2 * (4 + 4 * 3)
    model.save_pretrained(tmp_path / "s")
    config = transformers.AutoConfig.from_pretrained(tmp_path / "s").quantization_config
    assert config["n_encoded"] == 8
    assert config["encoded"] == [f"model.layers.*.self_attn.{letter}_proj.weight" for letter in "qkvo"]
