"""Files of version 3 whose header another tool wrote: read as they are, and said to be so."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from crafting import CARRIED, NAME, PLAIN, matrix, trellis, unseal, write, write_trellis
from safetensors.numpy import load_file, save_file

import xorpack
from xorpack.cli.commands import cli
from xorpack.errors import CorruptError, FormatError
from xorpack.files import container
from xorpack.files.container import DIGEST_KEY, KEY, EncodedFile
from xorpack.files.safetensors_file import StoredTensor

NOTE = "another tool rewrote its header; carried tensors have no checksums"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """As the safetensors library saves what it loads: tensors in another order, other metadata."""
    path = write_trellis(tmp_path / "model.safetensors")
    save_file(load_file(path), path, metadata={"format": "pt", "tool": "x"})
    return path


def run(*arguments: str | Path) -> str:
    done = CliRunner().invoke(cli, [str(argument) for argument in arguments])
    assert done.exit_code == 0, done.output
    return done.output


def test_it_is_read(path: Path, tmp_path: Path) -> None:
    file = EncodedFile(path)
    assert not file.sealed
    assert file.version == 3
    assert (set(file), set(file.carried)) == ({NAME, PLAIN}, {CARRIED})
    assert file.metadata == {"format": "pt", "tool": "x"}
    with xorpack.open(path) as opened:
        assert np.array_equal(xorpack.decode(opened[NAME]).dequantize(), trellis().dequantize())
        assert np.array_equal(xorpack.decode(opened[PLAIN]), matrix()[:3, :7].astype(np.int8))
        assert [file.path for file in opened.rewritten] == [path]
    with xorpack.open(write_trellis(tmp_path / "sealed.safetensors")) as opened:
        assert opened.rewritten == ()


def test_it_is_decoded(path: Path, tmp_path: Path) -> None:
    xorpack.decode_checkpoint(path, tmp_path / "plain.safetensors")
    plain = load_file(tmp_path / "plain.safetensors")
    assert set(plain) == {NAME, PLAIN, CARRIED}
    assert np.array_equal(plain[NAME], trellis().dequantize())
    assert np.array_equal(plain[CARRIED], np.arange(5, dtype=np.float32))


def test_verify_and_info_say_so(path: Path, tmp_path: Path) -> None:
    report = xorpack.verify_checkpoint(path)
    assert (report.n_tensors, report.n_carried, report.n_unchecked, report.rewritten) == (2, 0, 1, (path,))
    shown = run("verify", path).splitlines()
    assert shown[0] == f"note: {path}: {NOTE}"
    assert (
        shown[1]
        == f"{path}: 2 encoded and 0 carried tensors, every checksum holds; carried tensors without one: 1"
    )
    assert run("info", path).splitlines()[-1] == f"note: model.safetensors: {NOTE}"
    assert '"rewritten": [\n    "model.safetensors"\n  ]' in run("info", path, "--json")
    sealed = write_trellis(tmp_path / "sealed.safetensors")
    for command in ("verify", "info"):
        assert "rewrote" not in run(command, sealed)
    xorpack.decode_checkpoint(sealed, tmp_path / "plain.safetensors")
    against = xorpack.verify_checkpoint(path, against=tmp_path / "plain.safetensors")
    assert (against.n_identical, against.n_unchecked) == (3, 1)


def test_damage_is_found_still(path: Path) -> None:
    data = path.read_bytes()
    code = EncodedFile(path).stored[f"{NAME}.xor_code"].data.tobytes()
    at = data.index(code)
    path.write_bytes(data[:at] + bytes([code[0] ^ 1]) + data[at + 1 :])
    with pytest.raises(CorruptError, match=f"'{NAME}': stored bytes do not match"):
        xorpack.verify_checkpoint(path)


def test_shards_that_another_tool_cut(path: Path, tmp_path: Path) -> None:
    arrays = load_file(path)
    folder = tmp_path / "shards"
    folder.mkdir()
    for i, owner in enumerate((NAME, PLAIN, CARRIED), 1):
        part = {name: array for name, array in arrays.items() if name.partition(".xor_")[0] == owner}
        save_file(part, folder / f"model-0000{i}-of-00003.safetensors")
    report = xorpack.verify_checkpoint(folder)
    assert (report.n_tensors, report.n_unchecked) == (2, 1)
    with pytest.raises(FormatError, match=r"00003-of-00003\.safetensors: .*not one that xorpack encoded"):
        xorpack.open(folder / "model-00003-of-00003.safetensors")


def scatter(path: Path, folder: Path) -> dict[str, Path]:
    """A file per section, as tools that cut by size make them; the shard of each name."""
    folder.mkdir()
    arrays = load_file(path)
    shards = {
        name: folder / f"model-{i:05}-of-{len(arrays):05}.safetensors" for i, name in enumerate(arrays, 1)
    }
    for name, shard in shards.items():
        save_file({name: arrays[name]}, shard, metadata={"format": "pt"})
    index = {"weight_map": {name: shard.name for name, shard in shards.items()}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    return shards


def test_sections_in_many_shards(path: Path, tmp_path: Path) -> None:
    """A tensor belongs to the shard with its record."""
    folder, plain = tmp_path / "shards", tmp_path / "plain"
    shards = scatter(path, folder)
    with xorpack.open(folder) as opened:
        assert set(opened) == {NAME, PLAIN}
        assert opened.path_of(NAME) == shards[f"{NAME}.xor_record"]
        assert np.array_equal(xorpack.decode(opened[NAME]).dequantize(), trellis().dequantize())
        sizes = opened.info()["bytes"]["total"]
        assert opened.info()["carried"] == {"n_tensors": 1, "bytes": 20}
        assert sizes + 20 == sum(shard.stat().st_size for shard in shards.values())
    assert xorpack.verify_checkpoint(folder).n_tensors == 2
    assert {tensor.name for tensor in xorpack.report_checkpoint(folder).tensors} == {NAME, PLAIN}
    xorpack.decode_checkpoint(folder, plain)
    decoded = {name: array for part in plain.glob("*.safetensors") for name, array in load_file(part).items()}
    assert set(decoded) == {NAME, PLAIN, CARRIED}
    assert np.array_equal(decoded[NAME], trellis().dequantize())
    assert xorpack.verify_checkpoint(folder, against=plain).n_identical == 3


def test_shards_that_are_lost_or_doubled(path: Path, tmp_path: Path) -> None:
    def open_all() -> None:
        (folder / "model.safetensors.index.json").unlink(missing_ok=True)
        xorpack.open(folder)

    folder = tmp_path / "shards"
    shards = scatter(path, folder)
    data = {name: shard.read_bytes() for name, shard in shards.items()}
    for name in data:
        shards[name].unlink()
        if name.endswith("_record"):
            with pytest.raises(FormatError, match=f"section '{name[:-7]}.*' stands without '{name}'"):
                open_all()
        elif name != CARRIED and not name.endswith("_gains"):
            with pytest.raises(FormatError, match=f"tensor '{name[:8]}': section '{name}' is missing"):
                open_all()
        shards[name].write_bytes(data[name])
        double = shards[name].with_name("model.safetensors")
        double.write_bytes(data[name])
        with pytest.raises(FormatError, match=rf"tensors \['{name}'\] stand in an earlier file too"):
            open_all()
        double.unlink()
    open_all()


def test_a_sealed_file_lends_nothing(path: Path, tmp_path: Path) -> None:
    """Nor does it take: what stands in it is all that its checksum speaks of."""
    folder = tmp_path / "shards"
    shards = scatter(path, folder)
    (folder / "model.safetensors.index.json").unlink()
    code = shards[f"{PLAIN}.xor_code"]
    sealed = {f"{PLAIN}.xor_code": StoredTensor.of(load_file(code)[f"{PLAIN}.xor_code"])}
    container.write(code, {}, sealed)
    with pytest.raises(FormatError, match=f"tensor '{PLAIN}': section '{PLAIN}.xor_code' is missing"):
        xorpack.open(folder)


def test_metadata_that_a_tool_kept_in_part(tmp_path: Path) -> None:
    for kept in (KEY, DIGEST_KEY):
        path = write_trellis(tmp_path / "model.safetensors")
        metadata = {kept: "0" * 64}
        save_file(load_file(path), path, metadata=metadata)
        with pytest.raises(CorruptError, match=r"model\.safetensors: the header"):
            EncodedFile(path)


def test_files_of_earlier_versions_do_not_outlive_it(tmp_path: Path) -> None:
    path = unseal(write(tmp_path / "model.safetensors"))
    with pytest.raises(FormatError, match="not one that xorpack encoded"):
        EncodedFile(path)


def test_it_is_not_encoded_again(path: Path, tmp_path: Path) -> None:
    with pytest.raises(FormatError, match="encoded by xorpack already"):
        xorpack.encode_checkpoint(path, tmp_path / "twice.safetensors", lossless=True)
