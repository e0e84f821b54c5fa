"""The file: encoded tensors as sections of a safetensors file, specified byte by byte in FORMAT.md.

An encoded tensor NAME stands as tensors ``NAME.xor_code``, ``NAME.xor_mask`` and others, those it needs; its
parameters, the record, stand in ``NAME.xor_record``, or up to version 2 in the document, ``__metadata__["xorpack"]``, a
JSON text.
Other tensors are carried. ``__metadata__["xorpack_header_sha256"]`` is the digest of the header with this digest's 64
characters set to ``0``.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from xorpack.encoded import EncodedTensor
from xorpack.errors import CorruptError, FormatError, ParameterError, XorpackError
from xorpack.files import safetensors_file
from xorpack.files.in_file import CarriedInFile, EncodedInFile
from xorpack.files.record import (
    RECORD,
    TRELLIS_VERSION,
    VERSION,
    Record,
    check_record,
    pack_record,
    sections_of,
    to_record,
    unpack_record,
    version_for,
)
from xorpack.files.safetensors_file import SafetensorsFile, StoredInFile, StoredTensor
from xorpack.vector.threads import for_each

KEY = "xorpack"
DIGEST_KEY = "xorpack_header_sha256"
ORIGINAL_HEADER = "original_header"
"""The key in ``settings`` of the original file's header, where it is not the one that would be written."""

MAX_RECORD = 1 << 20
"""Bytes of a record at the most."""

_BLANK = "0" * 64

_DOCUMENT = {"version", "settings", "order", "carried_sha256"}
_RECORD_SUFFIX = f".xor_{RECORD}"


def is_encoded(file: SafetensorsFile) -> bool:
    """Whether xorpack encoded something in ``file``."""
    return _is_sealed(file) or any(name.endswith(_RECORD_SUFFIX) for name in file.tensors)


def version_of(file: SafetensorsFile) -> int:
    """The format version of a file that :func:`write` wrote."""
    version: int = _document(file)["version"]
    return version


def _is_sealed(file: SafetensorsFile) -> bool:
    """One key of the two is enough: a bit that flips in the other must not let a file pass for one without either."""
    return not file.metadata.keys().isdisjoint({KEY, DIGEST_KEY})


