"""The record of one encoded tensor: JSON beside its sections. :mod:`xorpack.files.rebuild` is the way back.

Up to version 2 of the format, records stand in the file's document; from version 3 on each is a section of its own,
``NAME.xor_record``, so that a tool which rewrites a file's header keeps it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xorpack.code.packed import FAMILY, PackedPlanes
from xorpack.code.planes import TrellisPlanes
from xorpack.elements import Bcq, Lossless, Trellis
from xorpack.encoded import SECTIONS, EncodedTensor, sections_sha256
from xorpack.errors import CorruptError, FormatError
from xorpack.files import safetensors_file
from xorpack.tensors import NEW_DTYPES

Record = dict[str, Any]

VERSION = 4
"""The highest format version; it and every one before it are read. What is written: :func:`needed_version`."""

LEAST_VERSION = 3
"""The format version of a file none of whose tensors needs a higher one."""

FIELD_VERSION, TRELLIS_VERSION, PACKED_VERSION, PLANES_VERSION, TURNED_VERSION = 2, 3, 3, 3, 3
"""The versions from which on there are fields; trellis tensors, and records that are sections; packed bits; digests of
planes; networks of family turned.
"""

RECORD = "record"
"""The section of a record."""

NEWER = "; if a newer xorpack wrote it: pip install --upgrade xorpack"

_COMMON: Mapping[str, type] = {
    "kind": str,
    "dtype": str,
    "shape": list,
    "n_kept": int,
    "mask": dict,
    "group_size": int,
    "stored_sha256": str,
    "content_sha256": str,
}
_PLANES: Mapping[str, type] = {
    **_COMMON,
    "bits": int,
    "constants": list,
    "network": dict,
    "layout": dict,
    "n_corrections": int,
    "method": str,
}
_TRELLIS: Mapping[str, type] = {**_COMMON, "network": dict, "a": list, "n_outliers": int}

LAYOUT = ("lanes", "n_steps", "row_stride")
"""What a record says of the order of coding."""

_DIGEST = "record_sha256"
_BLANK = "0" * 64


def sections_of(version: int) -> tuple[str, ...]:
    """Sections of which there may be one in files of a version; their names are taken."""
    n_known = {1: 4, 2: 5}.get(version, len(SECTIONS))
    return (*SECTIONS[:n_known], *([RECORD] if version >= TRELLIS_VERSION else []))


def pack_record(record: Mapping[str, Any]) -> NDArray[np.uint8]:
    """The section of a record, with its digest: the SHA-256 of the section with the digest's characters set to 0."""
    blank = json.dumps({**record, _DIGEST: _BLANK}, separators=(",", ":")).encode()
    digest = hashlib.sha256(blank).hexdigest().encode()
    return np.frombuffer(blank[: -len(_BLANK) - 2] + digest + blank[-2:], np.uint8)


def unpack_record(data: NDArray[np.uint8]) -> Any:
    """Inverse of :func:`pack_record`, as far as the digest; :func:`check_record` checks the rest.

    Raises:
        FormatError: it is not JSON.
        CorruptError: it does not match its digest.
    """
    text = data.tobytes()
    try:
        record = safetensors_file.parse_json(text)
    except FormatError as error:
        raise FormatError(f"record: {error}") from None
    digest = record.pop(_DIGEST, None) if isinstance(record, dict) else None
    if not isinstance(digest, str) or not text.endswith(f'"{_DIGEST}":"{digest}"}}'.encode()):
        raise FormatError(f"the record does not end with its {_DIGEST}")
    blank = text[: -len(digest) - 2] + _BLANK.encode() + text[-2:]
    if hashlib.sha256(blank).hexdigest() != digest:
        raise CorruptError("the record does not match its checksum")
    return record


def needed_version(record: Record) -> tuple[int, str]:
    """The least version, from :data:`LEAST_VERSION` on, of a file that may hold a tensor; and what of it asks for that.

    The one place that says which records need a version above 3: files are written by it, and read.
    """
    if record["kind"] == Lossless.KIND and record["dtype"] in NEW_DTYPES:
        return 4, f"dtype {record['dtype']!r}"
    if record["kind"] == Bcq.KIND and "field" in record:
        return 4, "a field"
    return LEAST_VERSION, ""


def version_for(records: Iterable[Record]) -> int:
    """The version of a file that is to hold tensors."""
    return max((needed_version(record)[0] for record in records), default=LEAST_VERSION)


def check_record(record: Any, version: int) -> Record:
    """``record``, if it has the members and types that its kind needs; values are for :mod:`xorpack.files.rebuild`."""
    trellis = version >= TRELLIS_VERSION and isinstance(record, dict) and record.get("kind") == Trellis.KIND
    needed = _TRELLIS if trellis else _PLANES
    optional = {"field"} if version >= FIELD_VERSION and not trellis else set()
    if not isinstance(record, dict):
        raise FormatError(f"record is not an object but {type(record).__name__}")
    if lacking := sorted(set(needed) - set(record)):
        raise FormatError(f"record of kind {record.get('kind')!r} lacks {', '.join(lacking)}")
    if unknown := sorted(set(record) - optional - set(needed)):
        raise FormatError(
            f"record of kind {record['kind']!r} has members that are unknown in version {version}: "
            + ", ".join(map(repr, unknown[:5]))
            + NEWER
        )
    if type(record.get("field", {})) is not dict:
        raise FormatError(f"field = {record['field']!r} is not of type dict")
    for key, kind in needed.items():
        if type(record[key]) is not kind:
            raise FormatError(f"{key} = {record[key]!r} is not of type {kind.__name__}")
    least, what = needed_version(record)
    if version < least > LEAST_VERSION:
        raise FormatError(f"{what} of kind {record['kind']} in a file of version {version}, before {least}")
    return record


def to_record(tensor: EncodedTensor) -> Record:
    """What stands in a file of ``tensor`` beside its sections."""
    common = {
        "kind": tensor.kind,
        "dtype": tensor.dtype,
        "shape": list(tensor.shape),
        "n_kept": tensor.n_kept,
        "mask": {"codec": tensor.mask_codec, "config": dict(tensor.mask_config)},
        "group_size": tensor.group_size,
        "stored_sha256": sections_sha256(tensor.sections()),
        "content_sha256": tensor.content_sha256,
    }
    planes, elements = tensor.planes, tensor.elements
    if isinstance(planes, TrellisPlanes):
        assert isinstance(elements, Trellis)
        own = {
            "network": planes.network.get_config(),
            "a": [float(value) for value in elements.a],
            "n_outliers": elements.n_outliers,
        }
        return common | own
    coded = planes.coded
    if isinstance(coded, PackedPlanes):
        network: Record = {"family": FAMILY}
        layout: Record = {"panel_rows": coded.panel_rows}
    else:
        network = coded.network.get_config()
        layout = {name: getattr(coded.layout, name) for name in LAYOUT}
    return {
        "kind": tensor.kind,
        "dtype": tensor.dtype,
        "shape": list(tensor.shape),
        "bits": planes.bits,
        "n_kept": planes.n_kept,
        "constants": list(planes.constants),
        "network": network,
        "layout": layout,
        "n_corrections": planes.n_corrections,
        "mask": common["mask"],
        "group_size": tensor.group_size,
        "method": elements.method if isinstance(elements, Bcq) else "",
        "stored_sha256": common["stored_sha256"],
        "content_sha256": tensor.content_sha256,
        **({} if tensor.field is None else {"field": tensor.field.get_config()}),
    }
