"""The tensor of a record and its sections: the way back from what :mod:`xorpack.files.record` writes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xorpack import masks
from xorpack.code.layout import Layout
from xorpack.code.network import XorNetwork
from xorpack.code.packed import FAMILY, PackedPlanes
from xorpack.code.planes import CodedPlanes, StoredPlanes, TrellisPlanes
from xorpack.code.trellis import TrellisNetwork
from xorpack.elements import Bcq, Elements, Lossless, Trellis, octets
from xorpack.encoded import PLANES, SECTIONS, EncodedTensor, check_shape, sections_sha256
from xorpack.errors import CorruptError, FormatError, XorpackError
from xorpack.fields.field import Field
from xorpack.fields.signs import SignField
from xorpack.files import safetensors_file
from xorpack.files.record import (
    LAYOUT,
    NEWER,
    PACKED_VERSION,
    PLANES_VERSION,
    RECORD,
    TRELLIS_VERSION,
    TURNED_VERSION,
    VERSION,
    Record,
    check_record,
    sections_of,
    unpack_record,
)
from xorpack.files.safetensors_file import StoredTensor

_DTYPES = {"code": ("U32",), "scales": ("U8", "F16", "F32"), "gains": ("F16",)}
"""Types of the sections that are not bytes."""

_LARGEST = float(np.finfo(np.float32).max)


def build(
    record: Record,
    name: str,
    sections: Mapping[str, StoredTensor],
    version: int,
    load: Callable[[StoredTensor], NDArray[Any]] = StoredTensor.array,
) -> EncodedTensor:
    """The tensor ``name`` of a record that :func:`check_record` has seen.

    Args:
        record: of the tensor.
        name: of the tensor.
        sections: what stands in the file, by name there.
        version: of the file.
        load: the array of a section.

    Raises:
        FormatError, ParameterError: something breaks a rule.
    """
    shape, mask = record["shape"], record["mask"]
    if len(shape) > safetensors_file.MAX_RANK or not all(_is_size(size) for size in shape):
        raise FormatError(f"shape {shape} is not a list of sizes")
    if set(mask) != {"codec", "config"} or not isinstance(mask["config"], dict):
        raise FormatError("mask needs codec and config")
    known = (Bcq.KIND, Lossless.KIND, *([Trellis.KIND] if version >= TRELLIS_VERSION else []))
    if record["kind"] not in known:
        raise FormatError(f"unknown kind {record['kind']!r}; known: {', '.join(known)}{NEWER}")
    of_planes = record["content_sha256"].startswith(PLANES)
    if of_planes and (version < PLANES_VERSION or record["kind"] != Bcq.KIND):
        raise FormatError(f"content_sha256 of planes, of kind {record['kind']!r} in version {version}")
    found = _load(record, name, sections, version, load)
    rows, cols = check_shape(tuple(shape), octets(record["kind"], record["dtype"], record.get("bits", 0)))
    planes: StoredPlanes | TrellisPlanes
    if record["kind"] == Trellis.KIND:
        network = TrellisNetwork.from_config(record["network"])
        planes = TrellisPlanes(
            network=network, shape=(rows, cols), n_kept=record["n_kept"], code=found["code"]
        )
    else:
        planes = _stored_planes(record, found, rows, cols, version)
    return EncodedTensor(
        shape=tuple(shape),
        dtype=record["dtype"],
        planes=planes,
        mask=masks.parse(mask["codec"], mask["config"], found["mask"], planes.host),
        elements=_elements(record, found, planes),
        content_sha256=record["content_sha256"],
        stored_sha256=record["stored_sha256"],
    )


def check_stored(tensor: EncodedTensor) -> None:
    """Look into the arrays of a tensor.

    Raises:
        CorruptError: their bytes do not match the record's checksum.
        FormatError: a value is none that it may be.
    """
    if sections_sha256(tensor.sections()) != tensor.stored_sha256:
        raise CorruptError("stored bytes do not match their checksum")
    tensor.elements.check_values()


def from_sections(
    record: Mapping[str, Any] | bytes | NDArray[np.uint8],
    arrays: Mapping[str, NDArray[Any]],
    *,
    name: str = "",
    verify: bool = True,
) -> EncodedTensor:
    """An encoded tensor from the arrays that stand for it in a file, however they were read.

    Args:
        record: the bytes of ``NAME.xor_record``; or a record without its digest, a dict.
        arrays: ``NAME.xor_code`` under ``"code"``, and so on for every other section. They are kept, not copied.
        name: of the tensor, for messages.
        verify: look into the arrays: compare them with the record's checksum, check their values.

    Raises:
        FormatError: the record, or an array's type or shape or value, breaks a rule; an array is missing or one too
            many.
        CorruptError: record or arrays do not match their checksums.
    """
    try:
        if unknown := sorted(set(arrays) - {*SECTIONS}):
            raise FormatError(
                f"unknown sections {', '.join(map(repr, unknown))}; known: {', '.join(SECTIONS)}"
            )
        for section, array in dict[str, Any](arrays).items():
            if not isinstance(array, np.ndarray) or array.dtype not in safetensors_file.NUMPY.values():
                kind = getattr(array, "dtype", type(array).__name__)
                raise FormatError(f"section {section!r} is an array of {kind}, which no section is")
        read: Any = dict(record) if isinstance(record, Mapping) else unpack_record(_as_bytes(record))
        stored = {f"{name}.xor_{section}": StoredTensor.of(array) for section, array in arrays.items()}
        tensor = build(check_record(read, VERSION), name, stored, VERSION)
        if verify:
            check_stored(tensor)
    except XorpackError as error:
        kind = CorruptError if isinstance(error, CorruptError) else FormatError
        raise kind(f"tensor {name!r}: {error}") from None
    return tensor


def _as_bytes(record: Any) -> NDArray[np.uint8]:
    if isinstance(record, np.ndarray) and record.dtype == np.uint8 and record.ndim == 1:
        return record
    if not isinstance(record, bytes):
        raise FormatError(f"record is not a dict, bytes or an array of bytes but {type(record).__name__}")
    return np.frombuffer(record, np.uint8)


def _is_size(value: Any) -> bool:
    return type(value) is int and 0 <= value < 1 << 48


def _load(
    record: Record,
    name: str,
    sections: Mapping[str, StoredTensor],
    version: int,
    load: Callable[[StoredTensor], NDArray[Any]],
) -> dict[str, NDArray[Any]]:
    """The sections that the record's kind has, of the right types; none too many."""
    found = {}
    for section in sections_of(version):
        if section == RECORD:
            continue
        key = f"{name}.xor_{section}"
        owner = _owner(record, section)
        if key in sections and owner is not None:
            raise FormatError(f"section {key!r} does not belong to {owner}")
        if key not in sections and owner is None and section != "gains":
            raise FormatError(f"section {key!r} is missing")
        if key not in sections:
            continue
        stored = sections[key]
        known = _DTYPES.get(section, ("U8",))
        if stored.dtype not in known:
            raise FormatError(
                f"section {key!r} is {stored.dtype} of shape {stored.shape}, not {' or '.join(known)}: a tool cast it; "
                f"copy it anew"
            )
        if known == ("U8",) and len(stored.shape) != 1:
            raise FormatError(f"section {key!r} is {stored.dtype} of shape {stored.shape}")
        try:
            found[section] = load(stored)
        except FormatError as error:
            raise FormatError(f"section {key!r}: {error}") from None
    return found


