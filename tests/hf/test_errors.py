"""What is wrong with a directory, or with what it is loaded by: one clear line, and never a random matrix."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from hf_models import BCQ, EVERYTHING, LOSSLESS, load, logits, weights
from safetensors.torch import load_file, save_file

import xorpack
import xorpack.hf
from benchmarks import prequantized
from xorpack.cuda import device
from xorpack.errors import CorruptError, DeviceError, FormatError, MismatchError, ParameterError
from xorpack.files import model as files
from xorpack.files.record import pack_record, unpack_record
from xorpack.hf import requirements
from xorpack.torch.arrays import to_numpy, to_torch

Q = "model.layers.1.self_attn.q_proj.weight"
Tensors = dict[str, Any]


@pytest.fixture
def edited(models: Any, tmp_path: Path) -> Callable[..., Path]:
    """A directory after a tool has changed its tensors, without its document."""

    def edit(change: Callable[[Tensors], Any], settings: Any = BCQ) -> Path:
        path = tmp_path / "e"
        shutil.copytree(models.encoded("Llama", settings), path)
        tensors = load_file(path / "model.safetensors")
        change(tensors)
        save_file(tensors, path / "model.safetensors", metadata={"format": "pt"})
        return path

    return edit


def refused(path: Path, error: type[Exception], match: str, **options: Any) -> None:
    with pytest.raises(error, match=match) as caught:
        load("Llama", path, **options)
    assert "\n" not in str(caught.value)


def rename(tensors: Tensors, old: str, new: str) -> None:
    tensors[new] = tensors.pop(old)


def change_record(**changes: Any) -> Callable[[Tensors], None]:
    def change(tensors: Tensors) -> None:
        record = unpack_record(to_numpy(tensors[f"{Q}.xor_record"])) | changes
        tensors[f"{Q}.xor_record"] = to_torch(pack_record(record))

    return change


def lose_tensor(tensors: Tensors) -> None:
    for key in [key for key in tensors if key.startswith(f"{Q}.xor_")]:
        del tensors[key]


def lose_all(tensors: Tensors) -> None:
    for key in [key for key in tensors if ".xor_" in key]:
        del tensors[key]


def lose_kind(tensors: Tensors) -> None:
    for key in [key for key in tensors if "q_proj.weight.xor_" in key]:
        del tensors[key]


def cast(tensors: Tensors) -> None:
    tensors[f"{Q}.xor_scales"] = tensors[f"{Q}.xor_scales"].bfloat16()


def change_code(tensors: Tensors) -> None:
    code = tensors[f"{Q}.xor_code"].view(torch.uint8)
    code[0, 0, 0] ^= 1


def exchange(tensors: Tensors) -> None:
    """Records of two tensors of one shape."""
    a, b = f"{Q}.xor_record", f"{Q.replace('.1.', '.0.')}.xor_record"
    tensors[a], tensors[b] = tensors[b], tensors[a]


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (lambda t: t.pop(f"{Q}.xor_code"), FormatError, f"'{Q}': section '{Q}.xor_code' is missing"),
        (lambda t: t.pop(f"{Q}.xor_record"), FormatError, f"'{Q}.xor_.*' stands without '{Q}.xor_record'"),
        (lambda t: rename(t, f"{Q}.xor_scales", f"{Q}.scales"), FormatError, "xor_scales' is missing"),
        (lambda t: rename(t, f"{Q}.xor_record", f"{Q}.record"), FormatError, "stands without"),
        (
            lose_tensor,
            FormatError,
            "14 tensors are encoded, and the files hold 13: they were lost or renamed; copy",
        ),
        (
            lose_kind,
            FormatError,
            r"hold 12, none called 'model\.layers\.\*\.self_attn\.q_proj\.weight': they were",
        ),
        (lose_all, FormatError, "a safetensors file, but not one that xorpack encoded"),
        (
            cast,
            FormatError,
            f"section '{Q}.xor_scales' is BF16 .*, not U8 or F16 or F32: a tool cast it; copy it anew",
        ),
        (change_code, CorruptError, f"tensor '{Q}': stored bytes do not match their checksum"),
        (exchange, FormatError, "stored bytes do not match their checksum|bytes of corrections, not"),
        (change_record(kind="lattice"), FormatError, "unknown kind 'lattice'.*pip install --upgrade xorpack"),
        (change_record(wings=2), FormatError, "unknown in version 4: 'wings'.*pip install --upgrade xorpack"),
    ],
    ids=lambda value: getattr(value, "__name__", None) or str(value)[:30],
)
def test_directories_that_a_tool_has_changed(
    edited: Any, change: Callable[[Tensors], Any], error: type[Exception], message: str
) -> None:
    refused(edited(change), error, message)


def test_what_a_tool_may_change(edited: Any, models: Any) -> None:
    """Order, metadata, and the types of what is carried."""
    path = edited(lambda tensors: tensors.update(reversed(list(tensors.items()))))
    assert torch.equal(logits(load("Llama", path)), logits(load("Llama", models.encoded("Llama", BCQ))))


def change_config(path: Path, **changes: Any) -> None:
    config = json.loads((path / "config.json").read_text())
    config["quantization_config"] |= changes
    (path / "config.json").write_text(json.dumps(config))


def test_a_directory_of_a_newer_version(edited: Any) -> None:
    path = edited(lambda tensors: None)
    change_config(path, format_version=5)
    refused(
        path, FormatError, "format version 5, and this xorpack reads up to 4: pip install --upgrade xorpack"
    )


@pytest.mark.parametrize(("form", "method"), [("gptq", "gptq"), ("fp8", "fp8")])
def test_a_model_that_another_tool_quantized_first(
    models: Any, tmp_path: Path, form: str, method: str
) -> None:
    """What is encoded is that tool's tensors: its loader takes them, when they are decoded."""
    prequantized.write(models.dense("Llama"), tmp_path / "m", form)
    xorpack.encode_checkpoint(tmp_path / "m", tmp_path / "e", lossless=True)
    refused(
        tmp_path / "e",
        ParameterError,
        f"config.json says that {method} quantized the model before .*: `xorpack decode DIRECTORY OUT` gives back",
    )
    xorpack.decode_checkpoint(tmp_path / "e", tmp_path / "d")
    assert (tmp_path / "d/config.json").read_bytes() == (tmp_path / "m/config.json").read_bytes()


