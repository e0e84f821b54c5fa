"""Encoded directories in transformers: importing this registers xorpack there, and ``from_pretrained`` loads them.

>>> import xorpack.hf                                                                  # doctest: +SKIP
>>> model = transformers.AutoModelForCausalLM.from_pretrained("encoded/")              # doctest: +SKIP

or, in one line, ``xorpack.hf.load("encoded/")``. Weights stay encoded in memory; ``model.dequantize()`` decodes them.
"""

from xorpack.hf.config import XorpackConfig
from xorpack.hf.loading import load
from xorpack.hf.quantizer import XorpackQuantizer

__all__ = ["XorpackConfig", "XorpackQuantizer", "load"]
