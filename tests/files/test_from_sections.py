"""Encoded tensors from records and arrays that some other library has read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from crafting import NAME, PLAIN, trellis, write, write_trellis
from safetensors.numpy import load_file

import xorpack
from xorpack.errors import CorruptError, FormatError
from xorpack.files.container import EncodedFile
from xorpack.files.record import to_record


def parts(path: Path, name: str) -> dict[str, Any]:
    """The sections of a tensor by their names, as the safetensors library reads them."""
    begin = f"{name}.xor_"
    return {key.removeprefix(begin): array for key, array in load_file(path).items() if key.startswith(begin)}


@pytest.mark.parametrize("name", [NAME, PLAIN])
def test_what_a_file_holds(tmp_path: Path, name: str) -> None:
    path = write_trellis(tmp_path / "model.safetensors")
    arrays, expected = parts(path, name), EncodedFile(path)[name]
    section = arrays.pop("record")
    for record in (section, section.tobytes(), EncodedFile(path).records[name], to_record(expected)):
        tensor = xorpack.from_sections(record, arrays, name=name)
        assert (tensor.kind, tensor.shape, tensor.dtype) == (expected.kind, expected.shape, expected.dtype)
        decoded = [xorpack.decode(one) for one in (tensor, expected)]
        a, b = (x if isinstance(x, np.ndarray) else x.dequantize() for x in decoded)
        assert a.tobytes() == b.tobytes()


def test_records_of_earlier_versions(tmp_path: Path) -> None:
    path = write(tmp_path / "model.safetensors")
    for name, record in EncodedFile(path).records.items():
        tensor = xorpack.from_sections(record, parts(path, name))
        assert tensor.content_sha256 == record["content_sha256"]
        assert to_record(tensor) == record


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"code": None}, FormatError, r"code' is missing"),
        (
            {"corrections": np.zeros(0, np.uint8)},
            FormatError,
            "corrections' does not belong to kind 'trellis'",
        ),
        ({"weights": np.zeros(3)}, FormatError, "unknown sections 'weights'; known: code, "),
        ({"scales": "x"}, FormatError, "'scales' is an array of str"),
        ({"scales": np.zeros((12, 2))}, FormatError, "'scales' is an array of float64"),
        ({"scales": np.zeros((12, 2), ml_dtypes.bfloat16)}, FormatError, "scales' is BF16"),
        ({"scales": np.zeros((12, 3), np.float16)}, FormatError, r"scales of float16, \(12, 3\)"),
        ({"scales": np.zeros((12, 2), np.float16)}, CorruptError, "stored bytes do not match"),
        ({"code": np.zeros((18, 2), ">u4")}, FormatError, "'code' is an array of >u4"),
        ({"code": np.zeros((17, 2), np.uint32)}, FormatError, r"code of type uint32 and shape \(17, 2\)"),
    ],
    ids=lambda v: str(v)[:30],
)
def test_wrong_arrays(change: dict[str, Any], error: type[Exception], message: str) -> None:
    encoded = xorpack.encode(trellis())
    arrays = {name: array for name, array in (encoded.sections() | change).items() if array is not None}
    with pytest.raises(error, match=f"tensor 'w': .*{message}"):
        xorpack.from_sections(to_record(encoded), arrays, name="w")


@pytest.mark.parametrize(
    ("record", "message"),
    [
        (None, "record is not"),
        ("text", "record is not"),
        (b"", "not JSON"),
        (b"{}", "does not end"),
        ({}, "lacks"),
        ({"kind": "trellis"}, "kind 'trellis' lacks a, "),
        ({"kind": "trellis", "version": 4}, "kind 'trellis' lacks a, "),
        (np.zeros((2, 2)), "record is not"),
    ],
    ids=lambda v: str(v)[:30],
)
def test_wrong_records(record: Any, message: str) -> None:
    with pytest.raises(FormatError, match=f"tensor 'w': .*{message}"):
        xorpack.from_sections(record, xorpack.encode(trellis()).sections(), name="w")


def test_without_a_look_at_the_values() -> None:
    """Scales that were fitted anew, say."""
    encoded = xorpack.encode(trellis())
    scales = encoded.scales * np.float16(2)
    arrays = encoded.sections() | {"scales": scales}
    tensor = xorpack.from_sections(to_record(encoded), arrays, verify=False)
    assert tensor.scales is not None
    assert np.array_equal(tensor.scales, scales)
    unequal = xorpack.decode(tensor).dequantize() != trellis().dequantize()
    assert unequal.sum() == trellis().n_kept - len(trellis().positions)


def test_a_damaged_record(tmp_path: Path) -> None:
    arrays = parts(write_trellis(tmp_path / "model.safetensors"), NAME)
    section = arrays.pop("record")
    section[section.size // 2] ^= 1
    with pytest.raises(FormatError, match=f"tensor '{NAME}'"):
        xorpack.from_sections(section, arrays, name=NAME)
