"""Plain safetensors files: a memory-mapped, checked reader and a streaming writer.

A file is ``n`` (8 bytes, little-endian), ``n`` bytes of JSON, then the tensors' bytes without holes::

    {"__metadata__": {str: str}, NAME: {"dtype": str, "shape": [int], "data_offsets": [begin, end]}, ...}

Our own reader, because ``safetensors.safe_open`` copies what it reads; our own writer, because the
header carries a digest of itself and tensors are copied from file to file without being held.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xorpack.errors import FormatError
from xorpack.tensors import DTYPES

MAX_HEADER_BYTES = 100_000_000
"""The limit of the format."""

METADATA = "__metadata__"
"""The name in a header that is no tensor's."""

MAX_RANK = 64
"""Axes of a tensor at the most, as in numpy and PyTorch; the format itself has no limit."""

ITEM_BITS: Mapping[str, int] = {
    **dict.fromkeys(("BOOL", "U8", "I8", "F8_E5M2", "F8_E4M3", "F8_E8M0"), 8),
    **dict.fromkeys(("F8_E5M2FNUZ", "F8_E4M3FNUZ"), 8),
    **dict.fromkeys(("U16", "I16", "F16", "BF16"), 16),
    **dict.fromkeys(("U32", "I32", "F32"), 32),
    **dict.fromkeys(("U64", "I64", "F64", "C64"), 64),
    **dict.fromkeys(("F4",), 4),
    **dict.fromkeys(("F6_E2M3", "F6_E3M2"), 6),
}
"""Bits of an element, by its name in the format."""

NUMPY: Mapping[str, np.dtype[Any]] = {**DTYPES, "U32": np.dtype(np.uint32)}
"""Types that are read as numpy arrays; others are carried as bytes."""


@dataclass(frozen=True, slots=True, eq=False)
class Stored:
    """A tensor as it stands in a file: name of its type, shape, bytes (flat uint8)."""

    dtype: str
    shape: tuple[int, ...]
    data: NDArray[np.uint8]

    @classmethod
    def of(cls, array: NDArray[Any]) -> Stored:
        """An array of one of the types in :data:`NUMPY`."""
        for name, dtype in NUMPY.items():
            if dtype == array.dtype:
                flat = np.ascontiguousarray(array).reshape(-1)
                return cls(name, array.shape, flat.view(np.uint8))
        raise FormatError(f"arrays of {array.dtype} are not written")

    def array(self) -> NDArray[Any]:
        """Give the tensor as a numpy array; a view wherever the bytes are aligned."""
        if self.dtype not in NUMPY:
            raise FormatError(f"tensors of type {self.dtype} are not read as numbers")
        dtype = NUMPY[self.dtype]
        data = self.data
        if data.ctypes.data % dtype.itemsize:
            data = data.copy()
        try:
            return data.view(dtype).reshape(self.shape)
        except ValueError as error:  # 0 elements, but axes that no array can have
            raise FormatError(f"shape {self.shape}: {error}") from None


@dataclass(frozen=True, slots=True, eq=False)
class SafetensorsFile:
    """An open file: ``tensors`` in the order of their bytes, ``metadata``, the raw ``header``."""

    path: Path
    header: bytes
    metadata: dict[str, str]
    tensors: dict[str, Stored] = field(repr=False)
    n_bytes: int


def read(path: Path) -> SafetensorsFile:
    """Map a file into memory and check all of its header; no tensor is read.

    Raises:
        FormatError: the file is not well-formed; the message says where.
        OSError: it cannot be opened.
    """
    size = path.stat().st_size
    if size < 8:
        raise FormatError(f"{path}: not a safetensors file: {size} bytes, less than a header length")
    mapped = np.memmap(path, np.uint8, mode="c")  # private pages: writable for kernels, the file is safe
    n_header = int.from_bytes(bytes(mapped[:8]), "little")
    if n_header > min(MAX_HEADER_BYTES, size - 8):
        raise FormatError(
            f"{path}: not a safetensors file, or truncated: header length {n_header} exceeds "
            f"the {size - 8} bytes that follow or the limit of {MAX_HEADER_BYTES}"
        )
    header = bytes(mapped[8 : 8 + n_header])
    data = np.asarray(mapped[8 + n_header :])
    try:
        metadata, entries = _parse(header)
        tensors = _place(entries, data)
    except FormatError as error:
        raise FormatError(f"{path}: {error}") from None
    return SafetensorsFile(path, header, metadata, tensors, size)


