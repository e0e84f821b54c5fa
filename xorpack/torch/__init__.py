"""Encoded weights in PyTorch modules: they stay encoded in memory, and layers compute with them as they are.

>>> import torch, xorpack, xorpack.torch                                               # doctest: +SKIP
>>> layer = torch.nn.Linear(256, 64)                                                   # doctest: +SKIP
>>> encoded = xorpack.encode(xorpack.quantize(layer.weight.detach().numpy(), bits=2))  # doctest: +SKIP
>>> xorpack.torch.put(layer, "weight", xorpack.torch.XorWeight.of(encoded))            # doctest: +SKIP
>>> layer(torch.ones(1, 256)).shape                                                    # doctest: +SKIP
torch.Size([1, 64])
"""

from xorpack.torch.modules import decode_module, put, tie
from xorpack.torch.scales import freeze_scales, load_scales, save_scales, trainable_scales
from xorpack.torch.weight import TiedWeight, XorWeight

__all__ = [
    "TiedWeight",
    "XorWeight",
    "decode_module",
    "freeze_scales",
    "load_scales",
    "put",
    "save_scales",
    "tie",
    "trainable_scales",
]
