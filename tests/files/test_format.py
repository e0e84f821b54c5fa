"""The format: golden files decode for ever, and FORMAT.md says how."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors
from crafting import resign
from safetensors.numpy import load_file, save_file

import xorpack
from xorpack.decoders import cpu, reference
from xorpack.decoders.content import content_sha256
from xorpack.files import container, safetensors_file
from xorpack.tensors import DTYPES, NEW_DTYPES, PACKED_DTYPES

HERE = Path(__file__).parents[1]
GOLDEN = HERE / "golden"
FILES = (
    "quasi-cyclic",
    "blocks",
    "extremes",
    "lossless-F32",
    "lossless-F16",
    "lossless-BF16",
    "lossless-I8",
    "lossless-U8",
    "carried",
    "cascade",
    "constants",
    "block",
    "bmf",
    "fields",
    "trellis",
    "packed",
    "turned",
    "digests",
    "octets",
    "signs",
)
DIGESTS: dict[str, Any] = json.loads((GOLDEN / "SHA256.json").read_text(encoding="utf-8"))

golden = pytest.mark.parametrize("path", [GOLDEN / f"{name}.safetensors" for name in FILES], ids=FILES)


def sha256(data: Any) -> str:
    if isinstance(data, np.ndarray):
        data = data.tobytes()
    return hashlib.sha256(data).hexdigest()


@pytest.fixture(scope="session")
def maker() -> Any:
    """The writer of the golden files."""
    from golden import make

    return make


def test_golden_files_are_complete() -> None:
    assert sorted(DIGESTS) == sorted(f"{name}.safetensors" for name in FILES)
    assert sorted(path.stem for path in GOLDEN.glob("*.safetensors")) == sorted(FILES)
    assert (
        sum(path.stat().st_size for path in GOLDEN.iterdir() if path.is_file()) < 460_000
    )  # of four versions


@golden
def test_golden_bytes_are_unchanged(path: Path) -> None:
    assert sha256(path.read_bytes()) == DIGESTS[path.name]["file"]


@golden
def test_reader_of_the_specification(path: Path, specification: dict[str, Any]) -> None:
    reader = specification["Reader"](path)
    digests = DIGESTS[path.name]["tensors"]
    assert set(reader.order) == set(digests)
    for name in reader.order:
        dtype, shape, content = reader.read(name)
        assert sha256(content) == digests[name], name
        assert safetensors_file.ITEM_BITS[dtype] * int(np.prod(shape)) == 8 * len(content)


@golden
@pytest.mark.parametrize("decoder", [reference, cpu], ids=["reference", "cpu"])
def test_decoders(path: Path, decoder: Any) -> None:
    file = container.EncodedFile(path)
    for name, tensor in file.items():
        content = decoder.decode_dense(tensor)
        assert sha256(content) == DIGESTS[path.name]["tensors"][name], name
        assert content_sha256(tensor) == tensor.content_sha256, name


@golden
def test_open_decode_and_verify(path: Path, tmp_path: Path) -> None:
    digests = DIGESTS[path.name]["tensors"]
    checkpoint = xorpack.open(path)
    for name in checkpoint:
        decoded = xorpack.decode(checkpoint[name])
        array = decoded if isinstance(decoded, np.ndarray) else decoded.dequantize()
        assert array.shape == checkpoint[name].shape
        assert sha256(array) == digests[name], name
    file = checkpoint.files[0]
    assert {name: sha256(file.load_carried(name).data) for name in file.carried} == {
        name: digest for name, digest in digests.items() if name not in checkpoint
    }
    report = xorpack.verify_checkpoint(path)
    assert (report.n_tensors, report.n_carried) == (len(checkpoint), len(file.carried))
    xorpack.decode_checkpoint(path, tmp_path / "decoded.safetensors")
    decoded_file = safetensors_file.read(tmp_path / "decoded.safetensors")
    assert {name: sha256(stored.data) for name, stored in decoded_file.tensors.items()} == digests
    assert decoded_file.metadata == file.metadata


def test_encoding_the_golden_inputs_again_gives_the_same_bytes(maker: Any, tmp_path: Path) -> None:
    assert tuple(maker.CASES) == FILES
    maker.build(tmp_path)
    assert json.loads((tmp_path / "SHA256.json").read_text(encoding="utf-8")) == DIGESTS
    for name in FILES:
        assert (tmp_path / f"{name}.safetensors").read_bytes() == (
            GOLDEN / f"{name}.safetensors"
        ).read_bytes()


@pytest.mark.parametrize("name", ["wide", "packed", "lossless", "trellis"])
def test_the_reader_of_the_specification_compares_content(
    specification: dict[str, Any], tmp_path: Path, name: str
) -> None:
    path = tmp_path / "digests.safetensors"
    path.write_bytes((GOLDEN / path.name).read_bytes())

    def edit(document: dict[str, Any], _: Any) -> None:
        found = document["tensors"][name]
        found["content_sha256"] = found["content_sha256"][:-1] + "x"

    reader = specification["Reader"](resign(path, edit))
    with pytest.raises(ValueError, match=f"content of {name}"):
        reader.read(name)
    reader.read("conv")


def test_the_writer_refuses_to_overwrite(maker: Any, tmp_path: Path) -> None:
    (tmp_path / "blocks.safetensors").write_bytes(b"kept")
    with pytest.raises(FileExistsError):
        maker.build(tmp_path)
    assert (tmp_path / "blocks.safetensors").read_bytes() == b"kept"


def test_golden_files_cover_the_format() -> None:
    tensors = [t for name in FILES for t in container.EncodedFile(GOLDEN / f"{name}.safetensors").values()]
    tensors = [t for t in tensors if t.kind != "trellis" and t.packed is None]
    layouts = [tensor.layout for tensor in tensors]
    assert {t.network.family for t in tensors} == {"turned", "quasi-cyclic", "dense", "sparse", "identity"}
    assert {t.mask_codec for t in tensors} == {"bitmap", "constant", "cascade", "block", "bmf", "huffman"}
    assert {(t.kind, t.dtype) for t in tensors} == {
        *(("bcq", dtype) for dtype in ("F32", "F16", "BF16")),
        *(("lossless", dtype) for dtype in DTYPES),
    }
    assert {t.bits for t in tensors if t.kind == "bcq"} >= {1, 2, 3, 4, 8}
    assert {str(t.scales.dtype) for t in tensors if t.scales is not None} == {"float16", "float32"}
    assert {1, 2, 3, 4, 16, 32} <= {layout.lanes for layout in layouts}
    assert max(layout.n_segments for layout in layouts) > 2
    assert any(x.chunks == 33 and x.n_panels == 2 and x.n_sub > 1 and x.n_segments > 1 for x in layouts)
    assert any(t.network.window > t.m_lane * t.layout.lanes > 0 for t in tensors)
    assert any(t.n_corrections for t in tensors)
    assert any(t.m_lane and not t.n_corrections for t in tensors)
    assert any(t.bits * 4 <= t.network.window < t.m_lane for t in tensors)
    gates = [t for t in tensors if t.mask_codec == "cascade"]
    assert {t.mask_config["n_filters"] for t in gates} >= {1, 3, 4, 7, 16}
    assert any(0.89 < t.sparsity < 0.92 for t in gates)
    assert any(0.96 < t.sparsity < 0.98 for t in gates)
    for kind in ("bcq", "lossless"):
        assert any(t.kind == kind and t.mask_config["n_corrections"] for t in gates)
    assert any(len(t.shape) == 4 for t in gates)
    assert any(t.mask_config["m_last"] == 0 for t in gates)
    assert any(t.layout.n_panels > 1 < t.layout.n_sub and t.layout.n_segments > 1 for t in gates)
    assert {1, 2, 4, 32} <= {t.layout.lanes for t in gates}
    blocks = [t.mask_config for t in tensors if t.mask_codec == "block"]
    assert {config["code"][0] for config in blocks} == {8, 12, 16, 24, 32}
    assert any(min(config["row_levels"]) < 0 < max(config["col_levels"]) for config in blocks)
    assert any(64 in config["row_levels"] for config in blocks)
    assert {config["code"][3] for config in blocks} == {0, 1}
    assert any(config["n_corrections"][0] for config in blocks)
    assert any(config["n_corrections"][1] for config in blocks)
    assert {t.network.family for t in tensors if t.mask_codec == "block"} >= {"quasi-cyclic", "dense"}
    products = [t for t in tensors if t.mask_codec == "bmf"]
    assert {t.mask_config["rank"] for t in products} >= {1, 2, 3, 5}
    assert any(t.mask_config["tile"][1] > 32 and t.cols > t.mask_config["tile"][1] for t in products)
    constant = [t for t in tensors if any(t.planes.constants)]
    assert any(
        t.planes.constants[0] and t.planes.constants[1] and t.code.size and t.n_corrections for t in constant
    )
    assert any(
        t.planes.constants[0] | t.planes.constants[1] == (1 << t.bits) - 1 and t.n_corrections
        for t in constant
    )
    assert {t.mask_codec for t in constant} >= {"bitmap", "constant", "cascade"}
    assert any(t.mask_codec == "cascade" and t.m_lane and not t.code.size for t in constant)
    assert {t.network.family for t in constant} == {"turned", "quasi-cyclic", "dense", "sparse", "identity"}
    assert {t.kind for t in constant} == {"bcq", "lossless"}
    held = [t for t in tensors if t.field]
    codes = [t.field.code for t in held]
    assert {t.dtype for t in held} == set(DTYPES)
    assert {t.network.family for t in held} == {"turned", "quasi-cyclic", "dense", "identity"}
    assert {t.mask_codec for t in held} >= {"bitmap", "constant", "cascade", "block"}
    assert any(t.field.n_corrections for t in held)
    assert any(t.n_corrections and t.field.n_corrections == 0 for t in held)
    assert any(code.width > 16 for code in codes)
    assert any(code.n_depths == 0 for code in codes)
    assert any(0 in code.counts for code in codes)
    assert any(code.low + code.width < t.bits for code, t in zip(codes, held, strict=True))
    assert any(code.parts(t.cols)[0] > 1 for code, t in zip(codes, held, strict=True))
    assert any(t.field.layout.n_segments > 2 for t in held)


def test_golden_files_cover_packed_bits() -> None:
    file = container.EncodedFile(GOLDEN / "packed.safetensors")
    tensors = [t for t in file.values() if t.packed is not None]
    assert any(t.packed is None for t in file.values())
    assert {t.kind for t in tensors} == {"bcq", "lossless"}
    assert {t.mask_codec for t in tensors} == {"bitmap", "constant", "block", "bmf", "huffman"}
    assert {t.bits for t in tensors} >= {1, 2, 3, 4, 8, 16, 32}
    assert {t.packed.n_panels for t in tensors} >= {1, 3, 6}
    assert any(t.rows % t.packed.panel_rows for t in tensors)
    assert any(t.n_corrections and t.packed.n_panels > 1 for t in tensors)
    assert any(t.field for t in tensors)
    assert any(t.bits == 1 and not t.code.size for t in tensors)
    assert {0, 1} <= {t.sparsity for t in tensors}
    found = [t.mask for t in file.values() if t.mask_codec == "huffman"]
    assert {mask.n_panels for mask in found} >= {0, 1, 13, 15}
    assert {t.kind for t in file.values() if t.mask_codec == "huffman"} == {"bcq", "trellis"}


def test_golden_files_cover_trellises() -> None:
    file = container.EncodedFile(GOLDEN / "trellis.safetensors")
    tensors = [t for t in file.values() if t.kind == "trellis"]
    networks, elements = [t.planes.network for t in tensors], [t.elements for t in tensors]
    assert {network.rate for network in networks} >= {1 / 64, 0.25, 0.5, 1, 1.25, 1.5, 2, 4, 8}
    assert {network.n_planes for network in networks} >= {1, 16}
    assert {network.window for network in networks} >= {7, 20}
    assert any(
        len(t.code) < network.window for t, network in zip(tensors, networks, strict=True) if t.rows > 1
    )
    assert {t.mask_codec for t in tensors} == {"bitmap", "constant", "block", "bmf"}
    assert {t.dtype for t in tensors} == {"F32", "F16", "BF16"}
    assert {str(e.scales.dtype) for e in elements} == {"float16", "float32"}
    assert {e.gains is None for e in elements} == {True, False}
    assert any(t.elements.n_outliers and t.n_kept < t.n_weights for t in tensors)
    assert any(e.group_size and e.scales.shape[1] > 1 for e in elements)
    assert any(not e.a.any() for e in elements)
    assert {t.n_weights for t in tensors} >= {0, 1}
    assert {t.kind for t in file.values()} == {"trellis", "bcq", "lossless"}
    assert any(t.field for t in file.values())


def test_golden_files_cover_turned_networks() -> None:
    file = container.EncodedFile(GOLDEN / "turned.safetensors")
    tensors = [t for t in file.values() if t.network.family == "turned"]
    networks, layouts = [t.network for t in tensors], [t.layout for t in tensors]
    assert {network.hold for network in networks} == {1, 2, 4, 8, 16}
    assert {network.window for network in networks} == {6, 12, 16}
    assert any(network.n_rows < layout.n_steps for network, layout in zip(networks, layouts, strict=True))
    assert any(network.n_rows == 496 < t.layout.n_steps for network, t in zip(networks, tensors, strict=True))
    assert {1, 2, 4, 32} <= {layout.lanes for layout in layouts}
    assert any(layout.n_segments > 2 for layout in layouts)
    assert any(t.network.window > t.m_lane * t.layout.lanes > 0 for t in tensors)
    assert any(t.layout.n_steps % t.network.hold and t.m_lane for t in tensors)
    assert any(t.mask_codec == "cascade" for t in tensors)
    assert any(t.field for t in tensors)
    assert {0, 1} <= {t.n_kept // max(t.n_weights, 1) for t in tensors}


def test_golden_files_cover_fields_of_binary_codes() -> None:
    held = list(container.EncodedFile(GOLDEN / "signs.safetensors").values())
    tensors = [t for t in held if t.field is not None]
    codes = [t.field.code for t in tensors]
    assert {t.kind for t in held} == {"bcq"}
    assert any(t.field is None for t in held)
    assert {t.bits for t in tensors} == {1, 2, 3, 4, 8}
    assert {t.dtype for t in tensors} == {"F32", "F16", "BF16"}
    assert {t.network.family for t in tensors} == {"turned", "quasi-cyclic"}
    assert {t.mask_codec for t in tensors} >= {"bitmap", "constant", "cascade", "block"}
    assert {1, 2, 4, 32} <= {t.layout.lanes for t in tensors}
    assert any(t.layout.n_segments > 2 for t in tensors)
    assert {code.n_raw for code in codes} >= {1, 2}
    assert {code.n_depths for code in codes} >= {0, 1, 2, 5, 6}
    assert any(code.n_symbols < 1 << code.width for code in codes)
    assert any(t.n_corrections for t in tensors)
    assert any(
        t.field.n_corrections and np.unique(t.field.load_corrections().values).size > 2 for t in tensors
    )
    assert any(t.planes.constants[0] != t.field.code.unused or t.planes.constants[1] for t in tensors)
    assert {1, 4} <= {len(t.shape) for t in tensors}


def test_golden_files_cover_digests_of_planes() -> None:
    held = list(container.EncodedFile(GOLDEN / "digests.safetensors").values())
    tensors = [t for t in held if t.content_sha256.startswith("planes:")]
    assert {t.kind for t in held} == {"bcq", "lossless", "trellis"}
    assert len(tensors) == sum(t.kind == "bcq" for t in held)
    assert {t.mask_codec for t in tensors} == {"bitmap", "constant", "cascade", "block", "bmf", "huffman"}
    coded = [t for t in tensors if t.packed is None]
    assert {t.network.family for t in coded} == {"quasi-cyclic", "dense", "sparse", "identity"}
    assert any(t.packed is not None for t in tensors)
    assert any(t.n_corrections for t in tensors)
    assert any(any(t.planes.constants) for t in tensors)
    assert {t.dtype for t in tensors} == {"F32", "F16", "BF16"}
    assert {t.bits for t in tensors} >= {1, 2, 3, 4, 8}
    for name in FILES:
        if name not in ("digests", "octets", "signs"):
            old = container.EncodedFile(GOLDEN / f"{name}.safetensors").values()
            assert not any(t.content_sha256.startswith("planes:") for t in old)


def test_golden_files_cover_octets() -> None:
    tensors = list(container.EncodedFile(GOLDEN / "octets.safetensors").values())
    assert {t.dtype for t in tensors} == set(NEW_DTYPES)
    split = [t for t in tensors if t.octets > 1]
    assert {t.octets for t in split} == {2, 4}
    assert {t.octets for t in tensors if t.dtype in PACKED_DTYPES} == {1, 2, 4}
    assert {len(t.shape) for t in split} == {1, 2}
    assert {t.mask_codec for t in split} >= {"constant", "bitmap", "block", "cascade"}
    assert any(t.packed is not None for t in split)
    assert any(t.n_corrections and t.field for t in split)
    assert any(t.field is None for t in tensors)


def test_versions_of_the_golden_files() -> None:
    """A file without a field or a trellis is of version 1, and so is what was written before there were any."""
    versions = {name: container.EncodedFile(GOLDEN / f"{name}.safetensors").version for name in FILES}
    assert versions == dict.fromkeys(FILES, 1) | {
        "fields": 2,
        "trellis": 3,
        "packed": 3,
        "turned": 3,
        "digests": 3,
        "octets": 4,
        "signs": 4,
    }


@golden
def test_the_safetensors_library_sees_the_same_bytes(path: Path) -> None:
    mine = safetensors_file.read(path)
    with safetensors.safe_open(path, "np") as theirs:
        assert set(theirs.keys()) == set(mine.tensors)
        assert theirs.metadata() == mine.metadata
    if any(stored.dtype.startswith("F8") for stored in mine.tensors.values()):
        loaded: dict[str, Any] = {}
        with safetensors.safe_open(path, "np") as theirs:
            for name, stored in mine.tensors.items():
                if not stored.dtype.startswith("F8"):
                    loaded[name] = theirs.get_tensor(name)
    else:
        loaded = load_file(path)
    for name, array in loaded.items():
        assert array.shape == mine.tensors[name].shape
        assert array.tobytes() == mine.tensors[name].data.tobytes(), name


def test_lossless_round_trip_of_a_file_of_the_safetensors_library(maker: Any, tmp_path: Path) -> None:
    source = tmp_path / "source.safetensors"
    arrays = {
        f"layer.{i}.{dtype}": maker.plain(500 + i, (12, 250 + i), 300, dtype)
        for i, dtype in enumerate(("F32", "F16", "BF16", "I8", "U8"))
    }
    arrays |= {"layer.0.bias": np.arange(7, dtype=np.float32), "step": np.array(12345678901, np.int64)}
    save_file(arrays, source, metadata={"format": "pt", "note": "é"})
    encoded, decoded = tmp_path / "encoded.safetensors", tmp_path / "decoded.safetensors"
    report = xorpack.encode_checkpoint(source, encoded, lossless=True)
    assert len(report.accounts) == 5
    xorpack.decode_checkpoint(encoded, decoded)
    assert decoded.read_bytes() == source.read_bytes()
    load_file(encoded)


def test_the_specification_reads_a_file_that_another_tool_rewrote(
    specification: dict[str, Any], tmp_path: Path
) -> None:
    path = tmp_path / "rewritten.safetensors"
    arrays, digests = (
        load_file(GOLDEN / "trellis.safetensors"),
        dict(DIGESTS["trellis.safetensors"]["tensors"]),
    )
    for found in (arrays, digests):
        found.pop("weight.xor_corrections")  # a name that only a document tells from a section's
    save_file(arrays, path)
    reader = specification["Reader"](path)
    assert set(reader.order) == set(digests) == {*container.EncodedFile(path).order}
    for name in ("quarter", "lossless", "bias"):
        assert sha256(reader.read(name)[2]) == digests[name]
