"""An encoded directory as a model, in one line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import transformers

from xorpack.errors import ParameterError


def load(path: str | Path, *, model_class: Any = None, decode: bool = False, **options: Any) -> Any:
    """Load an encoded directory.

    Args:
        path: of the directory.
        model_class: of the model, as ``transformers.AutoModelForCausalLM``; default: that which config.json names.
        decode: decode the weights once and for all; default: they stay encoded in memory.
        options: of ``from_pretrained``.

    Raises:
        ParameterError: config.json names no class that transformers has.
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
    model = model_class.from_pretrained(path, **options)
    return model.dequantize() if decode else model