def test_directories_that_count_nothing(edited: Any) -> None:
    """Those of earlier versions load, unless there is nothing in them."""
    path = edited(lambda tensors: None)
    change_config(path, n_encoded=None, encoded=[])
    assert len(weights(load("Llama", path))) == 14


def test_a_directory_in_which_nothing_became_smaller(tmp_path: Path) -> None:
    """It is marked as encoded, and holds no encoded tensor."""
    torch.manual_seed(0)
    config = transformers.LlamaConfig(
        hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=1, vocab_size=9
    )
    dense = transformers.LlamaForCausalLM(config)
    dense.save_pretrained(tmp_path / "m")
    xorpack.encode_checkpoint(tmp_path / "m", tmp_path / "e", lossless=True)
    assert len(xorpack.open(tmp_path / "e")) == 0
    model = transformers.LlamaForCausalLM.from_pretrained(tmp_path / "e")
    assert torch.equal(model.lm_head.weight, dense.lm_head.weight)
    assert not hasattr(model.config, "quantization_config")


@pytest.mark.parametrize("name", ["GPT2LMHeadModel", "BertModel", "T5ForConditionalGeneration"])
def test_a_class_that_has_no_place_for_the_tensors(models: Any, name: str) -> None:
    with pytest.raises(
        MismatchError, match=rf"{name} has no place for .*LlamaForCausalLM: load it with that"
    ):
        getattr(transformers, name).from_pretrained(models.encoded("Llama", LOSSLESS))


def test_a_model_of_another_size(edited: Any) -> None:
    path = edited(lambda tensors: None)
    config = json.loads((path / "config.json").read_text())
    (path / "config.json").write_text(json.dumps(config | {"intermediate_size": 192}))
    refused(
        path,
        ParameterError,
        r"mlp\.down_proj\.weight' is \(64, 128\), and Linear has 'weight' of \(64, 192\)",
    )
    (path / "config.json").write_text(json.dumps(config | {"num_hidden_layers": 1}))
    refused(path, MismatchError, "has no place for 7 of 14 encoded tensors: 'model.layers.1")


def test_a_state_dict(models: Any) -> None:
    path = models.encoded("Llama", EVERYTHING)
    config = transformers.AutoConfig.from_pretrained(path)
    dense = load("Llama", models.dense("Llama")).state_dict()
    with pytest.raises(ParameterError, match="loaded from a directory: what is given as state_dict"):
        load("Llama", None, config=config, state_dict=dense)  # type: ignore[arg-type]


def test_pieces_for_several_devices(models: Any, tmp_path: Path) -> None:
    xorpack.encode_checkpoint(models.dense("Llama"), tmp_path / "e", tp=2, **BCQ)
    refused(
        tmp_path / "e", ParameterError, "--tensor-parallel-size 2, and transformers needs them whole: encode"
    )
    twin = tmp_path / "twin"
    xorpack.decode_checkpoint(tmp_path / "e", twin)
    assert logits(load("Llama", twin)).std() > 0


def test_encoding_is_not_done_on_the_fly(models: Any) -> None:
    config = xorpack.hf.XorpackConfig()
    refused(models.dense("Llama"), ParameterError, "`xorpack encode MODEL OUT`", quantization_config=config)


