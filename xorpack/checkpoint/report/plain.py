"""The report on a plain checkpoint: what it could become."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from xorpack.analysis.accounting import Account
from xorpack.analysis.bounds import given_mask_bound
from xorpack.analysis.comparison import Comparison, compare
from xorpack.analysis.density import density_map
from xorpack.analysis.formats import FormatRow, FormatTable, by_formula
from xorpack.analysis.report import advice
from xorpack.analysis.report.contents import Becoming, Part, Report, TensorReport
from xorpack.checkpoint.plan import FLOATS, CheckpointPlan
from xorpack.checkpoint.report.common import (
    Wanted,
    carried_tensors,
    common,
    counts_of,
    other_bytes,
    sample_parts,
)
from xorpack.checkpoint.settings import Settings
from xorpack.checkpoint.source import plain_tensors, quantized_by
from xorpack.checkpoint.task import negative_zeros
from xorpack.code.words import popcount
from xorpack.encoding.quantize.bcq import columns_per_scale, quantize
from xorpack.errors import DataError
from xorpack.files import model
from xorpack.files.safetensors_file import SafetensorsFile
from xorpack.tensors import BCQTensor, as_matrix, n_groups

COULD_BE = tuple((sparsity, bits) for sparsity in (0.5, 0.8, 0.9, 0.95) for bits in (1, 2, 3, 4))
"""Sparsities and planes that a plain checkpoint's future is shown for."""

LOSSLESS = "lossless"


def report_plain(
    layout: model.CheckpointLayout,
    files: Sequence[SafetensorsFile],
    settings: Settings,
    patterns: tuple[Sequence[str], Sequence[str]],
    wanted: Wanted,
) -> Report:
    """See :func:`xorpack.checkpoint.report.report_checkpoint`."""
    return _Plain(layout, files, settings, patterns, wanted).report()


