"""Plain safetensors files: a checked reader that copies nothing before it is asked to, and a streaming writer.

A file is ``n`` (8 bytes, little-endian), ``n`` bytes of JSON, then the tensors' bytes without holes::

    {"__metadata__": {str: str}, NAME: {"dtype": str, "shape": [int], "data_offsets": [begin, end]}, ...}

Our own reader, because a mapped file that becomes shorter kills the process (:mod:`xorpack.files.reading`); our own
writer, because the header carries digests and tensors are copied from file to file without being held.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import math
from collections.abc import Collection, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xorpack.errors import FormatError
from xorpack.files import foreign
from xorpack.files.reading import SourceFile
from xorpack.tensors import DTYPES, as_matrix
from xorpack.vector.threads import for_each

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

NUMPY: Mapping[str, np.dtype[Any]] = DTYPES
"""Types that are read as numpy arrays; others are carried as bytes."""

_BLOCK_BYTES = 1 << 22
_RUN_BYTES = 1 << 20
"""Read at once: arrays of some megabytes get huge pages, which take longer to be found than small ones to be many."""

_ZEROS = bytes(8)
"""An element of any type."""


class StoredTensor:
    """A tensor as it stands in a file: name of its type, shape, bytes.

    Attributes:
        dtype: name of the type, a key of :data:`ITEM_BITS`.
        shape: sizes of the axes.
        n_bytes: how many bytes it has.
    """

    __slots__ = ("_data", "dtype", "n_bytes", "shape")

    def __init__(self, dtype: str, shape: tuple[int, ...], data: NDArray[np.uint8]) -> None:
        """Held in memory: ``data`` is flat uint8."""
        self.dtype, self.shape, self.n_bytes, self._data = dtype, shape, data.size, data

    @classmethod
    def of(cls, array: NDArray[Any]) -> StoredTensor:
        """An array of one of the types in :data:`NUMPY`."""
        for name, dtype in NUMPY.items():
            if dtype == array.dtype:
                flat = np.ascontiguousarray(array).reshape(-1)
                return StoredTensor(name, array.shape, flat.view(np.uint8))
        raise FormatError(f"arrays of {array.dtype} are not written")

    @property
    def data(self) -> NDArray[np.uint8]:
        """All bytes, flat uint8; read from the file at every call, where they stand in one."""
        return self._data

    def part(self, begin: int, end: int) -> NDArray[np.uint8]:
        """The bytes ``begin : end``."""
        return self._data[begin:end]

    def blocks(self) -> Iterator[NDArray[np.uint8]]:
        """All bytes in order, some megabytes at a time."""
        for begin in range(0, self.n_bytes, _BLOCK_BYTES):
            yield self.part(begin, min(begin + _BLOCK_BYTES, self.n_bytes))

    def sha256(self) -> str:
        """The digest of all bytes, which are not held."""
        digest = hashlib.sha256()
        for block in self.blocks():
            digest.update(block.data)
        return digest.hexdigest()

    def array(self) -> NDArray[Any]:
        """Give the tensor as a numpy array; a view wherever the bytes are aligned."""
        dtype, data = self._numpy(), self.data
        if data.ctypes.data % dtype.itemsize:
            data = data.copy()
        try:
            return data.view(dtype).reshape(self.shape)
        except ValueError as error:  # 0 elements, but axes that no array can have
            raise FormatError(f"shape {self.shape}: {error}") from None

    def blank(self) -> NDArray[Any]:
        """An array of this type and shape that takes no memory and must not be looked into."""
        try:
            return np.ndarray(self.shape, self._numpy(), _ZEROS, strides=(0,) * len(self.shape))
        except ValueError as error:
            raise FormatError(f"shape {self.shape}: {error}") from None

    def rows(self, n: int) -> NDArray[Any]:
        """The first ``n`` rows of the matrix that the tensor is coded as; no more than these are read."""
        rows, cols = as_matrix(self.shape)
        n = min(n, rows)
        return StoredTensor(self.dtype, (n, cols), self.part(0, self.n_bytes // max(rows, 1) * n)).array()

    def _numpy(self) -> np.dtype[Any]:
        if self.dtype not in NUMPY:
            raise FormatError(f"tensors of type {self.dtype} are not read as numbers")
        return NUMPY[self.dtype]


class StoredInFile(StoredTensor):
    """A tensor that is read when it is asked for."""

    __slots__ = ("_begin", "_source")

    def __init__(
        self, dtype: str, shape: tuple[int, ...], source: SourceFile, begin: int, n_bytes: int
    ) -> None:
        """``n_bytes`` from ``begin`` on, in ``source``."""
        self.dtype, self.shape, self.n_bytes = dtype, shape, n_bytes
        self._source, self._begin = source, begin

    @property
    def data(self) -> NDArray[np.uint8]:
        """See :meth:`StoredTensor.data`."""
        return self.part(0, self.n_bytes)

    def part(self, begin: int, end: int) -> NDArray[np.uint8]:
        """See :meth:`StoredTensor.part`."""
        return self._source.read(self._begin + begin, end - begin)

    @staticmethod
    def held(tensors: Mapping[str, StoredInFile], *, jobs: int = 1) -> dict[str, StoredTensor]:
        """The same tensors in memory, read by ``jobs`` threads; neighbours in a file at once, as views of one array.

        A system call for each, and fresh pages for each, take longer than the bytes do.
        """
        runs: list[dict[str, StoredInFile]] = []
        source, end, size = None, 0, 0
        for name in sorted(tensors, key=lambda name: (tensors[name]._source.path, tensors[name]._begin)):
            one = tensors[name]
            if one._source is not source or one._begin != end or size + one.n_bytes > _RUN_BYTES:
                runs.append({})
                size = 0
            runs[-1][name] = one
            source, end, size = one._source, one._begin + one.n_bytes, size + one.n_bytes
        found: dict[str, StoredTensor] = {}
        for_each(lambda run: found.update(_read_run(run)), runs, jobs)
        return found


def _read_run(run: Mapping[str, StoredInFile]) -> dict[str, StoredTensor]:
    """Tensors that stand one behind the other in a file, in memory."""
    first = next(iter(run.values()))
    data = first.part(0, sum(tensor.n_bytes for tensor in run.values()))
    ends = itertools.accumulate(tensor.n_bytes for tensor in run.values())
    return {
        name: StoredTensor(tensor.dtype, tensor.shape, data[end - tensor.n_bytes : end])
        for (name, tensor), end in zip(run.items(), ends, strict=True)
    }


@dataclass(frozen=True, slots=True, eq=False)
class SafetensorsFile:
    """An open file: ``tensors`` in the order of their bytes, ``metadata``, the raw ``header``, the ``source``."""

    path: Path
    header: bytes
    metadata: dict[str, str]
    tensors: dict[str, StoredTensor] = field(repr=False)
    n_bytes: int
    source: SourceFile


def read(path: Path) -> SafetensorsFile:
    """Read and check all of a file's header; no tensor is read.

    Raises:
        FormatError: the file is not well-formed; the message says where.
        OSError: it cannot be opened.
    """
    source = SourceFile.of(path)
    size = source.n_bytes
    if problem := foreign.recognise(path):
        raise FormatError(f"{path}: {problem}")
    if size < 8:
        raise FormatError(f"{path}: not a safetensors file: {size} bytes, less than a header length")
    n_header = int.from_bytes(source.read(0, 8).tobytes(), "little")
    if n_header > min(MAX_HEADER_BYTES, size - 8):
        raise FormatError(
            f"{path}: not a safetensors file, or truncated: header length {n_header} exceeds "
            f"the {size - 8} bytes that follow or the limit of {MAX_HEADER_BYTES}"
        )
    header = source.read(8, n_header).tobytes()
    try:
        metadata, entries = _parse(header)
        tensors = {
            name: StoredInFile(dtype, shape, source, 8 + n_header + begin, end - begin)
            for name, (dtype, shape, begin, end) in _place(entries, size - 8 - n_header).items()
        }
    except FormatError as error:
        raise FormatError(f"{path}: {error}") from None
    return SafetensorsFile(path, header, metadata, dict(tensors), size, source)


def parse_json(text: bytes | str) -> Any:
    """JSON from an untrusted file: UTF-8, no key twice in an object, no half of a surrogate pair.

    Raises:
        FormatError: it is something else.
    """
    try:
        decoded = text.decode() if isinstance(text, bytes) else text
        # Without escapes there are no halves to look for, and a header has a thousand objects.
        return json.loads(decoded, object_pairs_hook=_whole if "\\u" in decoded else _unique)
    except FormatError:
        raise
    except (ValueError, RecursionError) as error:
        raise FormatError(f"not JSON: {error}") from None


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        seen: set[str] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise FormatError(f"the key {twice!r} occurs twice in one JSON object")
    return found


def _whole(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """As :func:`_unique`; ValueError where a text has half of a surrogate pair."""
    for item in pairs:
        for text in item:
            if isinstance(text, str):
                text.encode()
    return _unique(pairs)


def _parse(header: bytes) -> tuple[dict[str, str], dict[str, Any]]:
    if not header.startswith(b"{"):
        raise FormatError("not a safetensors file: the header does not begin with '{'")
    try:
        parsed = parse_json(header)
    except FormatError as error:
        raise FormatError(f"not a safetensors file: header: {error}") from None
    metadata = parsed.pop(METADATA, None)
    if metadata is None:  # as the safetensors library takes it
        metadata = {}
    if not isinstance(metadata, dict) or not all(isinstance(v, str) for v in metadata.values()):
        raise FormatError("__metadata__ is not a map of strings")
    return metadata, parsed


def _place(entries: Mapping[str, Any], n_bytes: int) -> dict[str, tuple[str, tuple[int, ...], int, int]]:
    """Type, shape, begin and end of every tensor, in the order of the ``n_bytes`` of data."""
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
    if at != n_bytes:
        kind = "truncated" if at > n_bytes else "has bytes that belong to nothing"
        raise FormatError(f"{kind}: tensors take {at} bytes of data, {n_bytes} follow the header")
    return {
        name: (entries[name]["dtype"], tuple(entries[name]["shape"]), begin, end)
        for begin, end, name in spans
    }


def _naturals(value: object) -> bool:
    return isinstance(value, list) and all(type(x) is int and 0 <= x < 1 << 63 for x in value)


def header_bytes(tensors: Mapping[str, StoredTensor], metadata: Mapping[str, str]) -> bytes:
    """The JSON header, written as the safetensors library writes it, padded to a multiple of 8."""
    entries: dict[str, Any] = {METADATA: dict(metadata)} if metadata else {}
    at = 0
    for name, tensor in tensors.items():
        end = at + tensor.n_bytes
        entries[name] = {"dtype": tensor.dtype, "shape": list(tensor.shape), "data_offsets": [at, end]}
        at = end
    text = json.dumps(entries, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    if len(text) > MAX_HEADER_BYTES:
        raise FormatError(f"a header of {len(text)} bytes exceeds the format's {MAX_HEADER_BYTES}")
    return text


def by_alignment(tensors: Mapping[str, StoredTensor]) -> dict[str, StoredTensor]:
    """The tensors with the widest elements first, so that all of them are aligned."""
    return dict(sorted(tensors.items(), key=lambda item: -ITEM_BITS[item[1].dtype]))


def restored_header(text: str, tensors: Mapping[str, tuple[str, tuple[int, ...]]]) -> bytes:
    """The header of an original file as it was: ``text``, if it is one of these tensors in this order.

    Args:
        text: JSON, with its padding.
        tensors: type and shape of every tensor, in the order of their bytes.

    Raises:
        FormatError: it is of others.
    """
    header = text.encode()
    at, expected = 0, {}
    for name, (dtype, shape) in tensors.items():
        begin, at = at, at + math.prod(shape) * ITEM_BITS[dtype] // 8
        expected[name] = (dtype, shape, begin, at)
    if len(header) > MAX_HEADER_BYTES or _place(_parse(header)[1], at) != expected:
        raise FormatError("the header of the original file is one of other tensors")
    return header


def write(
    path: Path, tensors: Mapping[str, StoredTensor], header: bytes, *, digest: Collection[str] = ()
) -> dict[str, str]:
    """Write a file in place; callers make it atomic (:mod:`xorpack.files.atomic`).

    Returns:
        SHA-256 of the bytes that were written of each tensor named in ``digest``.
    """
    digests: dict[str, str] = {}
    with open(path, "wb") as file, ThreadPoolExecutor(1) as pool:
        file.write(len(header).to_bytes(8, "little"))
        file.write(header)
        for name, tensor in tensors.items():
            sha256 = hashlib.sha256()
            for block in tensor.blocks():
                hashed = pool.submit(sha256.update, block.data) if name in digest else None
                file.write(block.data)
                if hashed is not None:
                    hashed.result()
            if name in digest:
                digests[name] = sha256.hexdigest()
    return digests


def rewrite_header(path: Path, header: bytes) -> None:
    """Put another header, of the same length, into a file."""
    with open(path, "r+b") as file:
        file.seek(8)
        file.write(header)
