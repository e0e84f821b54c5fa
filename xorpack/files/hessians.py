"""Files of Hessians: for each input of a model's linear layers the sum of ``x x^T``, and which layers it is of.

A plain safetensors file. Input KEY has ``KEY.hessian``, float32 (n, n), and ``KEY.rows``, uint32 (1,): how many ``x``
were seen. A layer's weight NAME may have ``NAME.gradients``, float32 (n_out,): the mean squared gradient of the text's
loss by each of its outputs, so that half of that times ``e H e^T`` is what errors e cost, in nats of all tokens. The
metadata's ``xorpack_hessians`` is JSON, ``{"layers": {NAME OF A WEIGHT: KEY}}``, with ``"version": 2`` in a guided
file: its matrices are weighed by gradients, and a fit to them weighs its outputs so, too.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xorpack.errors import DataError, FormatError
from xorpack.files import safetensors_file
from xorpack.files.safetensors_file import StoredTensor

KEY = "xorpack_hessians"

VERSIONS = (1, 2)
"""Not guided, guided."""


class Hessians(Mapping[str, NDArray[np.float32]]):
    """The Hessians of an open file by the name of a weight, read when they are asked for.

    Layers that saw no input are not in it.

    Attributes:
        path: of the file.
        source: of its bytes.
        guided: whether inputs, and what is fitted to them, are weighed by gradients.
    """

    def __init__(self, path: str | Path) -> None:
        """Open a file and check its header.

        Raises:
            FormatError: it is no file of Hessians, or malformed.
            OSError: it cannot be opened.
        """
        self.path = Path(path)
        file = safetensors_file.read(self.path)
        self._tensors = file.tensors
        layers, self.guided = self._parse(file.metadata)
        self.source = file.source
        for name, key in layers.items():
            matrix, rows = self._tensors.get(f"{key}.hessian"), self._tensors.get(f"{key}.rows")
            if matrix is None or rows is None:
                raise FormatError(f"{self.path}: no Hessian {key!r}, which {name!r} is said to have")
            if (matrix.dtype != "F32" or len(matrix.shape) != 2 or len(set(matrix.shape)) != 1) or (
                rows.dtype,
                rows.shape,
            ) != ("U32", (1,)):
                raise FormatError(f"{self.path}: Hessian {key!r} is {matrix.dtype} of shape {matrix.shape}")
        seen = {key: int(self._tensors[f"{key}.rows"].array()[0]) for key in set(layers.values())}
        for name in layers:
            found = self._tensors.get(f"{name}.gradients")
            if found is not None and (found.dtype != "F32" or len(found.shape) != 1):
                raise FormatError(
                    f"{self.path}: gradients of {name!r} are {found.dtype} of shape {found.shape}"
                )
        self._layers = {name: key for name, key in layers.items() if seen[key]}
        self._rows = seen

    def __getitem__(self, name: str) -> NDArray[np.float32]:
        found: NDArray[np.float32] = self._tensors[f"{self._layers[name]}.hessian"].array()
        return found

    def stored(self, name: str) -> StoredTensor | None:
        """A layer's Hessian as it stands in the file, not read; None if it saw no input."""
        return self._tensors[f"{self._layers[name]}.hessian"] if name in self._layers else None

    def outputs(self, name: str) -> NDArray[np.float32] | None:
        """What squared errors of each output count in a fit, (n_out,): the gradients, if guided; None if all alike.

        Of a layer that the loss does not feel they count alike, too.
        """
        found = self.gradients(name) if self.guided and name in self._layers else None
        return found if found is not None and found.any() else None

    def __iter__(self) -> Iterator[str]:
        return iter(self._layers)

    def __len__(self) -> int:
        return len(self._layers)

    def size(self, name: str) -> int:
        """Inputs of a layer."""
        return self._tensors[f"{self._layers[name]}.hessian"].shape[0]

    def key(self, name: str) -> str:
        """The input of a layer: layers of one key have the same Hessian."""
        return self._layers[name]

    def rows(self, name: str) -> int:
        """How many ``x`` were seen by a layer."""
        return self._rows[self._layers[name]]

    @property
    def n_tokens(self) -> int:
        """How many ``x`` the layer that saw most has seen: the tokens of the text."""
        return max(self._rows[key] for key in self._layers.values())

    def gradients(self, name: str) -> NDArray[np.float32] | None:
        """The mean squared gradient of the loss by each output of a layer, (n_out,), if it is known.

        Raises:
            DataError: it is NaN, infinite or negative.
        """
        stored = self._tensors.get(f"{name}.gradients")
        if stored is None:
            return None
        found: NDArray[np.float32] = stored.array()
        if not (np.isfinite(found) & (found >= 0)).all():
            raise DataError(f"{self.path}: gradients of {name!r} are NaN, infinite or negative")
        return found

    def _parse(self, metadata: Mapping[str, str]) -> tuple[dict[str, str], bool]:
        """Which input each layer has, and whether the file is guided."""
        if KEY not in metadata:
            raise FormatError(
                f"{self.path}: no file of Hessians: it has no {KEY}; xorpack calibrate writes them"
            )
        document = safetensors_file.parse_json(metadata[KEY])
        version = document.get("version", 1) if isinstance(document, dict) else 1
        if version not in VERSIONS:
            raise FormatError(f"{self.path}: {KEY} is of version {version}; this xorpack reads 1 and 2")
        layers = document.get("layers") if isinstance(document, dict) else None
        if not isinstance(layers, dict) or not all(isinstance(key, str) for key in layers.values()):
            raise FormatError(f"{self.path}: {KEY} does not map layers to inputs")
        return layers, version == VERSIONS[1]