def parse_json(text: bytes | str) -> Any:
    """JSON from an untrusted file: UTF-8, no key twice in an object, no half of a surrogate pair.

    Raises:
        FormatError: it is something else.
    """
    try:
        decoded = text.decode() if isinstance(text, bytes) else text
        return json.loads(decoded, object_pairs_hook=_unique)
    except FormatError:
        raise
    except (ValueError, RecursionError) as error:
        raise FormatError(f"not JSON: {error}") from None


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise FormatError("a key occurs twice in one JSON object")
    for item in pairs:
        for text in item:
            if isinstance(text, str):
                text.encode()
    return found


def _parse(header: bytes) -> tuple[dict[str, str], dict[str, Any]]:
    if not header.startswith(b"{"):
        raise FormatError("not a safetensors file: the header does not begin with '{'")
    try:
        parsed = parse_json(header)
    except FormatError as error:
        raise FormatError(f"not a safetensors file: header: {error}") from None
    metadata = parsed.pop(METADATA, {})
    if not isinstance(metadata, dict) or not all(isinstance(v, str) for v in metadata.values()):
        raise FormatError("__metadata__ is not a map of strings")
    return metadata, parsed


def _place(entries: Mapping[str, Any], data: NDArray[np.uint8]) -> dict[str, Stored]:
    spans: list[tuple[int, int, str]] = []
    for name, entry in entries.items():
        if not isinstance(entry, dict) or set(entry) != {"dtype", "shape", "data_offsets"}:
            raise FormatError(f"tensor {name!r}: entry needs dtype, shape and data_offsets")
        dtype, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
        if not isinstance(dtype, str) or dtype not in ITEM_BITS:
            raise FormatError(f"tensor {name!r}: unknown dtype {dtype!r}")
        if not _naturals(shape):
            raise FormatError(f"tensor {name!r}: shape {shape!r} is not a list of sizes")
        if not _naturals(offsets) or len(offsets) != 2:
            raise FormatError(f"tensor {name!r}: data_offsets {offsets!r} are not two positions")
        if len(shape) > MAX_RANK:
            raise FormatError(f"tensor {name!r}: {len(shape)} axes, more than {MAX_RANK}")
        begin, end = offsets
        if (end - begin) * 8 != math.prod(shape) * ITEM_BITS[dtype]:
            raise FormatError(f"tensor {name!r}: {end - begin} bytes for {dtype} of shape {shape}")
        spans.append((begin, end, name))
    spans.sort()
    at = 0
    for begin, end, name in spans:
        if begin != at:
            raise FormatError(f"tensor {name!r} begins at byte {begin} of the data, not at {at}")
        at = end
    if at != data.size:
        kind = "truncated" if at > data.size else "has bytes that belong to nothing"
        raise FormatError(f"{kind}: tensors take {at} bytes of data, {data.size} follow the header")
    return {
        name: Stored(entries[name]["dtype"], tuple(entries[name]["shape"]), data[begin:end])
        for begin, end, name in spans
    }


def _naturals(value: object) -> bool:
    return isinstance(value, list) and all(type(x) is int and 0 <= x < 1 << 63 for x in value)


def header_bytes(tensors: Mapping[str, Stored], metadata: Mapping[str, str]) -> bytes:
    """The JSON header, written as the safetensors library writes it, padded to a multiple of 8."""
    entries: dict[str, Any] = {METADATA: dict(metadata)} if metadata else {}
    at = 0
    for name, tensor in tensors.items():
        end = at + tensor.data.size
        entries[name] = {"dtype": tensor.dtype, "shape": list(tensor.shape), "data_offsets": [at, end]}
        at = end
    text = json.dumps(entries, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    if len(text) > MAX_HEADER_BYTES:
        raise FormatError(f"a header of {len(text)} bytes exceeds the format's {MAX_HEADER_BYTES}")
    return text


def by_alignment(tensors: Mapping[str, Stored]) -> dict[str, Stored]:
    """The tensors with the widest elements first, so that all of them are aligned."""
    return dict(sorted(tensors.items(), key=lambda item: -ITEM_BITS[item[1].dtype]))


def write(path: Path, tensors: Mapping[str, Stored], header: bytes) -> None:
    """Write a file in place; callers make it atomic (:mod:`xorpack.files.atomic`)."""
    with open(path, "wb") as file:
        file.write(len(header).to_bytes(8, "little"))
        file.write(header)
        for tensor in tensors.values():
            for begin in range(0, tensor.data.size, 1 << 24):
                file.write(tensor.data[begin : begin + (1 << 24)].data)
