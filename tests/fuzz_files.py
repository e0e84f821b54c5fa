"""A fuzz target, run by ``make fuzz``: files that somebody made on purpose, with digests that are right.

Small files of every kind and codec are changed, in what their records say and in the bytes of their sections, and
signed again. Whatever comes of it, opening and decoding end in an XorpackError or in what the reference decoder gives
too: no other error, no index out of bounds (``NUMBA_BOUNDSCHECK=1``), and soon. ``FUZZ`` is the number of files.
"""

from __future__ import annotations

import json
import math
import os
import signal
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
from crafting import matrix, resign, trellis, unseal, write, write_trellis
from hypothesis import HealthCheck, event, given, note, settings
from hypothesis import strategies as st
from samples import bcq, fitted, halves, hostile, pruned

import xorpack
from xorpack.code.words import pack
from xorpack.decoders import cpu, reference
from xorpack.encoding.masks.bmf import factor
from xorpack.errors import XorpackError
from xorpack.files import container, safetensors_file
from xorpack.files.container import EncodedFile
from xorpack.files.safetensors_file import StoredTensor
from xorpack.tensors import DTYPES

EXAMPLES = int(os.environ.get("FUZZ", "1000"))
MAX_WEIGHTS = 1 << 16
"""Weights up to which a tensor is decoded: the reference takes its time."""

SECONDS = 60
ODD = [
    None,
    True,
    -1,
    0.5,
    "",
    "x",
    [],
    {},
    0,
    1,
    2,
    31,
    32,
    33,
    63,
    64,
    255,
    1 << 30,
    1 << 31,
    1 << 47,
    1 << 64,
]
NUDGES: list[Callable[[int], int]] = [
    lambda n: n + 1,
    lambda n: n - 1,
    lambda n: 2 * n,
    lambda n: n // 2,
    lambda n: n + 32,
    lambda n: -n,
]


ROWS: dict[str, Any] = {"scales": np.linspace(0.5, 2, 12, dtype=np.float32).reshape(12, 1)}
CODECS: tuple[Literal["bitmap", "cascade", "block"], ...] = ("bitmap", "cascade", "block")


@cache
def seeds() -> list[bytes]:
    """Files of every kind, codec, family and field, checked, so that all kernels are compiled."""
    found = []
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "x"
        found += [write(path, codec).read_bytes() for codec in CODECS]
        found += 3 * [write_trellis(path).read_bytes()]  # as often as the others
        mask = np.kron(np.eye(3, dtype=np.float32), np.ones((4, 14), np.float32))[:, :40]
        factors = factor(pack(mask != 0), 40, 3, 12, 64)
        tensors = [
            {"a": xorpack.encode(xorpack.quantize(mask, bits=2), mask_codec="bmf", factors=factors)},
            {"a": xorpack.encode(matrix(), field="always"), "b": xorpack.encode(hostile(np.int8)[:9, :40])},
            {"a": xorpack.encode(hostile(np.float16), field="always", mask_codec="block")},
            {"a": xorpack.encode(bcq((20, 70), 0.5, 3, group_size=16), mask_codec="block")},
            {
                "a": xorpack.encode(
                    fitted((20, 70), 0.5, 3, group_size=16), field="always", mask_codec="bitmap"
                )
            },
            {"a": xorpack.encode(fitted((20, 70), 0.8, 4), field="always", mask_codec="cascade")},
            {"a": xorpack.encode(bcq((20, 70), 0.9), network=xorpack.XorNetwork.dense(n_in=1, n_out=2))},
            {"a": xorpack.encode(bcq((20, 70), 0.9), network=xorpack.XorNetwork.sparse(n_in=2, n_out=3))},
            {"a": xorpack.encode(bcq((20, 70), 0.5, 3, group_size=16), payload="packed")},
            {"a": xorpack.encode(hostile(np.float16), payload="packed", mask_codec="huffman")},
            {"a": xorpack.encode(trellis(), mask_codec="block"), "b": xorpack.encode(bcq((20, 70), 0.9))},
            {
                "a": xorpack.encode(
                    replace(trellis(), dtype="F16", mask=None, gains=None, group_size=0, **ROWS)
                )
            },
            {
                "a": xorpack.encode(halves((12, 40)), field="always"),
                "b": xorpack.encode(halves((9, 50), np.uint16, 0.3), mask_codec="block"),
            },
            {"a": xorpack.encode(pruned((30, 40), 0.0)), "b": xorpack.encode(np.zeros((0, 5), np.uint8))},
        ]
        for encoded in tensors:
            container.write(path, encoded, {"carried": StoredTensor.of(np.arange(3, dtype=np.float32))})
            found.append(path.read_bytes())
        for seed in found:
            path.write_bytes(seed)
            check(path)
            assert xorpack.verify_checkpoint(path).n_tensors
    return found


