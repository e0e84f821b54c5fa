"""Integers that hold smaller ones: their octets are coded where that saves bytes, and the very elements come back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from crafting import NAME, record, refused
from samples import halves, pruned

import xorpack
from xorpack.decoders import cpu, reference
from xorpack.decoders.content import content_sha256, decode_digested
from xorpack.decoders.rows import RowReader
from xorpack.encoded import EncodedTensor
from xorpack.encoding.fields.octets import coded_matrix
from xorpack.errors import FormatError, ParameterError
from xorpack.files import container
from xorpack.tensors import as_matrix

PACKED = (np.int16, np.uint16, np.int32, np.uint32)
kinds = pytest.mark.parametrize("kind", PACKED, ids=lambda kind: kind.__name__)


def check(array: np.ndarray[Any, Any], **how: Any) -> EncodedTensor:
    """Encode, decode by both decoders, whole, in parts and by rows."""
    encoded = xorpack.encode(array, **how)
    decoded = xorpack.decode(encoded, jobs=2)
    assert (decoded.dtype, decoded.shape) == (array.dtype, array.shape)
    assert decoded.tobytes() == array.tobytes()
    matrix = array.reshape(as_matrix(array.shape))
    for first, last in {(0, encoded.rows), (encoded.rows // 3, encoded.rows // 2), (0, 0)}:
        for decode in (cpu.decode_rows, reference.decode_dense):
            part = decode(encoded, first, last)
            assert (part.dtype, part.shape) == (array.dtype, matrix[first:last].shape)
            assert part.tobytes() == matrix[first:last].tobytes()
    wanted = np.arange(0, encoded.rows, 2)
    assert RowReader(encoded).read(wanted).tobytes() == matrix[wanted].tobytes()
    assert content_sha256(encoded) == decode_digested(encoded)[1] == encoded.content_sha256
    return encoded


@kinds
@pytest.mark.parametrize("shape", [(60, 200), (1, 3000), (1500, 1), (7, 5, 3, 3), (900,), (4, 512)])
@pytest.mark.parametrize("kept", [0.1, 1.0])
def test_what_is_encoded_comes_back(kind: type, shape: tuple[int, ...], kept: float) -> None:
    array = halves(shape, kind, kept)
    encoded = check(array)
    if array.nbytes > 2000:  # of less, the saving is less than a table's size
        assert (encoded.octets, encoded.bits) == (array.itemsize, 8)
        assert encoded.original_bytes == encoded.n_weights == array.nbytes
    assert encoded.cols == encoded.n_weights // encoded.rows


@kinds
@pytest.mark.parametrize("shape", [(), (0,), (0, 5), (5, 0), (1, 1)])
def test_what_is_small_or_empty(kind: type, shape: tuple[int, ...]) -> None:
    check(halves(shape, kind))
    check(halves(shape, kind), field="always")


@kinds
def test_order_of_memory_does_not_matter(kind: type) -> None:
    array = halves((40, 60), kind)
    assert check(array.T).octets == check(array[::-1, ::2]).octets == array.itemsize


def rows_of(low: int, high: int, kind: type) -> np.ndarray[Any, Any]:
    return np.random.default_rng(3).integers(low, high, (60, 200)).astype(kind)


@pytest.mark.parametrize(
    "array",
    [rows_of(-(1 << 31), 1 << 31, np.int32), rows_of(0, 100, np.int32), rows_of(0, 60000, np.uint32),
     rows_of(-300, 300, np.int16), np.repeat(np.arange(60, dtype=np.int32)[:, None] // 8, 200, 1),
     pruned((60, 200), 0.9, np.int16)],
    ids=["random", "small", "half", "signed", "index", "pruned"],
)  # fmt: skip
def test_numbers_that_are_one_stay_whole(array: np.ndarray[Any, Any]) -> None:
    assert check(array).octets == 1


def test_octets_are_for_prefix_codes_and_for_integers() -> None:
    array = halves((60, 200))
    assert check(array, field="none").octets == check(array, prefer="speed").octets == 1
    assert check(array, payload="packed").octets == 4
    for kind in (np.float32, np.float16, np.uint8, ml_dtypes.float8_e5m2):
        view = array.view(kind)
        assert coded_matrix(view).dtype == kind
        assert xorpack.encode(view).octets == 1


@pytest.mark.parametrize("codec", ["bitmap", "block", "cascade", "huffman", "bmf"])
def test_any_mask(codec: Any) -> None:
    array = halves((40, 60), kept=1.0 if codec == "bmf" else 0.4)
    if codec == "bmf":
        array.view(np.uint8)[::2, ::3] = 0
    assert check(array, mask_codec=codec).mask_codec == codec


def symbols(asymmetric: bool) -> np.ndarray[Any, Any]:
    """4-bit numbers of normal weights in groups of 128, rounded to nearest as GPTQ's packers have them."""
    groups = np.random.default_rng(0).standard_normal((1 << 13, 128))
    if asymmetric:
        low = groups.min(1, keepdims=True)
        step = (groups.max(1, keepdims=True) - low) / 15
        return np.clip(np.rint(groups / step) - np.rint(low / step), 0, 15).astype(np.uint8)
    step = np.abs(groups).max(1, keepdims=True) / 7
    return (np.clip(np.rint(groups / step), -8, 7) + 8).astype(np.uint8)


