"""``xorpack calibrate``: a model directory and a text to a file of Hessians."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from xorpack import checks
from xorpack._version import __version__
from xorpack.checkpoint.journal import source_of, state_of
from xorpack.encoding.fitting.hessian import FEW
from xorpack.errors import FormatError, ParameterError, SourceError
from xorpack.files import hessians, model
from xorpack.files.atomic import OUT, workspace
from xorpack.files.destination import check_destination
from xorpack.files.reading import SourceFile

if TYPE_CHECKING:
    import torch

SEQUENCES, LENGTH = 128, 1024

CHARACTERS = 16
"""Characters of the text that are read for each token that is asked for: more than any language needs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CalibrationReport:
    """What was collected.

    Attributes:
        n_layers: linear layers that saw inputs.
        n_matrices: Hessians; layers of the same input share one.
        n_sequences, length: of the text, in tokens.
        uncalled: weights of layers that saw no input; encoding has nothing to fit them to.
        thin: inputs of the widest layer, if it has seen less than twice as many tokens, else None.
        n_gradients: layers of which the loss's gradients are known.
        n_bytes: of the file.
    """

    n_layers: int
    n_matrices: int
    n_sequences: int
    length: int
    uncalled: tuple[str, ...]
    thin: int | None
    n_gradients: int
    n_bytes: int

    @property
    def notes(self) -> tuple[str, ...]:
        """What should be known before the statistics are used; a sentence each."""
        found = []
        if self.uncalled:
            found.append(
                f"{len(self.uncalled)} layers saw no input, {self.uncalled[0]} first: they will be quantized as "
                "without calibration"
            )
        if self.thin is not None:
            found.append(
                f"{self.n_sequences * self.length} tokens are fewer than twice the {self.thin} inputs of the widest "
                "layer: what such inputs have in common will be believed in part; more text makes for a better fit, "
                f"{FEW * self.thin} tokens at the least"
            )
        if not self.n_gradients:
            found.append("no gradients were taken: budgets will count every weight alike")
        return tuple(found)


def calibrate(
    source: str | Path,
    text: str | Path,
    output: str | Path,
    *,
    sequences: int = SEQUENCES,
    length: int = LENGTH,
    memory: int | None = None,
    gradients: bool = True,
    guided: bool = False,
    overwrite: bool = False,
    resume: bool = False,
    progress: Callable[[str, int, int], None] | None = None,
) -> CalibrationReport:
    """Run a model over a text and write the Hessians of its linear layers' inputs (:mod:`xorpack.files.hessians`).

    Args:
        source: a model directory in the Hugging Face layout, with a tokenizer.
        text: a UTF-8 file, of the kind that the model is for; its beginning is used.
        output: the file to write.
        sequences: how many pieces of the text, at the most; fewer where it is shorter.
        length: tokens of a piece, each seen without the others.
        memory: bytes of Hessians that are held at a time; where they take more, the model runs several times.
        gradients: of a causal language model, take those of the loss by the layers' outputs, too: they say which layers
            need bits. They take the memory of a run back through the model. Guided files have them anyway.
        guided: weigh inputs and outputs by gradients of the text's loss (:mod:`xorpack.calibration.collect`), of a
            model that predicts tokens; takes the time and memory of a backward pass over each sequence.
        overwrite: replace what stands at ``output``.
        resume: go on with the sums of a run to ``output`` that was killed, if there was one; and when this one is
            stopped, leave its sums: in a hidden directory beside ``output``, which the next run to it takes over or,
            without ``resume``, removes. They are kept every few minutes, on as much disk space as ``output`` takes, and
            come out the same to the last bit.
        progress: told of every sequence.

    Raises:
        ParameterError: PyTorch or transformers is missing; an argument breaks its rule; the text is too short; what
            is to be resumed is of other settings.
        FormatError: ``source`` is encoded, or no model directory; ``text`` is not UTF-8.
        SourceError: no tokenizer, or a model that transformers does not load.
        DataError: NaN or infinity in what a layer is given; no layer is called.
        DestinationError: ``output`` exists, or cannot be written.
    """
    checks.flag("gradients", gradients)
    checks.flag("resume", resume)
    checks.whole("sequences", sequences, 1)
    checks.whole("length", length, 2)
    if memory is not None:
        checks.whole("memory", memory, 1)
    root, text_path, target = Path(source), Path(text), Path(output)
    layout = model.find(root)
    if not layout.is_directory:
        raise FormatError(f"{root}: one file is no model: name its directory, with config.json and tokenizer")
    if any(model.is_encoded(path) for path in layout.shards):
        raise FormatError(f"{root}: encoded by xorpack already; calibrate with the plain model")
    check_destination(target, overwrite=overwrite, inputs=[*layout.inputs(), text_path])
    checks.installed("torch", "transformers", extra="hf")
    tokens = sequences_of(root, text_path, sequences, length)
    from xorpack.calibration.collect import MEMORY, Collector
    from xorpack.calibration.gradients import pieces_of, predicts, squared_gradients
    from xorpack.calibration.sums import KeptSums

    settings = {"sequences": sequences, "length": length, "memory": memory or MEMORY}
    settings |= {"gradients": gradients, "guided": guided}
    run = _identity(layout, text_path, tokens, settings)

    loaded = load_model(root)
    wanted = gradients and not guided and predicts(loaded)
    pieces = pieces_of(tokens) if wanted else tokens[:0]

    def told(name: str, done: int, n_runs: int) -> None:
        if progress is not None:
            progress(name, done, collector.n_runs + len(pieces))

    with workspace(target, directory=False, overwrite=overwrite, resume=resume) as work:
        kept = KeptSums(work, run)
        collector = Collector(
            loaded, tokens, memory=memory or MEMORY, guided=guided, progress=told, kept=kept
        )
        costs = squared_gradients(loaded, pieces, collector.modules, told, kept) if wanted else {}
        sizes = collector.n_outputs or {f"{name}.weight": len(cost) for name, cost in costs.items()}
        hessians.write(
            work / OUT,
            collector.layers,
            collector.sizes,
            collector.matrices(),
            guided=guided,
            n_gradients=sizes,
            gradients=collector.gradients if guided else lambda name: costs[name.removesuffix(".weight")],
        )
    widest = max(collector.sizes.values())
    return CalibrationReport(
        n_layers=len(collector.layers) - len(collector.uncalled),
        n_matrices=sum(rows > 0 for rows in collector.rows.values()),
        n_sequences=len(tokens),
        length=length,
        uncalled=tuple(collector.uncalled),
        thin=widest if FEW * widest > tokens.numel() else None,
        n_gradients=len(sizes),
        n_bytes=target.stat().st_size,
    )


