"""What :mod:`xorpack.hf` needs, and the one line that gets it."""

from __future__ import annotations

import importlib
import re

OLDEST = "5.21"
"""The oldest transformers: the first in which a converter can be copied for sections that it is to collect, too."""

INSTALL = 'pip install --upgrade "xorpack[hf]"'


def check() -> None:
    """Raise ImportError unless PyTorch and a transformers that can do it are there."""
    for name in ("torch", "transformers"):
        try:
            module = importlib.import_module(name)
        except ImportError as error:
            reason = str(error).partition("\n")[0]
            raise ImportError(
                f"xorpack.hf needs {name}, which cannot be imported ({reason}): {INSTALL}"
            ) from error
    if _numbers(module.__version__) < _numbers(OLDEST):
        raise ImportError(
            f"xorpack.hf needs transformers {OLDEST} or later, not {module.__version__}: {INSTALL}"
        )


def _numbers(version: str) -> list[int]:
    return [int(number) for number in re.findall(r"\d+", version)[:2]]