class _Made(StoredTensor):
    """A tensor that is made when it is to be written."""

    __slots__ = ("_make",)

    def __init__(self, dtype: str, shape: tuple[int, ...], n_bytes: int, make: Any) -> None:
        self.dtype, self.shape, self.n_bytes, self._make = dtype, shape, n_bytes, make

    def blocks(self) -> Iterator[NDArray[np.uint8]]:
        """See :meth:`StoredTensor.blocks`."""
        yield np.ascontiguousarray(self._make()).reshape(-1).view(np.uint8)


def write(
    path: Path,
    layers: Mapping[str, str],
    sizes: Mapping[str, int],
    matrices: Iterator[tuple[str, NDArray[np.float32], int]],
    *,
    guided: bool = False,
    n_gradients: Mapping[str, int] = MappingProxyType({}),
    gradients: Callable[[str], NDArray[np.float32]] | None = None,
) -> None:
    """Write a file in place, a matrix at a time; callers make it atomic.

    Args:
        path: of the file.
        layers: the key of each layer's input, by the name of its weight.
        sizes: inputs of each key.
        matrices: key, matrix and rows of each, in the order of ``sizes``.
        guided: whether they are weighed by gradients.
        n_gradients: outputs of layers of which gradients are known, by the name of the weight.
        gradients: gives them, when all matrices are made.
    """
    rows: dict[str, int] = {}

    def matrix(key: str) -> NDArray[np.float32]:
        found, array, rows[key] = next(matrices)
        assert found == key, "the order of sizes"
        return array

    tensors: dict[str, StoredTensor] = {}
    for key, n in sizes.items():
        tensors[f"{key}.hessian"] = _Made("F32", (n, n), 4 * n * n, lambda key=key: matrix(key))
        tensors[f"{key}.rows"] = _Made("U32", (1,), 4, lambda key=key: np.array([rows[key]], np.uint32))
    for name, n in n_gradients.items():
        assert gradients is not None
        tensors[f"{name}.gradients"] = _Made("F32", (n,), 4 * n, lambda name=name: gradients(name))
    document = {"layers": dict(layers)} | ({"version": VERSIONS[1]} if guided else {})
    metadata = {KEY: json.dumps(document, separators=(",", ":"))}
    safetensors_file.write(path, tensors, safetensors_file.header_bytes(tensors, metadata))
