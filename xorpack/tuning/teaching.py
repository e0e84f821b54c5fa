"""What the dense model says of a text: once, so that it need not be held while the encoded one trains."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from xorpack.calibration.run import load_plain
from xorpack.tuning.targets import Targets, logits_of


def lessons(
    root: Path, tokens: Tensor, progress: Callable[[str, int, int], None]
) -> list[tuple[Tensor, Targets]]:
    """Each sequence with the dense model's targets.

    Args:
        root: the model's directory.
        tokens: int64 (sequences, length).
        progress: told of every sequence.

    Raises:
        SourceError: transformers does not load it.
        ParameterError, DataError: its logits are missing, NaN or infinite.
    """
    teacher = load_plain(root)
    found = []
    with torch.no_grad():
        for sequence in tokens:
            found.append((sequence, Targets.of(logits_of(teacher, sequence))))
            progress("teacher", 1, len(tokens))
    return found