def entropy(values: np.ndarray[Any, Any]) -> float:
    counts = np.bincount(values.reshape(-1).view(np.uint8))
    share = counts[counts > 0] / values.size
    return float(-(share @ np.log2(share)))


@pytest.mark.parametrize("asymmetric", [False, True])
def test_int4_takes_its_entropy(asymmetric: bool) -> None:
    small = symbols(asymmetric)
    packed = (small[:, ::2] | small[:, 1::2] << 4).reshape(1024, -1).view(np.int32)
    encoded = check(packed)
    bits = 8 * sum(encoded.section_bytes().values()) / small.size
    assert entropy(small) * 0.999 < bits < entropy(small) * 1.015
    assert bits < (3.69 if asymmetric else 3.43)


def test_float8_takes_its_entropy() -> None:
    weights = np.random.default_rng(1).standard_normal((512, 2048)).astype(np.float32)
    scaled = (weights / np.abs(weights).max() * 448).astype(ml_dtypes.float8_e4m3fn)
    encoded = check(scaled)
    bits = 8 * sum(encoded.section_bytes().values()) / scaled.size
    assert entropy(scaled) * 0.999 < bits < entropy(scaled) * 1.015


def test_products() -> None:
    """Values of float8 are multiplied; packed integers have none that a product could be of."""
    weights = pruned((30, 70), 0.4, ml_dtypes.float8_e4m3fn)
    x = np.random.default_rng(2).standard_normal((5, 70)).astype(np.float32)
    assert np.allclose(
        xorpack.encode(weights).matmul(x), x @ weights.astype(np.float32).T, rtol=1e-4, atol=1e-2
    )
    for array in (halves((30, 70)), rows_of(0, 100, np.int16)):
        with pytest.raises(
            ParameterError, match="a tool packed, so that products by it mean nothing: decode it"
        ):
            xorpack.encode(array).matmul(x)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    encoded = xorpack.encode(halves((12, 40)), field="always")
    assert encoded.octets == 4
    container.write(tmp_path / "model.safetensors", {NAME: encoded}, {})
    return tmp_path / "model.safetensors"


def test_files_that_somebody_made_on_purpose(path: Path) -> None:
    for bits in (1, 4, 7, 9, 16, 32, 64):
        refused(path, lambda d, t, b=bits: record(d).update(bits=b), f"'{NAME}'")
    for dtype in ("F32", "U8", "I16", "F8_E4M3"):
        refused(path, lambda d, t, x=dtype: record(d).update(dtype=x), f"'{NAME}'")
    for shape in ([12, 160], [12, 10], [48, 40], [12, 1 << 44], [1 << 31, 1]):
        refused(path, lambda d, t, s=shape: record(d).update(shape=s), f"'{NAME}'")
    for kind in ("bcq", "trellis"):
        refused(path, lambda d, t, k=kind: record(d).update(kind=k), f"'{NAME}'")
    refused(
        path, lambda d, t: record(d).update(shape=[(1 << 31) - 1, 1 << 16]), "more than this format holds"
    )


def test_whole_elements_do_not_pass_for_octets(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    container.write(path, {NAME: xorpack.encode(rows_of(0, 100, np.int32))}, {})
    refused(path, lambda d, t: record(d).update(bits=8), f"'{NAME}'")
    with pytest.raises(FormatError, match="dtype 'I32' and 16 planes"):
        xorpack.elements.Lossless().check((3, 3), "I32", 16, (0, 0))
