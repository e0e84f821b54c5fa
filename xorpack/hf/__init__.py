"""Encoded directories in transformers: importing this registers xorpack there, and ``from_pretrained`` loads them.

>>> import xorpack.hf                                                                  # doctest: +SKIP
>>> model = transformers.AutoModelForCausalLM.from_pretrained("encoded/")              # doctest: +SKIP

or, in one line, ``xorpack.hf.load("encoded/")``. Weights stay encoded in memory; ``model.dequantize()`` decodes them.
"""

from xorpack.hf import requirements

requirements.check()

from xorpack.hf.config import XorpackConfig  # noqa: E402
from xorpack.hf.loading import load, save  # noqa: E402
from xorpack.hf.quantizer import XorpackQuantizer  # noqa: E402

__all__ = ["XorpackConfig", "XorpackQuantizer", "load", "save"]
