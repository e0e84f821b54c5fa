"""Untrusted bytes: whatever is wrong with a file, one XorpackError says what, and where."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from crafting import CARRIED, NAME, PLAIN, matrix, resign, write
from samples import pruned

import xorpack
from xorpack.code.corrections import Corrections, pack, packed_sizes, unpack
from xorpack.decoders import cpu, reference
from xorpack.errors import CorruptError, FormatError, ParameterError, XorpackError
from xorpack.files import container, safetensors_file
from xorpack.files.container import EncodedFile
from xorpack.files.reading import SourceFile
from xorpack.files.safetensors_file import StoredTensor


def read_all(path: Path) -> None:
    """Decode everything that a file holds."""
    file = EncodedFile(path)
    for name in file:
        xorpack.decode(file[name])
    for name in file.carried:
        file.load_carried(name)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return write(tmp_path / "model.safetensors")


def test_the_sample_is_well_formed(path: Path) -> None:
    read_all(path)
    file = EncodedFile(path)
    assert file.order == [NAME, PLAIN, CARRIED]
    assert file.metadata == {"format": "pt"}
    tensor = file[NAME]
    assert min(section.size for section in tensor.sections().values()) > 0
    assert tensor.n_corrections > 10
    resign(path, lambda document, tensors: None)
    read_all(path)


def test_every_bit_of_the_header(path: Path) -> None:
    data = path.read_bytes()
    n = 8 + int.from_bytes(data[:8], "little")
    with open(path, "r+b", buffering=0) as file:
        for at in range(n):
            for bit in range(8):
                file.seek(at)
                file.write(bytes([data[at] ^ 1 << bit]))
                with pytest.raises(XorpackError, match=r"model\.safetensors"):
                    EncodedFile(path)
            file.seek(at)
            file.write(data[at : at + 1])
    read_all(path)


def test_every_truncation(path: Path) -> None:
    data = path.read_bytes()
    with open(path, "r+b", buffering=0) as file:
        for size in reversed(range(len(data))):
            file.truncate(size)
            with pytest.raises(FormatError, match=r"model\.safetensors"):
                EncodedFile(path)


def test_every_byte_of_the_data(path: Path) -> None:
    data = path.read_bytes()
    n = 8 + int.from_bytes(data[:8], "little")
    spans = {name: t.data.size for name, t in safetensors_file.read(path).tensors.items()}
    owners = [name for name, size in spans.items() for _ in range(size)]
    assert len(owners) == len(data) - n
    with open(path, "r+b", buffering=0) as file:
        for at in range(n, len(data)):
            file.seek(at)
            file.write(bytes([data[at] ^ 1 << at % 8]))
            owner = owners[at - n].partition(".xor_")[0]
            opened = EncodedFile(path)
            with pytest.raises(CorruptError, match=rf"model\.safetensors.*'{owner}'"):
                opened.load_carried(owner) if owner == CARRIED else opened[owner]
            with pytest.raises(CorruptError, match=owner):
                xorpack.verify_checkpoint(path)
            for other in {NAME, PLAIN} - {owner}:
                opened[other]
            file.seek(at)
            file.write(data[at : at + 1])


def test_trailing_bytes(path: Path) -> None:
    with open(path, "ab") as file:
        file.write(b"\0")
    with pytest.raises(FormatError, match="bytes that belong to nothing"):
        EncodedFile(path)


def test_a_plain_file_is_not_an_encoded_one(path: Path) -> None:
    tensors = {CARRIED: StoredTensor.of(np.arange(5, dtype=np.float32))}
    safetensors_file.write(path, tensors, safetensors_file.header_bytes(tensors, {}))
    with pytest.raises(FormatError, match="not one that xorpack encoded"):
        xorpack.open(path)
    xorpack_alone = safetensors_file.header_bytes(tensors, {container.KEY: "{}"})
    safetensors_file.write(path, tensors, xorpack_alone)
    with pytest.raises(CorruptError, match="checksum is missing"):
        xorpack.open(path)


def test_content_that_is_not_what_was_encoded(path: Path) -> None:
    def edit(document: dict[str, Any], tensors: dict[str, StoredTensor]) -> None:
        tensors[f"{NAME}.xor_code"].data[0] ^= 1

    with pytest.raises(CorruptError, match=rf"model\.safetensors.*'{NAME}'.*content"):
        xorpack.verify_checkpoint(resign(path, edit))


def test_scales_that_are_not_finite(path: Path) -> None:
    def edit(document: dict[str, Any], tensors: dict[str, StoredTensor]) -> None:
        tensors[f"{NAME}.xor_scales"].data.view(np.float16)[3] = np.nan

    opened = EncodedFile(resign(path, edit))
    with pytest.raises(FormatError, match=rf"model\.safetensors.*'{NAME}'.*scales"):
        opened[NAME]


@pytest.mark.parametrize("decoder", [reference, cpu], ids=["reference", "cpu"])
def test_corrections_that_contradict_themselves(path: Path, decoder: Any) -> None:
    tensor = EncodedFile(path)[NAME]
    good = tensor.load_corrections()
    assert not matrix().reshape(-1)[1]
    for positions, values, message in (
        ([1, *good.positions[1:]], good.values, "pruned"),
        (good.positions, np.where(good.positions == good.positions[2], 0, good.values), "nothing"),
        (good.positions[::-1], good.values, "rise|positions"),
        ([*good.positions[:-1], 12 * 40], good.values, "rise"),
    ):

        def edit(document: dict[str, Any], tensors: dict[str, StoredTensor], p=positions, v=values) -> None:
            broken = Corrections(np.array(p, np.int64), np.array(v, np.uint64))
            packed = pack(broken, 12 * 40, 2)[: tensor.planes.corrections.size]
            tensors[f"{NAME}.xor_corrections"] = StoredTensor.of(packed)

        opened = EncodedFile(resign(write(path), edit))
        with pytest.raises(FormatError, match=message):
            decoder.decode_dense(opened[NAME])


def test_a_mask_that_keeps_another_number(path: Path) -> None:
    def edit(document: dict[str, Any], tensors: dict[str, StoredTensor]) -> None:
        tensors[f"{NAME}.xor_mask"].data[-1] ^= 0x10

    with pytest.raises(FormatError, match=rf"model\.safetensors.*'{NAME}'.*the mask keeps"):
        xorpack.verify_checkpoint(resign(path, edit))


@pytest.mark.parametrize("decoder", [reference, cpu], ids=["reference", "cpu"])
def test_corrections_of_a_mask_that_contradict_themselves(tmp_path: Path, decoder: Any) -> None:
    path = write(tmp_path / "model.safetensors", mask_codec="cascade")
    read_all(path)
    tensor = EncodedFile(path)[NAME]
    n = tensor.mask_config["n_corrections"]
    size = sum(packed_sizes(n, 12 * 40, 1))
    good = unpack(tensor.mask.data[-size:], n, 12 * 40, 1)
    assert n > 2
    for positions, values, message in (
        (good.positions, np.where(good.positions == good.positions[1], 0, good.values), "nothing"),
        (good.positions[::-1], good.values, "rise|positions"),
        ([*good.positions[:-1], 12 * 40], good.values, "rise"),
    ):

        def edit(document: dict[str, Any], tensors: dict[str, StoredTensor], p=positions, v=values) -> None:
            broken = Corrections(np.array(p, np.int64), np.array(v, np.uint64))
            tensors[f"{NAME}.xor_mask"].data[-size:] = pack(broken, 12 * 40, 1)[:size]

        opened = EncodedFile(resign(write(path, mask_codec="cascade"), edit))
        with pytest.raises(FormatError, match=message):
            decoder.decode_dense(opened[NAME])


def test_a_record_says_which_planes_are_constant(path: Path) -> None:
    file = EncodedFile(path)
    assert file[NAME].planes.constants == (0, 1)
    assert len(file[NAME].code) == 1 == file[NAME].bits - 1
    zeros, ones = file[PLAIN].planes.constants
    assert len(file[PLAIN].code) == 8 - (zeros | ones).bit_count()
    same = np.where(matrix() != 0, np.float32(0.0137), np.float32(0))
    container.write(path, {NAME: xorpack.encode(same)}, {})
    found = EncodedFile(path)[NAME]
    assert found.planes.constants == (0xFFFFFFFF ^ 0x3C6075F7, 0x3C6075F7)
    assert found.code.size == 0
    assert xorpack.decode(found).tobytes() == same.tobytes()


def test_names_that_are_taken(path: Path, tmp_path: Path) -> None:
    file = EncodedFile(path)
    bias, tensor = file.carried[CARRIED], file[NAME]
    target = tmp_path / "other.safetensors"
    for encoded, carried in (
        ({"a": tensor}, {"a": bias}),
        *(({"a": tensor}, {f"a.xor_{section}": bias}) for section in container.sections_of(1)),
        ({"a": tensor, "a.xor_mask": tensor}, {}),
        ({"__metadata__": tensor}, {}),
    ):
        with pytest.raises(ParameterError, match="is taken"):
            container.write(target, encoded, carried)
    for key in (container.KEY, container.DIGEST_KEY):
        with pytest.raises(ParameterError, match=key):
            container.write(target, {"a": tensor}, {}, metadata={key: ""})
    assert not target.exists()


def test_an_encoded_file_is_not_encoded_again(path: Path, tmp_path: Path) -> None:
    with pytest.raises(FormatError, match="encoded by xorpack already"):
        xorpack.encode_checkpoint(path, tmp_path / "twice.safetensors")


def test_a_tensor_in_two_files(tmp_path: Path) -> None:
    for name in ("one", "two"):
        write(tmp_path / f"{name}.safetensors")
    with pytest.raises(FormatError, match=r"two\.safetensors.*'a\.bias'.*earlier"):
        xorpack.open(tmp_path)


@pytest.mark.parametrize("jobs", [1, 3])
def test_many_tensors_are_read_as_each_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, jobs: int
) -> None:
    """In fewer reads, of which none is of what was not asked for."""
    shapes = {"a": (64, 96), "b": (32, 64), "c": (96, 33), "d": (5, 7)}
    tensors = {name: xorpack.encode(pruned(shape, 0.5)) for name, shape in shapes.items()}
    path = tmp_path / "x.safetensors"
    container.write(path, tensors, {"carried": StoredTensor.of(pruned((40, 50), 0.1))})
    file = container.EncodedFile(path)
    alone = {name: file[name] for name in "abd"}
    reads: list[int] = []
    read = SourceFile.read
    monkeypatch.setattr(SourceFile, "read", lambda self, b, n: reads.append(n) or read(self, b, n))
    found = file.load("abd", jobs=jobs)
    assert sum(reads) == sum(sum(t.section_bytes().values()) for t in alone.values())
    assert len(reads) < sum(len(t.sections()) for t in alone.values())
    assert set(found) == set("abd")
    for name, tensor in found.items():
        for section, array in tensor.sections().items():
            assert np.array_equal(array, alone[name].sections()[section])
    data = bytearray(path.read_bytes())
    data[data.index(alone["a"].code.tobytes())] ^= 1
    path.write_bytes(data)
    with pytest.raises(CorruptError, match=r"tensor '[a-d]': stored bytes do not match"):
        container.EncodedFile(path).load([*shapes], jobs=jobs)
