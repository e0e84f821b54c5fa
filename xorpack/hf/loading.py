"""An encoded directory as a model, and back, in one line each."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import transformers

from xorpack.errors import ParameterError
from xorpack.files import card, model
from xorpack.files.model import CONFIG
from xorpack.hf.quantizer import attach


def load(path: str | Path, *, model_class: Any = None, decode: bool = False, **options: Any) -> Any:
    """Load an encoded directory.

    Args:
        path: of the directory.
        model_class: of the model, as ``transformers.AutoModelForCausalLM``; default: that which config.json names.
        decode: decode the weights once and for all; default: they stay encoded in memory.
        options: of ``from_pretrained``.

    Raises:
        ParameterError: config.json names no class that transformers has.
        FormatError, CorruptError: the directory is not whole, or damaged.
        MismatchError: a model of this class has no place for what is encoded.
        DeviceError: it is to run on CUDA, and CuPy is missing.
    """
    if model_class is None:
        config = transformers.AutoConfig.from_pretrained(path)
        named = getattr(config, "architectures", None) or []
        known = [getattr(transformers, name) for name in named if hasattr(transformers, name)]
        if not known:
            raise ParameterError(
                f"{path}: config.json names no model class of transformers; give model_class"
            )
        model_class = known[0]
    loaded = model_class.from_pretrained(path, **options)
    return loaded.dequantize() if decode else loaded


def save(loaded: Any, path: str | Path, **options: Any) -> None:
    """Save a model whose weights are encoded, with what makes loaders stop that do not know them.

    ``loaded.save_pretrained`` writes the same but for that: transformers takes the entry out of config.json, and
    without ``import xorpack.hf`` such a directory loads as a model of random weights, after a warning.

    Args:
        loaded: the model: one that was loaded encoded, or one in which weights were encoded.
        path: of the directory.
        options: of ``save_pretrained``.

    Raises:
        ParameterError: none of its weights is encoded.
    """
    attach(loaded)
    loaded.save_pretrained(path, **options)
    config, readme = Path(path) / CONFIG, Path(path) / card.NAME
    config.write_text(model.guard_config(config.read_text(encoding="utf-8")), encoding="utf-8")
    text = readme.read_bytes() if readme.exists() else None
    if text is None or card.unmark(text) == text:
        readme.write_bytes(card.mark(text, lossless=loaded.config.quantization_config.mode == "lossless"))
