"""The file: encoded tensors as sections of a safetensors file, specified byte by byte in FORMAT.md.

An encoded tensor NAME stands as tensors ``NAME.xor_code``, ``NAME.xor_corrections``, ``NAME.xor_mask``,
``NAME.xor_scales`` and ``NAME.xor_field``, those it needs; its parameters stand in ``__metadata__["xorpack"]``, a
JSON text. Other tensors are carried. ``__metadata__["xorpack_header_sha256"]`` is the digest of the header with this
digest's 64 characters set to ``0``.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from xorpack import masks
from xorpack.code.layout import Layout
from xorpack.code.network import XorNetwork
from xorpack.code.planes import CodedPlanes, StoredPlanes
from xorpack.elements import Bcq, Elements, Lossless
from xorpack.encoded import SECTIONS, EncodedTensor, check_shape, sections_sha256
from xorpack.errors import CorruptError, FormatError, ParameterError, XorpackError
from xorpack.fields.field import Field
from xorpack.files import safetensors_file
from xorpack.files.safetensors_file import SafetensorsFile, Stored

VERSION = 2
"""The last format version; every version up to it is read, and the lowest that suffices is written."""

FIELD_VERSION = 2
"""The version from which on there are fields."""

KEY = "xorpack"
DIGEST_KEY = "xorpack_header_sha256"
ORIGINAL_HEADER = "original_header"
"""The key in ``settings`` of the original file's header, where it is not the one that would be written."""

_BLANK = "0" * 64

_DOCUMENT = {"version", "settings", "order", "tensors", "carried_sha256"}
_RECORD: Mapping[str, type] = {
    "kind": str,
    "dtype": str,
    "shape": list,
    "bits": int,
    "n_kept": int,
    "constants": list,
    "network": dict,
    "layout": dict,
    "n_corrections": int,
    "mask": dict,
    "group_size": int,
    "method": str,
    "stored_sha256": str,
    "content_sha256": str,
}


class EncodedFile(Mapping[str, EncodedTensor]):
    """One open file: a read-only mapping from tensor name to EncodedTensor, read when asked for.

    Attributes:
        path: of the file.
        version: of its format.
        carried: the tensors that are stored as they were, by name.
        carried_sha256: their digests.
        order: names of all tensors of the original file, in the order of its bytes.
        metadata: the original file's own metadata.
        original_header: the original file's header where it is not what :func:`safetensors_file.header_bytes` makes
            of ``order`` and ``metadata``, else None.
        stored: everything that stands in the file, sections and carried tensors, by the names there.
        source: the file on disk.
    """

    def __init__(self, path: Path, *, verify: bool = True) -> None:
        """Read the header of ``path`` and check it; ``verify``: check a tensor's stored bytes when it is read."""
        file = safetensors_file.read(path)
        self.path = path
        self.n_bytes = file.n_bytes
        self.verify = verify
        if KEY not in file.metadata:
            raise FormatError(f"{path}: a safetensors file, but not one that xorpack encoded")
        self.source = file.source
        try:
            document = _document(file)
            self.stored = file.tensors
            self.records = _records(document)
            self.order, self.carried_sha256 = _names(document)
            self.version: int = document["version"]
            self._taken = sections_of(self.version)
            claimed = {f"{name}.xor_{section}" for name in self.records for section in self._taken}
            if taken := {safetensors_file.METADATA, *claimed} & set(self.records):
                raise FormatError(f"tensors cannot have the names {sorted(taken)}: they are taken")
            self.carried = {name: t for name, t in file.tensors.items() if name not in claimed}
            if set(self.carried) != set(self.carried_sha256):
                raise FormatError("carried tensors differ from those listed")
            if sorted(self.order) != sorted([*self.records, *self.carried]):
                raise FormatError("the order of tensors does not name each of them once")
            for name in self.records:
                self._build(name, Stored.blank)
            self.original_header = document["settings"].pop(ORIGINAL_HEADER, None)
            if not isinstance(self.original_header, str | None):
                raise FormatError(f"settings: {ORIGINAL_HEADER} is not a text")
        except XorpackError as error:
            raise type(error)(f"{path}: {error}") from None
        self.metadata = {k: v for k, v in file.metadata.items() if k not in (KEY, DIGEST_KEY)}
        self.settings: dict[str, Any] = document["settings"]

    def __getitem__(self, name: str) -> EncodedTensor:
        if name not in self.records:
            raise KeyError(name)
        tensor = self._build(name, Stored.array)
        if self.verify and sections_sha256(tensor.sections()) != tensor.stored_sha256:
            raise CorruptError(f"{self.path}: tensor {name!r}: stored bytes do not match their checksum")
        if self.verify:
            try:
                tensor.elements.check_values()
            except FormatError as error:
                raise FormatError(f"{self.path}: tensor {name!r}: {error}") from None
        return tensor

    def __iter__(self) -> Iterator[str]:
        return iter(self.records)

    def __len__(self) -> int:
        return len(self.records)

    def load_carried(self, name: str) -> Stored:
        """A carried tensor, checked.

        Raises:
            CorruptError: its bytes do not match their checksum.
        """
        stored = self.carried[name]
        held = Stored(stored.dtype, stored.shape, stored.data)
        if self.verify:
            self.check_carried(name, held.sha256())
        return held

    def check_carried(self, name: str, sha256: str) -> None:
        """Raise CorruptError unless this is the digest of the carried tensor ``name``."""
        if sha256 != self.carried_sha256[name]:
            raise CorruptError(f"{self.path}: carried tensor {name!r}: bytes do not match their checksum")

    def _build(self, name: str, load: Callable[[Stored], NDArray[Any]]) -> EncodedTensor:
        try:
            return _from_record(self.records[name], name, self.stored, self._taken, load)
        except (ParameterError, FormatError) as error:
            raise FormatError(f"tensor {name!r}: {error}") from None


