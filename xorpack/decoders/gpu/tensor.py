"""An encoded tensor on a GPU: :func:`load` it, then decode it or multiply by it.

The compressed form is all that is kept; products decode it on the way. Calls go to a stream and do not wait. Where
``out`` is given nothing is allocated after the first call of a kind on a stream: :meth:`GpuTensor.prepare` makes that
call's preparations (compiled kernels, workspace), as a CUDA graph needs before it is captured. A graph uses the
workspace of the stream it was captured on: do not run it beside other products of that stream.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from xorpack.cuda.arrays import TYPES, ArrayView, is_dense
from xorpack.cuda.device import Device, device
from xorpack.decoders.cpu import check_encoded
from xorpack.decoders.gpu.packed import MaskForm, Packed, pack
from xorpack.decoders.gpu.products import PRECISIONS, Product, algorithm_of, choose
from xorpack.decoders.gpu.resident import CodedResident, Resident, Step
from xorpack.decoders.gpu.trellis import TrellisResident
from xorpack.elements import Lossless
from xorpack.encoded import EncodedTensor
from xorpack.errors import ParameterError
from xorpack.tensors import DTYPES

MAX_MATVEC = 8
"""Rows of x that a ``matvec`` takes at the most."""


def load(
    encoded: EncodedTensor, *, device_number: int | None = None, mask: MaskForm = "stored", jobs: int = 1
) -> GpuTensor:
    """Check a tensor by decoding it on the CPU, and upload its compressed form.

    Args:
        encoded: the tensor.
        device_number: of the GPU; None: the current one.
        mask: ``stored`` keeps the mask as it is in the file and decodes it in every call; ``bitmap`` keeps 1 bit per
            weight, which is faster and larger.
        jobs: threads of the check.

    Raises:
        DeviceError: no GPU, no CuPy, or not enough memory.
        CorruptError, FormatError: the tensor contradicts itself.
    """
    check_encoded(encoded)
    target = device(device_number)
    return GpuTensor(encoded, pack(encoded, mask, jobs=jobs), target)


def resident(encoded: EncodedTensor, packed: Packed, target: Device) -> Resident:
    """The tensor in the memory of ``target``."""
    kind = TrellisResident if encoded.kind == "trellis" else CodedResident
    return kind(encoded, packed, target)


class GpuTensor:
    """Made by :func:`load`."""

    def __init__(self, encoded: EncodedTensor, packed: Packed, target: Device) -> None:
        self._encoded = packed.encoded
        self._stored = sum(encoded.section_bytes().values())
        self._device = target
        self._resident = resident(packed.encoded, packed, target)
        self._products: dict[tuple[str, str, int, str], Product] = {}

    @property
    def shape(self) -> tuple[int, ...]:
        """The tensor's shape; products see it as ``rows x cols``: first axis by all others."""
        return self._encoded.shape

    @property
    def dtype(self) -> str:
        """Safetensors name of the tensor's elements."""
        return self._encoded.dtype

    @property
    def rows(self) -> int:
        """Outputs of a product."""
        return self._encoded.rows

    @property
    def cols(self) -> int:
        """Inputs of a product."""
        return self._encoded.cols

    def memory(self) -> dict[str, int]:
        """Bytes on the device by part and in ``total``; ``stored``: of the sections in the file.

        Not in the total: ``shared``, tables of networks and prefix codes, once for all tensors that have the same; and
        workspaces, once for all tensors of a stream: see :meth:`workspace_bytes`.
        """
        parts = {name: int(array.nbytes) for name, array in self._resident.store.arrays.items()}
        shared = sum(self._resident.store.shared_bytes.values())
        return {**parts, "total": sum(parts.values()), "stored": self._stored, "shared": shared}

    def decode(self, dtype: str | None = None, *, out: Any = None, stream: Any = None) -> Any:
        """The weights, bit for bit those of :func:`xorpack.decoders.cpu.decode_dense`.

        Args:
            dtype: F32, F16 or BF16; default: the tensor's own. Another one rounds the tensor's elements.
                Lossless tensors have no other.
            out: C-contiguous array of ``shape`` and ``dtype`` to write to; default: a new CuPy array.
            stream: to launch on; default: CuPy's current one.

        Returns:
            ``out`` or the new array.
        """
        encoded = self._encoded
        dtype = dtype or encoded.dtype
        if dtype not in DTYPES or (
            dtype != encoded.dtype and (isinstance(encoded.elements, Lossless) or dtype not in TYPES)
        ):
            known = encoded.dtype if isinstance(encoded.elements, Lossless) else ", ".join(TYPES)
            raise ParameterError(
                f"a {encoded.kind} tensor of {encoded.dtype} decodes to {known}, not {dtype!r}"
            )
        result, to, on = self._result(out, dtype, encoded.shape, stream)
        if self._resident.is_zero:
            self._device.fill_zero(to.pointer, to.size * DTYPES[dtype].itemsize, on)
        else:
            mask = self._resident.ready(on)
            self._resident.decode(to.pointer, dtype, mask, 0, encoded.rows, False, on)
        return result

    def decode_words(self, *, out: Any = None, stream: Any = None) -> Any:
        """The coded planes before corrections, uint32 (n_coded, rows, chunks), 0 where the mask is.

        Of binary codes with a field, all planes: they are held raw.

        Raises:
            ParameterError: a trellis tensor, which has one code for all planes.
        """
        encoded = self._encoded
        coded, held = encoded.coded, self._resident
        assert isinstance(held, CodedResident)
        shape = (coded.code.shape[0], encoded.rows, coded.layout.chunks)
        result, to, on = self._result(out, "U32", shape, stream)
        if held.is_zero or not to.size:
            self._device.fill_zero(to.pointer, 4 * to.size, on)
        else:
            held.decode_words(to.pointer, on)
        return result

    def matvec(
        self,
        x: Any,
        *,
        out: Any = None,
        stream: Any = None,
        algorithm: str = "auto",
        precision: str = PRECISIONS[0],
    ) -> Any:
        """``W x``: as :meth:`matmul`, for x of shape (cols,) or (n, cols) with n up to 8."""
        return self._product(x, out, stream, (algorithm, precision), MAX_MATVEC)

    def matmul(
        self,
        x: Any,
        *,
        out: Any = None,
        stream: Any = None,
        algorithm: str = "auto",
        precision: str = PRECISIONS[0],
    ) -> Any:
        """``x W^T``: x (n, cols) to (n, rows), or (cols,) to (rows,).

        Sums run in float32 in a fixed order: the same input gives the same bits on the same device. ``tables`` and
        ``tensor_cores`` multiply the quantized values ``sum alpha_k b_k`` unrounded; so does ``binary``, by
        activations rounded to 2^-24 of the largest of 1024 (trellis tensors: 512) or fewer columns; ``decode``
        multiplies elements rounded to x's type, ``trellis_tiles`` a trellis's levels rounded so, ``wide`` those, or
        sums of a binary code's scales rounded so. Where x is infinite or NaN, products are NaN or infinite: with
        ``tables`` those of the rows that keep the weight, else all.

        Args:
            x: float32, float16 or bfloat16, last axis contiguous; any object that speaks DLPack or
                ``__cuda_array_interface__``. It must be ready on ``stream``.
            out: (n, rows) or (rows,), last axis contiguous, of any of the three types, not overlapping x; default: a
                new CuPy array of x's type.
            stream: to launch on; default: CuPy's current one.
            algorithm: ``auto``, or one of :data:`xorpack.decoders.gpu.products.ALGORITHMS`.
            precision: ``float32``: no worse than sums in float32. ``fast``: ``binary`` with fewer products; activations
                (times gains) are rounded to 1/30583, with groups of scales below a panel 1/65104, of the largest of
                1024 (trellis tensors: 512 or 256) columns.

        Raises:
            ParameterError: a wrong shape, type or layout, or an algorithm or precision that cannot run, and why.
            DeviceError: an array or stream of another device; not enough memory.
        """
        return self._product(x, out, stream, (algorithm, precision), None)

    def prepare(
        self,
        n: int,
        dtype: str = "F16",
        *,
        stream: Any = None,
        algorithm: str = "auto",
        precision: str = PRECISIONS[0],
    ) -> None:
        """Compile what a product of ``n`` columns of ``dtype`` takes and reserve its workspace on ``stream``."""
        on = self._device.stream(stream)
        product = self._planned(algorithm, precision, n, dtype)
        if self._resident.is_zero:
            return
        for kernel, launch in product.steps:
            self._device.prepare(kernel, launch.shared_bytes)
        for what, n_bytes in product.workspace.items():
            self._device.workspace(on, what, n_bytes)

    def workspace_bytes(
        self, n: int, dtype: str = "F16", *, algorithm: str = "auto", precision: str = PRECISIONS[0]
    ) -> dict[str, int]:
        """Scratch memory of a product by purpose; the next call on the stream, of any tensor, uses the same."""
        return dict(self._planned(algorithm, precision, n, dtype).workspace)

    def kernels(
        self, n: int, dtype: str = "F16", *, algorithm: str = "auto", precision: str = PRECISIONS[0]
    ) -> list[Step]:
        """The kernels of a product with their launches, in order."""
        return list(self._planned(algorithm, precision, n, dtype).steps)

    def _planned(self, algorithm: str, precision: str, n: int, dtype: str) -> Product:
        key = (algorithm, precision, n, dtype)
        if key not in self._products:
            if dtype not in TYPES:
                raise ParameterError(f"dtype {dtype!r} is not one of {', '.join(TYPES)}")
            target = self._device
            chosen = choose(
                algorithm,
                self._encoded,
                n,
                dtype,
                target.shared_limit,
                counts_bits=target.counts_bits,
                warpgroups=target.warpgroups,
                precision=precision,
            )
            self._products[key] = algorithm_of(chosen, self._encoded)(self._resident, n, dtype, precision)
        return self._products[key]

    def _product(self, x: Any, out: Any, stream: Any, how: tuple[str, str], limit: int | None) -> Any:
        encoded = self._encoded
        seen = self._device.view(x, "x")
        if len(seen.shape) not in (1, 2) or seen.shape[-1] != encoded.cols:
            raise ParameterError(f"x of shape {seen.shape} is not ({encoded.cols},) or (n, {encoded.cols})")
        if seen.dtype not in TYPES:
            raise ParameterError(f"x of type {seen.dtype} is not one of {', '.join(TYPES)}")
        matrix = _as_rows(seen, "x")
        n = matrix.shape[0]
        if limit is not None and n > limit:
            raise ParameterError(f"matvec takes up to {limit} rows of x, not {n}: use matmul")
        product = self._planned(*how, n, seen.dtype)
        shape = (*seen.shape[:-1], encoded.rows)
        on = self._device.stream(stream)
        result = self._device.empty(shape, seen.dtype) if out is None else out
        target = self._device.view(result, "out")
        _check_out(target, TYPES, shape)
        to = _as_rows(target, "out")
        if not n or not encoded.rows:
            return result
        if self._resident.is_zero:
            itemsize = DTYPES[to.dtype].itemsize
            for row in range(n):
                start = to.pointer + row * to.strides[0] * itemsize
                self._device.fill_zero(start, encoded.rows * itemsize, on)
            return result
        product.run(matrix, to, on)
        return result

    def _result(
        self, out: Any, dtype: str, shape: tuple[int, ...], stream: Any
    ) -> tuple[Any, ArrayView, Any]:
        on = self._device.stream(stream)
        result = self._device.empty(shape, dtype) if out is None else out
        seen = self._device.view(result, "out")
        _check_out(seen, (dtype,), shape)
        if not is_dense(seen):
            raise ParameterError(f"out of strides {seen.strides} elements is not C-contiguous")
        return result, seen, on


def _check_out(seen: ArrayView, dtypes: Sequence[str], shape: tuple[int, ...]) -> None:
    if seen.dtype not in dtypes:
        raise ParameterError(f"out of type {seen.dtype} is not {' or '.join(dtypes)}")
    if seen.shape != shape:
        raise ParameterError(f"out of shape {seen.shape} is not {shape}")
    if seen.readonly:
        raise ParameterError("out is read-only")


def _as_rows(seen: ArrayView, what: str) -> ArrayView:
    """A vector or matrix as a matrix whose last axis is contiguous."""
    n, cols = seen.shape if len(seen.shape) == 2 else (1, seen.shape[0])
    stride = seen.strides[0] if len(seen.shape) == 2 and n > 1 else cols
    if (cols > 1 and n and seen.strides[-1] != 1) or stride < 0:
        raise ParameterError(f"{what} of strides {seen.strides} elements: its last axis must be contiguous")
    return replace(seen, shape=(n, cols), strides=(stride, 1))
