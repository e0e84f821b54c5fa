"""Files of version 3 whose header another tool wrote: read as they are, and said to be so."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from crafting import CARRIED, NAME, PLAIN, matrix, trellis, unseal, write, write_trellis
from safetensors.numpy import load_file, save_file

import xorpack
from xorpack.cli.commands import cli
from xorpack.errors import CorruptError, FormatError
from xorpack.files.container import DIGEST_KEY, KEY, EncodedFile

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
    with pytest.raises(FormatError, match=r"00003-of-00003\.safetensors.*not one that xorpack encoded"):
        xorpack.open(folder)
    (folder / "model-00003-of-00003.safetensors").unlink()
    assert xorpack.verify_checkpoint(folder).n_tensors == 2


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