def write(
    path: Path,
    encoded: Mapping[str, EncodedTensor],
    carried: Mapping[str, Stored],
    *,
    order: list[str] | None = None,
    metadata: Mapping[str, str] | None = None,
    settings: Mapping[str, Any] | None = None,
) -> int:
    """Write a file in place; callers make it atomic (:mod:`xorpack.files.atomic`).

    Args:
        path: of the file.
        encoded, carried: the tensors.
        order: names of all tensors in the original order; default: encoded, then carried.
        metadata: the original file's metadata, kept.
        settings: how the tensors were made; information only.

    Returns:
        The version of its format, the lowest that suffices.

    Raises:
        ParameterError: two tensors would have the same name in the file.
    """
    tensors: dict[str, Stored] = dict(carried)
    records = {}
    version = FIELD_VERSION if any(tensor.field for tensor in encoded.values()) else 1
    for name, tensor in encoded.items():
        keys = {section: f"{name}.xor_{section}" for section in sections_of(version)}
        for key in (name, *keys.values()):
            if key in carried or (key != name and key in encoded) or key == safetensors_file.METADATA:
                raise ParameterError(f"the name {key!r} is taken: {name!r} needs it when encoded")
        tensors |= {keys[section]: Stored.of(array) for section, array in tensor.sections().items()}
        records[name] = _to_record(tensor)
    document = {
        "version": version,
        "settings": dict(settings or {}),
        "order": order if order is not None else [*encoded, *carried],
        "tensors": records,
        "carried_sha256": dict.fromkeys(carried, _BLANK),
    }
    taken = {KEY, DIGEST_KEY} & set(metadata or {})
    if taken:
        raise ParameterError(f"metadata already has the keys {sorted(taken)}: encoded before?")
    ordered = safetensors_file.by_alignment(tensors)
    blank = _signed_header(ordered, metadata or {}, document)
    written = safetensors_file.write(path, ordered, blank, digest=carried.keys())
    document["carried_sha256"] = {name: written[name] for name in carried}
    safetensors_file.rewrite_header(path, _signed_header(ordered, metadata or {}, document))
    return version


def encoded_bytes(name: str, tensor: EncodedTensor) -> int:
    """Bytes that an encoded tensor adds to a file, its part of the header included, to within a few."""
    sections = {f"{name}.xor_{section}": Stored.of(array) for section, array in tensor.sections().items()}
    record = json.dumps({name: _to_record(tensor)}, separators=(",", ":"))
    return _bytes(sections, record)