@pytest.mark.parametrize(
    "place", ["cuda", "cuda:0", torch.device("cuda:1"), {"": "cuda:0"}, {"a": "cpu", "b": 0}]
)
def test_cuda_without_cupy(models: Any, monkeypatch: pytest.MonkeyPatch, place: Any) -> None:
    monkeypatch.setitem(sys.modules, "cupy", None)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert device.import_cupy
    refused(
        models.encoded("Llama", LOSSLESS),
        DeviceError,
        r"needs CuPy.*pip install 'xorpack\[cuda12\]'",
        device_map=place,
    )


def test_classes_that_nobody_knows(edited: Any) -> None:
    path = edited(lambda tensors: None)
    config = json.loads((path / "config.json").read_text())
    for named in (None, ["OursForCausalLM"]):
        (path / "config.json").write_text(json.dumps(config | {"architectures": named}))
        with pytest.raises(ParameterError, match="names no model class of transformers; give model_class"):
            xorpack.hf.load(path)
    assert weights(xorpack.hf.load(path, model_class=transformers.AutoModelForCausalLM))


def test_saved_so_that_others_stop(models: Any, tmp_path: Path) -> None:
    model = load("Llama", models.encoded("Llama", BCQ))
    model.save_pretrained(tmp_path / "unguarded")
    assert files.GUARD_KEY not in (tmp_path / "unguarded" / "config.json").read_text()
    xorpack.hf.save(model, tmp_path / "s", max_shard_size="60KB")
    assert json.loads((tmp_path / "s" / "config.json").read_text())[files.GUARD_KEY] == files.GUARD
    assert b"xorpack.hf.load" in (tmp_path / "s" / "README.md").read_bytes()
    xorpack.hf.save(model, tmp_path / "s", max_shard_size="60KB")
    assert (tmp_path / "s" / "README.md").read_bytes().count(b"xorpack.hf.load") == 1
    assert torch.equal(logits(load("Llama", tmp_path / "s")), logits(model))
    xorpack.decode_checkpoint(tmp_path / "s", tmp_path / "plain")
    assert "xorpack" not in (tmp_path / "plain" / "config.json").read_text()
    with pytest.raises(ParameterError, match="LlamaForCausalLM has no encoded weight"):
        xorpack.hf.save(load("Llama", models.dense("Llama")), tmp_path / "d")
    assert not (tmp_path / "d").exists()


def test_weights_that_were_encoded_in_memory_are_saved(models: Any, tmp_path: Path) -> None:
    model = load("Llama", models.dense("Llama"))
    layer = model.model.layers[0].mlp.up_proj
    encoded = xorpack.encode(xorpack.quantize(layer.weight.detach().numpy(), bits=2))
    xorpack.torch.put(layer, "weight", xorpack.torch.XorWeight.of(encoded))
    xorpack.hf.save(model, tmp_path / "s")
    again = xorpack.hf.load(tmp_path / "s")
    assert list(weights(again)) == ["model.layers.0.mlp.up_proj.weight"]
    assert torch.equal(logits(again), logits(model))


def python(code: str, *arguments: Any) -> str:
    """What an interpreter of its own says last."""
    command = [sys.executable, "-c", code, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True)
    return done.stderr.strip().rpartition("\n")[2]


def test_without_the_import_loading_stops(models: Any) -> None:
    code = "import sys, transformers; transformers.AutoModelForCausalLM.from_pretrained(sys.argv[1])"
    said = python(code, models.encoded("Llama", LOSSLESS))
    assert files.GUARD in said


@pytest.mark.parametrize("missing", ["torch", "transformers"])
def test_without_what_it_needs(missing: str) -> None:
    said = python(f"import sys; sys.modules[{missing!r}] = None; import xorpack.hf")
    assert said.startswith(f"ImportError: xorpack.hf needs {missing}, which cannot be imported")
    assert said.endswith('pip install --upgrade "xorpack[hf]"')


def test_the_oldest_transformers_is_the_same_everywhere() -> None:
    settings = Path(xorpack.__file__).parent.parent / "pyproject.toml"
    if not settings.is_file():
        pytest.skip("not in a checkout")
    found = tomllib.loads(settings.read_text())
    for group in (found["project"]["optional-dependencies"]["hf"], found["dependency-groups"]["hf"]):
        assert f"transformers>={requirements.OLDEST}" in group


@pytest.mark.parametrize("version", ["4.57.6", "5.20.0"])
def test_a_transformers_that_is_too_old(version: str) -> None:
    said = python(
        f"import sys, types; old = types.ModuleType('transformers'); old.__version__ = {version!r};"
        "sys.modules['transformers'] = old; import xorpack.hf"
    )
    assert said.startswith(
        f"ImportError: xorpack.hf needs transformers 5.21 or later, not {version}: pip install"
    )
