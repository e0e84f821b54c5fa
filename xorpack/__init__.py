"""Store pruned, quantized weights at the entropy limit, exactly.

>>> import numpy as np, xorpack
>>> weight = np.random.default_rng(0).standard_normal((64, 256), dtype=np.float32)
>>> quantized = xorpack.quantize(weight, bits=2, sparsity=0.9)
>>> encoded = xorpack.encode(quantized)
>>> np.array_equal(xorpack.decode(encoded).dequantize(), quantized.dequantize())
True
"""

from xorpack._version import __version__
from xorpack.checkpoint import (
    Checkpoint,
    EncodeReport,
    PruneReport,
    PruneSettings,
    Settings,
    VerifyReport,
    decode_checkpoint,
    encode_checkpoint,
    prune_checkpoint,
    verify_checkpoint,
)
from xorpack.checkpoint import open_checkpoint as open
from xorpack.checkpoint.report import report_checkpoint
from xorpack.code.network import XorNetwork
from xorpack.decoders import decode
from xorpack.encoded import EncodedTensor
from xorpack.encoding.encoder import encode
from xorpack.encoding.quantize.bcq import quantize
from xorpack.errors import (
    CorruptError,
    DataError,
    DestinationError,
    DeviceError,
    FormatError,
    MismatchError,
    ParameterError,
    XorpackError,
)
from xorpack.tensors import BCQTensor

__all__ = [
    "BCQTensor",
    "Checkpoint",
    "CorruptError",
    "DataError",
    "DestinationError",
    "DeviceError",
    "EncodeReport",
    "EncodedTensor",
    "FormatError",
    "MismatchError",
    "ParameterError",
    "PruneReport",
    "PruneSettings",
    "Settings",
    "VerifyReport",
    "XorNetwork",
    "XorpackError",
    "__version__",
    "decode",
    "decode_checkpoint",
    "encode",
    "encode_checkpoint",
    "open",
    "prune_checkpoint",
    "quantize",
    "report_checkpoint",
    "verify_checkpoint",
]
