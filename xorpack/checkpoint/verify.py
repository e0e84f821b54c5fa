"""Verify an encoded checkpoint: every checksum, every decoded tensor, and optionally against its source."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xorpack import checks
from xorpack.checkpoint.decode import decode_checked, is_cut
from xorpack.checkpoint.opened import Checkpoint
from xorpack.checkpoint.settings import Progress
from xorpack.checkpoint.source import plain_tensors
from xorpack.checkpoint.task import negative_zeros
from xorpack.errors import MismatchError
from xorpack.files import cuts, model
from xorpack.files.safetensors_file import StoredTensor


@dataclass(slots=True)
class VerifyReport:
    """What was found in order.

    Attributes:
        n_tensors, n_carried: encoded and carried tensors whose checksums hold.
        n_unchecked: carried tensors that have no checksums, those of the files in ``rewritten``; not in ``n_carried``.
        rewritten: files whose header another tool wrote, without what xorpack keeps there.
        n_identical: tensors, carried ones included, that equal the source's byte for byte.
        errors: relative error ``|w - w'| / |w|`` (Frobenius) of each quantized tensor that differs.
    """

    n_tensors: int = 0
    n_carried: int = 0
    n_unchecked: int = 0
    rewritten: tuple[Path, ...] = ()
    n_identical: int = 0
    errors: dict[str, float] = field(default_factory=dict)


def verify_checkpoint(
    path: str | Path,
    *,
    against: str | Path | None = None,
    jobs: int = 1,
    max_weights: int | None = None,
    progress: Progress | None = None,
) -> VerifyReport:
    """Check every byte of an encoded checkpoint, and compare it with a source if one is given.

    Carried and lossless tensors must equal the source's byte for byte (its -0.0 as +0.0 where the checkpoint was
    encoded with ``positive_zeros``); quantized ones must have its
    names, shapes and types and be 0 where it is 0, and their error is reported. ``max_weights``: see
    :func:`open_checkpoint`.

    Raises:
        FileNotFoundError, FormatError, CorruptError: the checkpoint is missing, malformed or damaged.
        MismatchError: it differs from the source.
    """
    checks.whole("jobs", jobs, 1)
    checkpoint = Checkpoint(path, max_weights=max_weights)
    source: dict[str, StoredTensor] | None = None
    if against is not None:
        files = model.find(Path(against)).open()
        source = plain_tensors(files)
        mine = {name for file in checkpoint.files for name in file.order}
        if any(map(is_cut, checkpoint.files)):
            source = cuts.cut_as(mine, source)
        if mine != set(source):
            raise MismatchError(f"only one of {path} and {against} has {sorted(mine ^ set(source))[:5]}")
    report = VerifyReport(rewritten=tuple(file.path for file in checkpoint.rewritten))
    positive_zeros = any(file.settings.get("positive_zeros") is True for file in checkpoint.files)

    def one(name: str) -> None:
        tensor = checkpoint[name]
        decoded = decode_checked(tensor, f"{checkpoint.path_of(name)}: tensor {name!r}")
        if source is not None:
            theirs = source[name]
            if positive_zeros and tensor.kind == "lossless":
                array = theirs.array().copy()
                array[negative_zeros(array)] = 0
                theirs = StoredTensor.of(array)
            pruned = tensor.n_kept < tensor.n_weights  # what keeps all weights may make anything of a zero
            _compare(name, decoded, theirs, tensor.kind == "lossless", report, pruned=pruned)
        if progress is not None:
            progress(name, tensor.n_weights, checkpoint.n_weights)

    with ThreadPoolExecutor(jobs) as pool:
        for _ in pool.map(one, checkpoint):
            report.n_tensors += 1
    for file in checkpoint.files:
        for name in file.carried:
            if source is None:
                file.check_carried(name, file.carried[name].sha256())
            else:
                _compare(name, file.load_carried(name), source[name], True, report)
            if file.sealed:
                report.n_carried += 1
            else:
                report.n_unchecked += 1
    return report


def _compare(
    name: str,
    mine: StoredTensor,
    theirs: StoredTensor,
    exact: bool,
    report: VerifyReport,
    *,
    pruned: bool = True,
) -> None:
    if (mine.dtype, mine.shape) != (theirs.dtype, theirs.shape):
        raise MismatchError(
            f"tensor {name!r}: {mine.dtype} {list(mine.shape)}, but {theirs.dtype} {list(theirs.shape)} in the source"
        )
    a, b = mine.data, theirs.data
    if np.array_equal(a, b):
        report.n_identical += 1
        return
    if exact:
        where = int(np.flatnonzero(a != b)[0])
        raise MismatchError(f"tensor {name!r}: byte {where} differs from the source's")
    report.errors[name] = _relative_error(name, mine.array(), theirs.array(), pruned=pruned)


def _relative_error(name: str, mine: NDArray[Any], theirs: NDArray[Any], *, pruned: bool) -> float:
    wrong = error = norm = 0.0
    a, b = mine.reshape(-1), theirs.reshape(-1)
    for begin in range(0, a.size, 1 << 20):
        x = a[begin : begin + (1 << 20)].astype(np.float64)
        y = b[begin : begin + (1 << 20)].astype(np.float64)
        wrong += float(np.count_nonzero((y == 0) & (x != 0)))
        error += float(np.square(x - y).sum())
        norm += float(np.square(y).sum())
    if wrong and pruned:
        raise MismatchError(f"tensor {name!r}: {wrong:.0f} weights that are 0 in the source are not")
    return float(np.sqrt(error / norm)) if norm else 0.0
