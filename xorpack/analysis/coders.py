"""Variable-length coders of well-kept libraries, run on real weights: what our formats are measured against.

Every coder gets the mask and the values of a tensor (or its dense bytes), and must give them back. zstd comes with the
package ``zstandard``, ANS (range asymmetric numeral systems, Duda 2009) with ``constriction``.
"""

from __future__ import annotations

import importlib.util
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xorpack.analysis.entropy import JOINT_BITS
from xorpack.code import words
from xorpack.code.dense import UNSIGNED
from xorpack.errors import SelfCheckError
from xorpack.tensors import BCQTensor, as_matrix


@dataclass(frozen=True, slots=True, eq=False)
class Content:
    """A tensor as coders see it.

    Attributes:
        mask: bool (rows, cols).
        symbols: uint32 (kept,), the bits of every kept weight.
        bits: width of a symbol.
        dense: bytes of the dequantized or lossless elements.
        extra_bytes: scales, which are stored as they are.
    """

    mask: NDArray[np.bool_]
    symbols: NDArray[np.uint32]
    bits: int
    dense: bytes
    extra_bytes: int

    @classmethod
    def of(cls, tensor: BCQTensor | NDArray[Any]) -> Content:
        """Take the content of a quantized tensor, or of an array that is kept bit for bit."""
        if isinstance(tensor, BCQTensor):
            _, cols = as_matrix(tensor.shape)
            mask = words.unpack(tensor.mask, cols)
            symbols = np.zeros(int(mask.sum()), np.uint32)
            for k, plane in enumerate(tensor.planes):
                symbols |= words.unpack(plane, cols)[mask].astype(np.uint32) << np.uint32(k)
            dense = tensor.dequantize().tobytes()
            return cls(mask, symbols, tensor.bits, dense, tensor.scales.nbytes)
        matrix = np.ascontiguousarray(tensor).reshape(as_matrix(tensor.shape))
        unsigned = matrix.view(UNSIGNED[matrix.dtype.itemsize])
        mask = unsigned != 0
        return cls(mask, unsigned[mask].astype(np.uint32), 8 * matrix.dtype.itemsize, matrix.tobytes(), 0)


@dataclass(frozen=True, slots=True)
class CoderResult:
    """What a coder made of one tensor: bytes, seconds to encode and to decode."""

    n_bytes: int
    encode_seconds: float
    decode_seconds: float


class CoderError(SelfCheckError):
    """A coder did not give back what it was given."""


def zstd_dense(level: int) -> Callable[[Content], CoderResult]:
    """Zstd on the dense bytes: what happens to a checkpoint in an archive."""
    return lambda content: _zstd(content.dense, level, 0)


def zstd_sparse(level: int) -> Callable[[Content], CoderResult]:
    """Zstd on a bitmap and the kept values, packed or byte by byte; that these are made is not timed."""

    def run(content: Content) -> CoderResult:
        return _zstd(sparse_bytes(content), level, content.extra_bytes)

    return run


def sparse_bytes(content: Content) -> bytes:
    """A bitmap, then the kept values."""
    return np.packbits(content.mask, bitorder="little").tobytes() + _packed(content.symbols, content.bits)


def _zstd(data: bytes, level: int, extra: int) -> CoderResult:
    import zstandard

    compressor, decompressor = zstandard.ZstdCompressor(level=level), zstandard.ZstdDecompressor()
    began = time.perf_counter()
    packed = compressor.compress(data)
    middle = time.perf_counter()
    back = decompressor.decompress(packed)
    end = time.perf_counter()
    if back != data:
        raise CoderError(f"zstd -{level} does not give back its input")
    return CoderResult(len(packed) + extra, middle - began, end - middle)


