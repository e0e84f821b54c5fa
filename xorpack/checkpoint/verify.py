"""Verify an encoded checkpoint: every checksum, every decoded tensor, and optionally against its source."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from xorpack.checkpoint.cluster import absolute, check_options, executor
from xorpack.checkpoint.decode import decode_checked, is_cut
from xorpack.checkpoint.opened import Checkpoint
from xorpack.checkpoint.settings import Progress
from xorpack.checkpoint.source import check_unchanged, plain_tensors
from xorpack.checkpoint.task import negative_zeros
from xorpack.errors import MismatchError
from xorpack.files import cuts, model
from xorpack.files.in_file import CarriedInFile, EncodedInFile
from xorpack.files.remote import staged
from xorpack.files.safetensors_file import StoredTensor


@dataclass(slots=True)
class VerifyReport:
    """What was found in order.

    Attributes:
        n_tensors, n_carried: encoded and carried tensors whose checksums hold.
        n_unchecked: carried tensors that have no checksums, those of the files in ``rewritten``; not in ``n_carried``.
        rewritten: files whose header another tool wrote, without what xorpack keeps there: paths, or URLs.
        n_identical: tensors, carried ones included, that equal the source's byte for byte.
        errors: relative error ``|w - w'| / |w|`` (Frobenius) of each quantized tensor that differs.
    """

    n_tensors: int = 0
    n_carried: int = 0
    n_unchecked: int = 0
    rewritten: tuple[Path | str, ...] = ()
    n_identical: int = 0
    errors: dict[str, float] = field(default_factory=dict)


def verify_checkpoint(
    path: str | Path,
    *,
    against: str | Path | None = None,
    jobs: int = 1,
    max_weights: int | None = None,
    scheduler: str | None = None,
    workers: int | None = None,
    progress: Progress | None = None,
) -> VerifyReport:
    """Check every byte of an encoded checkpoint, and compare it with a source if one is given.

    Carried and lossless tensors must equal the source's byte for byte (its -0.0 as +0.0 where the checkpoint was
    encoded with ``positive_zeros``); quantized ones must have its
    names, shapes and types and be 0 where it is 0, and their error is reported.

    Args:
        path: of the checkpoint, or its URL.
        against: the source, or its URL.
        jobs: threads.
        max_weights: see :func:`open_checkpoint`.
        scheduler: address of a dask scheduler whose workers verify instead of threads, see :func:`encode_checkpoint`.
        workers: instead, how many processes to start for that on this machine.
        progress: told of every encoded tensor that is in order.

    Raises:
        FileNotFoundError, FormatError, CorruptError: the checkpoint is missing, malformed or damaged.
        MismatchError: it differs from the source.
        SourceError: a file changed while it was read.
        WorkerError: workers are not there, of another version, cannot see a checkpoint, or died.
    """
    shown = str(path), str(against)
    if check_options(jobs, scheduler, workers):
        path, against = absolute(path), against and absolute(against)
    with ExitStack() as stack:
        place = stack.enter_context(staged(path))
        checkpoint = Checkpoint(place, max_weights=max_weights)
        source: dict[str, StoredTensor] | None = None
        paths, read = place.paths, [file.source for file in checkpoint.files]
        if against is not None:
            theirs = stack.enter_context(staged(against))
            files = theirs.open(model.find(theirs.path).open())
            source = plain_tensors(files)
            mine = {name for file in checkpoint.files for name in file.order}
            if any(map(is_cut, checkpoint.files)):
                source = cuts.cut_as(mine, source)
            if mine != set(source):
                raise MismatchError(
                    f"only one of {shown[0]} and {shown[1]} has {sorted(mine ^ set(source))[:5]}"
                )
            paths, read = [*paths, *theirs.paths], [*read, *(file.source for file in files)]
        report = VerifyReport(rewritten=tuple(place.shown(file.path) for file in checkpoint.rewritten))
        pool = stack.enter_context(executor(jobs, scheduler, workers, paths=paths))
        tasks = list(_tasks(checkpoint, source))
        for task, found in zip(tasks, pool.map(verify_tensor, tasks), strict=True):
            _take(report, task, found)
            if progress is not None and isinstance(task.mine, EncodedInFile):
                progress(task.name, task.mine.n_weights, checkpoint.n_weights)
        check_unchanged(read)
    return report


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifyTask:
    """A tensor to verify; it can be sent to another process.

    Attributes:
        mine: itself.
        source: what it is to be compared with, or None.
        positive_zeros: whether -0.0 there may be +0.0 here.
    """

    mine: EncodedInFile | CarriedInFile
    source: StoredTensor | None
    positive_zeros: bool

    @property
    def name(self) -> str:
        """Of the tensor."""
        return self.mine.name


class Verified(NamedTuple):
    """What was found of a tensor that is in order: ``identical`` to its source, or the relative ``error``."""

    identical: bool = False
    error: float | None = None


def verify_tensor(task: VerifyTask) -> Verified:
    """Verify one tensor.

    Raises:
        FormatError, CorruptError: it breaks a rule, or does not match its checksum.
        MismatchError: it differs from its source.
        SourceError: a file changed.
    """
    mine, source = task.mine, task.source
    if isinstance(mine, CarriedInFile):
        if source is not None:
            return _compare(task.name, mine.load(), source, exact=True)
        mine.check(mine.stored.sha256())
        return Verified()
    tensor = mine.load()
    decoded = decode_checked(tensor, mine.label)
    if source is None:
        return Verified()
    if task.positive_zeros and tensor.kind == "lossless":
        array = source.array().copy()
        array[negative_zeros(array)] = 0
        source = StoredTensor.of(array)
    pruned = tensor.n_kept < tensor.n_weights  # what keeps all weights may make anything of a zero
    return _compare(task.name, decoded, source, exact=tensor.kind == "lossless", pruned=pruned)


def _tasks(checkpoint: Checkpoint, source: Mapping[str, StoredTensor] | None) -> Iterator[VerifyTask]:
    positive_zeros = any(file.settings.get("positive_zeros") is True for file in checkpoint.files)
    tensors: list[EncodedInFile | CarriedInFile] = [checkpoint.at(name) for name in checkpoint]
    tensors += [file.carried_at(name) for file in checkpoint.files for name in file.carried]
    for mine in tensors:
        theirs = None if source is None else source[mine.name]
        yield VerifyTask(mine=mine, source=theirs, positive_zeros=positive_zeros)


def _take(report: VerifyReport, task: VerifyTask, found: Verified) -> None:
    """Note what was found of a tensor."""
    if isinstance(task.mine, EncodedInFile):
        report.n_tensors += 1
    elif task.mine.sha256 is not None:
        report.n_carried += 1
    else:
        report.n_unchecked += 1
    report.n_identical += found.identical
    if found.error is not None:
        report.errors[task.name] = found.error


def _compare(
    name: str, mine: StoredTensor, theirs: StoredTensor, *, exact: bool, pruned: bool = True
) -> Verified:
    if (mine.dtype, mine.shape) != (theirs.dtype, theirs.shape):
        raise MismatchError(
            f"tensor {name!r}: {mine.dtype} {list(mine.shape)}, but {theirs.dtype} {list(theirs.shape)} in the source"
        )
    a, b = mine.data, theirs.data
    if np.array_equal(a, b):
        return Verified(identical=True)
    if exact:
        where = int(np.flatnonzero(a != b)[0])
        raise MismatchError(f"tensor {name!r}: byte {where} differs from the source's")
    return Verified(error=_relative_error(name, mine.array(), theirs.array(), pruned=pruned))


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
