"""A small file with every section, and ways to make it say something else under digests that are right."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import numpy as np

import xorpack
from xorpack.code.network import XorNetwork
from xorpack.encoded import SECTIONS
from xorpack.files import container, safetensors_file
from xorpack.files.safetensors_file import Stored

Edit = Callable[[dict[str, Any], dict[str, Stored]], None]
NAME, CARRIED, PLAIN = "a.weight", "a.bias", "b.weight"


def matrix() -> np.ndarray[Any, Any]:
    """Integers 3 apart, two of three pruned: no symmetry."""
    values = np.arange(12 * 40, dtype=np.int64) * 37 % 251 * 0.5
    values[values % 1.5 != 0] = 0
    return values.reshape(12, 40).astype(np.float32)


def write(path: Path, mask_codec: Literal["bitmap", "cascade", "block"] = "bitmap") -> Path:
    """A file with every section: 60 corrections or so, a mask, scales; a lossless and a carried tensor."""
    quantized = xorpack.quantize(matrix(), bits=2)
    network = XorNetwork.quasi_cyclic(window=4, n_rows=5)
    encoded = {
        NAME: xorpack.encode(quantized, network=network, rate=0.15, lanes=2, mask_codec=mask_codec),
        PLAIN: xorpack.encode(matrix()[:3, :7].astype(np.int8)),
    }
    carried = {CARRIED: Stored.of(np.arange(5, dtype=np.float32))}
    container.write(path, encoded, carried, metadata={"format": "pt"})
    return path


def resign(path: Path, edit: Edit) -> Path:
    """Rewrite a file with its document and its tensors edited and its digests made right again."""
    file = safetensors_file.read(path)
    tensors = {
        name: Stored(t.dtype, t.shape, t.data.copy())
        for name, t in file.tensors.items()
    }  # fmt: skip
    document = json.loads(file.metadata[container.KEY])
    edit(document, tensors)
    records = document.get("tensors")
    for name, record in records.items() if isinstance(records, dict) else ():
        keys = [f"{name}.xor_{section}" for section in SECTIONS]
        if isinstance(record, dict) and len(str(record.get("stored_sha256"))) == 64:
            data = b"".join(tensors[key].data.tobytes() for key in keys if key in tensors)
            record["stored_sha256"] = hashlib.sha256(data).hexdigest()
    return sign(path, tensors, json.dumps(document), file.metadata)


def sign(path: Path, tensors: dict[str, Stored], document: str, metadata: dict[str, str]) -> Path:
    full = {**metadata, container.KEY: document, container.DIGEST_KEY: "0" * 64}
    header = safetensors_file.header_bytes(tensors, full)
    digest = hashlib.sha256(header).hexdigest()
    path.unlink(missing_ok=True)
    field = f'"{container.DIGEST_KEY}":"%s"'
    safetensors_file.write(
        path, tensors, header.replace((field % ("0" * 64)).encode(), (field % digest).encode())
    )
    return path
