"""What ``config.json`` says of an encoded directory, as transformers keeps it."""

from __future__ import annotations

from typing import Any

from transformers.quantizers import register_quantization_config
from transformers.utils.quantization_config import QuantizationConfigMixin

from xorpack.files.model import METHOD


@register_quantization_config(METHOD)
class XorpackConfig(QuantizationConfigMixin):  # type: ignore[misc]
    """The ``quantization_config`` of an encoded directory; its entries are attributes.

    Attributes:
        format_version: of the files.
        n_encoded: encoded tensors of the directory; None where an early version of xorpack did not count them.
        encoded: patterns of their names, ``*`` for a number between dots.
    """

    def __init__(self, **entries: Any) -> None:
        self.format_version: int | None = None
        self.n_encoded: int | None = None
        self.encoded: list[str] = []
        self.__dict__.update(entries)
        self.quant_method = METHOD
