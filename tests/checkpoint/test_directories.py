"""Model directories as people have them: every byte comes back or is named; what is no checkpoint is recognised."""

from __future__ import annotations

import json
import logging
import os
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

import xorpack
from xorpack.errors import FormatError, SourceError
from xorpack.files import container, model, safetensors_file

INDEX = "model.safetensors.index.json"


def arrays() -> dict[str, np.ndarray[Any, Any]]:
    weight = np.arange(96 * 40, dtype=np.float32).reshape(96, 40)
    weight[weight % 3 != 0] = 0
    return {"l.0.weight": weight, "l.0.bias": weight[5], "l.1.weight": 3 * weight, "l.1.bias": weight[7]}


def write_model(root: Path, *, sharded: bool = False) -> Path:
    root.mkdir(parents=True)
    (root / "config.json").write_text('{\n  "a": 1\n}\n')
    if not sharded:
        save_file(arrays(), root / "model.safetensors", metadata={"format": "pt"})
        return root
    weight_map = {}
    for i in (0, 1):
        shard = f"model-0000{i + 1}-of-00002.safetensors"
        part = {name: array for name, array in arrays().items() if name.startswith(f"l.{i}")}
        save_file(part, root / shard, metadata={"format": "pt"})
        weight_map |= dict.fromkeys(part, shard)
    write_index(root, weight_map)
    return root


def write_index(root: Path, weight_map: dict[str, str], **metadata: int) -> None:
    size = sum(array.nbytes for array in arrays().values())
    document = {"metadata": {"total_size": size, **metadata}, "weight_map": dict(sorted(weight_map.items()))}
    (root / INDEX).write_text(json.dumps(document, indent=2, sort_keys=True) + "\n")


def snapshot(root: Path) -> dict[str, tuple[str, bytes | str, int]]:
    """Everything in a directory: kind, contents or where a link leads, and who may execute it."""
    found: dict[str, tuple[str, bytes | str, int]] = {}
    for path in sorted(root.rglob("*")):
        name = str(path.relative_to(root))
        if path.is_symlink():
            found[name] = ("link", os.readlink(path), 0)
        elif path.is_dir():
            found[name] = ("folder", "", 0)
        else:
            found[name] = ("file", path.read_bytes(), path.stat().st_mode & 0o111)
    return found


def there_and_back(source: Path, work: Path) -> Path:
    xorpack.encode_checkpoint(source, work / "encoded", lossless=True)
    xorpack.verify_checkpoint(work / "encoded", against=source)
    xorpack.decode_checkpoint(work / "encoded", work / "back")
    return work / "back"


def rewrite_header(path: Path, edit: Callable[[dict[str, Any], str], str]) -> None:
    data = path.read_bytes()
    n = int.from_bytes(data[:8], "little")
    text = data[8 : 8 + n].decode()
    header = edit(json.loads(text), text).encode()
    path.write_bytes(len(header).to_bytes(8, "little") + header + data[8 + n :])


HEADERS: dict[str, Callable[[dict[str, Any], str], str]] = {
    "empty metadata": lambda d, _: json.dumps({**d, "__metadata__": {}}, separators=(",", ":")),
    "null metadata": lambda d, _: json.dumps({**d, "__metadata__": None}, separators=(",", ":")),
    "no metadata": lambda d, _: json.dumps({k: v for k, v in d.items() if k != "__metadata__"}),
    "metadata last": lambda d, _: json.dumps(dict(reversed(d.items())), separators=(",", ":")),
    "spaces": lambda d, _: json.dumps(d, indent=1),
    "no padding": lambda d, _: json.dumps(d, separators=(",", ":")).rstrip(),
    "more padding": lambda _, text: text + " " * 1000,
    "escapes": lambda d, text: text.replace('"pt"', '"\\u0070t\\u00e9\\/"'),
    "other keys first": lambda _, text: text.replace('"dtype":"F32",', "").replace("]}", '],"dtype":"F32"}'),
}


