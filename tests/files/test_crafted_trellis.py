"""Files of version 3 that somebody made on purpose: trellis tensors and records that are sections."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from crafting import (
    CARRIED,
    HUGE,
    NAME,
    ODD,
    PLAIN,
    Edit,
    record,
    refused,
    resign,
    trellis,
    unseal,
    write,
    write_trellis,
)  # fmt: skip

import xorpack
from xorpack.code.corrections import Corrections, pack
from xorpack.decoders import cpu, reference
from xorpack.errors import CorruptError, FormatError, XorpackError
from xorpack.files import container, safetensors_file
from xorpack.files.container import MAX_RECORD, EncodedFile
from xorpack.files.record import pack_record, sections_of, to_record, unpack_record
from xorpack.files.safetensors_file import StoredTensor

RECORD = (
    "kind", "dtype", "shape", "n_kept", "mask", "group_size", "stored_sha256", "content_sha256", "network", "a",
    "n_outliers",
)  # fmt: skip
SECTIONS = ("code", "mask", "scales", "gains", "outliers")


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return write_trellis(tmp_path_factory.mktemp("trellis") / "model.safetensors").read_bytes()


@pytest.fixture
def path(tmp_path: Path, whole: bytes) -> Path:
    path = tmp_path / "model.safetensors"
    path.write_bytes(whole)
    return path


def put(section: str, change: Callable[[Any], Any]) -> Edit:
    """An edit of one section's array."""

    def edit(document: dict[str, Any], tensors: dict[str, StoredTensor]) -> None:
        key = f"{NAME}.xor_{section}"
        tensors[key] = StoredTensor.of(change(tensors[key].array().copy()))

    return edit


def test_the_sample_is_well_formed(path: Path) -> None:
    file = EncodedFile(path)
    assert (file.version, file.sealed, file.order) == (3, True, [NAME, PLAIN, CARRIED])
    assert set(file[NAME].sections()) == set(SECTIONS)
    assert set(file.records[NAME]) == set(RECORD)
    assert cpu.decode_dense(file[NAME]).tobytes() == trellis().dequantize().tobytes()
    before = [stored.data.tobytes() for stored in file.stored.values()]
    resign(path, lambda d, t: None)
    assert xorpack.verify_checkpoint(path).n_tensors == 2
    assert [stored.data.tobytes() for stored in EncodedFile(path).stored.values()] == before


@pytest.mark.parametrize("key", RECORD)
def test_every_member(path: Path, key: str) -> None:
    refused(path, lambda d, t: record(d).pop(key), rf"'{NAME}'.*{key}")
    texts = key in ("stored_sha256", "content_sha256")
    for value in ODD:
        if not (texts and isinstance(value, str)):
            named = "" if key in ("shape", "mask", "network", "kind", "dtype") else key
            refused(path, lambda d, t, v=value: record(d).update({key: v}), rf"'{NAME}'.*{named}")


def test_members_of_other_kinds_and_versions(path: Path, tmp_path: Path) -> None:
    refused(path, lambda d, t: record(d).update(field={}), f"'{NAME}'.*unknown in version 3: 'field'")
    refused(path, lambda d, t: record(d).update(bits=3), f"'{NAME}'.*unknown in version 3: 'bits'")
    refused(path, lambda d, t: record(d, PLAIN).update(a=[1.0]), f"'{PLAIN}'.*unknown in version 3: 'a'")
    refused(path, lambda d, t: record(d, PLAIN).update(kind="trellis"), f"'{PLAIN}'.*lacks a, n_outliers")
    refused(path, lambda d, t: record(d).update(kind="bcq"), f"'{NAME}'.*lacks bits")
    for version in (1, 2):
        refused(path, lambda d, t, v=version: d.update(version=v), f"'{NAME}'.*lacks bits, constants")
    old = write(tmp_path / "old.safetensors")

    def as_trellis(d: dict[str, Any], t: dict[str, StoredTensor]) -> None:
        new = to_record(EncodedFile(path)[NAME])
        record(d).update({key: new[key] for key in ("kind", "network")})
        del t[f"{NAME}.xor_corrections"]

    for version in (1, 2):

        def edit(d: dict[str, Any], t: dict[str, StoredTensor], v: int = version) -> None:
            d.update(version=v)
            as_trellis(d, t)

        refused(old, edit, f"'{NAME}'.*kind 'trellis'; known: bcq, lossless")
        refused(
            old, lambda d, t, v=version: (d.update(version=v), record(d).update(a=[])), "unknown in version"
        )
    sections = {
        "gains": np.ones(40, np.float16),
        "outliers": np.ones(9, np.uint8),
        "record": np.ones(9, np.uint8),
    }
    for section, array in sections.items():  # such a name is free in version 1
        refused(
            old, lambda d, t, s=section, a=array: t.update({f"{NAME}.xor_{s}": StoredTensor.of(a)}), "carried"
        )


