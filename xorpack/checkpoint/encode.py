"""Encode a checkpoint: select, prune, quantize, encode, check, write."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Unpack

import numpy as np
from numpy.typing import NDArray

from xorpack import checks
from xorpack.analysis.accounting import Account, LeftOut
from xorpack.analysis.distortion import Distortion
from xorpack.analysis.row_errors import Rows
from xorpack.checkpoint.budget import Curve, Quantizer
from xorpack.checkpoint.costs import costs
from xorpack.checkpoint.plan import FLOATS, CheckpointPlan
from xorpack.checkpoint.settings import EncodeReport, Settings, SettingsOptions
from xorpack.checkpoint.source import check_unchanged, find_source, plain_tensors, refuse_quantized
from xorpack.decoders import cpu
from xorpack.encoded import EncodedTensor, blocks_sha256
from xorpack.encoding.encoder import encode
from xorpack.encoding.fitting.hessian import believed, output_error
from xorpack.encoding.fitting.methods import fit
from xorpack.encoding.quantize.methods import quantize
from xorpack.encoding.rings.elimination import scratch
from xorpack.errors import ParameterError, SelfCheckError, XorpackError
from xorpack.files import card, container, model, safetensors_file
from xorpack.files.atomic import atomic_directory, atomic_file
from xorpack.files.destination import check_destination
from xorpack.files.hessians import Hessians
from xorpack.files.originals import Originals
from xorpack.files.safetensors_file import SafetensorsFile, StoredTensor
from xorpack.files.tree import copy_mode, write_instead
from xorpack.masks import Bmf
from xorpack.tensors import DTYPES, BCQTensor, TrellisTensor, as_matrix

Progress = Callable[[str, int, int], None]
"""Called when a tensor is done: its name, its weights, the weights of all selected tensors."""

AMPLE = 1 << 16
"""Bytes saved from which on those of the header do not matter."""


def encode_checkpoint(
    src: str | Path,
    dst: str | Path,
    *,
    settings: Settings | None = None,
    hessian: str | Path | None = None,
    quantizers: Mapping[str, Quantizer] | None = None,
    include: Sequence[str] = (),
    exclude: Sequence[str] = (),
    jobs: int = 1,
    overwrite: bool = False,
    dry_run: bool = False,
    progress: Progress | None = None,
    **options: Unpack[SettingsOptions],
) -> EncodeReport:
    """Encode a safetensors file or a model directory; ``dst`` appears whole or not at all.

    Args:
        src: a ``.safetensors`` file, or a directory in the Hugging Face layout. Never written to.
        dst: the file or directory to write.
        settings: how to prune and quantize; or give the fields of :class:`Settings` as keywords.
        hessian: what ``xorpack calibrate`` wrote: weights are fitted to these activations (:func:`xorpack.fit`), but
            for tensors that it does not have.
        quantizers: what quantizes each tensor, if that was chosen before (:class:`xorpack.checkpoint.survey.Survey`).
        include: patterns of the tensors to take, see :mod:`xorpack.files.selection`.
        exclude: patterns of those to leave out.
        jobs: threads. The bytes written do not depend on it.
        overwrite: replace what stands at ``dst``.
        dry_run: read and check everything, estimate sizes, write nothing.
        progress: told of every tensor that is done.
        options: fields of :class:`Settings`.

    Raises:
        FileNotFoundError, FormatError: ``src`` is missing, malformed, or encoded already.
        ParameterError: a setting breaks its rule, a pattern matches nothing, ``dst`` holds ``src`` or lies in it.
        DataError: weights that cannot be encoded so: NaN or infinity where BCQ needs numbers.
        DestinationError: ``dst`` exists, cannot be written, or is a directory that looks like no checkpoint.
        SelfCheckError: an encoded tensor does not decode to what was encoded.
        SourceError: ``src`` changed while it was read.
    """
    if settings is not None and options:
        raise ParameterError("give settings or its fields, not both")
    chosen_settings = settings or Settings(**options)
    chosen_settings.check(options)
    checks.whole("jobs", jobs, 1)
    source, target = Path(src), Path(dst)
    layout = find_source(source, target, overwrite=overwrite, dry_run=dry_run)
    stats = _open_hessians(hessian, target, chosen_settings)
    files, originals = layout.open(), Originals.of(layout, encoded=False)
    tensors = plain_tensors(files)
    if not chosen_settings.lossless:
        refuse_quantized(layout, tensors)
    run = EncodingRun(
        CheckpointPlan(chosen_settings, tensors, include, exclude),
        sum(file.n_bytes for file in files),
        jobs=jobs,
        progress=progress,
        stats=stats,
    )
    if quantizers is None:
        run.choose_quantizers()
    else:
        run.plan.quantizers = dict(quantizers)
    if dry_run:
        return run.estimate()
    if not layout.is_directory:
        with atomic_file(target, overwrite=overwrite) as path:
            run.write(files[0], path)
            check_unchanged([files[0].source, *run.hessian_sources])
        return run.report
    with atomic_directory(target, overwrite=overwrite) as directory:
        weight_map: dict[str, str] = {}
        total_size = 0
        for file in files:
            sizes = run.write(file, directory / file.path.name)
            weight_map |= dict.fromkeys(sizes, file.path.name)
            total_size += sum(sizes.values())
        model.copy_others(layout, directory, skip=[Path(model.CONFIG), Path(card.NAME)])
        _write_card(layout.root / card.NAME, directory / card.NAME, chosen_settings.lossless, run.report)
        plain_size = sum(stored.n_bytes for file in files for stored in file.tensors.values())
        originals.encode(
            directory,
            chosen_settings.config(run.report.accounts, run.report.left_out),
            model.index_text(layout.weight_map or {}, plain_size),
            model.index_text(weight_map, total_size),
        )
        check_unchanged([*(file.source for file in files), *run.hessian_sources])
    return run.report


def _open_hessians(path: str | Path | None, target: Path, settings: Settings) -> Hessians | None:
    if path is None:
        return None
    if settings.lossless or settings.method != "alternating":
        what = "lossless" if settings.lossless else f"method {settings.method}"
        raise ParameterError(f"hessian fits weights to activations, which {what} contradicts")
    check_destination(target, overwrite=True, inputs=[Path(path)], dry_run=True)
    return Hessians(path)


def _write_card(source: Path, target: Path, lossless: bool, report: EncodeReport) -> None:
    text = source.read_bytes() if source.is_file() else None
    sizes = report.source_bytes, report.stored_bytes
    write_instead(source, target, card.mark(text, lossless=lossless, sizes=sizes))


class EncodingRun:
    """One encoding of a checkpoint: what is selected, how, and what has been done."""

    def __init__(
        self,
        plan: CheckpointPlan,
        source_bytes: int,
        *,
        jobs: int = 1,
        progress: Progress | None = None,
        stats: Hessians | None = None,
    ) -> None:
        """See :func:`encode_checkpoint`; ``source_bytes``: of the report."""
        self.plan, self.settings, self.jobs, self.progress = plan, plan.settings, jobs, progress
        self._stats = stats
        self.plan.fitted = {} if stats is None else stats
        self.hessian_sources = [] if stats is None else [stats.source]
        if stats is not None:
            self._check_hessians(stats)
        self.report = EncodeReport(
            accounts=dict.fromkeys(self.plan.selected, Account.total([])),  # in the order of the checkpoint
            n_parameters=self.plan.n_parameters,
            source_bytes=source_bytes,
            left_out=dict(self.plan.left_out),
        )

    def _check_hessians(self, stats: Hessians) -> None:
        """Raise ParameterError unless they are of this model."""
        found = {name: stored for name, stored in self.plan.selected.items() if name in stats}
        if not found:
            raise ParameterError(
                f"{stats.path} has none of the tensors to encode: was it made with another model?"
            )
        for name, stored in found.items():
            cols = as_matrix(stored.shape)[1]
            if cols != stats.size(name):
                raise ParameterError(
                    f"{stats.path}: tensor {name!r} has {cols} inputs, and its Hessian is of {stats.size(name)}"
                )
        for name, stored in found.items():
            rows, gradients = as_matrix(stored.shape)[0], stats.gradients(name)
            if gradients is not None and len(gradients) != rows:
                raise ParameterError(
                    f"{stats.path}: tensor {name!r} has {rows} outputs, and there are gradients of {len(gradients)}"
                )

    def choose_quantizers(self) -> None:
        """Choose that of each tensor, where there is a budget."""
        if self.settings.has_budget:
            self.plan.choose_quantizers(self.curves())

    def curves(self, progress: Progress | None = None) -> dict[str, Curve]:
        """What each tensor takes and loses by quantizer."""
        known = {} if self._stats is None else costs(self.plan.selected, self._stats, self.jobs)

        def one(name: str) -> Curve:
            found = self.plan.curve(name, known.get(name))
            if progress is not None:
                progress(name, math.prod(self.plan.selected[name].shape), self.plan.n_weights)
            return found

        with ThreadPoolExecutor(self.jobs) as pool:
            return dict(zip(self.plan.selected, pool.map(one, self.plan.selected), strict=True))

    def encode(self, names: Sequence[str]) -> dict[str, EncodedTensor]:
        """Encode selected tensors; those that would not become smaller are left out after all."""
        inner = max(1, self.jobs // max(len(names), 1))
        pool = ThreadPoolExecutor(self.jobs)
        try:
            with scratch:
                futures = [pool.submit(self._encode, name, inner) for name in names]
                encoded = {name: future.result() for name, future in zip(names, futures, strict=True)}
        finally:
            pool.shutdown(cancel_futures=True)
        for name in names:
            if not _smaller(name, encoded[name], self.plan.selected[name]):
                del encoded[name]
                self._leave_out(name)
        return encoded

    def write(self, file: SafetensorsFile, path: Path) -> dict[str, int]:
        """Encode one file's tensors and write them to ``path``; bytes of what is stored there, by name."""
        encoded = self.encode([name for name in file.tensors if name in self.plan.selected])
        carried = {name: stored for name, stored in file.tensors.items() if name not in encoded}
        settings = self.settings.info()
        if file.header != safetensors_file.header_bytes(file.tensors, file.metadata):
            settings[container.ORIGINAL_HEADER] = file.header.decode()
        container.write(
            path,
            encoded,
            carried,
            order=list(file.tensors),
            metadata=file.metadata,
            settings=settings,
        )
        copy_mode(file.path, path)
        self.report.stored_bytes += path.stat().st_size
        return {name: s.n_bytes for name, s in safetensors_file.read(path).tensors.items()}

    def estimate(self) -> EncodeReport:
        """The report of a dry run: masks are made and counted, sizes follow from bounds."""
        for name in self.plan.selected:
            began = time.perf_counter()
            account = self.plan.preview(name).account
            self._done(name, account, began)
            if not self.plan.becomes_smaller(name, account):
                self._leave_out(name)
        total = self.report.total
        self.report.estimated = True
        self.report.stored_bytes = self.report.source_bytes - total.original_bytes + total.n_bytes
        return self.report

    def _encode(self, name: str, jobs: int) -> EncodedTensor:
        began = time.perf_counter()
        stored, settings = self.plan.selected[name], self.settings
        try:
            array = stored.array()
            how: dict[str, Any] = {"mask_codec": settings.mask_codec, "prefer": settings.prefer, "jobs": jobs}
            if settings.lossless:
                array = self._zeros(name, array)
                if settings.mask_codec == Bmf.NAME:
                    how["factors"] = self.plan.factors(name, array, jobs)
                encoded = encode(array, **how)
            else:
                mask = self.plan.global_mask(name)
                if settings.mask_codec == Bmf.NAME:
                    how["factors"] = self.plan.factors(name, array, jobs)
                    mask = how["factors"].mask()
                encoded = encode(self._quantized(name, array, mask, jobs), **how)
            blocks, rows = cpu.decode_blocks(encoded), None
            if not settings.lossless:
                rows = Rows(array.reshape(encoded.rows, encoded.cols))
                blocks = rows.watch(blocks)
            if blocks_sha256(blocks) != encoded.content_sha256:
                raise SelfCheckError(
                    "it does not decode to what was encoded, a fault of xorpack; please report it"
                )
        except XorpackError as error:
            raise type(error)(f"tensor {name!r}: {error}") from error
        account = Account.of(encoded)
        if rows is not None:
            self.report.distortions[name] = Distortion.of(rows, account.per_weight(account.n_bytes))
        self._done(name, account, began)
        return encoded

    def _quantized(
        self, name: str, array: NDArray[Any], mask: NDArray[Any] | None, jobs: int
    ) -> BCQTensor | TrellisTensor:
        settings = self.settings
        how: dict[str, Any] = {
            "sparsity": None if mask is not None else settings.sparsity,
            "mask": mask,
            "group_size": settings.group_size,
            "scale_dtype": settings.scale_dtype,
            "jobs": jobs,
        }
        chosen = self.plan.quantizers[name]
        if self._stats is not None and name in self._stats:
            matrix = self._stats[name]
            if chosen.rate is not None:
                outliers = settings.outliers_at(chosen.rate, fitted=True)
                how |= {"method": "trellis", "rate": chosen.rate, "outliers": outliers}
            else:
                how |= {"method": "bcq", "bits": chosen.bits or settings.bits}
            fitted: BCQTensor | TrellisTensor = fit(array, believed(matrix, self._stats.rows(name)), **how)
            self.report.output_errors[name] = output_error(array, fitted.dequantize(), matrix)
            return fitted
        if chosen.rate is not None:
            outliers = settings.outliers_at(chosen.rate)
            return quantize(array, method="trellis", rate=chosen.rate, outliers=outliers, **how)
        return quantize(array, bits=chosen.bits or settings.bits, method=settings.method, **how)

    def _zeros(self, name: str, array: NDArray[Any]) -> NDArray[Any]:
        """Count the -0.0 of a lossless tensor, or make them +0.0."""
        negative = negative_zeros(array)
        count = int(np.count_nonzero(negative))
        if not self.settings.positive_zeros:
            self.report.negative_zeros[name] = count
        elif count:
            array = array.copy()
            array[negative] = 0
        return array

    def _leave_out(self, name: str) -> None:
        """Carry a tensor that was to be encoded, for it would take no fewer bytes."""
        report = self.report
        for found in (
            report.accounts,
            report.seconds,
            report.negative_zeros,
            report.distortions,
            report.output_errors,
        ):
            found.pop(name, None)
        self.report.left_out[name] = LeftOut("would not become smaller", self.plan.selected[name].n_bytes)

    def _done(self, name: str, account: Account, began: float) -> None:
        self.report.accounts[name] = account
        self.report.seconds[name] = time.perf_counter() - began
        if self.progress is not None:
            self.progress(name, account.n_weights, self.plan.n_weights)


def _smaller(name: str, encoded: EncodedTensor, stored: StoredTensor) -> bool:
    """Whether a tensor takes fewer bytes of a file encoded than carried, its part of the header included."""
    if sum(encoded.section_bytes().values()) + AMPLE < stored.n_bytes:
        return True
    return container.encoded_bytes(name, encoded) < container.carried_bytes(name, stored)


def negative_zeros(array: NDArray[Any]) -> NDArray[np.bool_]:
    """Find where a floating-point array is -0.0."""
    found: NDArray[np.bool_] = np.zeros(array.shape, np.bool_)
    if array.dtype in (DTYPES[name] for name in FLOATS):
        with np.errstate(invalid="ignore"):  # of NaNs
            found = (array == 0) & np.signbit(array)
    return found
