"""A safetensors file that is written by many: first its header and its size, then each tensor by whoever has it."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from xorpack.files import safetensors_file
from xorpack.files.safetensors_file import ITEM_BITS, StoredTensor


class _Unwritten(StoredTensor):
    """A tensor of which nothing is known but type and shape."""

    __slots__ = ()

    def __init__(self, dtype: str, shape: tuple[int, ...]) -> None:
        self.dtype, self.shape, self.n_bytes = dtype, shape, math.prod(shape) * ITEM_BITS[dtype] // 8


def reserve(
    path: Path,
    tensors: Mapping[str, tuple[str, tuple[int, ...]]],
    metadata: Mapping[str, str],
    header: bytes | None = None,
) -> dict[str, int]:
    """Write a file in place, with holes in the place of its tensors.

    Args:
        path: of the file.
        tensors: type and shape of each, in the order of their bytes.
        metadata: of the file.
        header: that of these tensors, if it is not the one that :func:`safetensors_file.header_bytes` makes.

    Returns:
        where each tensor begins, by name.
    """
    unwritten = {name: _Unwritten(dtype, shape) for name, (dtype, shape) in tensors.items()}
    header = header or safetensors_file.header_bytes(unwritten, metadata)
    at, places = 8 + len(header), dict[str, int]()
    for name, tensor in unwritten.items():
        places[name], at = at, at + tensor.n_bytes
    with open(path, "wb") as file:
        file.write(len(header).to_bytes(8, "little") + header)
        file.truncate(at)
    return places


def fill(path: Path, begin: int, blocks: Iterable[NDArray[Any]]) -> None:
    """Write a tensor's bytes, flat uint8, from ``begin`` on; meanwhile others may be written, on other machines too."""
    file = os.open(
        path, os.O_WRONLY | os.O_CLOEXEC
    )  # not for reading: NFS would write whole pages, the others' too
    try:
        for block in blocks:
            at = 0
            while at < block.size:
                at += os.pwrite(file, block.data[at:], begin + at)
            begin += block.size
    finally:
        os.close(file)