def test_a_document_of_version_3_has_no_tensors(path: Path) -> None:
    file = safetensors_file.read(path)
    document = json.loads(file.metadata[container.KEY])
    assert set(document) == {"version", "settings", "order", "carried_sha256"}
    for key in document:
        refused(path, lambda d, t, k=key: d.pop(k))

    def named(d: dict[str, Any], t: dict[str, StoredTensor]) -> None:
        d["carried_sha256"] |= {NAME: "0" * 64}
        d["order"] += [NAME]
        t[NAME] = StoredTensor.of(np.arange(3, dtype=np.uint8))

    refused(path, named, "taken")


@pytest.mark.parametrize(
    ("key", "values"),
    [
        ("n_in", [*ODD, 0, 17]),
        ("n_out", [*ODD, 0, 1, 3, 65]),
        ("window", [*ODD, 7, 8, 21]),
        ("taps", [*ODD, [[]], [[1, 2, 4]], [[1, 2, 4], [1, 2]], [[1, 2, 4], [1, 2, 0]], [[1, 2, 4], [1, 2, 512]],
                  [[1, 2], [1, 2]], [[True, 2, 4], [1, 2, 4]], [[1.0, 2, 4], [1, 2, 4]], [[1] * 17] * 2,
                  [[1, 2, 4]] * 65, [[1, 2, 4], "124"], [[1, 2, HUGE], [1, 2, 4]]]),
    ],
)  # fmt: skip
def test_wrong_network(path: Path, key: str, values: list[Any]) -> None:
    refused(path, lambda d, t: record(d)["network"].pop(key), f"'{NAME}'.*trellis")
    refused(path, lambda d, t: record(d)["network"].update(extra=1), f"'{NAME}'.*trellis")
    for value in values:
        edit = {key: value}
        refused(path, lambda d, t, e=edit: record(d)["network"].update(e), f"'{NAME}'.*(trellis|code|a of)")


@pytest.mark.parametrize(
    "value", [None, True, "1", [], {}, 1e400, -1e400, float("nan"), 1e39, 10**4000, 0.1, 1e-46]
)
def test_wrong_a(path: Path, value: object) -> None:
    for i in range(3):
        refused(path, lambda d, t, i=i: record(d)["a"].__setitem__(i, value), rf"'{NAME}'.*a\[{i}\]")
    for n in (0, 2, 4, 10_000):
        refused(path, lambda d, t, n=n: record(d).update(a=[1.0] * n), rf"'{NAME}'.*{n} alphas")


@pytest.mark.parametrize("value", [-1, 5, 480, 481, HUGE])
def test_wrong_counts(path: Path, value: int) -> None:
    refused(path, lambda d, t: record(d).update(n_outliers=value), f"'{NAME}'.*outliers")
    n_kept = trellis().n_kept
    if value > n_kept:
        refused(path, lambda d, t: record(d).update(n_outliers=value), f"{value} of {n_kept} kept weights")
    if value in (-1, 481, HUGE):
        refused(path, lambda d, t: record(d).update(n_kept=value), f"'{NAME}'.*kept")
        refused(path, lambda d, t: record(d).update(group_size=value << 48), f"'{NAME}'.*(group_size|scales)")


