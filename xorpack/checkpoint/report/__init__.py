"""Read a checkpoint, encoded or plain, into a report."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from xorpack import checks
from xorpack.analysis.report.contents import Quality, Report
from xorpack.checkpoint.opened import Checkpoint
from xorpack.checkpoint.report.common import Wanted
from xorpack.checkpoint.report.encoded import report_encoded
from xorpack.checkpoint.report.plain import report_plain
from xorpack.checkpoint.settings import Progress, Settings
from xorpack.checkpoint.source import plain_tensors, refuse_quantized
from xorpack.errors import ParameterError
from xorpack.files import container, cuts, model
from xorpack.files.hessians import Hessians


def report_checkpoint(
    path: str | Path,
    *,
    settings: Settings | None = None,
    include: Sequence[str] = (),
    exclude: Sequence[str] = (),
    sample: int | None = None,
    n_maps: int = 0,
    max_weights: int | None = None,
    against: str | Path | None = None,
    hessian: str | Path | None = None,
    quality: str | Path | None = None,
    progress: Progress | None = None,
) -> Report:
    """Report on an encoded or a plain checkpoint, a file or a directory.

    Args:
        path: of the checkpoint.
        settings: what a plain checkpoint is judged for: ``bits``, ``sparsity``, ``group_size``, ... None for the
            defaults, and of one that another tool quantized, only kept bit for bit.
        include: patterns of a plain checkpoint's tensors to take (:mod:`xorpack.files.selection`).
        exclude: patterns of those to leave out.
        sample: weights to measure real coders on, and our own; None for none.
        n_maps: tensors to make a density map of, those whose masks are furthest from i.i.d.
        max_weights: of an encoded checkpoint, see :func:`xorpack.checkpoint.open_checkpoint`.
        against: the plain checkpoint that an encoded one was made from: the errors of its quantized tensors are
            reported beside the bounds of their rate.
        hessian: what ``xorpack calibrate`` wrote: with ``against``, the errors of layers' outputs are reported, what
            they cost the model, and what a bit more would gain.
        quality: a text, UTF-8, of which a causal language model is to predict the first tokens: its perplexity is
            reported, and that of ``against``. Needs the extra ``hf``.
        progress: told of every tensor that is done.

    Raises:
        FileNotFoundError, FormatError, CorruptError: the checkpoint is missing, malformed or damaged.
        ParameterError: a setting breaks its rule, a pattern matches nothing, nothing can be encoded; settings to
            quantize what another tool quantized; ``against`` for a plain checkpoint, ``hessian`` without it;
            ``quality`` of what is no causal language model, or of a text that is too short.
        MismatchError: ``against`` has not the tensors that were encoded.
    """
    if sample is not None:
        checks.whole("sample", sample, 1)
    checks.whole("n_maps", n_maps)
    layout = model.find(Path(path))
    files = layout.open()
    encoded = any(container.is_encoded(file) for file in files)
    if against is not None and not encoded:
        raise ParameterError(f"{path} is plain: against is for what was encoded, whose error it shows")
    if hessian is not None and against is None:
        raise ParameterError(
            "hessian tells the error of outputs, which is of what was encoded and against what"
        )
    wanted = Wanted(sample, n_maps, progress)
    if encoded:
        if include or exclude or settings is not None:
            raise ParameterError(
                f"{path} is encoded already: patterns and settings are for plain checkpoints"
            )
        checkpoint = Checkpoint(path, verify=False, max_weights=max_weights)
        if against is not None:
            source = plain_tensors(model.find(Path(against)).open())
            wanted = replace(wanted, against=cuts.cut_as(set(checkpoint), source))
        if hessian is not None:
            wanted = replace(wanted, stats=Hessians(hessian))
        return report_encoded(checkpoint, replace(wanted, quality=_quality(path, quality, against)))
    chosen = settings or Settings()
    if chosen.lossless:
        raise ParameterError("a plain checkpoint is reported both lossless and quantized: leave lossless out")
    chosen.check()
    if settings is not None:
        refuse_quantized(layout, plain_tensors(files))
    wanted = replace(wanted, quality=_quality(path, quality, None))
    return report_plain(layout, files, chosen, (include, exclude), wanted)


def _quality(path: str | Path, text: str | Path | None, against: str | Path | None) -> Quality | None:
    if text is None:
        return None
    try:
        from xorpack.hf.quality import measure
    except ImportError as error:
        raise ParameterError(f"quality: {error}") from None
    return measure(Path(path), Path(text), None if against is None else Path(against))
