"""Small random models of transformers, dense, encoded and decoded, each made once for a run of the tests."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

os.environ["HF_HUB_OFFLINE"] = "1"

import torch
import transformers

import xorpack
import xorpack.hf
from xorpack.torch import XorWeight

transformers.logging.set_verbosity_error()
transformers.utils.logging.disable_progress_bar()

SIZES: dict[str, Any] = {
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "vocab_size": 256,
}
IDS = torch.arange(20)[None] * 7 % 250

KINDS: dict[str, tuple[str, dict[str, Any]]] = {
    "Llama": ("LlamaForCausalLM", {**SIZES, "num_key_value_heads": 2, "tie_word_embeddings": False}),
    "tied Llama": ("LlamaForCausalLM", {**SIZES, "tie_word_embeddings": True}),
    "GPT2": (
        "GPT2LMHeadModel",
        {"n_embd": 64, "n_layer": 2, "n_head": 4, "vocab_size": 256, "n_positions": 64},
    ),
    "Mixtral": ("MixtralForCausalLM", {**SIZES, "num_key_value_heads": 2, "num_local_experts": 4}),
    "Bert": ("BertForMaskedLM", SIZES),
    "T5": (
        "T5ForConditionalGeneration",
        {"d_model": 64, "d_kv": 16, "d_ff": 128, "num_layers": 2, "num_heads": 4, "vocab_size": 256},
    ),
}
"""Class and configuration of each."""

LOSSLESS = {"lossless": True}
BCQ = {"bits": 3, "sparsity": 0.5}
TRELLIS = {"rate": 2.0}
EVERYTHING = {"lossless": True, "include": ["re:.*weight"]}
"""Settings: the last encodes embeddings and heads, too."""


class Models:
    """Directories of models under one folder."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def dense(self, kind: str, **options: Any) -> Path:
        """A directory as ``save_pretrained`` writes it with ``options``."""
        path = self.root / f"{kind} {options}"
        if not path.exists():
            torch.manual_seed(0)
            name, sizes = KINDS[kind]
            found = getattr(transformers, name)
            model = found(found.config_class(**sizes))
            model.eval().save_pretrained(path, **options)
        return path

    def encoded(self, kind: str, settings: dict[str, Any], **options: Any) -> Path:
        """The same, encoded."""
        dense = self.dense(kind, **options)
        path = dense.with_name(f"{dense.name} {settings} encoded")
        if not path.exists():
            xorpack.encode_checkpoint(dense, path, **settings)
        return path

    def twin(self, kind: str, settings: dict[str, Any]) -> Path:
        """The same, decoded again."""
        encoded = self.encoded(kind, settings)
        path = encoded.with_name(f"{encoded.name} decoded")
        if not path.exists():
            xorpack.decode_checkpoint(encoded, path)
        return path


def load(kind: str, path: Path, **options: Any) -> Any:
    """The model of a directory."""
    return getattr(transformers, KINDS[kind][0]).from_pretrained(path, **options)


def logits(model: Any) -> torch.Tensor:
    """What a model makes of some tokens."""
    more = {"decoder_input_ids": IDS} if model.config.is_encoder_decoder else {}
    with torch.no_grad():
        found: torch.Tensor = model(input_ids=IDS, **more)[0]
    return found


def weights(model: Any) -> dict[str, XorWeight]:
    """Encoded weights by name."""
    return {name: module for name, module in model.named_modules() if isinstance(module, XorWeight)}
