"""Bytes that a tensor adds to a file, its part of the header included, to within a few."""

from __future__ import annotations

import json
from collections.abc import Mapping

from xorpack.encoded import EncodedTensor
from xorpack.files import safetensors_file
from xorpack.files.container import KEY
from xorpack.files.record import RECORD, pack_record, to_record
from xorpack.files.safetensors_file import StoredTensor


def encoded_bytes(name: str, tensor: EncodedTensor) -> int:
    """Those of an encoded tensor."""
    arrays = {**tensor.sections(), RECORD: pack_record(to_record(tensor))}
    return _bytes({f"{name}.xor_{section}": StoredTensor.of(array) for section, array in arrays.items()}, "")


def carried_bytes(name: str, stored: StoredTensor) -> int:
    """Those of a carried one."""
    return _bytes({name: stored}, json.dumps({name: "0" * 64}, separators=(",", ":")))


def _bytes(tensors: Mapping[str, StoredTensor], text: str) -> int:
    return len(safetensors_file.header_bytes(tensors, {KEY: text})) + sum(t.n_bytes for t in tensors.values())