class EncodedFile(Mapping[str, EncodedTensor]):
    """One open file: a read-only mapping from tensor name to EncodedTensor, read when asked for.

    Attributes:
        path: of the file.
        version: of its format; without a document, the least that may hold its tensors.
        carried: the tensors that are stored as they were, by name.
        carried_sha256: their digests.
        order: names of all tensors of the original file, in the order of its bytes.
        metadata: the original file's own metadata.
        sealed: whether the file has its document still. A tool that rewrites headers may leave it out of a file of
            version 3: encoded tensors are whole then, and nothing is known of the carried ones.
        original_header: the original file's header where it is not what :func:`safetensors_file.header_bytes` makes
            of ``order`` and ``metadata``, else None.
        stored: everything that stands in the file, sections and carried tensors, by the names there.
        sections: where sections of its encoded tensors stand: ``stored``, or that of several files.
        source: the file on disk.
    """

    def __init__(
        self,
        file: Path | SafetensorsFile,
        *,
        beside: Mapping[str, StoredTensor] | None = None,
        verify: bool = True,
    ) -> None:
        """Check the header of a file.

        Args:
            file: its path; or itself, read.
            beside: what stands in all files that are not sealed, this one too; see :func:`open_files`.
            verify: check a tensor's stored bytes when it is read.
        """
        if isinstance(file, Path):
            file = safetensors_file.read(file)
        path = self.path = file.path
        self.n_bytes = file.n_bytes
        self.verify = verify
        self.source = file.source
        self.stored = file.tensors
        self.sealed = _is_sealed(file)
        self.sections = self.stored if self.sealed or beside is None else beside
        if not (self.sealed or any(name.endswith(_RECORD_SUFFIX) for name in self.sections)):
            raise FormatError(f"{path}: a safetensors file, but not one that xorpack encoded")
        try:
            unsealed: dict[str, Any] = {"version": VERSION, "settings": {}}
            document = _document(file) if self.sealed else unsealed
            self.records = _records(document, self.stored)
            self.version: int = document["version"] if self.sealed else version_for(self.records.values())
            self._known = sections_of(self.version)
            self.carried = {name: t for name, t in self.stored.items() if not self._is_section(name)}
            taken = [
                name
                for name in self.records
                if name in self.carried or name == safetensors_file.METADATA or self._is_section(name)
            ]
            if taken:
                raise FormatError(f"tensors cannot have the names {sorted(taken)}: they are taken")
            self.order = [*self.records, *self.carried]
            self.carried_sha256: dict[str, str] = {}
            if not self.sealed:
                self._check_owned()
            else:
                self.order, self.carried_sha256 = _names(document)
                if set(self.carried) != set(self.carried_sha256):
                    raise FormatError("carried tensors differ from those listed")
                if sorted(self.order) != sorted([*self.records, *self.carried]):
                    raise FormatError("the order of tensors does not name each of them once")
            for name in self.records:
                self.at(name).build(StoredTensor.blank)
            self.original_header = document["settings"].pop(ORIGINAL_HEADER, None)
            if not isinstance(self.original_header, str | None):
                raise FormatError(f"settings: {ORIGINAL_HEADER} is not a text")
        except XorpackError as error:
            raise type(error)(f"{path}: {error}") from None
        self.metadata = {k: v for k, v in file.metadata.items() if k not in (KEY, DIGEST_KEY)}
        self.settings: dict[str, Any] = document["settings"]

    def __getitem__(self, name: str) -> EncodedTensor:
        return self.at(name).load()

    def at(self, name: str, held: Mapping[str, StoredTensor] | None = None) -> EncodedInFile:
        """An encoded tensor, not read; ``held``: sections, where they are in memory already."""
        return EncodedInFile(
            path=self.path,
            name=name,
            record=self.records[name],
            sections=self.sections_of(name) if held is None else held,
            version=self.version,
            verify=self.verify,
        )

    def sections_of(self, name: str) -> dict[str, StoredTensor]:
        """What an encoded tensor is made of but for its record, by the names in the file."""
        keys = [f"{name}.xor_{section}" for section in self._known if section != RECORD]
        return {key: self.sections[key] for key in keys if key in self.sections}

    def carried_at(self, name: str) -> CarriedInFile:
        """A carried tensor, not read."""
        sha256 = self.carried_sha256.get(name) if self.verify else None
        return CarriedInFile(path=self.path, name=name, stored=self.carried[name], sha256=sha256)

    def load(self, names: Collection[str], *, jobs: int = 1) -> dict[str, EncodedTensor]:
        """Several tensors, each as it would be read alone; but neighbours in the file are read at once.

        Args:
            names: of encoded tensors.
            jobs: threads that read and check them.
        """
        inside = {key: stored for name in names for key, stored in self.sections_of(name).items()}
        held = StoredInFile.held({k: t for k, t in inside.items() if isinstance(t, StoredInFile)}, jobs=jobs)
        found: dict[str, EncodedTensor] = {}

        def one(name: str) -> None:
            found[name] = self.at(name, held).load()

        for_each(one, names, jobs)
        return found

    def __iter__(self) -> Iterator[str]:
        return iter(self.records)

    def __len__(self) -> int:
        return len(self.records)

    def load_carried(self, name: str) -> StoredTensor:
        """A carried tensor, read and checked: :meth:`CarriedInFile.load`."""
        return self.carried_at(name).load()

    def _is_section(self, key: str) -> bool:
        """Whether a name is that of a section of an encoded tensor, of this file or of one beside it."""
        name, dot, section = key.rpartition(".xor_")
        if not dot or section not in self._known:
            return False
        return name in self.records or (not self.sealed and name + _RECORD_SUFFIX in self.sections)

    def _check_owned(self) -> None:
        """Raise FormatError if a section of a file without its document has lost its record: it passes for a tensor."""
        for key in self.carried:
            name, dot, section = key.rpartition(".xor_")
            if dot and section in self._known:
                raise FormatError(
                    f"section {key!r} stands without {name + _RECORD_SUFFIX!r}: a tool that rewrote the file lost it, "
                    f"or put it into another file of a directory: open all of that, then"
                )