def _owner(record: Record, section: str) -> str | None:
    """What a section cannot belong to; None if the record may have one."""
    kind = record["kind"]
    trellis = kind == Trellis.KIND
    if (section == "scales" and kind == Lossless.KIND) or (section in ("gains", "outliers") and not trellis):
        return f"kind {kind!r}"
    if section == "corrections" and trellis:
        return f"kind {kind!r}"
    if section == "outliers" and not record["n_outliers"]:
        return "a record without outliers"
    if section == "starts" and (trellis or record["network"].get("family") != FAMILY):
        return "a record whose bits are not packed"
    return "a record without a field" if section == "field" and "field" not in record else None


def _stored_planes(
    record: Record, found: Mapping[str, NDArray[Any]], rows: int, cols: int, version: int
) -> StoredPlanes:
    network, layout, constants = record["network"], record["layout"], record["constants"]
    if len(constants) != 2 or not all(type(value) is int and 0 <= value < 1 << 64 for value in constants):
        raise FormatError(f"constants {constants} are not two sets of planes")
    packed = version >= PACKED_VERSION and network.get("family") == FAMILY
    needed = ("panel_rows",) if packed else LAYOUT
    if set(layout) != set(needed) or not all(_is_size(x) for x in layout.values()):
        raise FormatError(f"layout {layout} needs {', '.join(needed)}")
    coded: CodedPlanes | PackedPlanes
    if packed:
        if len(network) > 1:
            raise FormatError(f"packed bits have no parameters, but network is {network}")
        coded = PackedPlanes(
            shape=(rows, cols),
            n_kept=record["n_kept"],
            panel_rows=layout["panel_rows"],
            starts=found["starts"],
            code=found["code"],
        )
    else:
        if version < TURNED_VERSION and network.get("family") == "turned":
            raise FormatError(
                f"network family 'turned' in a file of version {version}, before {TURNED_VERSION}"
            )
        coded = CodedPlanes(
            network=XorNetwork.from_config(network),
            layout=Layout(rows=rows, cols=cols, **layout),
            code=found["code"],
        )
    return StoredPlanes(
        bits=record["bits"],
        n_kept=record["n_kept"],
        coded=coded,
        constants=(constants[0], constants[1]),
        n_corrections=record["n_corrections"],
        corrections=found["corrections"],
    )


def _elements(
    record: Record, found: Mapping[str, NDArray[Any]], planes: StoredPlanes | TrellisPlanes
) -> Elements:
    if record["kind"] == Trellis.KIND:
        return Trellis(
            a=_alphas(record["a"]),
            scales=found["scales"],
            group_size=record["group_size"],
            gains=found.get("gains"),
            n_outliers=record["n_outliers"],
            outliers=found.get("outliers", np.zeros(0, np.uint8)),
        )
    if record["kind"] == Bcq.KIND:
        field = None
        if "field" in record:
            assert isinstance(planes, StoredPlanes)
            if not isinstance(planes.coded, CodedPlanes):
                raise FormatError("a field of binary codes whose bits are packed")
            field = SignField.from_config(record["field"], found["field"], planes.bits, planes.coded)
        return Bcq(
            scales=found["scales"], group_size=record["group_size"], method=record["method"], field=field
        )
    if record["group_size"]:
        raise FormatError(f"group_size {record['group_size']} of kind lossless")
    if "field" not in record:
        return Lossless()
    return Lossless(field=Field.from_config(record["field"], found["field"], *planes.shape))


def _alphas(values: list[Any]) -> NDArray[np.float32]:
    """Numbers of a record as float32.

    Raises:
        FormatError: one is no number, or float32 has no such number.
    """
    for i, value in enumerate(values):
        if type(value) not in (int, float) or not abs(value) <= _LARGEST or float(np.float32(value)) != value:
            raise FormatError(f"a[{i}] = {value!r} is not a float32 number")
    return np.array(values, np.float32)
