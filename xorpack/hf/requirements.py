"""What :mod:`xorpack.hf` needs, and the one line that gets it."""

from __future__ import annotations

import importlib
import re

OLDEST = "5.20"
"""The oldest transformers: its quantizers see a model's config before its files are looked for."""

INSTALL = 'pip install --upgrade "xorpack[hf]"'


def check() -> None:
    """Raise ImportError unless PyTorch and a transformers that can do it are there."""
    for name in ("torch", "transformers"):
        try:
            module = importlib.import_module(name)
        except ImportError as error:
            raise ImportError(
                f"xorpack.hf needs {name}, which cannot be imported ({error}): {INSTALL}"
            ) from error
    if _numbers(module.__version__) < _numbers(OLDEST):
        raise ImportError(
            f"xorpack.hf needs transformers {OLDEST} or later, not {module.__version__}: {INSTALL}"
        )


def _numbers(version: str) -> list[int]:
    return [int(number) for number in re.findall(r"\d+", version)[:2]]