def open_files(files: Sequence[SafetensorsFile], *, verify: bool = True) -> tuple[EncodedFile, ...]:
    """The files of a checkpoint: tools that rewrite them may spread the sections of a tensor over several.

    A tensor belongs to the file with its record.

    Raises:
        FormatError, CorruptError: a file breaks a rule, or two that are not sealed hold the same name.
    """
    beside: dict[str, StoredTensor] = {}
    for file in files:
        if _is_sealed(file):
            continue
        if twice := beside.keys() & file.tensors.keys():
            raise FormatError(f"{file.path}: tensors {sorted(twice)[:5]} stand in an earlier file too")
        beside |= file.tensors
    return tuple(EncodedFile(file, beside=beside, verify=verify) for file in files)


def write(
    path: Path,
    encoded: Mapping[str, EncodedTensor],
    carried: Mapping[str, StoredTensor],
    *,
    order: list[str] | None = None,
    metadata: Mapping[str, str] | None = None,
    settings: Mapping[str, Any] | None = None,
    version: int | None = None,
) -> None:
    """Write a file in place; callers make it atomic (:mod:`xorpack.files.atomic`).

    Args:
        path: of the file.
        encoded, carried: the tensors.
        order: names of all tensors in the original order; default: encoded, then carried.
        metadata: the original file's metadata, kept.
        settings: how the tensors were made; information only.
        version: of the format, one that knows such tensors; default: the least from 3 on. An earlier one is written to
            test that it is read.

    Raises:
        ParameterError: two tensors would have the same name in the file.
    """
    records = {name: to_record(tensor) for name, tensor in encoded.items()}
    version = version_for(records.values()) if version is None else version
    sections: dict[str, dict[str, StoredTensor]] = {}
    for name, tensor in encoded.items():
        arrays = tensor.sections()
        if version >= TRELLIS_VERSION:
            arrays[RECORD] = pack_record(records[name])
        sections[name] = {
            f"{name}.xor_{section}": StoredTensor.of(array) for section, array in arrays.items()
        }
    _write(path, sections, carried, order, metadata, settings, version, records)


def join(
    path: Path,
    parts: Mapping[str, Mapping[str, StoredTensor]],
    carried: Mapping[str, StoredTensor],
    *,
    order: list[str] | None = None,
    metadata: Mapping[str, str] | None = None,
    settings: Mapping[str, Any] | None = None,
) -> None:
    """Write the very file that :func:`write` would, of encoded tensors that stand in other files, and are not held.

    ``parts``: of each encoded tensor, the sections and the record as they stand in a file that :func:`write` made of it
    alone. The rest is as :func:`write` takes it.
    """
    records = [unpack_record(sections[name + _RECORD_SUFFIX].data) for name, sections in parts.items()]
    _write(path, parts, carried, order, metadata, settings, version_for(records), {})