@pytest.mark.parametrize("case", HEADERS)
def test_every_header_comes_back(tmp_path: Path, case: str) -> None:
    source = tmp_path / "m.safetensors"
    save_file(arrays(), source, metadata={"format": "pt"})
    rewrite_header(source, HEADERS[case])
    load_file(source)
    encoded, back = tmp_path / "x.safetensors", tmp_path / "y.safetensors"
    xorpack.encode_checkpoint(source, encoded, lossless=True)
    assert xorpack.open(encoded).info()["settings"] == {"lossless": True}
    xorpack.decode_checkpoint(encoded, back)
    assert back.read_bytes() == source.read_bytes()
    xorpack.prune_checkpoint(source, tmp_path / "p.safetensors", sparsity=0.0)
    assert (tmp_path / "p.safetensors").read_bytes() == source.read_bytes()


def test_a_header_as_usual_is_not_kept_twice(tmp_path: Path) -> None:
    xorpack.encode_checkpoint(write_model(tmp_path / "m"), tmp_path / "x", lossless=True)
    header = safetensors_file.read(tmp_path / "x" / "model.safetensors").header
    assert container.ORIGINAL_HEADER.encode() not in header
    assert sorted(os.listdir(tmp_path / "x")) == ["README.md", "config.json", "model.safetensors"]


@pytest.mark.parametrize(
    "kept", ["text of nothing", "{}", '{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}', 3]
)
def test_a_header_of_other_tensors_is_refused(tmp_path: Path, kept: object) -> None:
    file = safetensors_file.read(write_model(tmp_path / "m") / "model.safetensors")
    container.write(tmp_path / "x", {}, file.tensors, settings={container.ORIGINAL_HEADER: kept})
    with pytest.raises(FormatError, match=r"/x: "):
        xorpack.decode_checkpoint(tmp_path / "x", tmp_path / "y")
    assert not (tmp_path / "y").exists()


TEXT = '{\n  "a": 1,\n  "name": "é}"\n}\n'
CONFIGS = {
    "line ends of Windows": TEXT.replace("\n", "\r\n").encode(),
    "one line": b'{"a": 1}',
    "one line, compact": b'{"a":1}\n',
    "empty": b"{}",
    "empty on two lines": b"{\n}\n",
    "blanks after it": b'{"a": 1}  \n\n',
    "byte-order mark": b"\xef\xbb\xbf" + TEXT.encode(),
    "UTF-16": TEXT.encode("utf-16"),
    "UTF-32, big-endian, no mark": TEXT.encode("utf-32-be"),
    "tabs": b'{\n\t"a": 1\n}',
    "quantized before": b'{"quantization_config": {"quant_method": "int8"}, "a": 1}',
    "quantized before, by name": b'{"a": 1,\n"quantization_config": {"quant_method": "xorpack", "original": 3}}',
    "a key twice": b'{"a": 1, "a": 2}',
}


@pytest.mark.parametrize("case", CONFIGS)
def test_every_config_comes_back(tmp_path: Path, case: str) -> None:
    source = write_model(tmp_path / "m")
    (source / "config.json").write_bytes(CONFIGS[case])
    back = there_and_back(source, tmp_path)
    assert snapshot(back) == snapshot(source)
    marked = json.loads((tmp_path / "encoded" / "config.json").read_text(encoding="utf-8"))
    assert marked["quantization_config"]["quant_method"] == "xorpack"


@pytest.mark.parametrize("case", ["one line", "line ends of Windows"])
def test_a_config_that_was_changed_since_stays_changed(tmp_path: Path, case: str) -> None:
    source = write_model(tmp_path / "m")
    (source / "config.json").write_bytes(CONFIGS[case])
    xorpack.encode_checkpoint(source, tmp_path / "x", lossless=True)
    assert (tmp_path / "x" / model.ORIGINALS).exists() == (case != "one line")
    path = tmp_path / "x" / "config.json"
    path.write_bytes(path.read_bytes().replace(b'"a": 1', b'"a": 2'))
    xorpack.decode_checkpoint(tmp_path / "x", tmp_path / "y")
    assert json.loads((tmp_path / "y" / "config.json").read_bytes())["a"] == 2