def carried_bytes(name: str, stored: Stored) -> int:
    """The same of a carried tensor."""
    return _bytes({name: stored}, json.dumps({name: _BLANK}, separators=(",", ":")))


def _bytes(tensors: Mapping[str, Stored], text: str) -> int:
    return len(safetensors_file.header_bytes(tensors, {KEY: text})) + sum(t.n_bytes for t in tensors.values())


def _signed_header(
    tensors: Mapping[str, Stored], metadata: Mapping[str, str], document: Mapping[str, Any]
) -> bytes:
    """The header, with its digest; as long whatever the digests in ``document`` are."""
    full = {**metadata, KEY: json.dumps(document, separators=(",", ":")), DIGEST_KEY: _BLANK}
    blank = safetensors_file.header_bytes(tensors, full)
    return blank.replace(_digest_field(_BLANK), _digest_field(hashlib.sha256(blank).hexdigest()))


def sections_of(version: int) -> tuple[str, ...]:
    """Sections of which there may be one in files of a version; their names are taken."""
    return SECTIONS if version >= FIELD_VERSION else SECTIONS[:-1]


def _digest_field(digest: str) -> bytes:
    return f'"{DIGEST_KEY}":"{digest}"'.encode()


def _document(file: SafetensorsFile) -> dict[str, Any]:
    digest = file.metadata.get(DIGEST_KEY, "")
    field = _digest_field(digest)
    if len(digest) != 64 or file.header.count(field) != 1:
        raise CorruptError("the header's checksum is missing or damaged")
    blank = file.header.replace(field, _digest_field(_BLANK))
    if hashlib.sha256(blank).hexdigest() != digest:
        raise CorruptError("the header does not match its checksum")
    try:
        document = safetensors_file.parse_json(file.metadata[KEY])
    except FormatError as error:
        raise FormatError(f"metadata {KEY!r}: {error}") from None
    version = document.get("version") if isinstance(document, dict) else None
    if type(version) is not int or not 1 <= version <= VERSION:
        raise FormatError(f"format version {version!r} is not one that this xorpack reads (1..{VERSION})")
    if set(document) != _DOCUMENT:
        raise FormatError(f"metadata needs exactly {sorted(_DOCUMENT)}, has {sorted(document)}")
    if not isinstance(document["settings"], dict):
        raise FormatError("metadata has no settings")
    return dict(document)