@pytest.mark.parametrize(
    "shape", [[480], [11, 40], [13, 40], [12, 41, 0], [12, 33], [12, HUGE], [1] * 63 + [12, 40], [1 << 31, 0]]
)
def test_wrong_shape(path: Path, shape: list[Any]) -> None:
    refused(path, lambda d, t: record(d).update(shape=shape), f"'{NAME}'")


def test_columns_within_the_same_words_are_told_by_other_sections(path: Path) -> None:
    refused(path, lambda d, t: record(d).update(shape=[12, 39]), f"'{NAME}'.*bitmap of 12 x 39")


@pytest.mark.parametrize("config", [{}, {"n_filters": 1, "m_last": 0, "n_corrections": 0}])
def test_a_cascade_beside_a_trellis(path: Path, config: dict[str, int]) -> None:
    mask = {"codec": "cascade", "config": config}
    refused(path, lambda d, t: record(d).update(mask=mask), f"'{NAME}'.*mask codec cascade")


@pytest.mark.parametrize("section", SECTIONS)
def test_wrong_sections(path: Path, section: str) -> None:
    key = f"{NAME}.xor_{section}"
    good = safetensors_file.read(path).tensors[key]
    wrong = [
        None,
        StoredTensor("I8", (good.n_bytes,), good.data),
        StoredTensor("F64", (good.n_bytes // 8,), good.data[: good.n_bytes // 8 * 8]),
        StoredTensor("BF16", (good.n_bytes // 2,), good.data[: good.n_bytes // 2 * 2]),
        StoredTensor(good.dtype, (*good.shape, 1), good.data),
        StoredTensor(good.dtype, (1, *good.shape), good.data),
        StoredTensor(good.dtype, (1,) * 60 + good.shape, good.data),
        StoredTensor(good.dtype, (0, 1 << 62, 1 << 62, 1 << 62), good.data[:0]),
        StoredTensor(good.dtype, (0,), good.data[:0]),
        StoredTensor(
            good.dtype, (2 * good.shape[0], *good.shape[1:]), np.concatenate([good.data, good.data])
        ),
    ]
    if section == "gains":  # which may be missing
        wrong[0] = StoredTensor("F32", (20,), good.data)
    for one in wrong:

        def edit(d: dict[str, Any], t: dict[str, StoredTensor], one: StoredTensor | None = one) -> None:
            t.pop(key)
            if one is not None:
                t[key] = StoredTensor(one.dtype, one.shape, one.data.copy())

        refused(path, edit, rf"'{NAME}'.*({section}|{'bitmap' if section == 'mask' else section})")


def test_sections_that_are_not_a_kinds(path: Path) -> None:
    for name, section in (
        (NAME, "corrections"),
        (NAME, "field"),
        (PLAIN, "gains"),
        (PLAIN, "outliers"),
        (PLAIN, "scales"),
    ):
        extra = {f"{name}.xor_{section}": StoredTensor.of(np.zeros(0, np.uint8))}
        refused(path, lambda d, t, e=extra: t.update(e), f"'{name}'.*{section}.*belong")
    refused(path, lambda d, t: record(d).update(n_outliers=0), f"'{NAME}'.*outliers.*belong")


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf], ids=str)
@pytest.mark.parametrize("section", ["scales", "gains"])
def test_values_that_are_not_finite(path: Path, section: str, value: float) -> None:
    def change(array: Any) -> Any:
        array.reshape(-1)[-1] = value
        return array

    file = EncodedFile(resign(path, put(section, change)))
    with pytest.raises(
        FormatError, match=rf"model\.safetensors.*'{NAME}'.*{section} that are NaN or infinite"
    ):
        file[NAME]
    unchecked = EncodedFile(path, verify=False)[NAME]
    with pytest.raises(FormatError, match=f"{section} holds NaN or infinity"):
        cpu.decode_dense(unchecked)


def test_weights_that_overflow_on_the_way(path: Path) -> None:
    """Infinity less infinity would be a NaN, whose bits no checksum knows."""
    large = float(np.float32(3e38))
    for a, fits in (([large, -large, large], False), ([large / 2**7, 0, 0], True)):
        before = path.read_bytes()
        file = EncodedFile(resign(path, lambda d, t, a=a: record(d).update(a=a)))
        if fits:
            assert np.isfinite(cpu.decode_dense(file[NAME])).any()
        else:
            with pytest.raises(FormatError, match=rf"'{NAME}': a, scales and gains .* not below 2\*\*127"):
                file[NAME]
        path.write_bytes(before)


@pytest.mark.parametrize("decoder", [reference, cpu], ids=["reference", "cpu"])
def test_wrong_outliers(path: Path, decoder: Any) -> None:
    tensor, good = EncodedFile(path)[NAME], trellis()
    positions, values = good.positions.tolist(), good.values.view(np.uint16).tolist()
    pruned = int(np.flatnonzero(cpu.decode_dense(tensor).reshape(-1) == 0)[-1])
    for p, v, message in (
        (positions, [0, *values[1:]], "outliers: .*nothing"),
        (positions, [0x8000, *values[1:]], "outlier that is NaN, infinite or 0"),
        (positions, [*values[:3], 0x7C00], "outlier that is NaN, infinite or 0"),
        (positions, [*values[:3], 0xFC01], "outlier that is NaN, infinite or 0"),
        ([*positions[:3], pruned], values, "an outlier at a pruned weight"),
        ([*positions[:3], 480], values, "outliers: .*rise below 480"),
        ([positions[0], *positions[:3]], values, "outliers: .*rise below 480"),
    ):
        packed = pack(Corrections(np.array(p, np.int64), np.array(v, np.uint64)), 480, 16)
        before = path.read_bytes()
        file = EncodedFile(resign(path, put("outliers", lambda array, new=packed: new[: array.size])))
        with pytest.raises(FormatError, match=message):
            decoder.decode_dense(file[NAME])
        with pytest.raises(FormatError, match=rf"model\.safetensors.*'{NAME}'.*{message}"):
            xorpack.verify_checkpoint(path)
        path.write_bytes(before)


def test_ones_past_the_last_column(path: Path) -> None:
    file = EncodedFile(resign(path, put("code", lambda code: code | np.uint32(1 << 31))))
    with pytest.raises(FormatError, match="code has ones past the last column, 39"):
        cpu.decode_dense(file[NAME])


def test_wrong_record_sections(path: Path) -> None:
    key = f"{NAME}.xor_record"
    good = EncodedFile(path).stored[key].data
    text = good.tobytes()
    digest = text[-66:-2]
    for data, message in (
        (b"", "not JSON"),
        (b"{", "not JSON"),
        (b"\xff" + text, "not JSON"),
        (b"[" * 100_000, "not JSON"),
        (b'{"a":1,"a":1}', "occurs twice"),
        (b"null", "does not end"),
        (b"[]", "does not end"),
        (b"{}", "does not end"),
        (b'{"record_sha256":1}', "does not end"),
        (b'{"record_sha256":""}', "checksum"),
        (text[:-1], "not JSON"),
        (text + b" ", "does not end"),
        (text.replace(digest, digest.upper()), "checksum"),
        (text.replace(b'"shape":[12', b'"shape":[13'), "checksum"),
        (text.replace(b'"record_sha256":', b'"record_sha256": '), "does not end"),
        (b'{"record_sha256":"' + digest + b'",' + text[1:-84] + b"}", "does not end"),
    ):
        stored = StoredTensor.of(np.frombuffer(data, np.uint8))

        def edit(d: dict[str, Any], t: dict[str, StoredTensor], stored: StoredTensor = stored) -> None:
            del d["tensors"][NAME]
            t[key] = stored

        refused(path, edit, f"'{NAME}'.*record.*{message}")
    for stored in (
        StoredTensor("I8", (good.size,), good),
        StoredTensor("U8", (good.size, 1), good),
        StoredTensor("U8", (), good[:1]),
    ):
        edit = {key: stored}
        refused(path, lambda d, t, e=edit: (d["tensors"].pop(NAME), t.update(e)), f"'{NAME}'.*record of type")
    refused(path, lambda d, t: (d["tensors"].pop(NAME), t.pop(key)), "carried tensors differ")


def test_a_large_record_is_not_read(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    large = {**EncodedFile(path).records[NAME], "extra": "x" * (2 << 20)}

    def edit(d: dict[str, Any], t: dict[str, StoredTensor]) -> None:
        del d["tensors"][NAME]
        t[f"{NAME}.xor_record"] = StoredTensor.of(pack_record(large))

    resign(path, edit)
    monkeypatch.setattr("xorpack.files.container.unpack_record", lambda data: pytest.fail("it was read"))
    with pytest.raises(FormatError, match=rf"'{NAME}': record of 2\d+ bytes, more than {MAX_RECORD}"):
        EncodedFile(path)


def test_every_bit_of_the_data(path: Path) -> None:
    """Every bit of records, one of each byte of other sections."""
    data = path.read_bytes()
    n = 8 + int.from_bytes(data[:8], "little")
    tensors = safetensors_file.read(path).tensors
    owners = [name for name, stored in tensors.items() for _ in range(stored.n_bytes)]
    assert len(owners) == len(data) - n
    with open(path, "r+b", buffering=0) as file:
        for at in range(n, len(data)):
            owner, _, section = owners[at - n].partition(".xor_")
            for bit in range(8) if section == "record" else [at % 8]:
                file.seek(at)
                file.write(bytes([data[at] ^ 1 << bit]))
                if section == "record":
                    with pytest.raises(FormatError, match=rf"model\.safetensors: tensor '{owner}'"):
                        EncodedFile(path)
                    continue
                opened = EncodedFile(path)
                with pytest.raises(CorruptError, match=rf"model\.safetensors.*'{owner}'"):
                    opened.load_carried(owner) if owner == CARRIED else opened[owner]
            file.seek(at)
            file.write(data[at : at + 1])


def test_every_bit_of_the_header(path: Path) -> None:
    data = path.read_bytes()
    n = 8 + int.from_bytes(data[:8], "little")
    with open(path, "r+b", buffering=0) as file:
        for at in range(n):
            file.seek(at)
            file.write(bytes([data[at] ^ 1 << at % 8]))
            with pytest.raises(XorpackError, match=r"model\.safetensors"):
                EncodedFile(path)
            file.seek(at)
            file.write(data[at : at + 1])


def test_a_rewritten_file_that_lost_a_section(path: Path) -> None:
    unseal(path)
    whole = path.read_bytes()
    for section in (*SECTIONS, "record"):
        path.write_bytes(whole)
        tensors = dict(safetensors_file.read(path).tensors)
        held = {name: StoredTensor(t.dtype, t.shape, t.data.copy()) for name, t in tensors.items()}
        del held[f"{NAME}.xor_{section}"]
        safetensors_file.write(path, held, safetensors_file.header_bytes(held, {}))
        if section == "gains":  # nothing but the checksum tells
            with pytest.raises(CorruptError, match="stored bytes"):
                EncodedFile(path)[NAME]
        else:
            with pytest.raises(FormatError, match=rf"{NAME}\.xor_{section}"):
                EncodedFile(path)


def test_names_of_sections_of_version_3(tmp_path: Path) -> None:
    tensor, bias = xorpack.encode(trellis()), StoredTensor.of(np.arange(3, dtype=np.float32))
    known = ("code", "corrections", "mask", "scales", "field", "gains", "outliers", "starts", "record")
    assert sections_of(3) == known
    for section in sections_of(3):
        with pytest.raises(xorpack.ParameterError, match="is taken"):
            container.write(tmp_path / "x", {"a": tensor}, {f"a.xor_{section}": bias})
    with pytest.raises(xorpack.ParameterError, match=r"'b\.xor_record' is taken"):
        container.write(tmp_path / "x", {"a": tensor}, {"b.xor_record": bias})


def test_records_come_back() -> None:
    made = to_record(xorpack.encode(trellis()))
    assert unpack_record(pack_record(made)) == made
