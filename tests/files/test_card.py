"""The model card of an encoded directory, and what makes other tools stop."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from safetensors.numpy import save_file
from samples import pruned

import xorpack
from xorpack.files import card

PARTS = [
    card.BEGIN,
    card.BEGIN_WHOLE,
    card.END,
    b"---\n",
    b"---\r\n",
    b"---",
    b"a: b\n",
    b"\n",
    b"x",
    b"\xff\xfe",
    b"# t",
]


@given(st.lists(st.sampled_from(PARTS), max_size=8).map(b"".join))
@example(b"---\n---\n")
@example(b"---\nlicense: mit\n---\n# Model\n")
@example(b"---\r\nlicense: mit\r\n---\r\n# Model\r\n")
def test_every_byte_comes_back(text: bytes) -> None:
    for lossless in (True, False):
        assert card.unmark(card.mark(text, lossless=lossless)) == text


def test_without_a_readme_there_is_none_afterwards() -> None:
    whole = card.mark(None, lossless=True)
    assert card.unmark(whole) is None
    assert card.unmark(whole + b"mine\n") == b"mine\n"
    assert card.unmark(b"no card") == b"no card"
    assert card.unmark(card.BEGIN + b"no end") == card.BEGIN + b"no end"
    moved = card.mark(b"first\n", lossless=True)
    assert card.unmark(b"before\n" + moved) == b"before\nfirst\n"


@pytest.mark.parametrize("readme", [None, b"", b"---\nlicense: mit\n---\r\n# Model\xff\n"])
def test_a_directory(readme: bytes | None, tmp_path: Path) -> None:
    source = tmp_path / "m"
    source.mkdir()
    save_file({"layer.weight": pruned((64, 128), 0.5)}, source / "model.safetensors")
    (source / "config.json").write_text('{\n  "a": 1\n}\n')
    if readme is not None:
        (source / "README.md").write_bytes(readme)
    before = {path.name: path.read_bytes() for path in source.iterdir()}
    for lossless in (True, False):
        encoded, plain = tmp_path / f"x{lossless}", tmp_path / f"y{lossless}"
        xorpack.encode_checkpoint(source, encoded, lossless=lossless)
        text = (encoded / "README.md").read_bytes()
        assert b"xorpack decode" in text
        assert b"**random weights**" in text
        assert (b"without loss" in text) == lossless
        assert text.startswith(b"---\nlicense: mit\n---\r\n<!-- xorpack" if readme else b"<!-- xorpack")
        config = json.loads((encoded / "config.json").read_text())
        assert not config["transformers_weights"].endswith((".safetensors", ".json"))
        assert config["quantization_config"]["quant_method"] == "xorpack"
        xorpack.decode_checkpoint(encoded, plain)
        after = {path.name: path.read_bytes() for path in plain.iterdir()}
        assert set(after) == set(before)
        assert all(after[name] == before[name] for name in before if lossless or name != "model.safetensors")
