"""A tiny Llama with a tokenizer of words, and a text."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

WORDS = [f"w{i}" for i in range(60)]


def written(path: Path, n: int) -> Path:
    """Write a text of ``n`` words."""
    path.write_text(" ".join(np.random.default_rng(0).choice(WORDS, n)))
    return path


def make_model(root: Path, *, spread: float = 0.1, dtype: str = "float32") -> Path:
    """Write the model's directory; ``spread``: standard deviation of its weights."""
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    tokenizers = pytest.importorskip("tokenizers")
    torch.manual_seed(0)
    config = transformers.LlamaConfig(
        vocab_size=64, hidden_size=64, intermediate_size=96, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=1, tie_word_embeddings=True, initializer_range=spread,
    )  # fmt: skip
    transformers.LlamaForCausalLM(config).to(getattr(torch, dtype)).save_pretrained(root)
    vocabulary = {word: i for i, word in enumerate(["[UNK]", *WORDS])}
    inner = tokenizers.Tokenizer(tokenizers.models.WordLevel(vocabulary, unk_token="[UNK]"))
    inner.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    transformers.PreTrainedTokenizerFast(tokenizer_object=inner, unk_token="[UNK]").save_pretrained(root)
    return root
