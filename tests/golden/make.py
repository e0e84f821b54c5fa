"""The one writer of the golden files, which fix format version 1; see FORMAT.md.

``python tests/golden/make.py DIRECTORY`` writes all of them with their digests, and never over a file that
exists. Files that a release has read stay as they are: new cases go into new files.
Inputs come from an integer hash, so they are the same everywhere.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import xorpack
from xorpack import BCQTensor, EncodedTensor, XorNetwork, container, layout, words
from xorpack.safetensors_file import Stored
from xorpack.tensors import DTYPES, as_matrix, n_groups

DIGESTS = "SHA256.json"
UNSIGNED = {1: np.uint8, 2: np.uint16, 4: np.uint32}


def hashed(n: int, salt: int) -> NDArray[np.uint64]:
    """``n`` integers of 64 bits, by the finalizer of MurmurHash3."""
    h = np.arange(1, n + 1, dtype=np.uint64) * np.uint64(0xD1B54A32D192ED03) + np.uint64(salt * 2654435761)
    for factor in (0xFF51AFD7ED558CCD, 0xC4CEB9FE1A85EC53):
        h = (h ^ h >> np.uint64(33)) * np.uint64(factor)
    return h ^ h >> np.uint64(33)


def bcq(
    salt: int,
    shape: tuple[int, ...],
    bits: int,
    kept: int,
    dtype: str = "F32",
    group_size: int = 0,
    scales: NDArray[Any] | None = None,
) -> BCQTensor:
    """A quantized tensor that keeps ``kept`` of 1000 weights; kept ones crowd towards the last rows."""
    rows, cols = as_matrix(shape)
    lean = np.arange(1, rows + 1)[:, None] * 2 / (rows + 1) if 0 < kept < 1000 else 1
    mask = hashed(rows * cols, salt).reshape(rows, cols) % 1000 < lean * kept
    signs = hashed(bits * rows * cols, salt + 1).reshape(bits, rows, cols) >> np.uint64(63) != 0
    if scales is None:
        size = rows * n_groups(cols, group_size) * bits
        scales = ((hashed(size, salt + 2) % 1021 + 3) / 256).astype(np.float16)
    scales = scales.reshape(rows, n_groups(cols, group_size), bits)
    packed = words.pack(mask)
    return BCQTensor(
        shape=shape,
        dtype=dtype,
        mask=packed,
        planes=words.pack(signs) & packed,
        scales=scales,
        group_size=group_size,
        method="golden",
    )


def plain(salt: int, shape: tuple[int, ...], kept: int, dtype: str) -> NDArray[Any]:
    """Any bits, NaN payloads among them, of which ``kept`` of 1000 elements are not zero; never all zeros."""
    unsigned = UNSIGNED[DTYPES[dtype].itemsize]
    n = int(np.prod(shape))
    whole = hashed(n, salt).astype(unsigned) | unsigned(1)
    special = {
        "F32": [0x80000000, 1, 0x7F800000, 0xFF800000, 0x7FC00001, 0xFFA12345, 0x807FFFFF, 0x3F800000],
        "F16": [0x8000, 1, 0x7C00, 0xFC00, 0x7E01, 0xFD23, 0x83FF, 0x3C00],
        "BF16": [0x8000, 1, 0x7F80, 0xFF80, 0x7FC1, 0xFFA1, 0x807F, 0x3F80],
        "I8": [0x80, 0x7F, 0xFF],
        "U8": [0xFF, 0x80, 1],
    }[dtype]
    whole[hashed(n, salt + 1) % 1000 >= kept] = 0
    whole[3 : 3 + 2 * len(special) : 2] = special
    return whole.view(DTYPES[dtype]).reshape(shape)


def odd_scales() -> NDArray[np.float32]:
    """Scales of 3 rows, 2 groups, 4 planes: overflow of F16, ties, subnormals, negative ones, -0."""
    big = [65504, 20, 3.0e38, 2.5e38, 1.0e-40, 3.0e-42, 1, 2**-24]
    signed = [-0.0, 0.0, -0.0, 0, 1 + 2**-8, -3, 2**-9, 0.1]
    small = [1024.5, 0.25, 0.125, 1 / 3, 6.0e-8, 2.0e-8, 7.7e-6, 5.0e-5]
    return np.array([*big, *signed, *small], np.float32)


@dataclass
class Case:
    """One file: inputs, encoded tensors, carried ones."""

    inputs: dict[str, BCQTensor | NDArray[Any]] = field(default_factory=dict)
    encoded: dict[str, EncodedTensor] = field(default_factory=dict)
    carried: dict[str, Stored] = field(default_factory=dict)
    order: list[str] | None = None
    metadata: dict[str, str] = field(default_factory=dict)
    settings: dict[str, Any] = field(default_factory=dict)

    def add(self, name: str, tensor: BCQTensor | NDArray[Any], **how: Any) -> None:
        """Encode a tensor."""
        self.inputs[name] = tensor
        self.encoded[name] = xorpack.encode(tensor, **how)

    def carry(self, salt: int, name: str, dtype: str, shape: tuple[int, ...], n_bytes: int) -> None:
        """Add a tensor that is carried."""
        data = hashed(n_bytes, salt).astype(np.uint8)
        self.carried[name] = Stored(dtype, shape, data & np.uint8(1) if dtype == "BOOL" else data)

    def write(self, path: Path) -> None:
        """Write the file."""
        container.write(
            path,
            self.encoded,
            self.carried,
            order=self.order,
            metadata=self.metadata,
            settings=self.settings,
        )

    def contents(self) -> dict[str, bytes]:
        """Bytes that decoding must give."""
        found = {name: stored.data.tobytes() for name, stored in self.carried.items()}
        for name, tensor in self.inputs.items():
            found[name] = (tensor.dequantize() if isinstance(tensor, BCQTensor) else tensor).tobytes()
        return found


@contextmanager
def rings_of(stored_words: int) -> Iterator[None]:
    """Cut tensors into segments far smaller than they usually are."""
    usual = layout.RING_CODE
    layout.RING_CODE = stored_words
    try:
        yield
    finally:
        layout.RING_CODE = usual


def quasi_cyclic(case: Case) -> None:
    """Lanes, turns, panels, segments; corrections and none; groups, dtypes, up to 8 planes."""
    network = XorNetwork.quasi_cyclic
    with rings_of(15):
        case.add("layer.0.wide", bcq(10, (9, 1051), 3, 200), network=network(), rate=0.19, lanes=4)
        case.add("layer.0.tall", bcq(20, (83, 70), 2, 350, "F16"), network=network(window=7, seed=9), lanes=2)
    case.add("layer.0.lanes", bcq(30, (5, 1056), 1, 500, group_size=100), network=network(), lanes=32)
    case.add("layer.0.warp", bcq(35, (14, 1024), 1, 700), network=network(window=3, n_rows=5), lanes=32)
    case.add("layer.0.repeats", bcq(38, (9, 64), 2, 500), network=network(window=1, n_taps=25, n_rows=3))
    case.add(
        "layer.1.few", bcq(40, (41, 17), 2, 300, "F16", 5), network=network(n_taps=3, n_rows=7), rate=0.5
    )
    case.add("layer.1.conv", bcq(50, (6, 5, 3, 3), 1, 600, "BF16", 13), network=network(n_rows=33), rate=1.0)
    case.add("layer.1.odd", bcq(60, (3, 75), 4, 900, "F16", 40, odd_scales()))
    case.add("layer.1.odd32", bcq(60, (3, 75), 4, 900, "F32", 40, odd_scales()))
    case.add("layer.1.odd16", bcq(60, (3, 75), 4, 900, "BF16", 40, odd_scales()))
    case.add("layer.2.eight", bcq(70, (5, 100), 8, 150, group_size=33), network=network(n_taps=9), rate=0.3)
    case.add("layer.2.wraps", bcq(80, (11, 45), 2, 100), network=network(window=50), rate=0.15, lanes=2)
    case.add("layer.2.default", bcq(90, (24, 96), 2, 100, group_size=128))
    case.add("vector", bcq(95, (77,), 4, 500, group_size=32))


def blocks(case: Case) -> None:
    """Dense, sparse and identity networks, by both encoders."""
    dense, sparse = XorNetwork.dense, XorNetwork.sparse
    with rings_of(25):
        case.add("dense", bcq(110, (13, 333), 2, 300), network=dense(n_in=3, n_out=9), lanes=3)
    case.add("dense.n_s", bcq(120, (12, 100), 3, 400, "BF16"), network=dense(n_in=2, n_out=5, n_s=7, seed=77))
    case.add("dense.thin", bcq(130, (9, 64), 1, 500), network=dense(n_in=2, n_out=9, seed=(1 << 64) - 59))
    case.add(
        "dense.viterbi",
        bcq(140, (7, 130), 2, 300),
        network=dense(n_in=4, n_out=11, n_s=1),
        encoder="viterbi",
        lanes=2,
    )
    case.add("sparse", bcq(150, (10, 97), 2, 500, "F16", 10), network=sparse(n_in=4, n_out=5))
    case.add("sparse.n_s", bcq(160, (8, 80), 1, 300), network=sparse(n_in=3, n_out=8, n_s=2, n_taps=7))
    case.add("identity", bcq(170, (6, 1060), 2, 970), network=XorNetwork.identity(), lanes=16)
    case.add("raw", bcq(180, (4, 260), 3, 999))


def extremes(case: Case) -> None:
    """Everything pruned, nothing pruned, no elements, a scalar."""
    case.add("nothing", bcq(210, (7, 50), 2, 1000, group_size=16))
    case.add("all", bcq(220, (7, 50), 2, 0))
    case.add("all.dense", bcq(230, (3, 33), 3, 0), network=XorNetwork.dense(n_in=2, n_out=3))
    for i, shape in enumerate([(0, 5), (5, 0), (0,), (), (1,), (2, 0, 3)]):
        name = "x".join(map(str, shape)) or "scalar"
        case.add(f"bcq.{name}", bcq(240 + 4 * i, shape, 2, 1000, group_size=3))
        array = (hashed(int(np.prod(shape)), 270 + i) % 251 + 1).astype(np.uint8).reshape(shape)
        case.add(f"lossless.{name}", array)
    case.add("zeros", np.zeros((3, 40), np.float32))
    case.add("ones", np.full((3, 40), -1, np.int8), network=XorNetwork.quasi_cyclic(), mask_codec="bitmap")


def lossless(dtype: str) -> Callable[[Case], None]:
    """Two tensors of one type: default, and a network that must correct."""

    def build(case: Case) -> None:
        salt = 300 + 10 * list(DTYPES).index(dtype)
        case.add("weight", plain(salt, (21, 45), 400, dtype))
        network = XorNetwork.quasi_cyclic(window=6, seed=salt)
        case.add("conv", plain(salt + 2, (4, 3, 5, 7), 300, dtype), network=network, rate=0.3, lanes=2)
        case.add("full", plain(salt + 4, (50,), 1000, dtype))

    return build


def carried(case: Case) -> None:
    """Carried tensors of other types, metadata, settings, an order of its own."""
    case.carry(400, "steps", "I64", (3, 1), 24)
    case.carry(401, "flags", "BOOL", (5,), 5)
    case.carry(402, "double", "F64", (), 8)
    case.carry(403, "half.bias", "F16", (7,), 14)
    case.carry(404, "float8", "F8_E4M3", (3, 3), 9)
    case.carry(405, "empty", "U16", (0, 4), 0)
    case.add("half.weight", bcq(410, (10, 40), 2, 300, "F16"))
    case.add("größe \"'\\ 重み", plain(420, (3, 3), 500, "I8"))
    case.order = [
        "flags",
        "half.weight",
        "half.bias",
        *list(case.encoded)[1:],
        "empty",
        "float8",
        "double",
        "steps",
    ]
    case.metadata = {"format": "pt", "note": 'ünïcode "quoted" \\ \n 重'}
    case.settings = {"bits": 2, "sparsity": None, "nested": {"a": [1, 2.5, "x"]}}


CASES: Mapping[str, Callable[[Case], None]] = {
    "quasi-cyclic": quasi_cyclic,
    "blocks": blocks,
    "extremes": extremes,
    **{f"lossless-{dtype}": lossless(dtype) for dtype in DTYPES},
    "carried": carried,
}


def build(directory: Path) -> None:
    """Write every golden file and the digests; FileExistsError where one exists."""
    digests: dict[str, Any] = {}
    for name, fill in CASES.items():
        path = directory / f"{name}.safetensors"
        path.touch(exist_ok=False)
        case = Case()
        fill(case)
        case.write(path)
        digests[path.name] = {
            "file": hashlib.sha256(path.read_bytes()).hexdigest(),
            "tensors": {k: hashlib.sha256(v).hexdigest() for k, v in case.contents().items()},
        }
    with open(directory / DIGESTS, "x", encoding="utf-8") as file:
        file.write(json.dumps(digests, indent=1) + "\n")


if __name__ == "__main__":
    build(Path(sys.argv[1]))