def _packed(symbols: NDArray[np.uint32], bits: int) -> bytes:
    if bits % 8 == 0:
        octets = symbols.astype("<u4").view(np.uint8).reshape(-1, 4)[:, : bits // 8]
        return octets.T.tobytes()  # byte planes, which zstd packs better than elements
    planes = (symbols[:, None] >> np.arange(bits, dtype=np.uint32)) & np.uint32(1)
    return np.packbits(planes.astype(np.bool_), bitorder="little").tobytes()


def ans_iid(content: Content) -> CoderResult:
    """ANS: one probability for the mask, one table for the symbols."""
    share = float(content.mask.mean()) if content.mask.size else 0.0
    return _ans(content, [_Stream.bits(content.mask.reshape(-1), share)], 4)


def ans_rows(content: Content) -> CoderResult:
    """ANS: a probability of 16 bits for every row of the mask, one table for the symbols."""
    rows, cols = content.mask.shape
    share = np.clip(np.round(content.mask.mean(axis=1) * 65536), 1, 65535) / 65536
    return _ans(content, [_Stream.bits(content.mask.reshape(-1), np.repeat(share, cols))], 2 * rows)


def _ans(content: Content, mask: list[_Stream], parameter_bytes: int) -> CoderResult:
    low = max(0, content.bits - JOINT_BITS)  # mantissa bits, kept raw
    high = content.symbols >> np.uint32(low)
    known, index, counts = np.unique(high, return_inverse=True, return_counts=True)
    streams = list(mask)
    if known.size > 1:
        streams.append(_Stream.table(index.astype(np.int32), counts / counts.sum()))
    table_bytes = known.size * (2 + 4)
    raw_bytes = -(-low * high.size // 8)
    coded = [stream.run() for stream in streams]
    return CoderResult(
        sum(c.n_bytes for c in coded) + parameter_bytes + table_bytes + raw_bytes + content.extra_bytes,
        sum(c.encode_seconds for c in coded),
        sum(c.decode_seconds for c in coded),
    )


class _Stream:
    """Symbols under a model of constriction."""

    def __init__(self, symbols: NDArray[np.int32], model: Any, parameters: tuple[NDArray[Any], ...]) -> None:
        self.symbols, self.model, self.parameters = symbols, model, parameters

    @classmethod
    def bits(cls, bits: NDArray[np.bool_], p: float | NDArray[np.float64]) -> _Stream:
        import constriction

        symbols = bits.astype(np.int32)
        if isinstance(p, np.ndarray):
            return cls(symbols, constriction.stream.model.Bernoulli(perfect=False), (p,))
        return cls(
            symbols, constriction.stream.model.Bernoulli(min(max(p, 1e-6), 1 - 1e-6), perfect=False), ()
        )

    @classmethod
    def table(cls, symbols: NDArray[np.int32], shares: NDArray[np.float64]) -> _Stream:
        import constriction

        return cls(symbols, constriction.stream.model.Categorical(shares, perfect=False), ())

    def run(self) -> CoderResult:
        import constriction

        make = constriction.stream.stack.AnsCoder
        began = time.perf_counter()
        coder = make()
        coder.encode_reverse(self.symbols, self.model, *self.parameters)
        packed = coder.get_compressed()
        middle = time.perf_counter()
        size = () if self.parameters else (self.symbols.size,)
        back = make(packed).decode(self.model, *self.parameters, *size)
        end = time.perf_counter()
        if not np.array_equal(back, self.symbols):
            raise CoderError("ANS does not give back its input")
        return CoderResult(packed.nbytes, middle - began, end - middle)


CODERS: Mapping[str, tuple[str, str, Callable[[Content], CoderResult]]] = {
    "zstd -3, dense": ("zstandard", "the dense bytes", zstd_dense(3)),
    "zstd -19, dense": ("zstandard", "the dense bytes", zstd_dense(19)),
    "zstd -3, bitmap + values": ("zstandard", "a bitmap and the kept values", zstd_sparse(3)),
    "zstd -19, bitmap + values": ("zstandard", "a bitmap and the kept values", zstd_sparse(19)),
    "ANS, i.i.d. mask": ("constriction", "mask and values, variable length", ans_iid),
    "ANS, mask by rows": ("constriction", "the same, a probability per row", ans_rows),
}
"""Name: package, what it is run on, the coder."""


def available() -> dict[str, tuple[str, Callable[[Content], CoderResult]]]:
    """Coders whose package is installed: name to what it is run on, and the coder."""
    return {
        name: (what, coder)
        for name, (package, what, coder) in CODERS.items()
        if importlib.util.find_spec(package) is not None
    }


def missing() -> list[str]:
    """Packages that are not installed."""
    return sorted({p for p, _, _ in CODERS.values() if importlib.util.find_spec(p) is None})