def _write(
    path: Path,
    parts: Mapping[str, Mapping[str, StoredTensor]],
    carried: Mapping[str, StoredTensor],
    order: list[str] | None,
    metadata: Mapping[str, str] | None,
    settings: Mapping[str, Any] | None,
    version: int,
    records: Mapping[str, Record],
) -> None:
    if version >= TRELLIS_VERSION and (lost := [name for name in carried if name.endswith(_RECORD_SUFFIX)]):
        raise ParameterError(f"the name {lost[0]!r} is taken: it is that of a record")
    tensors: dict[str, StoredTensor] = dict(carried)
    for name, sections in parts.items():
        for key in (name, *(f"{name}.xor_{section}" for section in sections_of(version))):
            if key in carried or (key != name and key in parts) or key == safetensors_file.METADATA:
                raise ParameterError(f"the name {key!r} is taken: {name!r} needs it when encoded")
        tensors |= sections
    document = {
        "version": version,
        "settings": dict(settings or {}),
        "order": order if order is not None else [*parts, *carried],
        **({} if version >= TRELLIS_VERSION else {"tensors": records}),
        "carried_sha256": dict.fromkeys(carried, _BLANK),
    }
    taken = {KEY, DIGEST_KEY} & set(metadata or {})
    if taken:
        raise ParameterError(f"metadata already has the keys {sorted(taken)}: encoded before?")
    ordered = safetensors_file.by_alignment(tensors)
    blank = _signed_header(ordered, metadata or {}, document)
    written = safetensors_file.write(path, ordered, blank, digest=carried.keys())
    if carried:
        document["carried_sha256"] = {name: written[name] for name in carried}
        safetensors_file.rewrite_header(path, _signed_header(ordered, metadata or {}, document))


def _signed_header(
    tensors: Mapping[str, StoredTensor], metadata: Mapping[str, str], document: Mapping[str, Any]
) -> bytes:
    """The header, with its digest; as long whatever the digests in ``document`` are."""
    full = {**metadata, KEY: json.dumps(document, separators=(",", ":")), DIGEST_KEY: _BLANK}
    blank = safetensors_file.header_bytes(tensors, full)
    return blank.replace(_digest_field(_BLANK), _digest_field(hashlib.sha256(blank).hexdigest()))


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
        document = safetensors_file.parse_json(file.metadata.get(KEY, ""))
    except FormatError as error:
        raise FormatError(f"metadata {KEY!r}: {error}") from None
    version = document.get("version") if isinstance(document, dict) else None
    if type(version) is not int or not 1 <= version <= VERSION:
        raise FormatError(f"format version {version!r} is not one that this xorpack reads (1..{VERSION})")
    needed = _DOCUMENT if version >= TRELLIS_VERSION else {*_DOCUMENT, "tensors"}
    if set(document) != needed:
        raise FormatError(f"metadata needs exactly {sorted(needed)}, has {sorted(document)}")
    if not isinstance(document["settings"], dict):
        raise FormatError("metadata has no settings")
    return dict(document)


def _records(document: Mapping[str, Any], stored: Mapping[str, StoredTensor]) -> dict[str, Record]:
    """The records of a file by tensor, checked as far as :func:`check_record` does."""
    version = document["version"]
    records = document.get("tensors")
    if version >= TRELLIS_VERSION:
        found = {key.removesuffix(_RECORD_SUFFIX): key for key in stored if key.endswith(_RECORD_SUFFIX)}
        records = {name: _unpacked(name, stored[key]) for name, key in found.items()}
    if not isinstance(records, dict):
        raise FormatError("metadata has no map of tensors")
    for name, record in records.items():
        try:
            check_record(record, version)
        except FormatError as error:
            raise FormatError(f"tensor {name!r}: {error}") from None
    return records


def _unpacked(name: str, stored: StoredTensor) -> Any:
    if stored.dtype != "U8" or len(stored.shape) != 1:
        raise FormatError(f"tensor {name!r}: record of type {stored.dtype} and shape {stored.shape}")
    if stored.n_bytes > MAX_RECORD:
        raise FormatError(f"tensor {name!r}: record of {stored.n_bytes} bytes, more than {MAX_RECORD}")
    try:
        return unpack_record(stored.data)
    except XorpackError as error:
        raise type(error)(f"tensor {name!r}: {error}") from None


def _names(document: Mapping[str, Any]) -> tuple[list[str], dict[str, str]]:
    order, carried = document.get("order"), document.get("carried_sha256")
    if not isinstance(order, list) or not all(isinstance(name, str) for name in order):
        raise FormatError("metadata has no order of tensors")
    if not isinstance(carried, dict) or not all(isinstance(v, str) for v in carried.values()):
        raise FormatError("metadata has no checksums of carried tensors")
    return order, carried
