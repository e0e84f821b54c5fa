"""Binary codes with a field in files: versions, and files that somebody made on purpose."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from crafting import NAME, ODD, record, refused, resign, unseal
from samples import fitted, same

import xorpack
from xorpack.code import corrections
from xorpack.code.words import unpack
from xorpack.decoders import cpu, reference
from xorpack.errors import CorruptError, FormatError, ParameterError
from xorpack.files import container
from xorpack.files.container import EncodedFile
from xorpack.files.safetensors_file import StoredTensor

SECTION = f"{NAME}.xor_field"


def tensor() -> xorpack.BCQTensor:
    return fitted((40, 130), 0.5, 3)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A file of one tensor with a field of depths, corrected."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            "xorpack.encoding.rings.tensor.choose_m_lane", lambda *args: (max(1, args[3] // 40), {})
        )
        encoded = xorpack.encode(tensor(), field="always", mask_codec="bitmap", lanes=1)
    assert encoded.field is not None
    assert encoded.field.n_corrections
    assert encoded.n_corrections
    container.write(tmp_path / "model.safetensors", {NAME: encoded}, {})
    return tmp_path / "model.safetensors"


def field_of(document: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = record(document)["field"]
    return found


def test_version(path: Path, tmp_path: Path) -> None:
    assert EncodedFile(path).version == 4
    assert same(xorpack.decode(EncodedFile(path)[NAME]), tensor())
    container.write(tmp_path / "plain.safetensors", {NAME: xorpack.encode(tensor())}, {})
    assert EncodedFile(tmp_path / "plain.safetensors").version == 3
    for version in (2, 3):
        refused(path, lambda d, t, version=version: d.update(version=version), "field")
    assert xorpack.verify_checkpoint(path).n_tensors == 1
    unseal(path)
    assert EncodedFile(path).version == 4
    assert same(xorpack.decode(EncodedFile(path)[NAME]), tensor())


@pytest.mark.parametrize("value", [*ODD, [-1] * 3, [1 << 50] * 4], ids=lambda v: repr(v)[:12])
def test_wrong_members(path: Path, value: object) -> None:
    for key in ("n_raw", "counts", "m_lanes", "n_corrections"):
        refused(path, lambda d, t, key=key: field_of(d).update({key: value}), "field")
    refused(path, lambda d, t: record(d).update(field=value), "field")
    refused(path, lambda d, t: field_of(d).pop("m_lanes"), "field of kind bcq needs")
    refused(path, lambda d, t: field_of(d).update(more=1), "field of kind bcq needs")


def test_wrong_codes(path: Path) -> None:
    for counts in ([0, 2], [2, 0], [1], [1, 1, 1], [1 << 47] * 17, [1] * 18, [1] * 16 + [3], [4, 4]):
        refused(
            path, lambda d, t, counts=counts: field_of(d).update(counts=counts), "counts|codewords|symbols"
        )
    refused(path, lambda d, t: field_of(d).update(n_raw=4), "n_raw = 4 of 3 planes")
    refused(path, lambda d, t: field_of(d).update(n_raw=0, counts=[1], m_lanes=[]), "n_raw = 0 of 3 planes")
    refused(path, lambda d, t: field_of(d).update(n_raw=2), "codewords|planes|symbols")


def test_wrong_rates_and_sections(path: Path) -> None:
    m_lanes = EncodedFile(path).records[NAME]["field"]["m_lanes"]

    def changed(values: list[int]) -> Any:
        return lambda d, t: field_of(d).update(m_lanes=values)

    refused(path, changed([0, *m_lanes[1:]]), "m_lanes")
    refused(path, changed([1 << 40, *m_lanes[1:]]), "m_lanes")
    refused(path, changed([m_lanes[0] + 1, *m_lanes[1:]]), "section of")
    refused(path, changed(m_lanes[1:]), "m_lanes of")
    refused(path, lambda d, t: field_of(d).update(n_corrections=1 << 40), "corrections")
    refused(path, lambda d, t: field_of(d).update(n_corrections=1), "section of")
    refused(path, lambda d, t: record(d).update(constants=[0, 0]), "code|constantly 0")
    refused(path, lambda d, t: t.pop(SECTION), "is missing")
    refused(path, lambda d, t: record(d).pop("field"), "does not belong to a record without a field")
    refused(
        path, lambda d, t: record(d).update(network={"family": "identity"}), "family 'identity'|stored words"
    )
    stored = EncodedFile(path).stored[SECTION]
    for wrong in (
        StoredTensor("I8", stored.shape, stored.data),
        StoredTensor("U8", (stored.data.size - 1,), stored.data[:-1]),
        StoredTensor("U8", (0,), stored.data[:0]),
    ):
        refused(path, lambda d, t, wrong=wrong: t.update({SECTION: wrong}), "field|section")


def test_packed_bits_have_no_field(tmp_path: Path, path: Path) -> None:
    held = EncodedFile(path)
    config, data = held.records[NAME]["field"], held.stored[SECTION]
    packed = tmp_path / "packed.safetensors"
    container.write(packed, {NAME: xorpack.encode(tensor(), payload="packed")}, {})

    def edit(d: dict[str, Any], t: dict[str, StoredTensor]) -> None:
        record(d).update(field=config)
        t[SECTION] = data
        d["version"] = 4

    refused(packed, edit, "whose bits are packed")


def test_wrong_bytes(path: Path) -> None:
    """Symbols out of order, a correction at a pruned weight, a flipped bit."""
    field = EncodedFile(path)[NAME].field
    assert field is not None
    n_symbols, n_code, _ = field.sizes()

    def damaged(edit: Any, match: str) -> None:
        before = path.read_bytes()
        resign(path, edit)
        for decoder in (reference, cpu):
            with pytest.raises(FormatError, match=match):
                decoder.decode_planes(EncodedFile(path)[NAME])
        with pytest.raises(FormatError, match=match):
            EncodedFile(path)[NAME].matvec(np.ones(130, np.float32))
        path.write_bytes(before)

    def same_symbols(d: dict[str, Any], t: dict[str, StoredTensor]) -> None:
        t[SECTION].data[:n_symbols] = 0

    damaged(same_symbols, "not in order")

    def at_pruned(d: dict[str, Any], t: dict[str, StoredTensor]) -> None:
        found = field.load_corrections()
        kept = unpack(tensor().mask, 130).reshape(-1)
        positions = np.sort(np.append(found.positions[1:], np.flatnonzero(~kept)[7]))
        wrong = corrections.Corrections(positions, found.values)
        packed = corrections.pack(wrong, kept.size, field.code.n_depths)
        t[SECTION].data[n_symbols + n_code :] = packed

    damaged(at_pruned, "pruned weight")
    raw = path.read_bytes()
    at = raw.index(field.data.tobytes()) + n_symbols + 3
    path.write_bytes(raw[:at] + bytes([raw[at] ^ 4]) + raw[at + 1 :])
    with pytest.raises(CorruptError):
        EncodedFile(path)[NAME]


def test_the_name_of_the_section_is_taken(tmp_path: Path) -> None:
    encoded = {NAME: xorpack.encode(tensor(), field="always")}
    carried = {SECTION: StoredTensor.of(np.arange(5, dtype=np.float32))}
    with pytest.raises(ParameterError, match="is taken"):
        container.write(tmp_path / "x.safetensors", encoded, carried)