INDEXES: dict[str, Callable[[str], str]] = {
    "as usual": lambda text: text,
    "total_parameters": lambda text: text.replace('"total_size"', '"total_parameters": 9, "total_size"'),
    "no metadata": lambda text: json.dumps({"weight_map": json.loads(text)["weight_map"]}),
    "line ends of Windows": lambda text: text.replace("\n", "\r\n"),
    "another order": lambda text: json.dumps(dict(reversed(json.loads(text).items())), indent=4),
}


@pytest.mark.parametrize("case", INDEXES)
def test_every_index_comes_back(tmp_path: Path, case: str) -> None:
    source = write_model(tmp_path / "m", sharded=True)
    (source / INDEX).write_bytes(INDEXES[case]((source / INDEX).read_text()).encode())
    assert snapshot(there_and_back(source, tmp_path)) == snapshot(source)
    xorpack.prune_checkpoint(source, tmp_path / "p", sparsity=0.0)
    assert snapshot(tmp_path / "p") == snapshot(source)


def test_folders_links_and_modes_come_back(tmp_path: Path) -> None:
    source = write_model(tmp_path / "m")
    (source / "empty" / "deeper").mkdir(parents=True)
    (source / "code").mkdir()
    (source / "code" / "run.sh").write_text("#!/bin/sh\n")
    (source / "code" / "run.sh").chmod(0o755)
    (source / "model.safetensors").chmod(0o755)
    (source / "config.json").chmod(0o744)
    (source / "dangling").symlink_to("nowhere")
    (source / "dangling folder").symlink_to("/nowhere/at/all", target_is_directory=True)
    (source / "inner").symlink_to("code")
    (source / "code" / "weights").symlink_to("../model.safetensors")
    (source / "code" / "round").symlink_to(".")
    assert snapshot(there_and_back(source, tmp_path)) == snapshot(source)
    xorpack.prune_checkpoint(source, tmp_path / "p", sparsity=0.0)
    assert snapshot(tmp_path / "p") == snapshot(source)