def _records(document: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    records = document.get("tensors")
    if not isinstance(records, dict):
        raise FormatError("metadata has no map of tensors")
    for name, record in records.items():
        optional = {"field"} if document["version"] >= FIELD_VERSION else set()
        if not isinstance(record, dict) or set(record) - optional != set(_RECORD):
            raise FormatError(f"tensor {name!r}: record needs exactly {sorted(_RECORD)}")
        if type(record.get("field", {})) is not dict:
            raise FormatError(f"tensor {name!r}: field = {record['field']!r} is not of type dict")
        for key, kind in _RECORD.items():
            if type(record[key]) is not kind:
                raise FormatError(f"tensor {name!r}: {key} = {record[key]!r} is not of type {kind.__name__}")
    return records


def _names(document: Mapping[str, Any]) -> tuple[list[str], dict[str, str]]:
    order, carried = document.get("order"), document.get("carried_sha256")
    if not isinstance(order, list) or not all(isinstance(name, str) for name in order):
        raise FormatError("metadata has no order of tensors")
    if not isinstance(carried, dict) or not all(isinstance(v, str) for v in carried.values()):
        raise FormatError("metadata has no checksums of carried tensors")
    return order, carried


def _to_record(tensor: EncodedTensor) -> dict[str, Any]:
    elements = tensor.elements
    bcq = elements if isinstance(elements, Bcq) else None
    field = elements.field if isinstance(elements, Lossless) else None
    return {
        "kind": tensor.kind,
        "dtype": tensor.dtype,
        "shape": list(tensor.shape),
        "bits": tensor.bits,
        "n_kept": tensor.n_kept,
        "constants": list(tensor.planes.constants),
        "network": tensor.network.get_config(),
        "layout": {
            "lanes": tensor.layout.lanes,
            "n_steps": tensor.layout.n_steps,
            "row_stride": tensor.layout.row_stride,
        },
        "n_corrections": tensor.planes.n_corrections,
        "mask": {"codec": tensor.mask_codec, "config": dict(tensor.mask_config)},
        "group_size": bcq.group_size if bcq else 0,
        "method": bcq.method if bcq else "",
        "stored_sha256": sections_sha256(tensor.sections()),
        "content_sha256": tensor.content_sha256,
        **({"field": field.get_config()} if field else {}),
    }


def _from_record(
    record: Mapping[str, Any],
    name: str,
    sections: Mapping[str, Stored],
    taken: tuple[str, ...],
    load: Callable[[Stored], NDArray[Any]],
) -> EncodedTensor:
    shape, layout, mask = record["shape"], record["layout"], record["mask"]
    constants = record["constants"]
    if len(constants) != 2 or not all(type(value) is int and 0 <= value < 1 << 64 for value in constants):
        raise FormatError(f"constants {constants} are not two sets of planes")
    if len(shape) > safetensors_file.MAX_RANK or not all(
        type(size) is int and 0 <= size < 1 << 48 for size in shape
    ):
        raise FormatError(f"shape {shape} is not a list of sizes")
    if set(layout) != {"lanes", "n_steps", "row_stride"} or not all(
        type(value) is int and 0 <= value < 1 << 48 for value in layout.values()
    ):
        raise FormatError(f"layout {layout} needs lanes, n_steps and row_stride")
    if set(mask) != {"codec", "config"} or not isinstance(mask["config"], dict):
        raise FormatError("mask needs codec and config")
    absent = {"scales" if record["kind"] != "bcq" else "", "field" if "field" not in record else ""}
    found = {}
    for section in taken:
        key = f"{name}.xor_{section}"
        if (key in sections) == (section in absent):
            owner = f"kind {record['kind']!r}" if section == "scales" else "a record without a field"
            state = f"does not belong to {owner}" if section in absent else "is missing"
            raise FormatError(f"section {key!r} {state}")
        if section in absent:
            continue
        stored = sections[key]
        known = {"code": ("U32",), "scales": ("F16", "F32")}.get(section, ("U8",))
        if stored.dtype not in known or (known == ("U8",) and len(stored.shape) != 1):
            raise FormatError(f"section {key!r} is {stored.dtype} of shape {stored.shape}")
        found[section] = load(stored)
    rows, cols = check_shape(tuple(shape))
    planes = StoredPlanes(
        bits=record["bits"],
        n_kept=record["n_kept"],
        coded=CodedPlanes(
            network=XorNetwork.from_config(record["network"]),
            layout=Layout(rows=rows, cols=cols, **layout),
            code=found["code"],
        ),
        constants=(constants[0], constants[1]),
        n_corrections=record["n_corrections"],
        corrections=found["corrections"],
    )
    return EncodedTensor(
        shape=tuple(shape),
        dtype=record["dtype"],
        planes=planes,
        mask=masks.parse(mask["codec"], mask["config"], found["mask"], planes.coded),
        elements=_elements(record, found, rows, cols),
        content_sha256=record["content_sha256"],
        stored_sha256=record["stored_sha256"],
    )


def _elements(record: Mapping[str, Any], found: Mapping[str, NDArray[Any]], rows: int, cols: int) -> Elements:
    if record["kind"] == Bcq.KIND:
        if "field" in record:
            raise FormatError("a field of a tensor of kind bcq")
        return Bcq(scales=found["scales"], group_size=record["group_size"], method=record["method"])
    if record["kind"] != Lossless.KIND:
        raise FormatError(f"unknown kind {record['kind']!r}; known: {Bcq.KIND}, {Lossless.KIND}")
    if record["group_size"]:
        raise FormatError(f"group_size {record['group_size']} of kind lossless")
    if "field" not in record:
        return Lossless()
    return Lossless(field=Field.from_config(record["field"], found["field"], rows, cols))