def _identity(
    layout: model.CheckpointLayout, text: Path, tokens: torch.Tensor, settings: dict[str, Any]
) -> dict[str, Any]:
    """What the sums depend on, as JSON has it."""
    import torch

    source = source_of(layout.open())
    source[model.CONFIG] = state_of(SourceFile.of(layout.root / model.CONFIG))
    source[f"text {text.name}"] = {
        "digest of its tokens": hashlib.sha256(tokens.numpy().tobytes()).hexdigest()
    }
    found = {
        "version": {"xorpack": __version__, "torch": torch.__version__},
        "settings": settings,
        "source": source,
    }
    return dict(json.loads(json.dumps(found)))


def sequences_of(root: Path, path: Path, sequences: int, length: int) -> torch.Tensor:
    """The first pieces of a text, int64 (n, length), ``sequences`` at the most.

    Raises:
        ParameterError: the text has not even one.
        FormatError, SourceError: see :func:`read_tokens`.
    """
    import torch

    ids = read_tokens(root, path, sequences * length)
    n = min(sequences, len(ids) // length)
    if not n:
        raise ParameterError(
            f"{path}: {len(ids)} tokens, less than one sequence of {length}; give more text, or a smaller length"
        )
    return torch.tensor(ids[: n * length]).reshape(n, length)


def read_tokens(root: Path, path: Path, most: int) -> list[int]:
    """The first tokens of a text, ``most`` of them unless it is shorter, without those that mark a beginning or an end.

    Raises:
        FormatError: the text is not UTF-8.
        SourceError: ``root`` has no tokenizer.
    """
    from transformers import AutoTokenizer

    try:
        text = path.read_bytes().decode()
    except UnicodeDecodeError as error:
        raise FormatError(f"{path}: not UTF-8 at byte {error.start}") from None
    try:
        tokenizer = AutoTokenizer.from_pretrained(root, local_files_only=True)
        found = tokenizer(text[: CHARACTERS * most], add_special_tokens=False)["input_ids"]
    except Exception as error:
        raise SourceError(f"{root}: no tokenizer that transformers loads: {_first_line(error)}") from None
    ids: list[int] = found[:most]
    return ids


def load_model(root: Path) -> torch.nn.Module:
    """The model of config.json's own class, whose names are those of the files, in float32.

    Raises:
        SourceError: transformers does not load it.
    """
    import torch
    import transformers

    try:
        config = transformers.AutoConfig.from_pretrained(root, local_files_only=True)
        names = config.architectures or []
        kind: Any = getattr(transformers, names[0], None) if names else transformers.AutoModelForCausalLM
        if kind is None:
            raise SourceError(f"transformers {transformers.__version__} has no {names[0]}")
        found: torch.nn.Module = kind.from_pretrained(root, dtype=torch.float32, local_files_only=True)
    except Exception as error:
        raise SourceError(f"{root}: not loaded by transformers: {_first_line(error)}") from None
    found.eval()
    return found.to("cuda") if torch.cuda.is_available() else found


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0] or type(error).__name__
