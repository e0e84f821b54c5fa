"""The plug-in against vLLM's own classes, and a model that vLLM serves."""

from __future__ import annotations

import json
import logging
import os
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import xorpack
import xorpack.vllm
from xorpack.errors import FormatError, MismatchError, ParameterError
from xorpack.files import model

Make = Callable[..., Path]

pytestmark = pytest.mark.filterwarnings("ignore")  # vLLM's own

ATTENTION, MLP = "model.layers.0.self_attn", "model.layers.0.mlp"
HEADS, KV_HEADS, WIDTH, COLS = 4, 2, 64, 256
SHAPES = {
    "model.embed_tokens.weight": (128, COLS),
    f"{ATTENTION}.q_proj.weight": (HEADS * WIDTH, COLS),
    f"{ATTENTION}.k_proj.weight": (KV_HEADS * WIDTH, COLS),
    f"{ATTENTION}.v_proj.weight": (KV_HEADS * WIDTH, COLS),
    f"{MLP}.gate_proj.weight": (320, COLS),
    f"{MLP}.up_proj.weight": (320, COLS),
    f"{MLP}.down_proj.weight": (COLS, 320),
}
QKV = [f"{ATTENTION}.{x}_proj" for x in "qkv"]
ROUNDING = {"rtol": 1e-4, "atol": 1e-4}
PACKING = {"qkv_proj": ["q_proj", "k_proj", "v_proj"], "gate_up_proj": ["gate_proj", "up_proj"]}


def configured(directory: Path, model_type: str = "llama") -> Any:
    """The config as vLLM makes it."""
    from vllm.model_executor.layers.quantization import get_quantization_config

    entry = json.loads((directory / "config.json").read_text())["quantization_config"]
    config = get_quantization_config(entry["quant_method"]).from_config(entry)
    config.maybe_update_config(str(directory), hf_config=type("Config", (), {"model_type": model_type})())
    config = pickle.loads(pickle.dumps(config))  # as it comes into another process
    config.packed_modules_mapping = PACKING
    return config


def weights(directory: Path, prefix: str) -> list[tuple[str, Any]]:
    """What vLLM reads of a directory, below a module of the files."""
    from vllm.model_executor.model_loader.weight_utils import safetensors_weights_iterator

    found = safetensors_weights_iterator([str(directory / "model.safetensors")], use_tqdm_on_load=False)
    return [(name, tensor) for name, tensor in found if name.startswith(f"{prefix}.")]


def root_of(name: str, layer: Any) -> Any:
    """A model of one layer under a name with dots, for vLLM's loader."""
    import torch

    root = here = torch.nn.Module()
    *path, leaf = name.split(".")
    for part in path:
        here.add_module(part, torch.nn.Module())
        here = getattr(here, part)
    here.add_module(leaf, layer)
    return root


def load(directory: Path, name: str, layer: Any, *parts: str) -> None:
    """Load a layer, of parts that have these names in the files, as vLLM does the layers of a Llama."""
    from vllm.model_executor.models.llama import LlamaModel
    from vllm.model_executor.models.utils import AutoWeightsLoader

    given = [pair for part in parts or (name,) for pair in weights(directory, part)]
    AutoWeightsLoader(root_of(name, layer)).load_weights(iter(given), mapper=LlamaModel.hf_to_vllm_mapper)
    layer.quant_method.process_weights_after_loading(layer)


def dense(directory: Path, *names: str, suffix: str = "") -> Any:
    import numpy as np
    import torch

    with xorpack.open(directory) as tensors:
        found = [xorpack.decode(tensors[f"{name}.weight{suffix}"]).dequantize() for name in names]
    return torch.from_numpy(np.concatenate(found))


def qkv(config: Any, **options: Any) -> Any:
    from vllm.model_executor.layers.linear import QKVParallelLinear

    return QKVParallelLinear(
        COLS,
        WIDTH,
        HEADS,
        KV_HEADS,
        bias=False,
        quant_config=config,
        prefix=f"{ATTENTION}.qkv_proj",
        **options,
    )


def test_without_vllm_registering_warns(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    for name in [name for name in sys.modules if name.startswith(("vllm.", "xorpack.vllm.config"))]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "vllm", None)
    with caplog.at_level(logging.WARNING):
        xorpack.vllm.register()
    assert "encoded models cannot be served" in caplog.text


