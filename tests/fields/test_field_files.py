"""Fields in files: versions, names, and files that somebody made on purpose."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from crafting import NAME, PLAIN, Edit, resign, write
from safetensors.numpy import save_file
from samples import replaced

import xorpack
from xorpack.code import corrections
from xorpack.code.layout import Layout
from xorpack.decoders import cpu, reference
from xorpack.errors import CorruptError, FormatError, ParameterError
from xorpack.fields.field import Field, FieldCode
from xorpack.files import container, safetensors_file
from xorpack.files.container import EncodedFile
from xorpack.files.safetensors_file import StoredTensor

FIELD = "c.weight"
EARLY = xorpack.XorNetwork.quasi_cyclic()
"""A network of all versions."""
ODD: list[Any] = [
    None,
    True,
    -1,
    0.5,
    1e400,
    1 << 70,
    10**4000,
    "",
    "x",
    [],
    [1],
    [-1] * 3,
    [1 << 50] * 4,
    {},
]


def values() -> np.ndarray[Any, Any]:
    """Exponents from frequent to rare; half of the elements are pruned."""
    rng = np.random.default_rng(1)
    array = (rng.standard_normal((30, 200)) * 0.1).astype(np.float16)
    array[rng.random(array.shape) < 0.5] = 0
    return array


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A file of version 2: a tensor with a field, of several corrections, and others."""
    file = EncodedFile(write(tmp_path / "plain.safetensors"))
    encoded = dict(file.items())
    encoded[FIELD] = xorpack.encode(values(), field="always", network=EARLY)
    carried = {name: file.load_carried(name) for name in file.carried}
    container.write(tmp_path / "model.safetensors", encoded, carried, version=2)
    return tmp_path / "model.safetensors"


