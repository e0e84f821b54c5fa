"""What reports on encoded and on plain checkpoints share."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Any

import numpy as np

from xorpack._version import __version__
from xorpack.analysis.accounting import Account, LeftOut
from xorpack.analysis.formats import TensorCounts
from xorpack.analysis.report.contents import Carried, Quality, TensorReport
from xorpack.checkpoint.settings import Progress
from xorpack.files import model
from xorpack.files.hessians import Hessians
from xorpack.files.safetensors_file import StoredTensor
from xorpack.tensors import as_matrix

SAMPLE_PART = 1 << 18
"""Weights of one tensor that a sample holds at least, where the tensor has as many."""

ENOUGH = 0.9
"""Share of the weights asked for that a sample of fewer tensors must hold."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a report is to hold beyond what reading the checkpoint gives, and who reads it.

    Attributes:
        path: how the checkpoint is called.
        pool: threads or workers, to which each tensor is a task.
        sample: weights to measure coders on, or None.
        n_maps: density maps.
        progress: told of every tensor that is done.
        against: the weights that an encoded checkpoint was made from, or None.
        stats: activations of its layers, or None.
        quality: of the model, measured, or None.
    """

    path: str
    pool: Executor
    sample: int | None = None
    n_maps: int = 0
    progress: Progress | None = None
    against: Mapping[str, StoredTensor] | None = None
    stats: Hessians | None = None
    quality: Quality | None = None

    def mapped(self, tensors: Sequence[TensorReport]) -> list[TensorReport]:
        """The tensors to make a map of: those whose masks lose most bits to being taken as i.i.d."""
        by_loss = sorted(tensors, key=lambda t: t.mask.best[1] - t.mask.iid)
        return [t for t in by_loss[: self.n_maps] if 0 < t.account.n_kept < t.account.n_weights]


def common(layout: model.CheckpointLayout, path: str) -> dict[str, Any]:
    """Fields of a report that follow from its files."""
    return {
        "path": path,
        "version": __version__,
        "n_files": len(layout.shards),
    }


def other_bytes(layout: model.CheckpointLayout) -> int:
    """Bytes of a directory's files that hold no tensors."""
    others = [layout.root / relative for relative in layout.tree.files]
    others += (layout.root / model.ORIGINALS).glob("*")
    if layout.weight_map is not None:
        others.append(layout.root / model.INDEX)
    return sum(path.stat().st_size for path in others)


def carried_tensors(
    tensors: Mapping[str, StoredTensor], left_out: Mapping[str, LeftOut] | None = None
) -> tuple[Carried, ...]:
    """Tensors that are kept as they are; ``left_out``: why."""
    why = {} if left_out is None else {name: found.why for name, found in left_out.items()}
    return tuple(
        Carried(name=name, dtype=t.dtype, shape=t.shape, n_bytes=t.n_bytes, why=why.get(name, ""))
        for name, t in tensors.items()
    )


def sample_parts(shapes: Mapping[str, tuple[int, ...]], n_weights: int) -> Iterator[tuple[str, int]]:
    """``(name, rows)``: the first rows of some tensors, spread over the checkpoint, ``n_weights`` in all."""
    sizes = {name: math.prod(shape) for name, shape in shapes.items() if math.prod(shape)}
    names = list(sizes)
    for n_parts in range(max(1, n_weights // SAMPLE_PART), len(names) + 1):
        at = np.unique(np.linspace(0, len(names) - 1, n_parts).round().astype(int))
        if sum(min(sizes[names[i]], n_weights // n_parts) for i in at) > ENOUGH * n_weights:
            break
    else:
        at, n_parts = np.arange(len(names)), len(names)
    for i in at:
        rows, cols = as_matrix(shapes[names[i]])
        yield names[i], min(rows, max(1, n_weights // n_parts // cols))


def counts_of(shape: tuple[int, ...], account: Account, value_bits: int) -> TensorCounts:
    """A tensor as formulas of other formats see it."""
    return TensorCounts(
        rows=as_matrix(shape)[0],
        n=account.n_weights,
        kept=account.n_kept,
        value_bits=value_bits,
        scale_bits=8 * account.scale_bytes,
        original_bits=8 * account.original_bytes // max(account.n_weights, 1),
        payload_bits=account.payload_bound_bits,
        mask_bits=account.mask_bound_bits,
    )
