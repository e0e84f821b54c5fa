"""What a compressed model is measured with: a text of its own, or what the calibration left of its text."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from xorpack.compression.phases import Phases
from xorpack.compression.texts import LEAST, Text, rows_of
from xorpack.errors import FormatError, ParameterError


@dataclass(frozen=True, slots=True)
class Judge:
    """Tokens that models are to predict.

    Attributes:
        rows: the sequences; none where nothing can be measured.
        text: what they are, in words.
        why: or why nothing is measured, a sentence.
    """

    rows: tuple[tuple[int, ...], ...]
    text: str | None = None
    why: tuple[str, ...] = ()

    @classmethod
    def of(cls, root: Path, quality: Path | None, divided: Text | None) -> Judge:
        """Find what to measure with.

        Args:
            root: of the model.
            quality: a text that is asked for.
            divided: a text that serves to calibrate, too.

        Raises:
            ParameterError: ``quality`` is too short, or the model is no causal language model.
        """
        from xorpack.hf import quality as measured

        if quality is not None:
            measured.check_class(root)
            tokens = measured.read(root, quality)
            return cls(tuple(map(tuple, tokens.tolist())), f"{tokens.numel()} tokens of {quality}")
        if divided is None:
            return cls((), why=("no perplexity: no text to measure with is given, quality",))
        try:
            measured.check_class(root)
        except (ParameterError, FormatError) as error:
            return cls((), why=(f"no perplexity: {error}",))
        rows = rows_of(divided.held)
        if not rows:
            few = f"{divided.path} has {len(divided.held)} tokens behind those of the calibration, fewer than {LEAST}"
            return cls((), why=(f"no perplexity: {few}; give quality, another text",))
        n = sum(map(len, rows))
        return cls(tuple(rows), f"{n} tokens of {divided.path}, behind those of the calibration")

    def measure(self, path: Path, phases: Phases, name: str) -> float | None:
        """The perplexity of the model at ``path``; None where there is nothing to measure with."""
        if not self.rows:
            return None
        import torch

        from xorpack.hf.quality import perplexity

        with phases.phase(name):
            return perplexity(path, torch.tensor(self.rows))
