"""How well a causal language model predicts a text: its perplexity, encoded or dense."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

from xorpack.analysis.report.contents import Quality
from xorpack.errors import FormatError, ParameterError

N_SEQUENCES, LENGTH, LEAST = 4, 1024, 128
"""Sequences that are predicted, at the most; tokens of each, at the most and at the least."""


def measure(path: Path, text: Path, against: Path | None = None) -> Quality:
    """The perplexity of a model on the first tokens of a text, each sequence predicted without the others.

    Args:
        path: of the model's directory, encoded or plain, with its tokenizer.
        text: a file, UTF-8.
        against: the directory of another model, which is given the same tokens.

    Raises:
        ParameterError: it is no causal language model or has no tokenizer; the text is too short or none.
    """
    for place in (path, against):
        if place is not None:
            check_class(place)
    tokens = read(path, text)
    return Quality(
        text=str(text),
        n_tokens=tokens.numel(),
        perplexity=perplexity(path, tokens),
        dense=None if against is None else perplexity(against, tokens),
    )


def check_class(path: Path) -> None:
    """Raise ParameterError, or FormatError, unless a directory is of a causal language model."""
    if not path.is_dir():
        raise ParameterError(f"{path} is not a directory: quality is measured of a model with its tokenizer")
    try:
        config = AutoConfig.from_pretrained(path)
    except (OSError, ValueError) as error:
        raise FormatError(f"{path}: transformers does not know its model: {_line(error)}") from None
    named = getattr(config, "architectures", None) or []
    if not set(named) & set(MODEL_FOR_CAUSAL_LM_MAPPING_NAMES.values()):
        raise ParameterError(
            f"{path}: {', '.join(named) or 'no class in config.json'}, which is no causal language model: quality is "
            f"measured of those"
        )


def read(path: Path, text: Path) -> torch.Tensor:
    """Tokens, (sequences, length)."""
    try:
        content = text.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise ParameterError(f"{text} cannot be read as UTF-8 text: {_line(error)}") from None
    try:
        tokenizer = AutoTokenizer.from_pretrained(path)
        ids = tokenizer(content, return_tensors="pt", verbose=False).input_ids[0]
    except Exception as error:  # whatever a tokenizer that is missing or damaged raises
        raise ParameterError(f"{path} has no tokenizer that transformers loads: {_line(error)}") from None
    limit = getattr(AutoConfig.from_pretrained(path), "max_position_embeddings", None) or LENGTH
    length = min(LENGTH, limit, len(ids))
    if length < min(LEAST, limit):
        raise ParameterError(f"{text} has {len(ids)} tokens, and at least {min(LEAST, limit)} are needed")
    n = min(N_SEQUENCES, len(ids) // length)
    found: torch.Tensor = ids[: n * length].reshape(n, length)
    return found


def perplexity(path: Path, tokens: torch.Tensor) -> float:
    """``exp`` of the mean negative log-likelihood of each token after a sequence's first."""
    model: Any = AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32).eval()
    losses = []
    with torch.inference_mode():
        for row in tokens:
            logits = model(row[None]).logits[0, :-1].float()
            losses.append(torch.nn.functional.cross_entropy(logits, row[1:]).item())
    return math.exp(sum(losses) / len(losses))


def _line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).partition("\n")[0]