def test_links_that_lead_outside_become_what_they_lead_to(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    source = write_model(tmp_path / "m")
    (tmp_path / "outside" / "folder").mkdir(parents=True)
    (tmp_path / "outside" / "folder" / "a").write_text("a")
    (tmp_path / "outside" / "folder" / "again").symlink_to("..")
    (source / "folder").symlink_to(tmp_path / "outside" / "folder")
    (source / "file").symlink_to("../outside/folder/a")
    (source / "up").symlink_to("..")
    os.mkfifo(source / "pipe")
    with caplog.at_level(logging.WARNING):
        back = there_and_back(source, tmp_path)
    found = snapshot(back)
    assert found["folder/a"] == found["file"] == ("file", b"a", 0)
    assert "up" not in found
    assert "up: a link to a folder that the directory lies in" in caplog.text
    assert "pipe: neither a file nor a folder" in caplog.text


def test_links_in_the_place_of_the_model_itself(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """What they lead to is not written through them."""
    source = write_model(tmp_path / "m", sharded=True)
    (source / "files").mkdir()
    for name in ("config.json", INDEX, "model-00001-of-00002.safetensors"):
        (source / name).rename(source / "files" / name)
        (source / name).symlink_to(f"files/{name}")
    before = snapshot(source)
    with caplog.at_level(logging.WARNING):
        back = snapshot(there_and_back(source, tmp_path))
    for name in ("config.json", INDEX, "model-00001-of-00002.safetensors"):
        assert back.pop(name) == before[f"files/{name}"]
        assert f"left out {source / name}: the link" in caplog.text
        before.pop(name)
    assert back == before


def test_nothing_is_written_through_a_link_of_the_model_card(tmp_path: Path) -> None:
    source = write_model(tmp_path / "m")
    (tmp_path / "elsewhere").mkdir()
    for leads_to in (tmp_path / "elsewhere" / "new", Path("notes")):
        (source / "notes").write_text("notes")
        (source / "README.md").unlink(missing_ok=True)
        (source / "README.md").symlink_to(leads_to)
        xorpack.encode_checkpoint(source, tmp_path / "x", overwrite=True)
        assert not (tmp_path / "x" / "README.md").is_symlink()
        assert (tmp_path / "x" / "notes").read_text() == "notes"
        assert not os.listdir(tmp_path / "elsewhere")


def test_an_index_that_is_a_link_to_nothing(tmp_path: Path) -> None:
    source = write_model(tmp_path / "m")
    (source / INDEX).symlink_to("nowhere")
    assert snapshot(there_and_back(source, tmp_path)) == snapshot(source)


TWINS = [
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
    "consolidated.safetensors",
    "consolidated.00.pth",
]


@pytest.mark.parametrize("command", ["encode", "prune", "decode"])
def test_twins_and_repositories_are_left_out_and_named(
    tmp_path: Path, command: str, caplog: pytest.LogCaptureFixture
) -> None:
    source = write_model(tmp_path / "m")
    if command == "decode":
        xorpack.encode_checkpoint(source, tmp_path / "e", lossless=True)
        source = tmp_path / "e"
    (source / ".git" / "objects").mkdir(parents=True)
    for name in TWINS:
        (source / name).write_bytes((source / "model.safetensors").read_bytes())
    (source / "training_args.bin").write_bytes(b"other")
    (source / "onnx").mkdir()
    (source / "onnx" / "pytorch_model.bin").write_bytes(b"deeper")
    with caplog.at_level(logging.WARNING):
        if command == "encode":
            xorpack.encode_checkpoint(source, tmp_path / "x")
        elif command == "prune":
            xorpack.prune_checkpoint(source, tmp_path / "x", sparsity=0.5)
        else:
            xorpack.decode_checkpoint(source, tmp_path / "x")
    assert set(snapshot(tmp_path / "x")) - {"README.md"} == {
        "config.json", "model.safetensors", "onnx", "onnx/pytorch_model.bin", "training_args.bin",
    }  # fmt: skip
    for name in [*TWINS, ".git"]:
        assert f"left out {source / name}: " in caplog.text


def test_a_variant_beside_the_model(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    source = write_model(tmp_path / "m")
    half = {name: array.astype(np.float16) for name, array in arrays().items()}
    save_file(half, source / "model.fp16.safetensors")
    with caplog.at_level(logging.WARNING):
        xorpack.encode_checkpoint(source, tmp_path / "x")
    assert (
        f"left out {source / 'model.fp16.safetensors'}: not one of the files that hold the model"
        in caplog.text
    )
    (source / "model.safetensors").unlink()
    xorpack.encode_checkpoint(source, tmp_path / "alone")
    assert list(xorpack.open(tmp_path / "alone")) == ["l.0.weight", "l.1.weight"]


def test_two_models_in_one_directory(tmp_path: Path) -> None:
    source = write_model(tmp_path / "m")
    save_file(arrays(), source / "other.safetensors")
    with pytest.raises(
        FormatError, match=r"other\.safetensors: tensor 'l\.0.*earlier file.*name one of them"
    ):
        xorpack.encode_checkpoint(source, tmp_path / "x")


def omit(index: dict[str, Any]) -> str:
    index["weight_map"].pop("l.1.bias")
    return r"does not name tensor 'l\.1\.bias', which stands in model-00002"


def absent(index: dict[str, Any]) -> str:
    index["weight_map"]["l.2.weight"] = "model-00002-of-00002.safetensors"
    return r"names tensor 'l\.2\.weight' in model-00002-of-00002\.safetensors, which does not hold it"


def elsewhere(index: dict[str, Any]) -> str:
    index["weight_map"]["l.1.bias"] = "model-00001-of-00002.safetensors"
    return r"'l\.1\.bias' stands in model-00002-of-00002\.safetensors, not in model-00001"


def whole_shard(index: dict[str, Any]) -> str:
    index["weight_map"] = {k: v for k, v in index["weight_map"].items() if "00001" in v}
    return r"names no tensor of model-00002-of-00002\.safetensors, which lies beside it"


def twice(index: dict[str, Any]) -> str:
    index["weight_map"]["l.1.bias2"] = "model-00001-of-00002.safetensors"
    return r"the key 'l\.1\.bias' occurs twice"


@pytest.mark.parametrize("edit", [omit, absent, elsewhere, whole_shard, twice])
def test_an_index_that_disagrees_with_its_shards(
    tmp_path: Path, edit: Callable[[dict[str, Any]], str]
) -> None:
    plain = write_model(tmp_path / "m", sharded=True)
    encoded, out = tmp_path / "e", tmp_path / "out"
    xorpack.encode_checkpoint(plain, encoded)
    for root in (plain, encoded):
        index = json.loads((root / INDEX).read_text())
        message = edit(index)
        (root / INDEX).write_text(json.dumps(index).replace("l.1.bias2", "l.1.bias"))
    calls: list[Callable[[], object]] = [
        lambda: xorpack.encode_checkpoint(plain, out),
        lambda: xorpack.encode_checkpoint(plain, out, dry_run=True),
        lambda: xorpack.prune_checkpoint(plain, out, sparsity=0.5),
        lambda: xorpack.report_checkpoint(plain),
        lambda: xorpack.decode_checkpoint(encoded, out),
        lambda: xorpack.verify_checkpoint(encoded),
        lambda: xorpack.verify_checkpoint(encoded, against=plain),
        lambda: xorpack.report_checkpoint(encoded),
        lambda: xorpack.open(encoded),
    ]
    for call in calls:
        with pytest.raises(FormatError, match=message) as caught:
            call()
        assert INDEX in str(caught.value)
    assert not out.exists()


@pytest.mark.parametrize("text", [b"\xff\xfe{", b'{"a": 1', b"[]", b"", b"\xff\xff\xff\xff"])
def test_small_files_are_checked_before_large_ones_are_read(
    tmp_path: Path, text: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = write_model(tmp_path / "m")
    xorpack.encode_checkpoint(source, tmp_path / "e")
    for root in (source, tmp_path / "e"):
        (root / "config.json").write_bytes(text)

    def read(stored: safetensors_file.StoredTensor, begin: int, end: int) -> None:
        raise AssertionError("a tensor was read")

    monkeypatch.setattr(safetensors_file.StoredInFile, "part", read)
    with pytest.raises(FormatError, match=r"m/config\.json: not (JSON|a JSON object)"):
        xorpack.encode_checkpoint(source, tmp_path / "x")
    with pytest.raises(FormatError, match=r"e/config\.json: not (JSON|a JSON object)"):
        xorpack.decode_checkpoint(tmp_path / "e", tmp_path / "x")
    assert not (tmp_path / "x").exists()


def test_files_that_cannot_be_read_are_named_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = write_model(tmp_path / "m")
    (source / "vocab.txt").write_text("x")
    access = os.access
    monkeypatch.setattr(
        os, "access", lambda path, mode: access(path, mode) and Path(path).name != "vocab.txt"
    )
    with pytest.raises(SourceError, match=r"m/vocab\.txt: no permission to read it"):
        xorpack.encode_checkpoint(source, tmp_path / "x")


def test_the_name_of_the_originals_is_taken(tmp_path: Path) -> None:
    source = write_model(tmp_path / "m")
    (source / model.ORIGINALS).mkdir()
    with pytest.raises(FormatError, match="encoding needs this name"):
        xorpack.encode_checkpoint(source, tmp_path / "x")


POINTER = f"version https://git-lfs.github.com/spec/v1\noid sha256:{'0' * 64}\nsize 90868376\n".encode()


def archive(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("model/data.pkl", b"x")


FOREIGN: dict[str, tuple[Callable[[Path], object], str]] = {
    "lfs": (lambda path: path.write_bytes(POINTER), "Git LFS pointer.*git lfs pull"),
    "torch": (archive, r"PyTorch file.*save_file"),
    "old torch": (
        lambda path: path.write_bytes(pickle.dumps([1] * 99, protocol=2)),
        r"PyTorch file.*save_file",
    ),
    "gguf": (lambda path: path.write_bytes(b"GGUF\3\0\0\0" + bytes(99)), "GGUF"),
    "hdf5": (lambda path: path.write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(99)), "HDF5"),
}


@pytest.mark.parametrize("kind", FOREIGN)
def test_what_people_have_instead_is_recognised(tmp_path: Path, kind: str) -> None:
    make, message = FOREIGN[kind]
    root = write_model(tmp_path / "m")
    path = root / "model.safetensors"
    make(path)
    for source in (path, root):
        for call in (
            lambda s=source: xorpack.encode_checkpoint(s, tmp_path / "x"),
            lambda s=source: xorpack.decode_checkpoint(s, tmp_path / "x"),
            lambda s=source: xorpack.report_checkpoint(s),
            lambda s=source: xorpack.open(s),
        ):
            with pytest.raises(FormatError, match=rf"model\.safetensors: a.*{message}"):
                call()


def test_a_header_as_long_as_a_pickle_begins(tmp_path: Path) -> None:
    """The length 640 is written as a pickle's first two bytes are."""
    path = tmp_path / "m.safetensors"
    save_file(arrays(), path)
    rewrite_header(path, lambda _, text: text.rstrip() + " " * (640 - len(text.rstrip())))
    assert path.read_bytes()[:2] == b"\x80\x02"
    xorpack.encode_checkpoint(path, tmp_path / "x")


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.pt", "model.ckpt", "consolidated.00.pth"])
def test_directories_of_pickles(tmp_path: Path, name: str) -> None:
    archive(tmp_path / name)
    with pytest.raises(FormatError, match=rf"{name} is a PyTorch file.*save_pretrained"):
        xorpack.encode_checkpoint(tmp_path, tmp_path.parent / f"{tmp_path.name}-x")
    (tmp_path / name).write_bytes(POINTER)
    with pytest.raises(FormatError, match=rf"{name} is a Git LFS pointer"):
        xorpack.report_checkpoint(tmp_path)


def test_diffusers_pipelines(tmp_path: Path) -> None:
    root = tmp_path / "pipeline"
    write_model(root / "unet")
    write_model(root / "vae")
    (root / "model_index.json").write_text("{}")
    with pytest.raises(
        FormatError, match=r"diffusers pipeline.*unet, vae: encode each.*xorpack encode .*/unet"
    ):
        xorpack.encode_checkpoint(root, tmp_path / "x")
    xorpack.encode_checkpoint(root / "unet", tmp_path / "x")


def test_pointers_among_the_other_files_are_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    source = write_model(tmp_path / "m")
    (source / "tokenizer.model").write_bytes(POINTER)
    with caplog.at_level(logging.WARNING):
        xorpack.encode_checkpoint(source, tmp_path / "x")
    assert "tokenizer.model is a Git LFS pointer" in caplog.text
    (source / "config.json").write_bytes(POINTER)
    with pytest.raises(FormatError, match=r"config\.json: a Git LFS pointer"):
        xorpack.encode_checkpoint(source, tmp_path / "y")
