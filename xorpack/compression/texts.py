"""One text for two ends: to calibrate with, and behind that to measure with what the model was not fitted to."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from xorpack.calibration.run import read_tokens
from xorpack.errors import ParameterError

HELD, SHARE, LENGTH = 4096, 8, 1024
"""Tokens that are kept apart to measure with, at the most; one of so many; tokens of a sequence, at the most."""

LEAST = 128
"""Tokens to calibrate or to measure with, at the least."""


@dataclass(frozen=True, slots=True)
class Text:
    """How a text is divided.

    Attributes:
        path: of the file.
        sequences, length: its beginning, to calibrate with.
        held: tokens behind it to measure with.
        wanted: tokens to calibrate with that were asked for.
    """

    path: Path
    sequences: int
    length: int
    held: tuple[int, ...]
    wanted: int

    @classmethod
    def divide(cls, root: Path, path: Path, sequences: int, length: int) -> Text:
        """Divide a text for a model with a tokenizer, of which ``sequences`` of ``length`` tokens are wanted.

        A text that is too short for one sequence is one shorter sequence.

        Raises:
            ParameterError: it has not even ``2 * LEAST`` tokens.
            FormatError, SourceError: see :func:`xorpack.calibration.run.read_tokens`.
        """
        wanted = sequences * length
        ids = read_tokens(root, path, wanted + HELD)
        if len(ids) < 2 * LEAST:
            raise ParameterError(
                f"{path}: {len(ids)} tokens; {wanted} are wanted, and {2 * LEAST} are the least"
            )
        held = min(max(len(ids) // SHARE, LEAST), HELD)
        length = min(length, len(ids) - held)
        sequences = min(sequences, (len(ids) - held) // length)
        return cls(path, sequences, length, tuple(ids[sequences * length :][:HELD]), wanted)

    @classmethod
    def behind(cls, root: Path, path: Path, n_seen: int) -> Text:
        """Divide a text of which the first ``n_seen`` tokens have served to calibrate."""
        ids = read_tokens(root, path, n_seen + HELD)
        return cls(path, 1, n_seen, tuple(ids[n_seen:]), n_seen)

    @property
    def n_tokens(self) -> int:
        """Tokens to calibrate with."""
        return self.sequences * self.length


def rows_of(held: tuple[int, ...]) -> list[tuple[int, ...]]:
    """Tokens to measure with as sequences of one length; none where they are too few."""
    if len(held) < LEAST:
        return []
    length = min(LENGTH, len(held))
    return [held[i : i + length] for i in range(0, len(held) - length + 1, length)]
