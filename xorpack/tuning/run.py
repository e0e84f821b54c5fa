"""``xorpack tune``: an encoded directory, trained towards the dense one."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from xorpack import checks
from xorpack.checkpoint.opened import Checkpoint
from xorpack.checkpoint.rewrite import check_sealed, rewrite_checkpoint
from xorpack.checkpoint.source import find_source
from xorpack.errors import FormatError, ParameterError
from xorpack.files import model
from xorpack.files.destination import check_destination
from xorpack.files.model import CheckpointLayout

if TYPE_CHECKING:
    import torch

STEPS, LEARNING_RATE, BATCH, LENGTH = 200, 0.01, 8, 512

HELD_OUT = 10
"""One of so many sequences is held out, and one at the least: the last."""

LOOKS = 10
"""How often the held-out sequences are looked at."""

Progress = Callable[[str, int, int], None]
"""Called after every sequence of the teacher's and every step: what is done, how much since, of how much in all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """What a look at the held-out sequences says; losses are Kullback-Leibler divergences in nats per token.

    Attributes:
        step: steps done.
        loss: of the held-out sequences.
        training_loss: the mean of the steps since the last look; NaN before the first.
    """

    step: int
    loss: float
    training_loss: float


@dataclass(frozen=True, slots=True, kw_only=True)
class TuneReport:
    """What came of a training.

    Attributes:
        n_weights: encoded tensors whose scales were trained.
        n_vectors: norms and biases that were trained.
        n_parameters: numbers that were trained.
        n_sequences, n_held_out, length: of the text, in tokens.
        dtype: that products were computed in.
        first_loss, best_loss: of the held-out sequences, before and at their best.
        written_loss: with the scales rounded as they are stored.
    """

    n_weights: int
    n_vectors: int
    n_parameters: int
    n_sequences: int
    n_held_out: int
    length: int
    dtype: str
    first_loss: float
    best_loss: float
    written_loss: float


def tune(
    source: str | Path,
    output: str | Path | None,
    *,
    teacher: str | Path,
    text: str | Path,
    delta: str | Path | None = None,
    state: str | Path | None = None,
    steps: int = STEPS,
    learning_rate: float = LEARNING_RATE,
    batch: int = BATCH,
    length: int = LENGTH,
    seed: int = 0,
    jobs: int = 1,
    overwrite: bool = False,
    told: Callable[[Look], None] = lambda _: None,
    progress: Progress = lambda *_: None,
) -> TuneReport:
    """Train scales, gains, norms and biases of an encoded model on what the dense one says of a text.

    Codes, masks and outliers stay as they are. The directory that is written differs from ``source`` in sections of
    scales and gains, records, norms and biases alone.

    Args:
        source: an encoded model directory.
        output: the directory to write; None where there is a ``delta``.
        teacher: the directory of the dense model, with a tokenizer.
        text: a UTF-8 file, of the kind that the model is for. As much of its beginning is used as the steps take; the
            last tenth of that is held out.
        delta: the file of scales and gains to write (:func:`xorpack.torch.load_scales`); norms and biases stay as they
            are then.
        state: a file that the training goes on from, if it stands there, and that is written at every look.
        steps: of the optimizer.
        learning_rate: the highest, in units of the root mean square of each tensor.
        batch: sequences of a step.
        length: tokens of a sequence, each seen without the others.
        seed: of the order of sequences.
        jobs: threads.
        overwrite: replace what stands at ``output`` or ``delta``.
        told: told of every look at the held-out sequences.
        progress: told of every sequence that the teacher has seen, and of every step.

    Raises:
        ParameterError: PyTorch or transformers is missing; an argument breaks its rule; the text is too short; there is
            nothing to train, or no logits to train towards.
        FormatError: ``source`` is no encoded directory, ``teacher`` is encoded, ``text`` is not UTF-8, ``state`` is of
            another training.
        SourceError: no tokenizer, or a model that transformers does not load.
        DataError: losses, scales or logits are NaN or infinite.
        DestinationError: something exists already, or cannot be written.
    """
    for name, value, least in (
        ("steps", steps, 1),
        ("batch", batch, 1),
        ("length", length, 2),
        ("jobs", jobs, 1),
    ):
        checks.whole(name, value, least)
    checks.whole("seed", seed)
    checks.positive("learning_rate", learning_rate)
    if (output is None) == (delta is None):
        raise ParameterError("give a directory to write, or delta: one of them")
    target = Path(output or delta or "")
    layout = find_source(Path(source), target, overwrite=overwrite, others=[Path(teacher)])
    _check_models(layout, model.find(Path(teacher)))
    if state is not None:
        check_destination(Path(state), overwrite=True, inputs=[*layout.inputs(), Path(text)])
    checkpoint = Checkpoint(source)
    check_sealed(checkpoint)
    checks.installed("torch", "transformers", extra="hf")
    import torch

    from xorpack.tuning.distill import Course, Distillation, faster_dtype
    from xorpack.tuning.student import Student
    from xorpack.tuning.teaching import lessons

    torch.set_num_threads(jobs)
    tokens = _sequences(Path(teacher), Path(text), steps * batch * HELD_OUT // (HELD_OUT - 1) + 1, length)
    n_held_out = max(1, len(tokens) // HELD_OUT)
    course = Course(
        steps=steps, learning_rate=learning_rate, batch=batch, seed=seed, every=max(1, -(-steps // LOOKS))
    )
    student = Student(checkpoint, vectors=delta is None)
    taught = lessons(Path(teacher), tokens, progress)
    dtype = faster_dtype(student.device)
    student.begin(dtype)
    training = Distillation(
        student.module, student.parameters, course, taught[:-n_held_out], taught[-n_held_out:], dtype=dtype
    )
    about = _about(checkpoint, tokens, asdict(course), sorted(student.parameters))
    if state is not None and Path(state).exists():
        training.resume(Path(state), about)
    else:
        told(Look(step=0, loss=training.loss, training_loss=float("nan")))

    def looked(now: Distillation, training_loss: float) -> None:
        if state is not None:
            now.save(Path(state), about)
        told(Look(step=now.step, loss=now.loss, training_loss=training_loss))

    training.run(looked, lambda: progress("train", 1, steps))
    training.restore_best()
    n_trained = sum(parameter.numel() for parameter in student.parameters.values())
    encoded, carried = student.end()
    written_loss = training.held_out_loss()
    if delta is not None:
        student.save_scales(target, overwrite=overwrite)
    else:
        rewrite_checkpoint(checkpoint, target, encoded, carried, overwrite=overwrite)
    return TuneReport(
        n_weights=len(encoded),
        n_vectors=len(carried),
        n_parameters=n_trained,
        n_sequences=len(tokens),
        n_held_out=n_held_out,
        length=length,
        dtype=str(dtype).removeprefix("torch."),
        first_loss=training.first_loss,
        best_loss=training.best_loss,
        written_loss=written_loss,
    )


def _check_models(encoded: CheckpointLayout, dense: CheckpointLayout) -> None:
    """Raise FormatError unless both are directories, and the second is not encoded."""
    for layout in (encoded, dense):
        if not layout.is_directory:
            raise FormatError(f"{layout.root}: one file is no model: name its directory, with config.json")
    if any(map(model.is_encoded, dense.shards)):
        raise FormatError(f"{dense.root}: encoded by xorpack; the teacher is the dense model")


def _sequences(root: Path, path: Path, most: int, length: int) -> torch.Tensor:
    """The first pieces of a text, ``most`` of them unless it is shorter, two at the least: int64 (n, length)."""
    import torch

    from xorpack.calibration.run import read_tokens

    ids = read_tokens(root, path, most * length)
    if len(ids) < 2 * length:
        raise ParameterError(
            f"{path}: {len(ids)} tokens, less than two sequences of {length}, of which one is held out; give more "
            f"text, or a smaller length"
        )
    return torch.tensor(ids[: len(ids) // length * length]).reshape(-1, length)


def _about(checkpoint: Checkpoint, tokens: torch.Tensor, course: dict[str, Any], names: list[str]) -> str:
    """A digest of what a state belongs to."""
    records = {name: file.records[name]["stored_sha256"] for file in checkpoint.files for name in file}
    digest = hashlib.sha256(json.dumps([records, course, names], sort_keys=True).encode())
    digest.update(tokens.numpy().tobytes())
    return digest.hexdigest()
