"""Files that somebody made on purpose: digests are right, the rest is not. And plain safetensors files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from crafting import CARRIED, HUGE, NAME, ODD, PLAIN, Edit, record, refused, resign, sign, write
from samples import bcq

import xorpack
from xorpack import XorNetwork
from xorpack.code.words import pack
from xorpack.decoders import cpu
from xorpack.encoding.masks.bmf import factor
from xorpack.errors import CorruptError, FormatError
from xorpack.files import container, safetensors_file
from xorpack.files.container import EncodedFile
from xorpack.files.safetensors_file import StoredTensor

RECORD = (
    "kind", "dtype", "shape", "bits", "n_kept", "constants", "network", "layout", "n_corrections", "mask", "group_size",
    "method", "stored_sha256", "content_sha256",
)  # fmt: skip
TEXTS = ("method", "stored_sha256", "content_sha256")
PARTS = [(), ("network",), ("layout",), ("mask",), ("mask", "config")]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return write(tmp_path / "model.safetensors")


@pytest.mark.parametrize("version", [0, 5, -1, True, "1", 1.0, None, HUGE], ids=repr)
def test_unknown_version(path: Path, version: object) -> None:
    refused(path, lambda d, t: d.update(version=version), f"version {version!r}")


def test_names_of_what_is_unknown(path: Path) -> None:
    refused(path, lambda d, t: record(d).update(kind="ternary"), f"'{NAME}'.*kind 'ternary'")
    refused(path, lambda d, t: record(d)["network"].update(family="turbo"), f"'{NAME}'.*family 'turbo'")
    refused(path, lambda d, t: record(d)["mask"].update(codec="runs"), f"'{NAME}'.*codec 'runs'")
    refused(path, lambda d, t: record(d).update(dtype="F64"), f"'{NAME}'.*dtype 'F64'")


@pytest.mark.parametrize(
    ("key", "value"),
    [(key, value) for key in RECORD for value in ODD if key not in TEXTS or not isinstance(value, str)],
    ids=lambda v: repr(v)[:20],
)
def test_wrong_type_or_value_in_a_record(path: Path, key: str, value: object) -> None:
    refused(path, lambda d, t: record(d).update({key: value}), f"'{NAME}'")


@pytest.mark.parametrize("key", TEXTS)
def test_any_text_opens_where_a_text_stands(path: Path, key: str) -> None:
    """A digest is compared when the tensor is read."""
    resign(path, lambda d, t: record(d).update({key: "x"}))
    opened = EncodedFile(path)
    if key == "stored_sha256":
        with pytest.raises(CorruptError, match=f"'{NAME}': stored bytes do not match"):
            opened[NAME]
    else:
        assert opened[NAME].n_weights
        assert opened.records[NAME][key] == "x"


@pytest.mark.parametrize(
    "value", [None, True, -1, 0.5, 1e400, HUGE, 10**4000, "", "0", [], [0], {}], ids=lambda v: repr(v)[:12]
)
def test_wrong_constants(path: Path, value: object) -> None:
    for constants in ([value, 0], [0, value], [value, value]):
        refused(path, lambda d, t, c=constants: record(d).update(constants=c), f"'{NAME}'.*constant")
    assert record(json.loads(safetensors_file.read(path).metadata[container.KEY]))["bits"] == 2


@pytest.mark.parametrize(
    ("constants", "message"),
    [([0], "two sets"), ([0, 0, 0], "two sets"), ([[0, 0]], "two sets"), ([1, 1], "0x1 and 0x1 of 2"),
     ([3, 1], "0x3 and 0x1 of 2"), ([4, 0], "0x4 and 0x0 of 2"), ([0, 1 << 63], "constant planes"),
     ([0, 0], r"not \(2, "), ([1, 2], r"not \(0, "), ([3, 0], r"not \(0, ")],
    ids=str,
)  # fmt: skip
def test_constants_that_contradict(path: Path, constants: list[Any], message: str) -> None:
    refused(path, lambda d, t: record(d).update(constants=constants), f"'{NAME}'.*{message}")


def test_strides_past_the_rows(path: Path) -> None:
    for stride in (13, 25, (1 << 47) + 1):  # coprime to the 12 rows
        refused(
            path,
            lambda d, t, s=stride: record(d)["layout"].update(row_stride=s),
            f"'{NAME}'.*row_stride {stride}",
        )


def test_stored_words_have_a_limit(path: Path) -> None:
    good = EncodedFile(path)[NAME]
    n_coded, n_segments, _, lanes = good.code.shape
    limit = 2 * good.layout.n_steps + good.network.window
    for m_lane in (limit, limit + 1, 2 * limit):
        words = np.zeros((n_coded, n_segments, m_lane, lanes), np.uint32)
        stored = StoredTensor.of(words)

        def edit(d: dict[str, Any], t: dict[str, StoredTensor], stored: StoredTensor = stored) -> None:
            t[f"{NAME}.xor_code"] = stored

        if m_lane > limit:
            refused(path, edit, f"'{NAME}'.*{m_lane} stored words")
        else:
            before = path.read_bytes()
            resign(path, edit)
            assert EncodedFile(path)[NAME].code.shape[2] == limit
            path.write_bytes(before)


def test_blocks_have_at_most_65536_symbols(tmp_path: Path) -> None:
    path = write(tmp_path / "model.safetensors", mask_codec="block")
    for code, n in (([17, 17, 17, 0], 1 << 17), ([17, 17, 24, 0], 1 << 17), ([32, 5, 24, 0], 242825)):
        edit = {"code": code}
        message = f"'{NAME}'.*codewords of {code[2]} bits for {n} symbols"
        refused(path, lambda d, t, e=edit: record(d)["mask"]["config"].update(e), message)
    resign(path, lambda d, t: record(d)["mask"]["config"].update(code=[16, 16, 16, 0]))
    with pytest.raises(FormatError) as caught:  # all of it fits but the section, which is of another code
        EncodedFile(path)
    assert "symbols" not in str(caught.value)


def test_wrong_cascade(tmp_path: Path) -> None:
    path = write(tmp_path / "model.safetensors", mask_codec="cascade")
    config = EncodedFile(path)[NAME].mask_config
    assert set(config) == {"n_filters", "m_last", "n_corrections"}
    for key in config:
        refused(path, lambda d, t, key=key: record(d)["mask"]["config"].pop(key), "cascade needs")
        for value in [*ODD, 0.0, (1 << 48) - 1, config[key] + 9]:
            wrong = {key: value}
            refused(path, lambda d, t, w=wrong: record(d)["mask"]["config"].update(w), f"'{NAME}'.*cascade")
    refused(path, lambda d, t: record(d)["mask"]["config"].update(extra=1), "cascade needs")
    identity = {"family": "identity"}
    refused(path, lambda d, t: record(d).update(network=identity), f"'{NAME}'")


def test_wrong_block(tmp_path: Path) -> None:
    path = write(tmp_path / "model.safetensors", mask_codec="block")
    config = EncodedFile(path)[NAME].mask_config
    assert set(config) == {"code", "layout", "n_corrections", "row_levels", "col_levels"}
    for key, values in config.items():
        refused(path, lambda d, t, key=key: record(d)["mask"]["config"].pop(key), "block needs")
        odd = [*ODD, [], [values], values[:-1], [*values, 1] * 9]
        odd += [
            [*values[:i], bad, *values[i + 1 :]]
            for i in range(len(values))
            for bad in (None, True, 0.5, HUGE, -HUGE)
        ]
        for wrong in odd:
            if wrong == values or (wrong == [1] and "levels" in key):
                continue
            new = {key: wrong}
            refused(path, lambda d, t, w=new: record(d)["mask"]["config"].update(w), f"'{NAME}'.*block")
    refused(path, lambda d, t: record(d)["mask"]["config"].update(extra=1), "block needs")


def test_wrong_packed_bits(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    encoded = xorpack.encode(bcq((12, 40), 0.5, 2), payload="packed")
    container.write(path, {NAME: encoded}, {})
    good = EncodedFile(path)[NAME]
    assert good.packed is not None
    n_words = good.code.shape[1]
    for network in ({"family": "packed", "window": 1}, {"family": "identity"}, {"family": ["packed"]}):
        refused(path, lambda d, t, n=network: record(d).update(network=n), f"'{NAME}'")
    for layout in ({}, {"panel_rows": 1, "lanes": 1}, {"lanes": 1, "n_steps": 24, "row_stride": 1}):
        refused(
            path, lambda d, t, w=layout: record(d).update(layout=w), f"'{NAME}'.*layout .* needs panel_rows"
        )
    for value in [*ODD, 0, 13, HUGE]:
        refused(path, lambda d, t, v=value: record(d)["layout"].update(panel_rows=v), f"'{NAME}'")
    refused(
        path, lambda d, t: record(d)["layout"].update(panel_rows=5), "0 bytes of starts of 3 panels, not 16"
    )
    refused(path, lambda d, t: record(d).update(n_kept=good.n_kept + 32), f"'{NAME}'.*packed code")
    refused(path, lambda d, t: record(d).update(constants=[1, 0]), f"'{NAME}'.*2 planes")
    cascade = {"codec": "cascade", "config": {"n_filters": 1, "m_last": 0, "n_corrections": 0}}
    refused(path, lambda d, t: record(d).update(mask=cascade), f"'{NAME}'.*cascade")
    for key, wrong in (
        ("code", np.zeros((2, n_words + 1), np.uint32)),
        ("code", np.zeros((1, n_words), np.uint32)),
        ("code", np.zeros((2, 1, n_words, 1), np.uint32)),
        ("starts", np.zeros(8, np.uint8)),
        ("starts", np.zeros(1, np.uint32)),
        ("starts", None),
    ):

        def edit(d: dict[str, Any], t: dict[str, StoredTensor], key: str = key, wrong: Any = wrong) -> None:
            if wrong is None:
                del t[f"{NAME}.xor_{key}"]
            else:
                t[f"{NAME}.xor_{key}"] = StoredTensor.of(wrong)

        refused(path, edit, f"'{NAME}'.*(packed|starts)")


def test_packed_bits_are_of_version_3(path: Path) -> None:
    """Before, no such family was known; and ``starts`` belong to nothing else."""
    refused(path, lambda d, t: record(d).update(network={"family": "packed"}), f"'{NAME}'.*family 'packed'")
    starts = StoredTensor.of(np.zeros(0, np.uint8))
    container.write(path, {NAME: EncodedFile(path)[NAME]}, {})
    key = f"{NAME}.xor_starts"
    refused(
        path, lambda d, t: t.update({key: starts}), "does not belong to a record whose bits are not packed"
    )


def test_wrong_bmf(tmp_path: Path) -> None:
    mask = np.kron(np.eye(3, dtype=np.float32), np.ones((4, 14), np.float32))[:, :40]
    path = tmp_path / "model.safetensors"
    factors = factor(pack(mask != 0), 40, 3, 12, 64)
    encoded = xorpack.encode(xorpack.quantize(mask, bits=2), mask_codec="bmf", factors=factors)
    container.write(path, {NAME: encoded}, {})
    assert EncodedFile(path)[NAME].mask_config == {"rank": 3, "tile": [12, 64]}
    for key, values in (
        ("rank", ODD),
        ("tile", [*ODD, [], [12], [12, 64, 1], [12, 33], [0, 64], [12, HUGE]]),
    ):
        refused(path, lambda d, t, key=key: record(d)["mask"]["config"].pop(key), "bmf needs")
        for wrong in values:
            new = {key: wrong}
            refused(path, lambda d, t, w=new: record(d)["mask"]["config"].update(w), f"'{NAME}'.*bmf")


@pytest.mark.parametrize("value", [None, True, -1, 0.5, HUGE, (1 << 48) - 1, "1", [1]], ids=repr)
@pytest.mark.parametrize("part", ["layout", "network"])
def test_wrong_numbers_of_layout_and_network(path: Path, part: str, value: object) -> None:
    keys = {"layout": ("lanes", "n_steps", "row_stride"), "network": ("window", "n_taps", "n_rows")}[part]
    for key in keys:
        refused(path, lambda d, t, key=key: record(d)[part].update({key: value}), f"'{NAME}'")


@pytest.fixture(scope="module")
def turned(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("turned") / "model.safetensors"
    network = XorNetwork.turned(window=6, n_rows=32, hold=4)
    container.write(path, {NAME: xorpack.encode(bcq((12, 40), 0.5, 2), network=network)}, {})
    return path.read_bytes()


@pytest.mark.parametrize("value", [None, True, -1, 0, 3, 24, 0.5, HUGE, (1 << 48) - 1, "8", [8]], ids=repr)
@pytest.mark.parametrize("key", ["window", "n_rows", "hold"])
def test_wrong_numbers_of_turned_networks(tmp_path: Path, turned: bytes, key: str, value: object) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(turned)
    assert cpu.decode_dense(EncodedFile(path)[NAME]).tobytes() == bcq((12, 40), 0.5, 2).dequantize().tobytes()
    refused(path, lambda d, t: record(d)["network"].update({key: value}), f"'{NAME}'.*network {key} = ")


def test_another_member_or_none_of_turned_networks(tmp_path: Path, turned: bytes) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(turned)
    refused(path, lambda d, t: record(d)["network"].update(n_taps=6), f"'{NAME}'.*needs")
    refused(path, lambda d, t: record(d)["network"].pop("hold"), f"'{NAME}'.*needs")


def test_turned_networks_are_of_version_3(path: Path) -> None:
    network = XorNetwork.turned().get_config()
    reason = f"'{NAME}'.*network family 'turned' in a file of version 1, before 3"
    refused(path, lambda d, t: record(d).update(network=network), reason)


@pytest.mark.parametrize("seed", [-1, 1 << 64, True, "1", 1.0], ids=repr)
def test_wrong_seed(path: Path, seed: object) -> None:
    refused(path, lambda d, t: record(d)["network"].update(seed=seed), "seed")


def test_networks_that_take_too_long_to_draw(path: Path) -> None:
    for config in (
        {"family": "quasi-cyclic", "window": 4096, "n_taps": 131072, "n_rows": 65536, "seed": 1},
        {"family": "quasi-cyclic", "window": 4096, "n_taps": 64, "n_rows": 65536, "seed": 1},
        {"family": "dense", "window": 4096, "n_in": 1, "n_out": 65536, "seed": 1},
        {"family": "sparse", "window": 4096, "n_in": 1, "n_out": 65536, "n_taps": 64, "seed": 1},
    ):
        refused(path, lambda d, t, config=config: record(d).update(network=config), "network")


@pytest.mark.parametrize(
    "shape",
    [[480], [40, 12], [12, 40, 0], [12, HUGE], [1 << 47, 1 << 47, 0], [12, True], [12, 40.0], [12, -40], ["12", 40],
     [[12, 40]], [1] * 64 + [12, 40], [1 << 31, 0], [0, 1 << 48]],
    ids=lambda v: repr(v)[:20],
)  # fmt: skip
def test_wrong_shape(path: Path, shape: list[Any]) -> None:
    refused(path, lambda d, t: record(d).update(shape=shape), f"'{NAME}'")


@pytest.mark.parametrize("steps", [(), *(("tensors", NAME, *s) for s in PARTS)], ids=str)
def test_missing_and_extra_fields(path: Path, steps: tuple[str, ...]) -> None:
    def part(found: dict[str, Any]) -> dict[str, Any]:
        for key in steps:
            found = found[key]
        return found

    document = json.loads(safetensors_file.read(path).metadata[container.KEY])
    refused(path, lambda d, t: part(d).update(extra=1))
    for key in part(document):
        refused(path, lambda d, t, key=key: part(d).pop(key))


@pytest.mark.parametrize(
    ("key", "value"),
    [("settings", []), ("order", {}), ("order", [1]), ("order", [NAME]), ("order", [NAME, PLAIN, CARRIED, NAME]),
     ("order", [NAME, PLAIN, "c"]), ("tensors", []), ("tensors", {NAME: 1}), ("carried_sha256", []),
     ("carried_sha256", {}), ("carried_sha256", {CARRIED: 1}), ("carried_sha256", {CARRIED: "", "c": ""})],
)  # fmt: skip
def test_wrong_document(path: Path, key: str, value: object) -> None:
    refused(path, lambda d, t: d.update({key: value}))


@pytest.mark.parametrize(
    "text", ["", "1", "[]", "null", "{", "[" * 100_000, '{"version":' * 50_000, '{"version":1,"version":1}',
             '{"version":1' + "0" * 5000 + "}", '"\\ud800"', '{"\\ud800":1}']
)  # fmt: skip
def test_documents_that_are_none(path: Path, text: str) -> None:
    file = safetensors_file.read(path)
    tensors = {name: StoredTensor(t.dtype, t.shape, t.data.copy()) for name, t in file.tensors.items()}
    sign(path, tensors, text, file.metadata)
    with pytest.raises(FormatError, match=r"metadata|version"):
        EncodedFile(path)


@pytest.mark.parametrize("section", container.sections_of(1))
def test_wrong_sections(path: Path, section: str) -> None:
    key = f"{NAME}.xor_{section}"
    good = safetensors_file.read(path).tensors[key]
    width = {"scales": 2}.get(section, 1)
    for wrong in (
        None,
        StoredTensor("U8" if section in ("code", "scales") else "I8", (good.data.size,), good.data),
        StoredTensor("F32" if section == "code" else "BOOL", good.shape, good.data[: good.data.size // width]),
        StoredTensor(good.dtype, (*good.shape, 1), good.data),
        StoredTensor(good.dtype, (1,) * 60 + good.shape, good.data),
        StoredTensor(good.dtype, (0, 1 << 62, 1 << 62, 1 << 62), good.data[:0]),
        StoredTensor(good.dtype, (0,), good.data[:0]),
        StoredTensor(good.dtype, (*good.shape[:-1], 2 * good.shape[-1]), np.concatenate([good.data, good.data])),
    ):  # fmt: skip

        def edit(d: dict[str, Any], t: dict[str, StoredTensor], wrong: StoredTensor | None = wrong) -> None:
            if wrong is None:
                del t[key]
            else:
                t[key] = StoredTensor(wrong.dtype, wrong.shape, wrong.data.copy())

        refused(path, edit, f"'{NAME}'")


def test_sections_that_belong_to_nothing(path: Path) -> None:
    extra = StoredTensor.of(np.zeros(3, np.uint8))
    for name in (f"{PLAIN}.xor_scales", "c.xor_mask", "c"):
        refused(path, lambda d, t, name=name: t.update({name: extra}), "scales|carried")


def test_names_that_collide(path: Path) -> None:
    def rename(to: str) -> Edit:
        def edit(d: dict[str, Any], t: dict[str, StoredTensor]) -> None:
            d["tensors"][to] = d["tensors"].pop(PLAIN)
            d["order"] = [NAME, to, CARRIED]
            for section in ("code", "corrections", "mask"):
                t[f"{to}.xor_{section}"] = t.pop(f"{PLAIN}.xor_{section}")

        return edit

    for name in ("__metadata__", f"{NAME}.xor_mask", f"{NAME}.xor_scales"):
        refused(path, rename(name), "taken")
    resign(path, rename("other"))
    EncodedFile(path)


ENTRY = {"dtype": "U8", "shape": [2], "data_offsets": [0, 2]}


def entry(**changes: Any) -> dict[str, Any]:
    return {**ENTRY, **changes}


@pytest.mark.parametrize(
    ("header", "message"),
    [
        ({"a": entry(data_offsets=[1, 3])}, "begins at byte 1"),
        ({"a": ENTRY, "b": entry(data_offsets=[3, 5])}, "begins at byte 3"),
        ({"a": ENTRY, "b": entry(data_offsets=[1, 3])}, "begins at byte 1"),
        ({"a": ENTRY, "b": ENTRY}, "begins at byte 0"),
        ({"a": entry(data_offsets=[2, 0])}, "-2 bytes"),
        ({"a": entry(shape=[3])}, "2 bytes for U8"),
        ({"a": entry(shape=[1 << 63])}, "list of sizes"),
        ({"a": entry(shape=[1 << 62, 1 << 62])}, "2 bytes for U8"),
        ({"a": entry(shape=[1] * 65 + [2])}, "66 axes"),
        ({"a": entry(shape=[True, 2])}, "list of sizes"),
        ({"a": entry(shape=2)}, "list of sizes"),
        ({"a": entry(dtype="U9")}, "'U9'"),
        ({"a": entry(dtype=["U8"])}, "unknown dtype"),
        ({"a": entry(data_offsets=[0])}, "two positions"),
        ({"a": entry(data_offsets=[0, 2.0])}, "two positions"),
        ({"a": entry(extra=1)}, "'a'"),
        ({"a": {"dtype": "U8", "shape": [2]}}, "'a'"),
        ({"a": 1}, "'a'"),
        ({"a": entry(data_offsets=[0, 3], shape=[3])}, "truncated"),
        ({"a": entry(data_offsets=[0, 1], shape=[1])}, "belong to nothing"),
        ({}, "belong to nothing"),
        ({"__metadata__": {"a": 1}, "a": ENTRY}, "map of strings"),
        ({"__metadata__": [], "a": ENTRY}, "map of strings"),
        (b"", "begin with"),
        (b"[]", "begin with"),
        (b' {"a":1}', "begin with"),
        (b"{", "not JSON"),
        (b"{}x", "not JSON"),
        (b'{"a":' * 100_000, "not JSON"),
        (b'{"a":' + b"[" * 100_000, "not JSON"),
        (b'{"a":1' + b"0" * 10_000 + b"}", "not JSON"),
        (b'{"a":1,"a":1}', "twice"),
        (b'{"a":{"dtype":"U8","dtype":"U8","shape":[2],"data_offsets":[0,2]}}', "twice"),
        (b'{"\\ud800":1}', "not JSON"),
        (b'{"a\xff":1}', "not JSON"),
        ("{}".encode("utf-16-le"), "not JSON"),
    ],
    ids=lambda v: str(v)[:30],
)  # fmt: skip
def test_malformed_safetensors(tmp_path: Path, header: object, message: str) -> None:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path = tmp_path / "plain.safetensors"
    path.write_bytes(len(text).to_bytes(8, "little") + text + b"\1\2")
    with pytest.raises(FormatError, match=message) as caught:
        safetensors_file.read(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("n", [100_000_001, (1 << 64) - 1, 3])
def test_header_length_over_the_limit_or_the_file(tmp_path: Path, n: int) -> None:
    path = tmp_path / "plain.safetensors"
    path.write_bytes(n.to_bytes(8, "little") + b"{}")
    with pytest.raises(FormatError, match=f"header length {n} exceeds the 2 bytes"):
        safetensors_file.read(path)


def test_header_over_the_limit(tmp_path: Path) -> None:
    path = tmp_path / "plain.safetensors"
    with open(path, "wb") as file:
        file.write((100_000_001).to_bytes(8, "little"))
        file.truncate(8 + 100_000_001)
    with pytest.raises(FormatError, match="limit of 100000000"):
        safetensors_file.read(path)
