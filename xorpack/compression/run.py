"""``xorpack compress``: calibrate, choose rates, fit, encode, verify, and measure what is lost."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Unpack

from xorpack import checks
from xorpack.calibration.run import LENGTH, SEQUENCES, CalibrationReport, calibrate
from xorpack.checkpoint import EncodeReport, Settings, SettingsOptions, encode_checkpoint, verify_checkpoint
from xorpack.checkpoint.source import find_source
from xorpack.checkpoint.survey import Survey
from xorpack.compression.phases import Phase, Phases, Show
from xorpack.compression.quality import Judge
from xorpack.compression.texts import Text
from xorpack.errors import FormatError, ParameterError
from xorpack.files import model
from xorpack.files.destination import check_destination
from xorpack.files.hessians import Hessians


@dataclass(frozen=True, slots=True, kw_only=True)
class CompressReport:
    """What became of a model.

    Attributes:
        encoded: sizes and errors of its tensors.
        calibration: what was collected; None where statistics were there.
        text: what the perplexities are of, in words; None where none was measured.
        perplexity, dense: of the compressed and of the dense model; None where none was measured, as ``notes`` say.
        phases: what was done, how long it took and the memory that it held.
        notes: what should be known; a sentence each.
    """

    encoded: EncodeReport
    calibration: CalibrationReport | None
    text: str | None
    perplexity: float | None
    dense: float | None
    phases: tuple[Phase, ...]
    notes: tuple[str, ...]


def compress_checkpoint(
    src: str | Path,
    dst: str | Path,
    *,
    calibration: str | Path | None = None,
    stats: str | Path | None = None,
    quality: str | Path | None = None,
    sequences: int = SEQUENCES,
    length: int = LENGTH,
    memory: int | None = None,
    include: Sequence[str] = (),
    exclude: Sequence[str] = (),
    jobs: int = 1,
    overwrite: bool = False,
    show: Show | None = None,
    **options: Unpack[SettingsOptions],
) -> CompressReport:
    """Compress a model for the least error of what its layers give out; ``dst`` appears whole or not at all.

    Args:
        src: a model directory in the Hugging Face layout, with its tokenizer. Never written to.
        dst: the directory to write.
        calibration: a UTF-8 text of the kind that the model is for. Its beginning serves to calibrate; what is behind
            that, an eighth of it, to measure with.
        stats: a file of statistics (``xorpack calibrate``): used if it is there, else written, and kept whatever
            becomes of the run, so that another begins where this one ended. Without it statistics are not kept.
        quality: another text to measure with.
        sequences, length, memory: see :func:`xorpack.calibration.run.calibrate`.
        include, exclude, jobs, overwrite: see :func:`xorpack.encode_checkpoint`.
        show: opens what shows the progress of a phase.
        options: fields of :class:`xorpack.Settings`: ``target_bits``, ``max_size`` or ``rate``.

    Raises:
        ParameterError: an argument breaks its rule; PyTorch or transformers is missing; the text is too short; the
            budget is below the least; the statistics are of another model.
        FormatError, SourceError: ``src`` is encoded, no model directory, or has no tokenizer; a text is not UTF-8.
        DataError: NaN or infinity in weights, or in what a layer is given.
        DestinationError: ``dst`` exists, or cannot be written.
    """
    settings = Settings(**options)
    settings.check(options)
    for name, value, least in (("sequences", sequences, 1), ("length", length, 2), ("jobs", jobs, 1)):
        checks.whole(name, value, least)
    if not settings.is_trellis or settings.lossless:
        raise ParameterError("compress needs to know how small: give target_bits, max_size or rate")
    root, target = Path(src), Path(dst)
    kept = None if stats is None else Path(stats)
    text = None if calibration is None else Path(calibration)
    layout = find_source(root, target, overwrite=overwrite)
    _check_inputs(layout, target, kept, text)
    there = kept is not None and kept.exists()
    survey = Survey(
        root, settings, include=include, exclude=exclude, hessian=kept if there else None, jobs=jobs
    )
    survey.check_budget()
    divided: Text | None = None
    if text is not None and kept is not None and there:
        known = Hessians(kept)
        divided = Text.behind(root, text, max(known.rows(name) for name in known))
    elif text is not None:
        divided = Text.divide(root, text, sequences, length)
    phases = Phases(show)
    judge = Judge.of(root, None if quality is None else Path(quality), divided)
    with _kept(kept, target) as path:
        dense = judge.measure(root, phases, "measure the dense model")
        found: CalibrationReport | None = None
        if not there:
            assert divided is not None
            with phases.phase("calibrate") as progress:
                found = calibrate(
                    root,
                    divided.path,
                    path,
                    sequences=divided.sequences,
                    length=divided.length,
                    memory=memory,
                    progress=progress,
                )
            survey = Survey(root, settings, include=include, exclude=exclude, hessian=path, jobs=jobs)
        quantizers = None
        if settings.has_budget:
            with phases.phase("choose rates") as progress:
                quantizers = survey.quantizers(survey.curves(progress))
        with phases.phase("fit and encode") as progress:
            encoded = encode_checkpoint(
                root,
                target,
                settings=settings,
                hessian=path,
                quantizers=quantizers,
                include=include,
                exclude=exclude,
                jobs=jobs,
                overwrite=overwrite,
                progress=progress,
            )
        with phases.phase("verify") as progress:
            verify_checkpoint(target, against=root, jobs=jobs, progress=progress)
        perplexity = judge.measure(target, phases, "measure the compressed model")
        return CompressReport(
            encoded=encoded,
            calibration=found,
            text=judge.text,
            perplexity=perplexity,
            dense=dense,
            phases=tuple(phases.done),
            notes=(*(() if found is None else found.notes), *judge.why),
        )


def _check_inputs(
    layout: model.CheckpointLayout, target: Path, stats: Path | None, text: Path | None
) -> None:
    """Refuse what cannot be compressed, before anything is done."""
    if not layout.is_directory:
        raise FormatError(
            f"{layout.root}: one file is no model: name its directory, with config.json and tokenizer"
        )
    for package in ("torch", "transformers"):
        if find_spec(package) is None:
            raise ParameterError(f'{package} is missing: pip install "xorpack[hf]"')
    inputs = [*layout.inputs(), *([] if text is None else [text])]
    check_destination(target, overwrite=True, inputs=inputs, dry_run=True)
    if text is not None and not text.is_file():
        raise ParameterError(f"calibration {text}: no such file")
    if stats is not None and stats.exists():
        check_destination(target, overwrite=True, inputs=[stats], dry_run=True)
    elif text is None:
        missing = "no statistics are" if stats is None else f"{stats} is not there"
        raise ParameterError(f"{missing}: give calibration, a text, or stats, what xorpack calibrate wrote")
    elif stats is not None:
        check_destination(stats, inputs=[*inputs, target])


@contextmanager
def _kept(stats: Path | None, target: Path) -> Iterator[Path]:
    """Where statistics stand: at ``stats``, or beside ``target`` for as long as they are needed."""
    if stats is not None:
        yield stats
        return
    folder = Path(
        tempfile.mkdtemp(prefix=f".{target.name}.", suffix=".xorpack-stats", dir=target.absolute().parent)
    )
    try:
        yield folder / "stats.safetensors"
    finally:
        shutil.rmtree(folder, ignore_errors=True)