def places(value: Any) -> Iterator[tuple[Any, Any]]:
    """Every member of a JSON value: the object or array that holds it, and its key."""
    members = (
        value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    )
    for key, member in list(members):
        yield value, key
        yield from places(member)


def change_document(data: st.DataObject, document: dict[str, Any]) -> None:
    """One member is removed, replaced or nudged; mostly of a record, for the rest is soon refused."""
    found = list(places(document["tensors"])) if data.draw(st.integers(0, 9)) else list(places(document))
    holder, key = found[data.draw(st.integers(0, len(found) - 1))]
    value = holder[key]
    if type(value) is int and data.draw(st.integers(0, 4)):
        holder[key] = data.draw(st.sampled_from(NUDGES))(value)
    elif data.draw(st.integers(0, 9)):
        holder[key] = data.draw(st.sampled_from(ODD))
    else:
        del holder[key]
    note(f"{key}: {value!r} -> {holder.get(key) if isinstance(holder, dict) else holder}")


def change_section(data: st.DataObject, tensors: dict[str, StoredTensor]) -> None:
    """Bytes of one section are overwritten, or it becomes longer or shorter along an axis."""
    name = data.draw(st.sampled_from(sorted(tensors)))
    stored = tensors[name]
    octets, shape = stored.data.copy(), list(stored.shape)
    if data.draw(st.integers(0, 3)) and octets.size:
        for _ in range(data.draw(st.integers(1, 4))):
            octets[data.draw(st.integers(0, octets.size - 1))] = data.draw(st.integers(0, 255))
    elif shape:
        axis = data.draw(st.integers(0, len(shape) - 1))
        shape[axis] = max(0, shape[axis] + data.draw(st.sampled_from([-8, -1, 1, 2, 8, 64])))
        n_bytes = math.prod(shape) * safetensors_file.ITEM_BITS[stored.dtype] // 8
        octets = np.resize(octets, n_bytes) if octets.size else np.zeros(n_bytes, np.uint8)
    note(f"{name}: {stored.shape} -> {shape}")
    tensors[name] = StoredTensor(stored.dtype, tuple(shape), octets)


@contextmanager
def limit(seconds: int) -> Iterator[None]:
    """Fail after ``seconds``."""

    def late(number: int, frame: object) -> None:
        raise TimeoutError(f"more than {seconds} s")

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def outcome(call: Callable[[], Any]) -> bytes | None:
    """What a call gives, as bytes; None for an error that it should raise."""
    try:
        return np.ascontiguousarray(call()).tobytes()
    except XorpackError:
        return None


def check(path: Path) -> None:
    """Open and decode a file in every way; anything but an XorpackError or the right result is an error."""
    try:
        file = EncodedFile(path)
        names = [name for name in file if file[name].n_weights <= MAX_WEIGHTS]
    except XorpackError:
        event("refused when opened")
        return
    for name in names:
        tensor = file[name]
        whole = outcome(lambda t=tensor: cpu.decode_dense(t))
        blocks = outcome(
            lambda t=tensor: np.concatenate(
                [np.zeros((0, t.cols // t.octets), DTYPES[t.dtype]), *cpu.decode_blocks(t)]
            )
        )
        event("refused when decoded" if whole is None else "decoded")
        assert whole == blocks, name
        assert whole is None or whole == outcome(lambda t=tensor: reference.decode_dense(t)), name
    if len(names) == len(file):
        with suppress(XorpackError):
            xorpack.verify_checkpoint(path)
        with suppress(XorpackError):
            json.dumps(xorpack.open(path).info())


@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.data())
def test_crafted_files(data: st.DataObject) -> None:
    def edit(document: dict[str, Any], tensors: dict[str, StoredTensor]) -> None:
        for _ in range(data.draw(st.integers(1, 3))):
            if data.draw(st.integers(0, 3)) == 0:  # most of these are refused at once
                change_document(data, document)
            else:
                change_section(data, tensors)

    seed = data.draw(st.sampled_from(seeds()))
    with tempfile.TemporaryDirectory() as folder, limit(SECONDS):
        path = Path(folder) / "x.safetensors"
        path.write_bytes(seed)
        try:
            resign(path, edit)
            if data.draw(st.integers(0, 7)) == 0:
                unseal(path)
        except (XorpackError, ValueError, KeyError, TypeError):
            return  # no such file can be written
        check(path)
