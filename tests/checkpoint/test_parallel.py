"""Models that are encoded in pieces, one for each device of tensor parallelism."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from safetensors.numpy import load_file, save_file

import xorpack
from xorpack.cli.commands import cli
from xorpack.errors import FormatError, ParameterError
from xorpack.files import cuts
from xorpack.files.safetensors_file import StoredTensor

LAYER = "model.layers.0"
SHAPES = {
    "model.embed_tokens.weight": (64, 128),
    **{f"{LAYER}.self_attn.{x}_proj.weight": (64, 128) for x in "qkv"},
    f"{LAYER}.self_attn.o_proj.weight": (128, 64),
    f"{LAYER}.mlp.down_proj.weight": (128, 192),
    f"{LAYER}.input_layernorm.weight": (128,),
}
CONFIG = {"model_type": "llama", "num_attention_heads": 4, "num_key_value_heads": 2}


def model(path: Path, config: Any = None, **shapes: tuple[int, ...]) -> Path:
    rng = np.random.default_rng(0)
    arrays = {
        name: rng.choice(rng.standard_normal(9, np.float32), shape)
        for name, shape in (SHAPES | shapes).items()
    }
    path.mkdir()
    names = list(arrays)
    for i, part in enumerate((names[:3], names[3:])):
        save_file({name: arrays[name] for name in part}, path / f"model-0000{i + 1}-of-00002.safetensors")
    (path / "config.json").write_text(json.dumps(config or CONFIG))
    return path


def files(path: Path) -> dict[str, bytes]:
    return {str(p.relative_to(path)): p.read_bytes() for p in sorted(path.rglob("*")) if p.is_file()}


def test_pieces_are_tensors_of_their_own_and_come_back_whole(tmp_path: Path) -> None:
    source = model(tmp_path / "m")
    xorpack.encode_checkpoint(source, tmp_path / "e", tp=2, lossless=True)
    dense = {name: array for path in source.glob("*.safetensors") for name, array in load_file(path).items()}
    with xorpack.open(tmp_path / "e") as encoded:
        assert len(encoded) == 2 * 5
        for name, tensor in encoded.items():
            whole, cut = cuts.parse(name)
            assert cut is not None
            down = whole.endswith(("o_proj.weight", "down_proj.weight"))
            assert (cut.axis, cut.n) == (int(down), 2)
            part = np.split(dense[whole], 2, axis=cut.axis)[cut.index]
            assert np.array_equal(xorpack.decode(tensor), part)
    assert json.loads((tmp_path / "e" / "config.json").read_text())["quantization_config"]["tp"] == 2
    xorpack.decode_checkpoint(tmp_path / "e", tmp_path / "back")
    assert files(tmp_path / "back") == files(source)
    assert xorpack.verify_checkpoint(tmp_path / "e", against=source).n_identical == 12


def test_quantized_pieces_and_patterns_of_wholes(tmp_path: Path) -> None:
    source = model(tmp_path / "m")
    arguments = [
        "encode",
        str(source),
        str(tmp_path / "e"),
        "--bits",
        "2",
        "--tp",
        "2",
        "--exclude",
        r"re:.*q_proj$",
    ]
    done = CliRunner().invoke(cli, arguments)
    assert done.exit_code == 0, done.output
    assert len(xorpack.open(tmp_path / "e")) == 2 * 4
    verified = xorpack.verify_checkpoint(tmp_path / "e", against=source)
    assert len(verified.errors) == 8
    assert verified.n_carried == 3
    xorpack.decode_checkpoint(tmp_path / "e", tmp_path / "back")
    shapes = {
        name: array.shape
        for path in (tmp_path / "back").glob("*.safetensors")
        for name, array in load_file(path).items()
    }
    assert shapes == SHAPES
    report = xorpack.report_checkpoint(tmp_path / "e", against=source)
    assert report is not None


@pytest.mark.parametrize(
    ("change", "options", "message"),
    [
        ({}, {"tp": 4}, "tp = 4: num_key_value_heads of config.json is 2, which 4 devices cannot share"),
        (
            {f"{LAYER}.mlp.down_proj.weight": (128, 191)},
            {},
            "'.*down_proj.weight': 191 cols cannot be cut into 2",
        ),
        (
            {f"{LAYER}.mlp.dense.weight": (64, 128)},
            {},
            "'.*mlp.dense.weight': tp knows no way to cut it; exclude it",
        ),
        (
            {f"{LAYER}.mlp.experts.0.up_proj.weight": (64, 128)},
            {},
            "'.*experts.0.up_proj.weight': tp knows no way",
        ),
        ({f"{LAYER}.mlp.up_proj.weight": (2, 2)}, {}, "'.*up_proj.weight': a piece of it would not become"),
        ({f"{LAYER}.mlp.up_proj.weight": (4, 4)}, {}, "'.*up_proj.weight': a piece of it would not become"),
        ({"x.rows0of2": (64, 128)}, {}, "'x.rows0of2' has a name that tp gives to pieces"),
        ({}, {"tp": 0}, "tp = 0"),
    ],
)
def test_what_cannot_be_cut(tmp_path: Path, change: Any, options: Any, message: str) -> None:
    source = model(tmp_path / "m", **change)
    with pytest.raises(ParameterError, match=message):
        xorpack.encode_checkpoint(source, tmp_path / "e", **{"bits": 2, "tp": 2, **options})
    assert not (tmp_path / "e").exists()


def test_a_file_is_no_model(tmp_path: Path) -> None:
    save_file({"q_proj.weight": np.ones((64, 64), np.float32)}, tmp_path / "m.safetensors")
    with pytest.raises(ParameterError, match="no model directory"):
        xorpack.encode_checkpoint(tmp_path / "m.safetensors", tmp_path / "e.safetensors", tp=2)


def test_pieces_that_do_not_make_a_whole() -> None:
    def stored(*shape: int) -> StoredTensor:
        return StoredTensor.of(np.arange(np.prod(shape), dtype=np.float32).reshape(shape))

    whole = stored(4, 6)
    for axis in (0, 1):
        parts = cuts.cut("a", whole, axis, 2)
        assert {name: part.n_bytes for name, part in parts.items()} == {
            name: part.data.nbytes for name, part in parts.items()
        }
        shuffled = {"b": whole, **dict(reversed(list(parts.items())))}
        joined = cuts.join(shuffled)
        assert list(joined) == ["b", "a"]
        assert np.array_equal(joined["a"].array(), whole.array())
    for wrong in (
        {"a.rows0of2": whole},
        {"a.rows0of2": whole, "a.cols1of2": whole},
        {"a.rows0of2": whole, "a.rows1of2": stored(4, 5)},
        {"a.rows0of2": whole, "a.rows1of2": whole, "a": whole},
    ):
        with pytest.raises(FormatError, match="tensor 'a'"):
            cuts.join(wrong)
    assert cuts.parse("a.rows2of2") == ("a.rows2of2", None)