class _Plain:
    def __init__(
        self,
        layout: model.CheckpointLayout,
        files: Sequence[SafetensorsFile],
        settings: Settings,
        patterns: tuple[Sequence[str], Sequence[str]],
        wanted: Wanted,
    ) -> None:
        self.layout, self.files, self.settings = layout, files, settings
        self.wanted = wanted
        tensors = plain_tensors(files)
        self.exact = CheckpointPlan(Settings(lossless=True), tensors, *patterns)
        floats = any(t.dtype in FLOATS for t in self.exact.selected.values())
        self.quantized_by = quantized_by(layout, {**self.exact.selected, **self.exact.carried})
        self.quantized = (
            CheckpointPlan(settings, tensors, *patterns) if floats and self.quantized_by is None else None
        )
        self.label = f"{settings.bits}-bit"
        self.n_negative_zeros = 0
        self.unfit: dict[str, str] = {}  # tensors that cannot be quantized, and why

    def report(self) -> Report:
        tensors = self._tensors()
        selected_bytes = sum(stored.n_bytes for stored in self.exact.selected.values())
        carried_bytes = sum(stored.n_bytes for stored in self.exact.carried.values())
        file_bytes, other = sum(file.n_bytes for file in self.files), other_bytes(self.layout)
        formats = {LOSSLESS: self._formats(tensors, LOSSLESS)}
        quantized = [t for t in tensors if t.exact is not None]
        if quantized:
            formats[self.label] = self._formats(quantized, self.label)
        total = Account.total(t.account for t in quantized)
        exact = Account.total(t.exact or t.account for t in tensors)
        return Report(
            **common(self.layout, self.wanted.path),
            quality=self.wanted.quality,
            kind="plain",
            settings=asdict(self.settings),
            n_parameters=self.exact.n_parameters,
            total_bytes=file_bytes + other,
            source_bytes=file_bytes + other,
            parts=(
                Part(name="weights to encode", n_bytes=selected_bytes),
                Part(name="metadata", n_bytes=file_bytes - selected_bytes - carried_bytes),
                Part(name="carried", n_bytes=carried_bytes),
                Part(name="other files", n_bytes=other),
            ),
            tensors=tensors,
            carried=carried_tensors(self.exact.carried, self.exact.left_out),
            formats=formats,
            comparison={} if self.wanted.sample is None else dict(self._compare()),
            becoming=tuple(self._becoming(quantized)) if quantized else (),
            density={t.name: self._map(t.name) for t in self.wanted.mapped(tensors)},
            advice=advice.for_plain(
                total,
                exact,
                self.n_negative_zeros,
                self.unfit,
                self.settings.bits,
                self.wanted.path,
                self.quantized_by,
                sum(not self.exact.becomes_smaller(t.name, t.exact or t.account) for t in tensors),
            ),
        )

    def _tensors(self) -> tuple[TensorReport, ...]:
        tasks = [self._task(name) for name in self.exact.selected]
        found = []
        for task, one in zip(tasks, self.wanted.pool.map(report_tensor, tasks), strict=True):
            found.append(one.report)
            self.n_negative_zeros += one.n_negative_zeros
            if one.unfit is not None:
                self.unfit[task.name] = one.unfit
            if self.wanted.progress is not None:
                self.wanted.progress(task.name, math.prod(one.report.shape), self.exact.n_weights)
        return tuple(found)

    def _task(self, name: str) -> PlainTask:
        fits = self.quantized is not None and name in self.quantized.selected
        return PlainTask(
            name=name,
            exact=self.exact.only(name),
            quantized=self.quantized.only(name) if fits and self.quantized is not None else None,
        )

    def _group_size(self, name: str, n_kept: int) -> int:
        return columns_per_scale(self.exact.selected[name].shape, self.settings.group_size, n_kept)

    def _formats(self, tensors: Sequence[TensorReport], label: str) -> FormatTable:
        def one(t: TensorReport) -> tuple[Account, int]:
            if label != LOSSLESS:
                return t.account, t.bits
            account = t.exact or t.account
            return account, 8 * account.original_bytes // max(account.n_weights, 1)

        chosen = [(t, *one(t)) for t in tensors]
        total = Account.total(account for _, account, _ in chosen)
        ours = FormatRow(
            name="xorpack, estimated",
            note="by what its networks need as a rule",
            bits_per_weight=total.per_weight(total.n_bytes),
        )
        return by_formula(ours, (counts_of(t.shape, account, bits) for t, account, bits in chosen))

    def _becoming(self, tensors: Sequence[TensorReport]) -> Iterator[Becoming]:
        n_weights = max(sum(t.account.n_weights for t in tensors), 1)
        width = 32 if self.settings.scale_dtype == "float32" else 16
        for sparsity, bits in COULD_BE:
            n_scales = 0
            for t in tensors:
                group_size = self._group_size(t.name, round((1 - sparsity) * t.account.n_weights))
                rows, cols = as_matrix(t.shape)
                n_scales += rows * n_groups(cols, group_size)
            bound = given_mask_bound(sparsity, bits) + width * bits * n_scales / n_weights
            yield Becoming(sparsity=sparsity, bits=bits, bits_per_weight=bound)

    def _map(self, name: str) -> NDArray[np.float64]:
        quantizable = (
            self.quantized is not None and name in self.quantized.selected and name not in self.unfit
        )
        plan = self.quantized if self.quantized is not None and quantizable else self.exact
        return density_map([plan.mask(name)], *plan.matrix(name).shape)

    def _compare(self) -> Iterator[tuple[str, Comparison]]:
        for label, plan in ((LOSSLESS, self.exact), (self.label, self.quantized)):
            if plan is None:
                continue
            unfit = self.unfit if plan is self.quantized else {}
            shapes = {name: t.shape for name, t in plan.selected.items() if name not in unfit}
            parts = [
                self._rows(plan, name, rows) for name, rows in sample_parts(shapes, self.wanted.sample or 0)
            ]
            if parts:
                yield label, compare(parts)

    def _rows(self, plan: CheckpointPlan, name: str, rows: int) -> BCQTensor | NDArray[Any]:
        stored, settings = plan.selected[name], self.settings
        if plan is self.exact:
            return plan.matrix(name)[:rows]
        array = stored.rows(rows)
        return quantize(
            array,
            bits=settings.bits,
            mask=plan.mask(name)[:rows],
            group_size=self._group_size(name, popcount(plan.mask(name))),
            method=settings.method,
            scale_dtype=settings.scale_dtype,
        )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PlainTask:
    """A plain tensor to report on; it can be sent to another process.

    Attributes:
        name: of the tensor.
        exact: the plan of keeping it, and nothing else, bit for bit.
        quantized: that of quantizing it, where it is of floats that are not quantized yet.
    """

    name: str
    exact: CheckpointPlan
    quantized: CheckpointPlan | None


class PlainResult(NamedTuple):
    """What a plain tensor could become; why it cannot be quantized, if it cannot; and how many -0.0 it has."""

    report: TensorReport
    unfit: str | None
    n_negative_zeros: int


def report_tensor(task: PlainTask) -> PlainResult:
    """Report on one plain tensor.

    Raises:
        SourceError: its file changed.
    """
    name, stored = task.name, task.exact.selected[task.name]
    found, unfit = task.exact.preview(name), None
    account, exact, mask = found.account, None, found.mask
    bits, group_size = 8 * account.original_bytes // max(account.n_weights, 1), 0
    if task.quantized is not None:
        settings = task.quantized.settings
        try:
            ours = task.quantized.preview(name)
        except DataError as error:
            unfit = str(error)
        else:
            account, exact, mask, bits = ours.account, found.account, ours.mask, settings.bits
            group_size = columns_per_scale(stored.shape, settings.group_size, account.n_kept)
    report = TensorReport(
        name=name,
        dtype=stored.dtype,
        shape=stored.shape,
        kind="plain",
        bits=bits,
        group_size=group_size,
        account=account,
        exact=exact,
        mask=mask,
        planes=found.planes,
    )
    return PlainResult(report, unfit, int(np.count_nonzero(negative_zeros(stored.array()))))
