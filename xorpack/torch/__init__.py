"""Encoded weights in PyTorch modules: they stay encoded in memory, and layers compute with them as they are.

>>> import torch, xorpack.torch                                                     # doctest: +SKIP
>>> model = torch.nn.Sequential(torch.nn.Linear(256, 64), torch.nn.Linear(64, 10))  # doctest: +SKIP
>>> report = xorpack.torch.encode_module(model, rate=2)                             # doctest: +SKIP
>>> model(torch.ones(1, 256)).shape                                                 # doctest: +SKIP
torch.Size([1, 10])
"""

from xorpack.torch.encoding import encode_module
from xorpack.torch.flexor import XorLinear
from xorpack.torch.modules import decode_module, put, tie
from xorpack.torch.scales import freeze_scales, load_scales, save_scales, trainable_scales
from xorpack.torch.weight import TiedWeight, XorWeight

__all__ = [
    "TiedWeight",
    "XorLinear",
    "XorWeight",
    "decode_module",
    "encode_module",
    "freeze_scales",
    "load_scales",
    "put",
    "save_scales",
    "tie",
    "trainable_scales",
]
