"""Version 4: who needs it is written so, who does not is not, and no earlier file passes for one of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from crafting import NAME, PLAIN, record, refused, resign, unseal, write, write_trellis

import xorpack
from xorpack.errors import FormatError
from xorpack.files import container, safetensors_file
from xorpack.files.container import EncodedFile
from xorpack.files.record import LEAST_VERSION, VERSION, needed_version
from xorpack.tensors import DTYPES, NEW_DTYPES


def integers(dtype: str) -> np.ndarray[Any, Any]:
    """5 x 40 elements of a type, of no symmetry."""
    octets = np.arange(5 * 40 * DTYPES[dtype].itemsize) * 37 % 251
    return octets.astype(np.uint8).view(DTYPES[dtype]).reshape(5, 40)


def write_new(path: Path, dtype: str = "I16") -> Path:
    """A file with a tensor that needs version 4, and one that does not."""
    encoded = {NAME: xorpack.encode(integers(dtype)), PLAIN: xorpack.encode(integers("I8"))}
    container.write(path, encoded, {})
    return path


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_file_has_the_version_that_its_tensors_need(tmp_path: Path, dtype: str) -> None:
    path = write_new(tmp_path / "model.safetensors", dtype)
    file, needed = EncodedFile(path), VERSION if dtype in NEW_DTYPES else LEAST_VERSION
    assert file.version == container.version_of(safetensors_file.read(path)) == needed
    assert needed_version(file.records[PLAIN]) == (LEAST_VERSION, "")
    assert xorpack.decode(file[NAME]).tobytes() == integers(dtype).tobytes()


def test_a_joined_file_has_the_highest_version_of_its_parts(tmp_path: Path) -> None:
    parts, joined = [write_new(tmp_path / dtype, dtype) for dtype in ("I16", "F16")], tmp_path / "joined"
    for path, version in zip(parts, (4, 3), strict=True):
        tensors = safetensors_file.read(path).tensors
        of = {
            name: {k: t for k, t in tensors.items() if k.startswith(f"{name}.xor_")} for name in (NAME, PLAIN)
        }
        container.join(joined, of, {})
        assert joined.read_bytes() == path.read_bytes()
        assert EncodedFile(joined).version == version


@pytest.mark.parametrize("dtype", NEW_DTYPES)
def test_new_types_in_files_of_earlier_versions(tmp_path: Path, dtype: str) -> None:
    path = write_new(tmp_path / "model.safetensors", dtype)
    refused(
        path, lambda d, t: d.update(version=3), f"'{NAME}': dtype '{dtype}' of kind .* version 3, before 4"
    )
    old = write(tmp_path / "old.safetensors")
    for version in (1, 2):
        refused(
            old,
            lambda d, t, v=version: (d.update(version=v), record(d, PLAIN).update(dtype=dtype)),
            f"'{PLAIN}': dtype '{dtype}' of kind lossless in a file of version {version}, before 4",
        )


def test_any_file_of_version_3_may_say_that_it_is_of_version_4(tmp_path: Path) -> None:
    path = write_trellis(tmp_path / "model.safetensors")
    resign(path, lambda d, t: d.update(version=4))
    assert EncodedFile(path).version == 4
    xorpack.verify_checkpoint(path)


def test_files_without_their_document_hold_what_any_version_may(tmp_path: Path) -> None:
    path = unseal(write_new(tmp_path / "model.safetensors"))
    assert xorpack.decode(EncodedFile(path)[NAME]).tobytes() == integers("I16").tobytes()


def test_the_reader_of_the_specification_refuses_them_too(
    specification: dict[str, Any], tmp_path: Path
) -> None:
    path = write_new(tmp_path / "model.safetensors")
    assert specification["Reader"](path).read(NAME)[2] == integers("I16").tobytes()
    resign(path, lambda d, t: d.update(version=3))
    with pytest.raises(ValueError, match=f"{NAME} in a file of version 3"):
        specification["Reader"](path).read(NAME)
    with pytest.raises(FormatError):
        EncodedFile(path)