def test_vllm_finds_the_plug_in_and_takes_no_time_over_it(vllm: None) -> None:
    """Nor numba, which vLLM for CPUs stumbles over before a model is built."""
    code = (
        "import sys; from vllm.plugins import load_general_plugins as load; load(); load()\n"
        "import xorpack.vllm; xorpack.vllm.register()\n"
        "from vllm.model_executor.layers.quantization import get_quantization_config as get\n"
        "config = get('xorpack').from_config({}); config.maybe_update_config('.')\n"
        "print(config.get_name(), 'llvmlite.binding' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split("\n")[-2] == f"{model.METHOD} False"


def test_fused_layers_multiply_as_their_decoded_twins(alone: None, make: Make) -> None:
    import torch
    from vllm.model_executor.layers.linear import MergedColumnParallelLinear, RowParallelLinear

    directory = make(SHAPES, bits=2)
    config = configured(directory)
    merged = MergedColumnParallelLinear(
        COLS, [320, 320], bias=False, quant_config=config, prefix=f"{MLP}.gate_up_proj"
    )
    down = RowParallelLinear(320, COLS, bias=False, quant_config=config, prefix=f"{MLP}.down_proj")
    for layer, parts in (
        (qkv(config), QKV),
        (merged, [f"{MLP}.gate_proj", f"{MLP}.up_proj"]),
        (down, [f"{MLP}.down_proj"]),
    ):
        load(directory, layer.prefix, layer, *reversed(parts))
        twin = dense(directory, *parts)
        x = torch.randn(7, twin.shape[1])
        torch.testing.assert_close(layer(x)[0], x @ twin.T, **ROUNDING)


def test_carried_parts_of_a_fused_layer_are_loaded(alone: None, make: Make) -> None:
    import torch
    from safetensors.torch import load_file

    directory = make(SHAPES, bits=2, exclude=["v_proj"])
    layer = qkv(configured(directory))
    load(directory, layer.prefix, layer, *QKV)
    carried = load_file(directory / "model.safetensors")[f"{ATTENTION}.v_proj.weight"]
    encoded = dense(directory, *QKV[:2])
    x = torch.randn(7, COLS)
    torch.testing.assert_close(layer(x)[0], x @ torch.cat([encoded, carried]).T, **ROUNDING)


def test_layers_that_are_carried_are_vllms_own(alone: None, make: Make) -> None:
    from vllm.model_executor.layers.linear import UnquantizedLinearMethod

    layer = qkv(configured(make(SHAPES, bits=2, include=["mlp"])))
    assert type(layer.quant_method) is UnquantizedLinearMethod


def test_embeddings_and_heads_may_be_encoded_and_tied(alone: None, make: Make) -> None:
    import torch
    from vllm.model_executor.layers.vocab_parallel_embedding import ParallelLMHead, VocabParallelEmbedding

    directory = make(SHAPES, bits=2, include=["embed_tokens"])
    config = configured(directory)
    embedding = VocabParallelEmbedding(128, COLS, quant_config=config)  # nameless, as in a Llama
    head = ParallelLMHead(128, COLS, quant_config=config, prefix="lm_head").tie_weights(embedding)
    load(directory, "model.embed_tokens", embedding)
    head.quant_method.process_weights_after_loading(head)
    twin = dense(directory, "model.embed_tokens")
    indices, x = torch.tensor([5, 0, 127, 5]), torch.randn(3, COLS)
    assert torch.equal(embedding(indices), twin[indices])
    torch.testing.assert_close(head.quant_method.apply(head, x), x @ twin.T, **ROUNDING)


def test_a_head_of_its_own_stays_untied(alone: None, make: Make) -> None:
    import torch
    from vllm.model_executor.layers.vocab_parallel_embedding import ParallelLMHead, VocabParallelEmbedding

    shapes = {"model.embed_tokens.weight": (100, COLS), "lm_head.weight": (100, COLS)}
    directory = make(shapes, bits=2, include=["lm_head"])
    config = configured(directory)
    embedding = VocabParallelEmbedding(100, COLS, quant_config=config)
    head = ParallelLMHead(100, COLS, bias=True, quant_config=config, prefix="lm_head").tie_weights(embedding)
    load(directory, "lm_head", head)
    x, bias = torch.randn(3, COLS), torch.randn(128)  # 100, made a multiple of 64
    expected = x @ dense(directory, "lm_head").T + bias[:100]
    torch.testing.assert_close(head.quant_method.apply(head, x, bias), expected, **ROUNDING)


@pytest.mark.parametrize("rank", [0, 1])
def test_layers_of_a_device_multiply_by_its_pieces(
    alone: None, make: Make, monkeypatch: pytest.MonkeyPatch, rank: int
) -> None:
    import torch
    from vllm.model_executor.layers import linear
    from vllm.model_executor.layers.linear import MergedColumnParallelLinear, RowParallelLinear

    directory = make(SHAPES, bits=2, tp=2)
    config = configured(directory)
    monkeypatch.setattr(linear, "get_tensor_model_parallel_rank", lambda: rank)
    monkeypatch.setattr(linear, "get_tensor_model_parallel_world_size", lambda: 2)
    how = {"bias": False, "quant_config": config}
    merged = MergedColumnParallelLinear(COLS, [320, 320], prefix=f"{MLP}.gate_up_proj", **how)
    down = RowParallelLinear(320, COLS, prefix=f"{MLP}.down_proj", reduce_results=False, **how)
    for layer, axis, parts in (
        (qkv(config), "rows", QKV),
        (merged, "rows", [f"{MLP}.gate_proj", f"{MLP}.up_proj"]),
        (down, "cols", [f"{MLP}.down_proj"]),
    ):
        load(directory, layer.prefix, layer, *parts)
        twin = dense(directory, *parts, suffix=f".{axis}{rank}of2")
        x = torch.randn(7, twin.shape[1])
        torch.testing.assert_close(layer(x)[0], x @ twin.T, **ROUNDING)


def test_another_number_of_devices_is_refused(alone: None, make: Make) -> None:
    from vllm.model_executor.layers.linear import ColumnParallelLinear

    how = {"quant_config": configured(make(SHAPES, bits=2)), "prefix": f"{MLP}.gate_proj"}
    with pytest.raises(ParameterError, match=r"gate_proj' is cut by .*: encode with --tp 2"):
        ColumnParallelLinear(COLS, 320, tp_rank=0, tp_size=2, **how)


@pytest.mark.parametrize("n", [1, 4])
def test_pieces_for_another_number_of_devices_are_refused(alone: None, make: Make, n: int) -> None:
    from vllm.model_executor.layers.linear import ColumnParallelLinear

    how = {"quant_config": configured(make(SHAPES, bits=2, tp=2)), "prefix": f"{MLP}.gate_proj"}
    with pytest.raises(ParameterError, match=r"gate_proj.weight' was cut into 2 .*--tensor-parallel-size 2"):
        ColumnParallelLinear(COLS, 320, tp_rank=0, tp_size=n, **how)


def test_a_layer_of_another_shape_is_refused(alone: None, make: Make) -> None:
    from vllm.model_executor.layers.linear import ColumnParallelLinear

    config = configured(make(SHAPES, bits=2))
    with pytest.raises(
        MismatchError, match=r"gate_proj' is \(384, 256\), and the files have .* \(320, 256\)"
    ):
        ColumnParallelLinear(COLS, 384, quant_config=config, prefix=f"{MLP}.gate_proj")


def test_a_layer_without_its_sections_is_refused(alone: None, make: Make) -> None:
    layer = qkv(configured(make(SHAPES, bits=2)))
    with pytest.raises(FormatError, match="0 of 3 tensors were loaded"):
        layer.quant_method.process_weights_after_loading(layer)


def test_a_layer_under_another_name_than_its_tensor_is_refused(alone: None, make: Make) -> None:
    from vllm.model_executor.layers.linear import ColumnParallelLinear

    config = configured(make(SHAPES, bits=2))
    layer = ColumnParallelLinear(COLS, 320, quant_config=config, prefix="model.layers.0.ffn.w1")
    with pytest.raises(FormatError, match="names of the files are not those of this model"):
        layer.quant_method.process_weights_after_loading(layer)


def test_names_follow_vllms_mapper(vllm: None, make: Make) -> None:
    from vllm.model_executor.models.utils import WeightsMapper

    config = configured(make({f"language_model.{name}": shape for name, shape in SHAPES.items()}, bits=2))
    config.apply_vllm_mapper(WeightsMapper(orig_to_new_prefix={"language_model.": "text."}))
    assert set(config.names.parts) == {f"text.{name}" for name in SHAPES}


def test_encoded_experts_are_refused(vllm: None, make: Make) -> None:
    from vllm.model_executor.layers.fused_moe import RoutedExperts

    shapes = {f"{MLP}.experts.{i}.{w}_proj.weight": (64, COLS) for i in range(2) for w in ("gate", "up")}
    config = configured(make(shapes, bits=2))
    layer = RoutedExperts.__new__(RoutedExperts)
    with pytest.raises(ParameterError, match=r"its experts are encoded, 'model.*--exclude 're:\.\*experts'"):
        config.get_quant_method(layer, f"{MLP}.experts")
    assert config.get_quant_method(layer, "model.layers.1.mlp.experts") is None


def test_a_model_that_another_tool_quantized_first_is_refused(vllm: None) -> None:
    from vllm.model_executor.layers.quantization import get_quantization_config

    with pytest.raises(ParameterError, match=r"that gptq quantized the model before .*`xorpack decode"):
        get_quantization_config("xorpack").from_config({"original": {"quant_method": "gptq"}})


def test_a_model_whose_matrices_vllm_transposes_is_refused(vllm: None, make: Make) -> None:
    with pytest.raises(ParameterError, match="transposes matrices of gpt2"):
        configured(make(SHAPES, bits=2), "gpt2")


def test_a_model_of_the_hub_is_downloaded_with_its_index(
    vllm: None, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    from xorpack.vllm import config as module

    directory, asked = make(SHAPES, bits=2), []
    monkeypatch.setattr(module, "download_weights_from_hf", lambda *a: asked.append(a) or str(directory))
    config = module.XorpackQuantizationConfig()
    config.maybe_update_config("owner/name", revision="main")
    ((name, _, patterns, revision),) = asked
    assert (name, revision) == ("owner/name", "main")
    assert all(any(Path(file).match(p) for p in patterns) for file in ("a.safetensors", model.INDEX))
    assert set(config.names.parts) == set(SHAPES)


SERVE = """
import json, sys
from vllm import LLM, SamplingParams
llm = LLM(
    sys.argv[1], dtype="float32", enforce_eager=True, max_model_len=64, skip_tokenizer_init=True,
    tensor_parallel_size=int(sys.argv[2]),
)
how = SamplingParams(temperature=0, max_tokens=8, ignore_eos=True, logprobs=1, detokenize=False)
(answer,) = llm.generate([{"prompt_token_ids": [1, 5, 9, 100]}], how, use_tqdm=False)[0].outputs
chances = [step[token].logprob for step, token in zip(answer.logprobs, answer.token_ids)]
print("answer", json.dumps([list(answer.token_ids), chances]))
"""


def serve(directory: Path, n: int = 1) -> tuple[list[int], list[float]]:
    """Tokens that vLLM generates on ``n`` devices, and their logarithms of probability; in a process of its own."""
    env = {**os.environ, "VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_ENABLE_V1_MULTIPROCESSING": "0"}
    if n > 1:
        cores = sorted(os.sched_getaffinity(0))[:n]
        if len(cores) < n:
            pytest.skip(f"needs {n} cores")
        env["VLLM_CPU_OMP_THREADS_BIND"] = "|".join(map(str, cores))
    done = subprocess.run(
        [sys.executable, "-c", SERVE, str(directory), str(n)], env=env, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-3000:]
    (found,) = [line for line in done.stdout.splitlines() if line.startswith("answer ")]
    tokens, chances = json.loads(found.removeprefix("answer "))
    return tokens, chances


@pytest.fixture(scope="module")
def llama(vllm: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small random Llama, tied."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("llama") / "dense"
    LlamaForCausalLM(
        LlamaConfig(
            hidden_size=COLS,
            intermediate_size=320,
            num_hidden_layers=2,
            num_attention_heads=HEADS,
            num_key_value_heads=KV_HEADS,
            head_dim=WIDTH,
            vocab_size=128,
            tie_word_embeddings=True,
        )
    ).save_pretrained(path)
    return path


@pytest.mark.slow
@pytest.mark.parametrize(
    "options", [{"lossless": True}, {"bits": 4, "include": ["embed_tokens", "layers"]}, {"rate": 3}]
)
def test_a_served_model_answers_as_its_decoded_twin(
    llama: Path, tmp_path: Path, options: dict[str, Any]
) -> None:
    encoded, decoded = tmp_path / "encoded", tmp_path / "decoded"
    xorpack.encode_checkpoint(llama, encoded, **options)
    xorpack.decode_checkpoint(encoded, decoded)
    (tokens, chances), (expected, other) = serve(encoded), serve(decoded)
    assert tokens == expected
    assert chances == pytest.approx(other, abs=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("options", [{"lossless": True}, {"rate": 3}])
def test_a_model_in_pieces_is_served_by_as_many_devices(
    llama: Path, tmp_path: Path, options: dict[str, Any]
) -> None:
    encoded, decoded = tmp_path / "encoded", tmp_path / "decoded"
    xorpack.encode_checkpoint(llama, encoded, tp=2, **options)
    xorpack.decode_checkpoint(encoded, decoded)
    (tokens, chances), (expected, other) = serve(encoded, 2), serve(decoded)
    assert tokens == expected
    assert chances == pytest.approx(other, abs=1e-4)
