"""Encode a checkpoint: select, prune, quantize, encode, check, write."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Unpack

from threadpoolctl import threadpool_limits

from xorpack import checks
from xorpack.analysis.accounting import Account, LeftOut
from xorpack.checkpoint import parallel
from xorpack.checkpoint.budget import Curve, Quantizer
from xorpack.checkpoint.cluster import absolute, check_options, executor
from xorpack.checkpoint.costs import costs
from xorpack.checkpoint.first_kernels import first_kernels
from xorpack.checkpoint.journal import Journal, identity
from xorpack.checkpoint.plan import CheckpointPlan
from xorpack.checkpoint.settings import EncodeReport, Progress, Settings, SettingsOptions
from xorpack.checkpoint.shards import Shards, Walk
from xorpack.checkpoint.source import check_unchanged, find_source, plain_tensors, refuse_quantized
from xorpack.checkpoint.task import TensorResult, TensorTask, check_device, encode_tensor
from xorpack.encoded import EncodedTensor
from xorpack.encoding.rings.elimination import scratch
from xorpack.errors import ParameterError
from xorpack.files import card, container, cuts, model, safetensors_file
from xorpack.files.atomic import OUT, remove, workspace
from xorpack.files.destination import check_destination
from xorpack.files.hessians import Hessians
from xorpack.files.originals import Originals
from xorpack.files.remote import destination, staged
from xorpack.files.safetensors_file import SafetensorsFile
from xorpack.files.tree import write_instead
from xorpack.tensors import as_matrix
from xorpack.vector.ahead import compile_missing


def encode_checkpoint(
    src: str | Path,
    dst: str | Path,
    *,
    settings: Settings | None = None,
    hessian: str | Path | None = None,
    tp: int = 1,
    quantizers: Mapping[str, Quantizer] | None = None,
    walk: Walk | None = None,
    include: Sequence[str] = (),
    exclude: Sequence[str] = (),
    jobs: int = 1,
    overwrite: bool = False,
    dry_run: bool = False,
    resume: bool = False,
    scheduler: str | None = None,
    workers: int | None = None,
    device: str = "cpu",
    compile_aside: bool = False,
    progress: Progress | None = None,
    **options: Unpack[SettingsOptions],
) -> EncodeReport:
    """Encode a safetensors file or a model directory; ``dst`` appears whole or not at all.

    Args:
        src: a ``.safetensors`` file, or a directory in the Hugging Face layout; or the URL of one (a text, ``s3://...``),
            read by fsspec. Never written to.
        dst: the file or directory to write, or a URL: what is written there is made in ``TMPDIR`` first.
        settings: how to prune and quantize; or give the fields of :class:`Settings` as keywords.
        hessian: what ``xorpack calibrate`` wrote: weights are fitted to these activations (:func:`xorpack.fit`), but
            for tensors that it does not have.
        tp: devices that vLLM is to cut the model for: each matrix is encoded in so many pieces, which only vLLM runs.
        quantizers: what quantizes each tensor, if that was chosen before (:class:`xorpack.checkpoint.survey.Survey`).
        walk: through the model, with the hessian: each layer is fitted to make up for those before it, as
            ``xorpack compress --sequential`` does (:class:`xorpack.calibration.walk.ModelWalk`).
        include: patterns of the tensors to take, see :mod:`xorpack.files.selection`.
        exclude: patterns of those to leave out.
        jobs: threads. The bytes written do not depend on it.
        overwrite: replace what stands at ``dst``.
        dry_run: read and check everything, estimate sizes, write nothing.
        resume: go on with what a run to ``dst`` finished before it was killed, if there was one; and when this one is
            stopped, leave what it has finished. It lies beside ``dst``, in a hidden directory that the next run to
            ``dst`` takes over or, without ``resume``, removes. The bytes in the end are the same.
        scheduler: address of a dask scheduler, ``tcp://HOST:PORT``, whose workers encode instead of threads; they see
            ``src`` and ``dst`` under the same absolute paths. Extra ``dask``.
        workers: instead, how many processes to start for that on this machine, with ``jobs`` threads together. A script
            that asks for them begins with ``if __name__ == "__main__":``.
        device: where trellises are searched, and the XOR code of other tensors is found: ``"cpu"``, ``"cuda"`` or
            ``"cuda:1"``. The bytes are the same.
        compile_aside: where the kernels of these settings are not compiled yet, start up to ``jobs`` - 1 processes that
            help to, and end before weights are read; the command line does.
        progress: told of every tensor that is done.
        options: fields of :class:`Settings`.

    Raises:
        FileNotFoundError, FormatError: ``src`` is missing, malformed, or encoded already.
        ParameterError: a setting breaks its rule, a pattern matches nothing, ``dst`` holds ``src`` or lies in it; or
            what is to be resumed is of other settings or another version.
        DataError: weights that cannot be encoded so: NaN or infinity where BCQ needs numbers.
        DeviceError: there is no such GPU, or no CuPy.
        DestinationError: ``dst`` exists, cannot be written, or is a directory that looks like no checkpoint.
        SelfCheckError: an encoded tensor does not decode to what was encoded.
        SourceError: ``src`` changed while it was read, or since what is to be resumed was begun.
        WorkerError: workers are not there, of another version, cannot see ``src`` or ``dst``, or died.
    """
    if settings is not None and options:
        raise ParameterError("give settings or its fields, not both")
    if resume and dry_run:
        raise ParameterError("resume is of a run that writes, and dry_run asks for one that does not")
    chosen_settings = settings or Settings(**options)
    chosen_settings.check(options)
    clustered = check_options(jobs, scheduler, workers)
    check_device(device, chosen_settings, fitted=hessian is not None, elsewhere=scheduler is not None)
    if clustered:
        src, dst = absolute(src), absolute(dst)
        hessian = hessian and Path(hessian).absolute()
    with ExitStack() as stack:
        source = stack.enter_context(staged(src))
        target, upload = stack.enter_context(destination(dst, src, overwrite=overwrite))
        layout = find_source(source.path, target, overwrite=overwrite, dry_run=dry_run)
        stats = _open_hessians(hessian, target, chosen_settings)
        files, originals = source.open(layout.open()), Originals.of(layout, encoded=False)
        tensors = plain_tensors(files)
        if not chosen_settings.lossless:
            refuse_quantized(layout, tensors)
        plan = CheckpointPlan(chosen_settings, tensors, include, exclude)
        if checks.whole("tp", tp, 1) > 1:
            if stats is not None:
                raise ParameterError("hessian is of whole matrices, and tp cuts them")
            files = parallel.cut_files(layout, files, plan.selected, tp)
            plan = CheckpointPlan(chosen_settings, plain_tensors(files), include, exclude)
            for name in plan.left_out:
                _refuse_piece(name)
        n_bytes = sum(file.n_bytes for file in files)
        run = EncodingRun(plan, n_bytes, jobs=jobs, progress=progress, stats=stats, device=device)
        if dry_run:
            run.choose_quantizers(quantizers)
            return run.estimate()
        if compile_aside and not clustered and device == "cpu" and stats is None:
            compile_missing(first_kernels(chosen_settings), jobs)
        pool = None
        if clustered:
            paths = [*source.paths, target.parent, *(file.path for file in run.hessian_sources)]
            pool = stack.enter_context(executor(jobs, scheduler, workers, paths=paths))
        work = stack.enter_context(
            workspace(target, directory=layout.is_directory, overwrite=overwrite, resume=resume)
        )
        digest = None if walk is None else walk.digest
        asked = chosen_settings, include, exclude, files, run.hessian_sources
        journal = Journal(work, identity(*asked, tp=tp, walk=digest))
        if journal.quantizers is not None:
            run.plan.quantizers = journal.quantizers
        else:
            run.choose_quantizers(quantizers)
            journal.choose(run.plan.quantizers)
        out = work / OUT
        if layout.is_directory:
            out.mkdir(exist_ok=True)
            for path in out.iterdir():
                if path.name not in journal.files:
                    remove(path)
        files_by_path = {out / file.path.name if layout.is_directory else out: file for file in files}
        run.write(files_by_path, work, journal, pool, walk)
        if layout.is_directory:
            _write_others(layout, originals, files, out, run, {"tp": tp} if tp > 1 else {})
        check_unchanged([*(file.source for file in files), *run.hessian_sources])
        upload(out)
    return run.report


def _refuse_piece(name: str) -> None:
    """Raise ParameterError if a tensor that is to be carried is a piece: vLLM cuts by itself what is carried."""
    whole, piece = cuts.parse(name)
    if piece is not None:
        raise ParameterError(
            f"tensor {whole!r}: a piece of it would not become smaller by encoding; exclude it"
        )


def _write_others(
    layout: model.CheckpointLayout,
    originals: Originals,
    files: Sequence[SafetensorsFile],
    out: Path,
    run: EncodingRun,
    more: Mapping[str, int],
) -> None:
    """Write what else than its files an encoded directory holds; ``more``: of config.json."""
    weight_map: dict[str, str] = {}
    total_size, version = 0, 0
    for file in files:
        written = safetensors_file.read(out / file.path.name)
        weight_map |= dict.fromkeys(written.tensors, file.path.name)
        total_size += sum(one.n_bytes for one in written.tensors.values())
        version = max(version, container.version_of(written))
    model.copy_others(layout, out, skip=[Path(model.CONFIG), Path(card.NAME)])
    _write_card(layout.root / card.NAME, out / card.NAME, run.settings.lossless, run.report)
    plain_size = sum(stored.n_bytes for file in files for stored in file.tensors.values())
    originals.encode(
        out,
        {**run.settings.config(run.report.accounts, run.report.left_out, version), **more},
        model.index_text(layout.weight_map or {}, plain_size),
        model.index_text(weight_map, total_size),
    )


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
        device: str = "cpu",
    ) -> None:
        """See :func:`encode_checkpoint`; ``source_bytes``: of the report."""
        self.plan, self.settings, self.jobs, self.progress = plan, plan.settings, jobs, progress
        self.device = device
        self.threads = max(1, jobs // max(1, len(plan.selected)))  # of a tensor
        self._stats = stats
        self.plan.fitted = () if stats is None else stats
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

    def choose_quantizers(self, chosen: Mapping[str, Quantizer] | None = None) -> None:
        """Choose that of each tensor, where there is a budget; or take those that are ``chosen``."""
        if chosen is not None:
            self.plan.quantizers = dict(chosen)
        elif self.settings.has_budget:
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

    def task(self, name: str) -> TensorTask:
        """What is to be done for a selected tensor."""
        return TensorTask(
            name=name,
            stored=self.plan.selected[name],
            settings=self.settings,
            quantizer=self.plan.quantizers[name],
            threshold=self.plan.threshold(name),
            hessian=None if self._stats is None else self._stats.stored(name),
            outputs=None if self._stats is None else self._stats.outputs(name),
            n_seen=self._stats.rows(name) if self._stats is not None and name in self._stats else 0,
            jobs=self.threads,
            device=self.device,
        )

    def take(self, name: str, result: TensorResult) -> None:
        """Note what became of a tensor; one that would not become smaller is left out after all."""
        report = self.report
        if result.account is None:
            _refuse_piece(name)
            self._leave_out(name)
        else:
            report.accounts[name] = result.account
            report.seconds[name] = result.seconds
            if result.distortion is not None:
                report.distortions[name] = result.distortion
            if result.output_error is not None:
                report.output_errors[name] = result.output_error
            if result.negative_zeros is not None:
                report.negative_zeros[name] = result.negative_zeros
        self._done(name)

    def encode(self) -> dict[str, EncodedTensor]:
        """Encode all selected tensors in memory, but for those that would not become smaller."""
        encoded: dict[str, EncodedTensor] = {}
        with self._pool() as pool:
            futures = {name: pool.submit(encode_tensor, self.task(name)) for name in self.plan.selected}
            for name, future in futures.items():
                tensor, result = future.result()
                if tensor is not None:
                    encoded[name] = tensor
                self.take(name, result)
        return encoded

    def write(
        self,
        files: Mapping[Path, SafetensorsFile],
        work: Path,
        journal: Journal,
        workers: Executor | None = None,
        walk: Walk | None = None,
    ) -> None:
        """Encode files of the source to the paths that they are given by.

        Args:
            files: of the source.
            work: a directory to work in.
            journal: of what is finished.
            workers: what encodes, a thread for each tensor; default: threads of this process.
            walk: see :func:`encode_checkpoint`.
        """
        shards = Shards(self.settings, list(self.plan.selected), files, work)
        if workers is not None:
            self.threads = 1
            shards.encode(self, workers, journal, walk)
        else:
            with self._pool() as pool:
                shards.encode(self, pool, journal, walk)
        self.report.stored_bytes = sum(path.stat().st_size for path in files)

    @contextmanager
    def _pool(self) -> Iterator[Executor]:
        """Threads, and none of BLAS beside them; when something fails, what has not begun never does."""
        pool = ThreadPoolExecutor(self.jobs)
        try:
            with scratch, threadpool_limits(1, user_api="blas"):
                yield pool
        finally:
            pool.shutdown(cancel_futures=True)

    def estimate(self) -> EncodeReport:
        """The report of a dry run: masks are made and counted, sizes follow from bounds."""
        for name in self.plan.selected:
            began = time.perf_counter()
            account = self.plan.preview(name).account
            if self.plan.becomes_smaller(name, account):
                self.report.accounts[name] = account
                self.report.seconds[name] = time.perf_counter() - began
            else:
                self._leave_out(name)
            self._done(name)
        total = self.report.total
        self.report.estimated = True
        self.report.stored_bytes = self.report.source_bytes - total.original_bytes + total.n_bytes
        return self.report

    def _leave_out(self, name: str) -> None:
        """Carry a tensor that was to be encoded, for it would take no fewer bytes."""
        del self.report.accounts[name]
        self.report.left_out[name] = LeftOut("would not become smaller", self.plan.selected[name].n_bytes)

    def _done(self, name: str) -> None:
        if self.progress is not None:
            self.progress(name, math.prod(self.plan.selected[name].shape), self.plan.n_weights)
