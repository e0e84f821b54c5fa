"""Names of tensors in files, and of layers in vLLM, without vLLM."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from samples import with_digest_of_weights

from xorpack.errors import FormatError
from xorpack.files import container
from xorpack.files.container import EncodedFile
from xorpack.files.record import RECORD
from xorpack.vllm.names import NamedTensor, Names, read

PACKING = {"qkv_proj": ["q_proj", "k_proj", "v_proj"], "gate_up_proj": ["gate_proj", "up_proj"]}
ATTENTION = "model.layers.0.self_attn"
SHAPES = {f"{ATTENTION}.{x}_proj.weight": (64, 128) for x in "qkvo"} | {"model.norm.weight": (128,)}

Make = Callable[..., Path]


def names(*encoded: str, carried: tuple[str, ...] = (), shape: tuple[int, ...] = (64, 128)) -> Names:
    parts = {name: NamedTensor(name, shape, {"kind": "bcq"}, frozenset({"code"})) for name in encoded}
    return Names(parts | {name: NamedTensor(name, shape) for name in carried})


def found(parts: list[NamedTensor] | None) -> list[str] | None:
    return None if parts is None else [part.name for part in parts]


@pytest.mark.parametrize(
    ("version", "options"),
    [(1, {"bits": 2}), (2, {"lossless": True}), (3, {"bits": 2}), (3, {"rate": 2})],
)
def test_headers_of_every_version_say_what_is_encoded(
    make: Make, version: int, options: dict[str, Any]
) -> None:
    directory = make(SHAPES, **options)
    path = directory / "model.safetensors"
    new = EncodedFile(path)
    carried = {name: new.load_carried(name) for name in new.carried}
    encoded = {
        name: tensor if version == 3 else with_digest_of_weights(tensor) for name, tensor in new.items()
    }
    container.write(path, encoded, carried, version=version)
    file = EncodedFile(path)
    assert file.version == version
    read_names = read(directory)
    assert set(read_names.parts) == set(SHAPES)
    for name, part in read_names.parts.items():
        assert part.shape == SHAPES[name]
        assert (part.record is None) == (name == "model.norm.weight")
        if part.record is not None:
            assert part.record == file.records[name]
            assert part.sections == set(file[name].sections())
            assert RECORD not in part.sections


def test_a_directory_that_lost_tensors_is_refused(make: Make) -> None:
    directory = make(SHAPES)
    assert len(read(directory, 4).parts) == 5
    with pytest.raises(FormatError, match="5 tensors are encoded, and the files hold 4"):
        read(directory, 5)


def test_a_directory_that_is_not_encoded_is_refused(make: Make) -> None:
    with pytest.raises(FormatError, match="not one that xorpack encoded"):
        read(make(SHAPES).parent / "source")


def test_a_fused_layer_is_its_parts_in_vllms_order() -> None:
    table = names(*(name for name in sorted(SHAPES) if name != "model.norm.weight"))
    expected = [f"{ATTENTION}.{x}_proj.weight" for x in "qkv"]
    assert found(table.of_layer(f"{ATTENTION}.qkv_proj", PACKING)) == expected
    assert table.used == set(expected)
    assert found(table.of_layer(f"{ATTENTION}.o_proj", PACKING)) == [f"{ATTENTION}.o_proj.weight"]


def test_a_layer_that_is_fused_in_the_file_is_one_part() -> None:
    table = names("model.layers.0.self_attn.qkv_proj.weight")
    assert found(table.of_layer(f"{ATTENTION}.qkv_proj", PACKING)) == [f"{ATTENTION}.qkv_proj.weight"]


def test_a_fused_layer_may_have_carried_parts() -> None:
    table = names(
        "mlp.gate_proj.weight", carried=("mlp.up_proj.weight", "x.gate_proj.weight", "x.up_proj.weight")
    )
    assert found(table.of_layer("mlp.gate_up_proj", PACKING)) == [
        "mlp.gate_proj.weight",
        "mlp.up_proj.weight",
    ]
    assert table.used == {"mlp.gate_proj.weight"}
    assert table.of_layer("x.gate_up_proj", PACKING) is None
    assert table.lost == []


def test_a_fused_layer_without_one_of_its_parts_is_refused() -> None:
    with pytest.raises(FormatError, match=r"'mlp.gate_up_proj'.* do not hold 'mlp.up_proj.weight'"):
        names("mlp.gate_proj.weight").of_layer("mlp.gate_up_proj", PACKING)


@pytest.mark.parametrize(("stored", "asked"), [("", "model."), ("model.", "")])
def test_names_may_lack_the_prefix_of_a_causal_model(stored: str, asked: str) -> None:
    table = names(f"{stored}layers.0.o_proj.weight")
    assert found(table.of_layer(f"{asked}layers.0.o_proj", {})) == [f"{stored}layers.0.o_proj.weight"]


def test_names_are_changed_as_a_model_of_vllm_asks() -> None:
    table = names("language_model.layers.0.o_proj.weight", "rotary.weight")
    table.rename(lambda name: None if name == "rotary.weight" else name.replace("language_model", "text"))
    assert found(table.of_layer("text.layers.0.o_proj", {})) == ["language_model.layers.0.o_proj.weight"]
    assert set(table.parts) == {"text.layers.0.o_proj.weight"}


def test_a_vocabulary_is_found_by_name_or_by_shape() -> None:
    table = names("model.embed_tokens.weight", "lm_head.weight", "model.layers.0.o_proj.weight")
    for prefix in ("model.embed_tokens", ""):
        part = table.of_vocabulary(prefix, (64, 128), head=False)
        assert part is not None
        assert part.name == "model.embed_tokens.weight"
    head = table.of_vocabulary("lm_head", (64, 128), head=True)
    assert head is not None
    assert head.name == "lm_head.weight"
    assert table.of_vocabulary("", (65, 128), head=False) is None
    assert names("lm_head.weight", carried=("model.embed_tokens.weight",)).of_vocabulary(
        "model.embed_tokens", (64, 128), head=False
    ) is None  # fmt: skip


def test_two_tensors_that_may_be_an_embedding_are_an_error() -> None:
    table = names("model.embed_tokens.weight", "model.embed_more.weight")
    with pytest.raises(FormatError, match=r"may be 'model.embed_tokens.weight', 'model.embed_more.weight'"):
        table.of_vocabulary("", (64, 128), head=False)


def test_encoded_tensors_inside_a_module_are_told() -> None:
    table = names("mlp.experts.0.w1.weight", "mlp.experts_gate.weight", carried=("mlp.experts.1.w1.weight",))
    assert table.inside("mlp.experts") == ["mlp.experts.0.w1.weight"]


def test_layers_and_tensors_that_miss_each_other_are_an_error(caplog: pytest.LogCaptureFixture) -> None:
    table = names("layers.0.wq.weight", "layers.0.o_proj.weight")
    assert table.of_layer("layers.0.q_proj", {}) is None
    assert table.of_layer("layers.0.o_proj", {}) is not None
    with pytest.raises(
        FormatError, match=r"1 encoded .*'layers.0.wq.weight', and for 1 of .*'layers.0.q_proj'"
    ):
        table.check_homes()
    with caplog.at_level(logging.WARNING):
        names("vision.fc1.weight").check_homes()  # a part that vLLM was told not to load
    assert "1 encoded tensors are not used: 'vision.fc1.weight'" in caplog.text