def field_of(document: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = document["tensors"][FIELD]["field"]
    return found


def refused(path: Path, edit: Edit, match: str) -> None:
    """The edited file is not opened."""
    before = path.read_bytes()
    resign(path, edit)
    with pytest.raises(FormatError, match=match) as caught:
        EncodedFile(path)
    assert str(path) in str(caught.value)
    path.write_bytes(before)


def test_files_of_earlier_versions_are_read(path: Path, tmp_path: Path) -> None:
    file = EncodedFile(path)
    assert file.version == 2
    assert EncodedFile(tmp_path / "plain.safetensors").version == 1
    assert xorpack.open(path).info()["format_version"] == 2
    assert file[FIELD].field is not None
    assert "field" not in file.records[NAME]
    assert np.array_equal(xorpack.decode(file[FIELD]).view(np.uint16), values().view(np.uint16))


def test_names_of_version_2(tmp_path: Path) -> None:
    """A carried tensor may have the name of a field's section in version 1 alone."""
    with_field = xorpack.encode(values(), field="always", network=EARLY)
    carried = {"a.xor_field": StoredTensor.of(np.arange(5, dtype=np.float32))}
    plain = tmp_path / "1.safetensors"
    without = {"a": xorpack.encode(values(), field="none", network=EARLY)}
    container.write(plain, without, carried, version=1)
    assert set(EncodedFile(plain).carried) == {"a.xor_field"}
    for version in (2, 3):
        for encoded in ({"a": with_field}, without | {"b": with_field}):
            with pytest.raises(ParameterError, match=r"'a\.xor_field' is taken"):
                container.write(tmp_path / "2.safetensors", encoded, carried, version=version)


def test_version_1_has_no_fields(path: Path) -> None:
    refused(path, lambda d, t: d.update(version=1), "unknown in version 1: 'field'")


@pytest.mark.parametrize("value", ODD, ids=lambda v: repr(v)[:12])
def test_wrong_members(path: Path, value: object) -> None:
    for key in ("code", "counts", "layout", "n_corrections"):
        refused(path, lambda d, t, key=key: field_of(d).update({key: value}), f"'{FIELD}'.*field")
        if value != {}:
            refused(path, lambda d, t: d["tensors"][FIELD].update(field=value), f"'{FIELD}'.*field")
    refused(path, lambda d, t: field_of(d).pop("code"), "field needs")
    refused(path, lambda d, t: field_of(d).update(more=1), "field needs")


@pytest.mark.parametrize("at", [0, 1, 2])
@pytest.mark.parametrize("value", [0, 1, 7, 15, 16, 17, 33, 1 << 40])
def test_wrong_codes(path: Path, at: int, value: int) -> None:
    def edit(d: dict[str, Any], t: dict[str, StoredTensor]) -> None:
        field_of(d)["code"][at] = value

    if value != EncodedFile(path).records[FIELD]["field"]["code"][at]:
        refused(path, edit, f"'{FIELD}'")


@pytest.mark.parametrize(
    "counts",
    [[0, 2], [2, 0], [1], [1, 1, 1], [1 << 47] * 17, [1] * 18, [1] * 16 + [3], [1, 0, 0, 9], [4, 4]],
    ids=str,
)
def test_wrong_counts(path: Path, counts: list[int]) -> None:
    refused(path, lambda d, t: field_of(d).update(counts=counts), f"'{FIELD}'.*(counts|codewords|symbols)")


def test_wrong_layouts_and_sections(path: Path) -> None:
    def layout(at: int, value: int) -> Edit:
        return lambda d, t: field_of(d)["layout"].__setitem__(at, value)

    for at, value in ((0, 0), (0, 33), (1, 0), (1, 1 << 31), (2, 0), (2, 1 << 40), (3, 1 << 40), (3, 1)):
        refused(path, layout(at, value), f"'{FIELD}'.*field")
    key = f"{FIELD}.xor_field"
    stored = EncodedFile(path).stored[key]
    for wrong in (
        StoredTensor("I8", stored.shape, stored.data),
        StoredTensor("U8", (1, *stored.shape), stored.data),
        StoredTensor("U8", (stored.data.size - 1,), stored.data[:-1]),
        StoredTensor("U8", (0,), stored.data[:0]),
    ):
        refused(path, lambda d, t, wrong=wrong: t.update({key: StoredTensor(*astuple(wrong))}), f"'{FIELD}'")
    refused(path, lambda d, t: t.pop(key) and None, "missing")
    refused(path, lambda d, t: d["tensors"][FIELD].pop("field") and None, "without a field")
    extra = StoredTensor.of(np.zeros(3, np.uint8))
    refused(path, lambda d, t: t.update({f"{PLAIN}.xor_field": extra}), "without a field")


def astuple(stored: StoredTensor) -> tuple[str, tuple[int, ...], Any]:
    return stored.dtype, stored.shape, stored.data.copy()


def test_fields_where_there_can_be_none(path: Path) -> None:
    def move(d: dict[str, Any], t: dict[str, StoredTensor], to: str = NAME) -> None:
        d["tensors"][to]["field"] = d["tensors"][FIELD]["field"]
        t[f"{to}.xor_field"] = t[f"{FIELD}.xor_field"]

    refused(path, move, f"'{NAME}'")
    refused(path, lambda d, t: move(d, t, PLAIN), f"'{PLAIN}'")
    zeros = EncodedFile(path).records[FIELD]["constants"][0]
    unused = EncodedFile(path)[FIELD].field.code.unused  # type: ignore[union-attr]
    low = unused & -unused

    def code_one_more(d: dict[str, Any], t: dict[str, StoredTensor]) -> None:
        d["tensors"][FIELD]["constants"] = [zeros & ~low, low]

    refused(path, code_one_more, "not all constantly 0")


@pytest.mark.parametrize("which", ["twice", "falling", "twice, with codewords of two lengths"])
def test_wrong_symbols(path: Path, which: str) -> None:
    field = EncodedFile(path)[FIELD].field
    assert field is not None
    symbols = field.load_symbols()
    at = int(np.flatnonzero(np.diff(field.code.lengths()) == 0)[0])
    if which.endswith("lengths"):
        lengths = field.code.lengths()
        group = np.flatnonzero(lengths == lengths[-1])
        others = np.flatnonzero(lengths < lengths[-1])
        symbols[group] = np.sort([*symbols[group[1:]], symbols[others[0]]])
        rising = np.diff(symbols[group].astype(np.int64)) > 0
        assert rising.all()
    else:
        symbols[at : at + 2] = symbols[at] if which == "twice" else symbols[[at + 1, at]]
    packed = corrections.pack_fields(symbols.astype(np.uint64), field.code.width)

    def edit(d: dict[str, Any], t: dict[str, StoredTensor]) -> None:
        t[f"{FIELD}.xor_field"].data[: packed.size] = packed

    resign(path, edit)
    tensor = EncodedFile(path)[FIELD]
    for decoder in (cpu, reference):
        with pytest.raises(FormatError, match="not in order, or one occurs twice"):
            decoder.decode_dense(tensor)
    with pytest.raises(FormatError, match=f"{FIELD}.*not in order"):
        xorpack.verify_checkpoint(path)


def test_a_damaged_section(path: Path) -> None:
    tensors = safetensors_file.read(path).tensors
    data = tensors[f"{FIELD}.xor_field"].data
    begin = path.read_bytes().index(data.tobytes())
    for at in (0, data.size // 2, data.size - 1):
        whole = bytearray(path.read_bytes())
        whole[begin + at] ^= 4
        damaged = path.with_name("damaged.safetensors")
        damaged.write_bytes(whole)
        with pytest.raises(CorruptError, match="checksum"):
            EncodedFile(damaged)[FIELD]


def test_any_bits_of_the_plane_decode_to_symbols_of_the_code(path: Path) -> None:
    """Whatever stands in the plane of depths, the decoders agree and stay within the code."""
    rng = np.random.default_rng(2)
    tensor = EncodedFile(path)[FIELD]
    field = tensor.field
    assert field is not None
    data = field.data.copy()
    n_symbols, n_code, _ = field.sizes()
    data[n_symbols : n_symbols + n_code] = rng.integers(0, 256, n_code)
    broken = replaced(tensor, field=replace(field, data=data))
    elements = cpu.decode_dense(broken)
    assert reference.decode_dense(broken).tobytes() == elements.tobytes()
    kept = elements.view(np.uint16)[values() != 0]
    assert set(kept >> field.code.low & (1 << field.code.width) - 1) <= set(field.load_symbols().tolist())


def test_codes_say_what_is_wrong() -> None:
    for arguments, match in (
        ((-1, 4, 0, (1,)), "bits -1 to 2"),
        ((0, 0, 0, (1,)), "bits 0 to -1"),
        ((0, 4, 0, ()), "counts"),
        ((0, 4, 1, (1,)), "1 of 2 codewords"),
        ((0, 1, 2, (4,)), "4 symbols of 1 bits"),
        ((0, 32, 17, (1 << 17,)), "codewords of 17 bits"),
    ):
        low, width, n_raw, counts = arguments
        with pytest.raises(FormatError, match=match):
            FieldCode(low=low, width=width, n_raw=n_raw, counts=counts)
    code = FieldCode(low=3, width=4, n_raw=1, counts=(1, 1, 2))
    assert (code.n_symbols, code.n_depths, code.max_length, code.unused) == (4, 2, 3, 0b1110000)
    assert code.table(np.array([9, 2, 4, 11], np.uint32)).tolist() == [9] * 4 + [2] * 2 + [4, 11]


def test_configs_come_back(path: Path) -> None:
    field = EncodedFile(path)[FIELD].field
    assert field is not None
    again = Field.from_config(field.get_config(), field.data, 30, 200)
    assert again.get_config() == field.get_config()
    assert again.code == field.code


def test_a_code_of_one_symbol(tmp_path: Path) -> None:
    """No writer makes one, but it is well-formed: no bits are stored, all planes of the field are constant."""
    array = np.where(np.arange(300).reshape(6, 50) % 3 == 0, 0, 0x35).astype(np.uint8)
    plain = xorpack.encode(array)
    code = FieldCode(low=2, width=4, n_raw=0, counts=(1,))
    layout = Layout(rows=6, cols=0, lanes=1, n_steps=0, row_stride=1)
    nothing = np.zeros((1, 0, 0, 1), np.uint32), np.zeros(0, np.uint8)
    field = Field.pack(code, np.array([0xD], np.uint32), layout, *nothing, 0)
    zeros, ones = plain.planes.constants
    tensor = replaced(plain, field=field, constants=(zeros | 0x3C, ones & ~0x3C))
    container.write(tmp_path / "one.safetensors", {"a": tensor}, {})
    read = EncodedFile(tmp_path / "one.safetensors")["a"]
    assert np.array_equal(cpu.decode_dense(read), array)
    assert np.array_equal(reference.decode_dense(read), array)


@pytest.mark.parametrize("lossless", [False, True])
def test_a_directory_says_its_version(tmp_path: Path, lossless: bool) -> None:
    source = tmp_path / "model"
    source.mkdir()
    rng = np.random.default_rng(3)
    save_file({"a.weight": rng.standard_normal((96, 128), np.float32)}, source / "model.safetensors")
    (source / "config.json").write_text("{}")
    xorpack.encode_checkpoint(source, tmp_path / "x", lossless=lossless)
    config = json.loads((tmp_path / "x" / "config.json").read_text(encoding="utf-8"))
    assert config["quantization_config"]["format_version"] == 3
    assert {file.version for file in xorpack.open(tmp_path / "x").files} == {3}
    assert xorpack.verify_checkpoint(tmp_path / "x", against=source if lossless else None).n_tensors == 1
    xorpack.decode_checkpoint(tmp_path / "x", tmp_path / "y")
    if lossless:
        assert (tmp_path / "y" / "model.safetensors").read_bytes() == (
            source / "model.safetensors"
        ).read_bytes()
