"""Store pruned, quantized weights at the entropy limit, exactly.

>>> import numpy as np, xorpack
>>> weight = np.random.default_rng(0).standard_normal((64, 256), dtype=np.float32)
>>> quantized = xorpack.quantize(weight, bits=2, sparsity=0.9)
>>> encoded = xorpack.encode(quantized)
>>> np.array_equal(xorpack.decode(encoded).dequantize(), quantized.dequantize())
True

What is named here is imported when it is first asked for: numba takes a second to load.
"""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from xorpack._version import __version__
from xorpack.errors import (
    CorruptError,
    DataError,
    DestinationError,
    DeviceError,
    FormatError,
    MismatchError,
    ParameterError,
    SelfCheckError,
    SourceError,
    WorkerError,
    XorpackError,
)

if TYPE_CHECKING:
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
    from xorpack.compression import CompressReport, compress_checkpoint
    from xorpack.decoders import decode
    from xorpack.encoded import EncodedTensor
    from xorpack.encoding.encoder import encode
    from xorpack.encoding.fitting.methods import fit
    from xorpack.encoding.quantize.methods import quantize
    from xorpack.files.rebuild import from_sections
    from xorpack.tensors import BCQTensor, TrellisTensor

__all__ = [
    "BCQTensor",
    "Checkpoint",
    "CompressReport",
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
    "SelfCheckError",
    "Settings",
    "SourceError",
    "TrellisTensor",
    "VerifyReport",
    "WorkerError",
    "XorNetwork",
    "XorpackError",
    "__version__",
    "compress_checkpoint",
    "decode",
    "decode_checkpoint",
    "encode",
    "encode_checkpoint",
    "fit",
    "from_sections",
    "open",
    "prune_checkpoint",
    "quantize",
    "report_checkpoint",
    "verify_checkpoint",
]

_HOMES = {
    "BCQTensor": "tensors",
    "Checkpoint": "checkpoint",
    "CompressReport": "compression",
    "EncodeReport": "checkpoint",
    "EncodedTensor": "encoded",
    "PruneReport": "checkpoint",
    "PruneSettings": "checkpoint",
    "Settings": "checkpoint",
    "TrellisTensor": "tensors",
    "VerifyReport": "checkpoint",
    "XorNetwork": "code.network",
    "compress_checkpoint": "compression",
    "decode": "decoders",
    "decode_checkpoint": "checkpoint",
    "encode": "encoding.encoder",
    "encode_checkpoint": "checkpoint",
    "fit": "encoding.fitting.methods",
    "from_sections": "files.rebuild",
    "open": "checkpoint.opened:open_checkpoint",
    "prune_checkpoint": "checkpoint",
    "quantize": "encoding.quantize.methods",
    "report_checkpoint": "checkpoint.report",
    "verify_checkpoint": "checkpoint",
}
"""Module of each public name, and what it is called there if that differs."""


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        module, _, inside = _HOMES[name].partition(":")
        value = getattr(import_module(f"{__name__}.{module}"), inside or name)
        globals()[name] = value
        return value
    if not name.startswith("_") and find_spec(f"{__name__}.{name}") is not None:
        return import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
