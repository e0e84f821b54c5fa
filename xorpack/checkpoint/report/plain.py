"""The report on a plain checkpoint: what it could become."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any

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
from xorpack.tensors import DTYPES, BCQTensor, as_matrix, n_groups

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
        tensors = tuple(self._tensor(name) for name in self.exact.selected)
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
            **common(self.layout),
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
                str(self.layout.root),
                self.quantized_by,
                sum(not self.exact.becomes_smaller(t.name, t.exact or t.account) for t in tensors),
            ),
        )

    def _tensor(self, name: str) -> TensorReport:
        stored = self.exact.selected[name]
        found = self.exact.preview(name)
        self.n_negative_zeros += int(np.count_nonzero(negative_zeros(stored.array())))
        account, exact, mask = found.account, None, found.mask
        if self.quantized is not None and name in self.quantized.selected:
            try:
                ours = self.quantized.preview(name)
                account, exact, mask = ours.account, found.account, ours.mask
            except DataError as error:
                self.unfit[name] = str(error)
        if self.wanted.progress is not None:
            self.wanted.progress(name, account.n_weights, self.exact.n_weights)
        return TensorReport(
            name=name,
            dtype=stored.dtype,
            shape=stored.shape,
            kind="plain",
            bits=self.settings.bits if exact is not None else 8 * DTYPES[stored.dtype].itemsize,
            group_size=0 if exact is None else self._group_size(name, account.n_kept),
            account=account,
            exact=exact,
            mask=mask,
            planes=found.planes,
        )

    def _group_size(self, name: str, n_kept: int) -> int:
        return columns_per_scale(self.exact.selected[name].shape, self.settings.group_size, n_kept)

    def _formats(self, tensors: Sequence[TensorReport], label: str) -> FormatTable:
        def one(t: TensorReport) -> tuple[Account, int]:
            if label != LOSSLESS:
                return t.account, t.bits
            return t.exact or t.account, 8 * DTYPES[t.dtype].itemsize

        chosen = [(t, *one(t)) for t in tensors]
        total = Account.total(account for _, account, _ in chosen)
        ours = FormatRow(
            name="xorpack, estimated",
            note="by what its networks need as a rule",
            bits_per_weight=total.per_weight(total.n_bytes),
        )
        return by_formula(ours, (counts_of(t.shape, account, bits, t.dtype) for t, account, bits in chosen))

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
        return density_map([plan.mask(name)], *as_matrix(plan.selected[name].shape))

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
        array = stored.rows(rows)
        if plan is self.exact:
            return array
        return quantize(
            array,
            bits=settings.bits,
            mask=plan.mask(name)[:rows],
            group_size=self._group_size(name, popcount(plan.mask(name))),
            method=settings.method,
            scale_dtype=settings.scale_dtype,
        )
