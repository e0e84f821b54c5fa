"""``xorpack compress``: calibrate, choose rates, fit, encode, verify, and measure what is lost."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack

from xorpack import checks
from xorpack.calibration.run import (
    LENGTH,
    SEQUENCES,
    CalibrationReport,
    calibrate,
    load_model,
    sequences_of,
)
from xorpack.checkpoint import EncodeReport, Settings, SettingsOptions, encode_checkpoint, verify_checkpoint
from xorpack.checkpoint.budget import Quantizer
from xorpack.checkpoint.source import find_source
from xorpack.checkpoint.survey import Survey
from xorpack.compression.phases import Phase, Phases, Show
from xorpack.compression.quality import Judge
from xorpack.compression.search import FIT_SPEED, TRIES, search
from xorpack.compression.texts import Text
from xorpack.errors import DataError, FormatError, ParameterError
from xorpack.files import model
from xorpack.files.atomic import atomic_directory, hidden_directory
from xorpack.files.destination import check_destination
from xorpack.files.hessians import Hessians

if TYPE_CHECKING:
    from xorpack.calibration.walk import ModelWalk

MOST = 6.0
"""Bits per weight that a search may come to."""


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
    max_perplexity_increase: float | None = None,
    stats: str | Path | None = None,
    quality: str | Path | None = None,
    sequences: int = SEQUENCES,
    length: int = LENGTH,
    memory: int | None = None,
    guided: bool = False,
    sequential: bool = False,
    include: Sequence[str] = (),
    exclude: Sequence[str] = (),
    jobs: int = 1,
    overwrite: bool = False,
    resume: bool = False,
    show: Show | None = None,
    say: Callable[[str], None] | None = None,
    **options: Unpack[SettingsOptions],
) -> CompressReport:
    """Compress a model for the least error of what its layers give out; ``dst`` appears whole or not at all.

    Args:
        src: a model directory in the Hugging Face layout, with its tokenizer. Never written to.
        dst: the directory to write.
        calibration: a UTF-8 text of the kind that the model is for. Its beginning serves to calibrate; what is behind
            that, an eighth of it, to measure with.
        max_perplexity_increase: instead of a size: .1 for the smallest model whose perplexity is at most a tenth above
            the dense one's. Takes several fits.
        stats: a file of statistics (``xorpack calibrate``): used if it is there, else written, and kept whatever
            becomes of the run, so that another begins where this one ended. Without it statistics are not kept.
        quality: another text to measure with.
        sequences, length, memory, guided: see :func:`xorpack.calibration.run.calibrate`.
        sequential: fit each layer so that it makes up for what those before it, already compressed, have changed
            (:mod:`xorpack.calibration.walk`). Needs ``calibration``, and the model in memory meanwhile.
        include, exclude, jobs, overwrite: see :func:`xorpack.encode_checkpoint`.
        resume: go on with what a run that was killed had calibrated and encoded, and leave that when this one is
            stopped; with ``stats``. The dense model is measured again, and a search's tries are made anew.
        show: opens what shows the progress of a phase.
        say: told in a line what a search will cost, and what it finds.
        options: fields of :class:`xorpack.Settings`: ``target_bits``, ``max_size`` or ``rate``.

    Raises:
        ParameterError: an argument breaks its rule; PyTorch or transformers is missing; the text is too short; the
            budget is below the least; the statistics are of another model, or not guided as is asked for.
        FormatError, SourceError: ``src`` is encoded, no model directory, or has no tokenizer; a text is not UTF-8.
        DataError: NaN or infinity in weights, in what a layer is given, or in the loss.
        DestinationError: ``dst`` exists, or cannot be written.
    """
    settings = Settings(**options)
    settings.check(options)
    checks.flag("guided", guided)
    if checks.flag("sequential", sequential) and calibration is None:
        raise ParameterError("sequential runs the model over a text once more: give calibration")
    if checks.flag("resume", resume) and stats is None:
        raise ParameterError("resume needs a file that statistics are kept in: give stats")
    for name, value, least in (("sequences", sequences, 1), ("length", length, 2), ("jobs", jobs, 1)):
        checks.whole(name, value, least)
    if max_perplexity_increase is not None:
        checks.positive("max_perplexity_increase", max_perplexity_increase)
        if settings.is_trellis:
            raise ParameterError("max_perplexity_increase is instead of target_bits, max_size and rate")
        settings = replace(settings, target_bits=MOST)
    if not settings.is_trellis or settings.lossless:
        raise ParameterError(
            "compress needs to know how small: give target_bits, max_size, rate or max_perplexity_increase"
        )
    root, target = Path(src), Path(dst)
    kept = None if stats is None else Path(stats)
    text = None if calibration is None else Path(calibration)
    layout = find_source(root, target, overwrite=overwrite)
    _check_inputs(layout, target, kept, text)
    there = kept is not None and kept.exists()
    if guided and kept is not None and there and not Hessians(kept).guided:
        raise ParameterError(f"{kept} is not guided: calibrate anew, to another file of statistics")
    Survey(
        root, settings, include=include, exclude=exclude, hessian=kept if there else None, jobs=jobs
    ).check_budget()
    divided: Text | None = None
    if text is not None and kept is not None and there:
        divided = Text.behind(root, text, Hessians(kept).n_tokens)
    elif text is not None:
        divided = Text.divide(root, text, sequences, length)
    run = _Run(
        root,
        target,
        settings,
        {"include": include, "exclude": exclude, "jobs": jobs},
        resume,
        Phases(show),
        Judge.of(root, None if quality is None else Path(quality), divided),
        say or (lambda line: None),
    )
    if max_perplexity_increase is not None:
        run.check_search(None if not there else kept)
    with _kept(kept, target) as path:
        run.measure_dense()
        found: CalibrationReport | None = None
        if not there:
            assert divided is not None
            found = run.calibrate(divided, path, memory, guided=guided)
        if sequential:
            assert divided is not None
            run.walk_over(divided, length)
        if max_perplexity_increase is None:
            encoded, perplexity = run.once(path, overwrite)
        else:
            encoded, perplexity = run.search(path, max_perplexity_increase, overwrite)
    return CompressReport(
        encoded=encoded,
        calibration=found,
        text=run.judge.text,
        perplexity=perplexity,
        dense=run.dense,
        phases=tuple(run.phases.done),
        notes=(*(() if found is None else found.notes), *run.judge.why),
    )


class _Run:
    """One compression: what is asked for, and what was done."""

    def __init__(
        self,
        root: Path,
        target: Path,
        settings: Settings,
        common: dict[str, Any],
        resume: bool,
        phases: Phases,
        judge: Judge,
        say: Callable[[str], None],
    ) -> None:
        self.root, self.target, self.settings, self.common = root, target, settings, common
        self.phases, self.judge, self.say, self.resume = phases, judge, say, resume
        self.dense: float | None = None
        self.walk: ModelWalk | None = None

    def measure_dense(self) -> None:
        """Measure what the model is before."""
        self.dense = self.judge.measure(self.root, self.phases, "measure the dense model")
        if self.dense is not None and not math.isfinite(self.dense):
            raise DataError(f"{self.root}: its perplexity is {self.dense} before anything is done to it")

    def calibrate(self, text: Text, stats: Path, memory: int | None, *, guided: bool) -> CalibrationReport:
        """Collect statistics."""
        with self.phases.phase("calibrate") as progress:
            return calibrate(
                self.root,
                text.path,
                stats,
                sequences=text.sequences,
                length=text.length,
                memory=memory,
                guided=guided,
                resume=self.resume,
                progress=progress,
            )

    def walk_over(self, text: Text, length: int) -> None:
        """Encode, from now on, while the model runs over the beginning of what was calibrated with."""
        from xorpack.calibration.walk import TOKENS, ModelWalk

        length = min(length, text.n_tokens)
        sequences = max(1, min(TOKENS, text.n_tokens) // length)
        self.walk = ModelWalk(load_model(self.root), sequences_of(self.root, text.path, sequences, length))

    def once(self, stats: Path, overwrite: bool) -> tuple[EncodeReport, float | None]:
        """Encode as the settings ask for."""
        quantizers = None
        if self.settings.has_budget:
            survey = Survey(self.root, self.settings, hessian=stats, **self.common)
            with self.phases.phase("choose rates") as progress:
                quantizers = survey.quantizers(survey.curves(progress))
        return self._encode(self.target, self.settings, stats, quantizers, overwrite, self.resume)

    def check_search(self, stats: Path | None) -> None:
        """Refuse a search that nothing can be measured of, or foretold."""
        if not self.judge.rows:
            raise ParameterError(f"max_perplexity_increase: {self.judge.why[0]}")
        if stats is not None:
            known = Hessians(stats)
            if all(known.gradients(name) is None for name in known):
                raise ParameterError(
                    f"{stats} has no gradients, which max_perplexity_increase needs: calibrate anew"
                )

    def search(self, stats: Path, increase: float, overwrite: bool) -> tuple[EncodeReport, float | None]:
        """Encode as small as the perplexity allows."""
        survey = Survey(self.root, self.settings, hessian=stats, **self.common)
        with self.phases.phase("choose rates") as progress:
            curves = survey.curves(progress)
        minutes = survey.n_weights / FIT_SPEED / self.common["jobs"] / 60
        self.say(
            f"at most {TRIES} tries, each a fit of {survey.n_weights / 1e6:.1f} M weights and a measurement: about "
            f"{max(minutes, 1):.0f} minutes each at 2 bits, more for more bits"
        )
        found: dict[float, tuple[EncodeReport, float | None, Path]] = {}
        with hidden_directory(self.target) as folder:

            def attempt(bits: float, number: int) -> float:
                settings = replace(self.settings, target_bits=bits)
                at = Survey(self.root, settings, hessian=stats, **self.common)
                out = folder / str(number)
                report, perplexity = self._encode(out, settings, stats, at.quantizers(curves))
                assert perplexity is not None
                assert self.dense is not None
                found[bits] = report, perplexity, out
                ratio = perplexity / self.dense
                self.say(
                    f"{bits:.3f} bits per weight: perplexity {perplexity:.2f}, {100 * (ratio - 1):+.1f} %"
                )
                return ratio

            best = search(curves, survey.n_weights, increase, attempt)
            report, perplexity, out = found[best.bits]
            with atomic_directory(self.target, overwrite=overwrite) as directory:
                for path in out.iterdir():
                    path.rename(directory / path.name)
        return report, perplexity

    def _encode(
        self,
        target: Path,
        settings: Settings,
        stats: Path,
        quantizers: Mapping[str, Quantizer] | None,
        overwrite: bool = False,
        resume: bool = False,
    ) -> tuple[EncodeReport, float | None]:
        """Encode, verify and measure."""
        with self.phases.phase("fit and encode") as progress:
            report = encode_checkpoint(
                self.root,
                target,
                settings=settings,
                hessian=stats,
                quantizers=quantizers,
                walk=self.walk,
                overwrite=overwrite,
                resume=resume,
                progress=progress,
                **self.common,
            )
        with self.phases.phase("verify") as progress:
            verify_checkpoint(target, against=self.root, jobs=self.common["jobs"], progress=progress)
        return report, self.judge.measure(target, self.phases, "measure the compressed model")


def _check_inputs(
    layout: model.CheckpointLayout, target: Path, stats: Path | None, text: Path | None
) -> None:
    """Refuse what cannot be compressed, before anything is done."""
    if not layout.is_directory:
        raise FormatError(
            f"{layout.root}: one file is no model: name its directory, with config.json and tokenizer"
        )
    checks.installed("torch", "transformers", extra="hf")
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
    with hidden_directory(target) as folder:
        yield folder / "stats.safetensors"
