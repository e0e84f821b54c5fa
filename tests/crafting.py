"""Small files with every section, and ways to make them say something else under digests that are right."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
from samples import with_digest_of_weights

import xorpack
from xorpack.code.network import XorNetwork
from xorpack.code.trellis import TrellisNetwork
from xorpack.code.words import pack, tail_mask
from xorpack.encoded import SECTIONS
from xorpack.errors import FormatError
from xorpack.files import container, safetensors_file
from xorpack.files.container import EncodedFile
from xorpack.files.record import pack_record, unpack_record
from xorpack.files.safetensors_file import StoredTensor
from xorpack.tensors import TrellisTensor

Edit = Callable[[dict[str, Any], dict[str, StoredTensor]], None]
NAME, CARRIED, PLAIN = "a.weight", "a.bias", "b.weight"

HUGE = 1 << 70
ODD: list[Any] = [None, True, -1, 0.5, 1e400, HUGE, 10**4000, "", "x", [], [1], {}, {"a": 1}]
"""JSON that stands where something else should."""


def matrix() -> np.ndarray[Any, Any]:
    """Integers 3 apart, two of three pruned: no symmetry."""
    values = np.arange(12 * 40, dtype=np.int64) * 37 % 251 * 0.5
    values[values % 1.5 != 0] = 0
    return values.reshape(12, 40).astype(np.float32)


def write(path: Path, mask_codec: Literal["bitmap", "cascade", "block"] = "bitmap") -> Path:
    """A file of version 1 with every section: 60 corrections or so, a mask, scales; a lossless and a carried tensor."""
    quantized = xorpack.quantize(matrix(), bits=2)
    network = XorNetwork.quasi_cyclic(window=4, n_rows=5)
    encoded = {
        NAME: xorpack.encode(quantized, network=network, rate=0.15, lanes=2, mask_codec=mask_codec),
        PLAIN: xorpack.encode(matrix()[:3, :7].astype(np.int8)),
    }
    carried = {CARRIED: StoredTensor.of(np.arange(5, dtype=np.float32))}
    encoded[NAME] = with_digest_of_weights(encoded[NAME])
    container.write(path, encoded, carried, metadata={"format": "pt"}, version=1)
    return path


def trellis() -> TrellisTensor:
    """12 x 40 weights at 3/2 bits, with a mask, gains, groups and outliers, chosen for nothing."""
    rng = np.random.default_rng(5)
    kept = rng.random((12, 40)) < 0.7
    taps = tuple(tuple(row) for row in rng.integers(1, 1 << 9, (2, 3)).tolist())
    positions = np.flatnonzero(kept)[[3, 40, 41, 200]]
    return TrellisTensor(
        shape=(12, 40),
        dtype="F32",
        network=TrellisNetwork(n_in=3, n_out=2, window=9, taps=taps),
        code=rng.integers(0, 1 << 32, (18, 2), dtype=np.uint32) & tail_mask(40),
        a=np.array([1.5, -0.7, 0.3], np.float32),
        scales=(rng.random((12, 2)) + 0.5).astype(np.float16),
        group_size=20,
        gains=(rng.random(40) + 0.5).astype(np.float16),
        mask=pack(kept),
        positions=positions,
        values=np.array([9, -8.5, 100, 7], np.float16),
    )


def write_trellis(path: Path) -> Path:
    """A file of version 3 with every section: a trellis tensor, a lossless one and a carried one."""
    encoded = {
        NAME: xorpack.encode(trellis(), mask_codec="bitmap"),
        PLAIN: xorpack.encode(matrix()[:3, :7].astype(np.int8)),
    }
    carried = {CARRIED: StoredTensor.of(np.arange(5, dtype=np.float32))}
    container.write(path, encoded, carried, metadata={"format": "pt"})
    return path


def resign(path: Path, edit: Edit) -> Path:
    """Rewrite a file with its document and its tensors edited and its digests made right again.

    Records stand in ``document["tensors"]``; they become sections where the document says version 3 or 4.
    """
    file = safetensors_file.read(path)
    tensors = {
        name: StoredTensor(t.dtype, t.shape, t.data.copy())
        for name, t in file.tensors.items()
    }  # fmt: skip
    document = json.loads(file.metadata[container.KEY])
    if "tensors" not in document:
        found = {key.removesuffix(".xor_record"): key for key in tensors if key.endswith(".xor_record")}
        document["tensors"] = {name: unpack_record(tensors[key].data) for name, key in found.items()}
    else:
        found = {}
    edit(document, tensors)
    records = document.get("tensors")
    for name, record in records.items() if isinstance(records, dict) else ():
        keys = [f"{name}.xor_{section}" for section in SECTIONS]
        if isinstance(record, dict) and len(str(record.get("stored_sha256"))) == 64:
            data = b"".join(tensors[key].data.tobytes() for key in keys if key in tensors)
            record["stored_sha256"] = hashlib.sha256(data).hexdigest()
        if document.get("version") in (3, 4) and isinstance(record, dict):
            tensors[f"{name}.xor_record"] = StoredTensor.of(pack_record(record))
        elif name in found:
            tensors.pop(found[name], None)
    if document.get("version") in (3, 4):
        document.pop("tensors", None)
    return sign(path, tensors, json.dumps(document), file.metadata)


def sign(path: Path, tensors: dict[str, StoredTensor], document: str, metadata: dict[str, str]) -> Path:
    full = {**metadata, container.KEY: document, container.DIGEST_KEY: "0" * 64}
    header = safetensors_file.header_bytes(tensors, full)
    digest = hashlib.sha256(header).hexdigest()
    path.unlink(missing_ok=True)
    field = f'"{container.DIGEST_KEY}":"%s"'
    safetensors_file.write(
        path, tensors, header.replace((field % ("0" * 64)).encode(), (field % digest).encode())
    )
    return path


def unseal(path: Path) -> Path:
    """Rewrite a file as tools do that know nothing of its document: they keep tensors, not metadata."""
    file = safetensors_file.read(path)
    tensors = {
        name: StoredTensor(t.dtype, t.shape, t.data.copy()) for name, t in sorted(file.tensors.items())
    }
    path.unlink()
    safetensors_file.write(path, tensors, safetensors_file.header_bytes(tensors, {}))
    return path


def refused(path: Path, edit: Edit, match: str | None = None) -> None:
    """Edit a file, see that it is refused in one line, and restore it."""
    before = path.read_bytes()
    resign(path, edit)
    with pytest.raises(FormatError, match=match) as caught:
        EncodedFile(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)
    path.write_bytes(before)


def record(document: dict[str, Any], name: str = NAME) -> dict[str, Any]:
    """The record of a tensor, for an edit."""
    found: dict[str, Any] = document["tensors"][name]
    return found
