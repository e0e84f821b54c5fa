"""Tensors that are cut for tensor parallelism: each piece is a tensor of its own, named after the whole.

``NAME.rows0of2`` is the first half of the rows of ``NAME``, ``NAME.cols1of2`` the second half of its columns.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xorpack.errors import FormatError, ParameterError
from xorpack.files.safetensors_file import StoredTensor

AXES = ("rows", "cols")

_PIECE = re.compile(rf"(.+)\.({'|'.join(AXES)})(0|[1-9]\d{{0,3}})of([1-9]\d{{0,3}})")


@dataclass(frozen=True, slots=True)
class Cut:
    """Which piece of a matrix something is.

    Attributes:
        axis: that was cut.
        index: of the piece.
        n: pieces of the whole.
    """

    axis: int
    index: int
    n: int

    @property
    def suffix(self) -> str:
        """What follows the dot behind the whole's name."""
        return f"{AXES[self.axis]}{self.index}of{self.n}"

    def of(self, array: Any) -> Any:
        """The piece of a matrix, of numpy or PyTorch, whose size is a multiple of ``n``."""
        size = array.shape[self.axis] // self.n
        part = slice(self.index * size, (self.index + 1) * size)
        return array[part] if self.axis == 0 else array[:, part]


def parse(name: str) -> tuple[str, Cut | None]:
    """The name of the whole, and which piece of it a tensor is; the name itself and None of one that was not cut.

    >>> parse("a.weight.cols1of2")
    ('a.weight', Cut(axis=1, index=1, n=2))
    """
    found = _PIECE.fullmatch(name)
    if found is None or int(found[3]) >= int(found[4]):
        return name, None
    return found[1], Cut(AXES.index(found[2]), int(found[3]), int(found[4]))


class Piece(StoredTensor):
    """A piece of a matrix that stands in a file as a whole; read when it is asked for."""

    __slots__ = ("_cut", "_whole")

    def __init__(self, name: str, whole: StoredTensor, cut: Cut) -> None:
        """``name``: of the whole, for messages.

        Raises:
            ParameterError: it is no matrix, or its size is no multiple.
        """
        if len(whole.shape) != 2:
            raise ParameterError(
                f"tensor {name!r} of shape {list(whole.shape)} cannot be cut: it is no matrix"
            )
        if whole.shape[cut.axis] % cut.n or not whole.shape[cut.axis]:
            raise ParameterError(
                f"tensor {name!r}: {whole.shape[cut.axis]} {AXES[cut.axis]} cannot be cut into {cut.n} pieces"
            )
        shape = list(whole.shape)
        shape[cut.axis] //= cut.n
        self.dtype, self.shape, self.n_bytes = whole.dtype, (shape[0], shape[1]), whole.n_bytes // cut.n
        self._whole, self._cut = whole, cut

    @property
    def data(self) -> NDArray[np.uint8]:
        """See :meth:`StoredTensor.data`."""
        return np.ascontiguousarray(self._cut.of(self._whole.array())).reshape(-1).view(np.uint8)

    def part(self, begin: int, end: int) -> NDArray[np.uint8]:
        """See :meth:`StoredTensor.part`."""
        return self.data[begin:end]


def cut(name: str, whole: StoredTensor, axis: int, n: int) -> dict[str, StoredTensor]:
    """All pieces of a matrix by name; errors as of :class:`Piece`."""
    cuts = [Cut(axis, index, n) for index in range(n)]
    return {f"{name}.{one.suffix}": Piece(name, whole, one) for one in cuts}


def cut_as(
    names: Mapping[str, object] | set[str], wholes: Mapping[str, StoredTensor]
) -> dict[str, StoredTensor]:
    """``wholes``, and in the place of those of which ``names`` are pieces, these.

    Raises:
        ParameterError: one has not the size.
    """
    found = dict(wholes)
    for name in sorted(names):
        base, one = parse(name)
        if one is not None and base in wholes:
            found.pop(base, None)
            found[name] = Piece(base, wholes[base], one)
    return found


Shapes = dict[str, tuple[str, tuple[int, ...]]]


def join_shapes(tensors: Shapes) -> Shapes:
    """Types and shapes of tensors with wholes in the place of pieces, each where its first piece stood.

    Raises:
        FormatError: pieces are missing, or do not fit.
    """
    return {
        base: _shape(base, [tensors[name] for name in names], parse(names[0])[1])
        for base, names in wholes(tensors).items()
    }


def join(tensors: Mapping[str, StoredTensor]) -> dict[str, StoredTensor]:
    """The same of tensors themselves."""
    found: dict[str, StoredTensor] = {}
    for base, names in wholes(tensors).items():
        parts, one = [tensors[name] for name in names], parse(names[0])[1]
        _shape(base, [(part.dtype, part.shape) for part in parts], one)
        arrays = [part.array() for part in parts] if one else []
        found[base] = StoredTensor.of(np.concatenate(arrays, axis=one.axis)) if one else parts[0]
    return found


def wholes(names: Iterable[str]) -> dict[str, list[str]]:
    """By the name of a whole, those of its pieces in their order; its own of one that is not cut.

    Raises:
        FormatError: pieces are missing, or one too many.
    """
    found: dict[str, dict[str, Cut | None]] = {}
    for name in names:
        base, one = parse(name)
        found.setdefault(base, {})[name] = one
    return {base: _in_order(base, pieces) for base, pieces in found.items()}


def _in_order(base: str, pieces: Mapping[str, Cut | None]) -> list[str]:
    first = next(iter(pieces.values()))
    needed = [base] if first is None else [f"{base}.{replace(first, index=i).suffix}" for i in range(first.n)]
    if set(needed) != set(pieces):
        raise FormatError(f"tensor {base!r} is made of {sorted(pieces)}, not of {needed}")
    return needed


def _shape(
    base: str, parts: Sequence[tuple[str, tuple[int, ...]]], one: Cut | None
) -> tuple[str, tuple[int, ...]]:
    dtype, shape = parts[0]
    if one is None:
        return dtype, shape
    if len(shape) != 2 or any(part != parts[0] for part in parts):
        raise FormatError(
            f"tensor {base!r}: its pieces are {', '.join(f'{kind} {list(size)}' for kind, size in parts)}"
        )
    rows, cols = shape
    return dtype, (rows * one.n, cols) if one.axis == 0 else (rows, cols * one.n)
