"""Prune a checkpoint to a plain one: the step between training and fine-tuning."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypedDict, Unpack, get_args

import numpy as np
from numpy.typing import NDArray

from xorpack import checks
from xorpack.analysis.accounting import LeftOut, Pruned
from xorpack.checkpoint.plan import FLOATS
from xorpack.checkpoint.settings import SCOPES, Progress
from xorpack.checkpoint.source import check_unchanged, find_source, plain_tensors, refuse_quantized
from xorpack.code.words import Words, popcount, unpack
from xorpack.encoding.masks.bmf import MASK_BITS, fit
from xorpack.encoding.quantize.pruning import (
    GlobalThreshold,
    global_thresholds,
    magnitude_mask,
    magnitudes,
    n_of_m_mask,
    row_blocks,
)
from xorpack.errors import ParameterError, XorpackError
from xorpack.files import model, safetensors_file
from xorpack.files.atomic import atomic_directory, atomic_file
from xorpack.files.safetensors_file import SafetensorsFile, StoredTensor
from xorpack.files.selection import select
from xorpack.files.tree import copy_file, copy_mode
from xorpack.tensors import as_matrix

Method = Literal["magnitude", "n:m", "bmf"]


@dataclass(frozen=True, slots=True, kw_only=True)
class PruneSettings:
    """Which weights are kept.

    Attributes:
        sparsity: fraction to prune; not for ``n:m``.
        method: ``magnitude``; ``n:m``: the n largest of every m inputs; ``bmf``: a mask of low-rank factors.
        scope: ``magnitude`` by tensor or over all of them.
        pattern: ``(n, m)`` of ``n:m``.
        rank, mask_bits: of ``bmf``, see :func:`xorpack.encoding.masks.bmf.fit`.
    """

    sparsity: float | None = None
    method: Method = "magnitude"
    scope: Literal["tensor", "global"] = "tensor"
    pattern: tuple[int, int] | None = None
    rank: int | None = None
    mask_bits: float | None = None

    def check(self, given: Iterable[str] = ()) -> None:
        """Raise ParameterError unless the settings are sensible together.

        ``given``: fields that were asked for, even if they have their default values.
        """
        checks.choice("method", self.method, get_args(Method))
        checks.choice("scope", self.scope, SCOPES)
        if self.rank is not None:
            checks.whole("rank", self.rank, 1)
        if self.mask_bits is not None:
            checks.positive("mask_bits", self.mask_bits)
        if self.sparsity is not None:
            checks.sparsity(self.sparsity)
        if self.pattern is not None:
            checks.pair("pattern", self.pattern)
        if (self.method == "n:m") != (self.pattern is not None):
            raise ParameterError("a pattern such as 2:4 is for method n:m, which needs one")
        if (self.method == "n:m") == (self.sparsity is not None):
            raise ParameterError(
                "method n:m has its sparsity from the pattern" if self.pattern else "a sparsity is needed"
            )
        if self.pattern is not None and not 1 <= self.pattern[0] < self.pattern[1]:
            raise ParameterError(
                f"pattern {self.pattern[0]}:{self.pattern[1]} does not keep some of its weights"
            )
        if (self.scope == "global" or "scope" in given) and self.method != "magnitude":
            raise ParameterError(f"scope {self.scope} contradicts method {self.method}")
        if (self.rank is not None or self.mask_bits is not None) and self.method != "bmf":
            raise ParameterError("rank and mask_bits are for method bmf")


class PruneOptions(TypedDict, total=False):
    """The fields of :class:`PruneSettings` as keywords of a function."""

    sparsity: float | None
    method: Method
    scope: Literal["tensor", "global"]
    pattern: tuple[int, int] | None
    rank: int | None
    mask_bits: float | None


@dataclass(slots=True)
class PruneReport:
    """What became of a checkpoint.

    Attributes:
        tensors: what was pruned, by name.
        left_out: the tensors that are as they were, and why.
    """

    tensors: dict[str, Pruned] = field(default_factory=dict)
    left_out: dict[str, LeftOut] = field(default_factory=dict)

    @property
    def total(self) -> Pruned:
        """The account of all tensors together."""
        return Pruned.total(list(self.tensors.values()))


def prune_checkpoint(
    src: str | Path,
    dst: str | Path,
    *,
    settings: PruneSettings | None = None,
    importance: str | Path | None = None,
    include: Sequence[str] = (),
    exclude: Sequence[str] = (),
    jobs: int = 1,
    overwrite: bool = False,
    dry_run: bool = False,
    progress: Progress | None = None,
    **options: Unpack[PruneOptions],
) -> PruneReport:
    """Set pruned weights of a safetensors file or model directory to +0; ``dst`` appears whole or not at all.

    Names, types, order, metadata and all other files stay as they are. Weights that are 0 stay pruned.

    Args:
        src: a ``.safetensors`` file, or a directory in the Hugging Face layout. Never written to.
        dst: the file or directory to write.
        settings: which weights are kept; or give the fields of :class:`PruneSettings` as keywords.
        importance: a checkpoint with a tensor of the same name and shape for each that is pruned; its magnitudes
            are taken in place of the weights'.
        include: patterns of the tensors to take, see :mod:`xorpack.files.selection`.
        exclude: patterns of those to leave out.
        jobs: threads. The bytes written do not depend on it.
        overwrite: replace what stands at ``dst``.
        dry_run: choose and report, write nothing.
        progress: told of every tensor that is done.
        options: fields of :class:`PruneSettings`.

    Raises:
        FileNotFoundError, FormatError: ``src`` or ``importance`` is missing or malformed, ``src`` is encoded.
        ParameterError: a setting breaks its rule, a pattern matches nothing, importances of another shape;
            ``dst`` holds ``src`` or ``importance``, or lies in one.
        DataError: NaN or infinity among weights or importances.
        DestinationError: ``dst`` exists, cannot be written, or is a directory that looks like no checkpoint.
        SourceError: ``src`` or ``importance`` changed while it was read.
    """
    if settings is not None and options:
        raise ParameterError("give settings or its fields, not both")
    chosen = settings or PruneSettings(**options)
    chosen.check(options)
    checks.whole("jobs", jobs, 1)
    source, target = Path(src), Path(dst)
    others = [] if importance is None else [Path(importance)]
    layout = find_source(source, target, overwrite=overwrite, dry_run=dry_run, others=others)
    files = layout.open()
    refuse_quantized(layout, plain_tensors(files))
    judges = [file for path in others for file in model.find(path).open()]
    given = None if importance is None else plain_tensors(judges)
    run = _Run(chosen, files, given, include, exclude, jobs, progress)
    if dry_run:
        for file in files:
            run.prune(file)
        return run.report
    if not layout.is_directory:
        with atomic_file(target, overwrite=overwrite) as path:
            run.write(files[0], path)
            check_unchanged(file.source for file in (*files, *judges))
        return run.report
    with atomic_directory(target, overwrite=overwrite) as directory:
        for file in files:
            run.write(file, directory / file.path.name)
        model.copy_others(layout, directory)
        if layout.weight_map is not None:
            copy_file(source / model.INDEX, directory / model.INDEX)
        check_unchanged(file.source for file in (*files, *judges))
    return run.report


class _Run:
    """One pruning of a checkpoint."""

    def __init__(
        self,
        settings: PruneSettings,
        files: Sequence[SafetensorsFile],
        given: Mapping[str, StoredTensor] | None,
        include: Sequence[str],
        exclude: Sequence[str],
        jobs: int,
        progress: Progress | None,
    ) -> None:
        self.settings, self.given, self.jobs, self.progress = settings, given, jobs, progress
        tensors = plain_tensors(files)
        shapes = {name: stored.shape for name, stored in tensors.items()}
        unsuitable = {name: f"of type {t.dtype}" for name, t in tensors.items() if t.dtype not in FLOATS}
        selection = select(shapes, unsuitable, include, exclude)
        self.selected = {name: tensors[name] for name in selection.chosen}
        self.n_weights = sum(math.prod(stored.shape) for stored in self.selected.values())
        if given is not None:
            self._check_given(given)
        self.report = PruneReport(
            left_out={name: LeftOut(why, tensors[name].n_bytes) for name, why in selection.left_out.items()}
        )
        self.cut: GlobalThreshold | None = None
        if settings.scope == "global" and settings.sparsity is not None:
            loaders = [lambda n=name: self._importance(n) for name in self.selected]
            self.cut = global_thresholds(loaders, settings.sparsity)

    def _check_given(self, given: Mapping[str, StoredTensor]) -> None:
        for name, stored in self.selected.items():
            if name not in given:
                raise ParameterError(f"tensor {name!r}: no importance of this name is given")
            other = given[name]
            if other.shape != stored.shape or other.dtype not in FLOATS:
                raise ParameterError(
                    f"tensor {name!r}: importance is {other.dtype} of shape {list(other.shape)}, "
                    f"not a float type of shape {list(stored.shape)}"
                )

    def _importance(self, name: str) -> NDArray[Any]:
        """What decides over a tensor's weights, as a matrix; 0 where the weight is."""
        stored = self.selected[name]
        matrix = stored.array().reshape(as_matrix(stored.shape))
        if self.given is None:
            return matrix
        for _ in row_blocks(matrix, "weight"):
            pass
        return np.where(matrix == 0, 0, self.given[name].array().reshape(matrix.shape).astype(np.float32))

    def _mask(self, name: str, importance: NDArray[Any], jobs: int) -> Words:
        settings = self.settings
        if self.cut is not None:
            return self.cut.mask(list(self.selected).index(name), importance)
        if settings.pattern is not None:
            return n_of_m_mask(importance, *settings.pattern)
        sparsity = settings.sparsity or 0.0
        if settings.method == "bmf":
            bits = MASK_BITS if settings.mask_bits is None else settings.mask_bits
            return fit(magnitudes(importance), sparsity, mask_bits=bits, rank=settings.rank, jobs=jobs).mask()
        return magnitude_mask(importance, sparsity)

    def prune(self, file: SafetensorsFile) -> dict[str, StoredTensor]:
        """All tensors of a file, pruned where they are selected."""
        names = [name for name in file.tensors if name in self.selected]
        with ThreadPoolExecutor(self.jobs) as pool:
            inner = max(1, self.jobs // max(len(names), 1))
            pruned = dict(zip(names, pool.map(lambda name: self._one(name, inner), names), strict=True))
        self.report.tensors |= {name: found for name, (_, found) in pruned.items()}
        return {name: pruned[name][0] if name in pruned else stored for name, stored in file.tensors.items()}

    def _one(self, name: str, jobs: int) -> tuple[StoredTensor, Pruned]:
        stored = self.selected[name]
        try:
            importance = self._importance(name)
            mask = self._mask(name, importance, jobs)
            found = _account(importance, mask)
        except XorpackError as error:
            raise type(error)(f"tensor {name!r}: {error}") from error
        array = stored.array().reshape(as_matrix(stored.shape)).copy()
        array[~unpack(mask, array.shape[1])] = 0
        if self.progress is not None:
            self.progress(name, found.n_weights, self.n_weights)
        return StoredTensor.of(array.reshape(stored.shape)), found

    def write(self, file: SafetensorsFile, path: Path) -> None:
        """Write one file's tensors, pruned."""
        safetensors_file.write(path, self.prune(file), file.header)
        copy_mode(file.path, path)


def _account(importance: NDArray[Any], mask: Words) -> Pruned:
    n_kept = popcount(mask)
    sums = [0.0, 0.0, 0.0]
    best = magnitude_mask(importance, 1 - n_kept / importance.size) if 0 < n_kept < importance.size else mask
    for first, block in row_blocks(importance):
        sizes = np.abs(block).astype(np.float64)
        part = slice(first, first + len(block))
        sums[0] += float(sizes.sum())
        for k, chosen in ((1, mask), (2, best)):
            sums[k] += float(sizes[unpack(chosen[part], block.shape[1])].sum())
    return Pruned(n_weights=importance.size, n_kept=n_kept, importance=sums[0], kept=sums[1], best=sums[2])
