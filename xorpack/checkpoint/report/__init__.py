"""Read a checkpoint, encoded or plain, into a report."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from xorpack import checks
from xorpack.analysis.report.contents import Quality, Report
from xorpack.checkpoint.cluster import absolute, check_options, executor
from xorpack.checkpoint.opened import Checkpoint
from xorpack.checkpoint.report.common import Wanted
from xorpack.checkpoint.report.encoded import report_encoded
from xorpack.checkpoint.report.plain import report_plain
from xorpack.checkpoint.settings import Progress, Settings
from xorpack.checkpoint.source import check_unchanged, plain_tensors, refuse_quantized
from xorpack.errors import ParameterError
from xorpack.files import container, cuts, model
from xorpack.files.hessians import Hessians
from xorpack.files.remote import staged
from xorpack.files.url import is_url


def report_checkpoint(
    path: str | Path,
    *,
    settings: Settings | None = None,
    include: Sequence[str] = (),
    exclude: Sequence[str] = (),
    sample: int | None = None,
    n_maps: int = 0,
    jobs: int = 1,
    max_weights: int | None = None,
    against: str | Path | None = None,
    hessian: str | Path | None = None,
    quality: str | Path | None = None,
    scheduler: str | None = None,
    workers: int | None = None,
    progress: Progress | None = None,
) -> Report:
    """Report on an encoded or a plain checkpoint, a file or a directory.

    Args:
        path: of the checkpoint, or its URL.
        settings: what a plain checkpoint is judged for: ``bits``, ``sparsity``, ``group_size``, ... None for the
            defaults, and of one that another tool quantized, only kept bit for bit.
        include: patterns of a plain checkpoint's tensors to take (:mod:`xorpack.files.selection`).
        exclude: patterns of those to leave out.
        sample: weights to measure real coders on, and our own; None for none.
        n_maps: tensors to make a density map of, those whose masks are furthest from i.i.d.
        jobs: threads.
        max_weights: of an encoded checkpoint, see :func:`xorpack.checkpoint.open_checkpoint`.
        against: the plain checkpoint that an encoded one was made from, or its URL: the errors of its quantized tensors
            are reported beside the bounds of their rate.
        hessian: what ``xorpack calibrate`` wrote: with ``against``, the errors of layers' outputs are reported, what
            they cost the model, and what a bit more would gain.
        quality: a text, UTF-8, of which a causal language model is to predict the first tokens: its perplexity is
            reported, and that of ``against``. Needs the extra ``hf``.
        scheduler: address of a dask scheduler whose workers look at the tensors instead of threads, see
            :func:`xorpack.encode_checkpoint`; coders run, and maps are made, in this process.
        workers: instead, how many processes to start for that on this machine.
        progress: told of every tensor that is done.

    Raises:
        FileNotFoundError, FormatError, CorruptError: the checkpoint is missing, malformed or damaged.
        ParameterError: a setting breaks its rule, a pattern matches nothing, nothing can be encoded; settings to
            quantize what another tool quantized; ``against`` for a plain checkpoint, ``hessian`` without it;
            ``quality`` of what is no causal language model, or of a text that is too short.
        MismatchError: ``against`` has not the tensors that were encoded.
        SourceError: a file changed while it was read.
        WorkerError: workers are not there, of another version, cannot see what is read, or died.
    """
    if sample is not None:
        checks.whole("sample", sample, 1)
    checks.whole("n_maps", n_maps)
    shown = str(path if is_url(path) else Path(path))
    if check_options(jobs, scheduler, workers):
        path, against, hessian = absolute(path), against and absolute(against), hessian and absolute(hessian)
    with ExitStack() as stack:
        place = stack.enter_context(staged(path))
        layout = model.find(place.path)
        files = place.open(layout.open())
        encoded = any(container.is_encoded(file) for file in files)
        if against is not None and not encoded:
            raise ParameterError(f"{shown} is plain: against is for what was encoded, whose error it shows")
        if hessian is not None and against is None:
            raise ParameterError(
                "hessian tells the error of outputs, which is of what was encoded and against what"
            )
        paths, read, source = place.paths, [file.source for file in files], None
        if encoded:
            if include or exclude or settings is not None:
                raise ParameterError(
                    f"{shown} is encoded already: patterns and settings are for plain checkpoints"
                )
            checkpoint = Checkpoint(place, verify=False, max_weights=max_weights)
            if against is not None:
                theirs = stack.enter_context(staged(against))
                plain = theirs.open(model.find(theirs.path).open())
                source = cuts.cut_as(set(checkpoint), plain_tensors(plain))
                paths, read = [*paths, *theirs.paths], [*read, *(file.source for file in plain)]
        else:
            chosen = settings or Settings()
            if chosen.lossless:
                raise ParameterError(
                    "a plain checkpoint is reported both lossless and quantized: leave lossless out"
                )
            chosen.check()
            if settings is not None:
                refuse_quantized(layout, plain_tensors(files))
        stats = None if hessian is None else Hessians(hessian)
        paths = [*paths, *([] if stats is None else [stats.path])]
        wanted = Wanted(
            path=shown,
            pool=stack.enter_context(executor(jobs, scheduler, workers, paths=paths)),
            sample=sample,
            n_maps=n_maps,
            progress=progress,
            against=source,
            stats=stats,
            quality=_quality(path, quality, against),
        )
        found = (
            report_encoded(checkpoint, wanted)
            if encoded
            else report_plain(layout, files, chosen, (include, exclude), wanted)
        )
        check_unchanged(read)
    return found


def _quality(path: str | Path, text: str | Path | None, against: str | Path | None) -> Quality | None:
    if text is None:
        return None
    for place in (path, against):
        if place is not None and is_url(place):
            raise ParameterError(f"quality is of models on a disk, and {place} is a URL")
    try:
        from xorpack.hf.quality import measure
    except ImportError as error:
        raise ParameterError(f"quality: {error}") from None
    return measure(Path(path), Path(text), None if against is None else Path(against))
