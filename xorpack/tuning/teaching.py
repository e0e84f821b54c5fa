"""What the dense model says of a text: once, so that it need not be held while the encoded one trains."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

import xorpack.hf
from xorpack.errors import SourceError
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
    try:
        teacher = xorpack.hf.load(root, dtype=torch.float32).eval()
    except Exception as error:  # whatever transformers raises of a model that it cannot load
        line = str(error).strip().partition("\n")[0] or type(error).__name__
        raise SourceError(f"{root}: not loaded by transformers: {line}") from None
    found = []
    with torch.no_grad():
        for sequence in tokens:
            found.append((sequence, Targets.of(logits_of(teacher, sequence))))
            progress("teacher", 1, len(tokens))
    return found
