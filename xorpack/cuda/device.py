"""A CUDA device through CuPy: memory, compiled kernels, streams, cuBLAS. CuPy is imported on first use."""

from __future__ import annotations

import importlib
import threading
from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from types import ModuleType
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from xorpack.cuda.arrays import ArrayView, view
from xorpack.cuda.launches import Launch
from xorpack.cuda.machine_code import machine_code
from xorpack.cuda.sources import OPTIONS, Kernel
from xorpack.errors import DeviceError, ParameterError
from xorpack.tensors import DTYPES

MIN_COMPUTE_CAPABILITY = (8, 0)
NO_BINARY_TENSOR_CORES = (10, 0)
WARPGROUPS = (9, 0)
_LOCK = threading.Lock()
_NAMES = {dtype: name for name, dtype in DTYPES.items()}


class Device(Protocol):
    """What a tensor needs of the machine that it lies on. Pointers are integers."""

    n_multiprocessors: int
    shared_limit: int
    counts_bits: bool
    """Whether there are tensor cores for bits; where there are none, the compiler emulates them slowly."""
    warpgroups: bool
    """Whether there are tensor cores of warpgroups: compute capability 9.0 alone."""

    def upload(self, array: NDArray[Any]) -> Any:
        """A copy on the device."""

    def download(self, array: Any) -> NDArray[Any]:
        """A copy of an array that this device made, in host memory; waits for what is launched."""

    def constant(self, key: Hashable, make: Callable[[], NDArray[Any]]) -> Any:
        """A copy of what ``make`` gives, once for all tensors that name it ``key``, kept until the process ends."""

    def empty(self, shape: tuple[int, ...], dtype: str) -> Any:
        """Memory for ``shape`` elements of a safetensors type."""

    def pointer(self, array: Any) -> int:
        """Where an array that this device made begins."""

    def view(self, array: Any, what: str) -> ArrayView:
        """A caller's array as memory of this device."""

    def workspace(self, stream: Any, what: str, n_bytes: int) -> int:
        """Memory for the calls on one stream, at least that large, kept until the process ends."""

    def stream(self, stream: Any) -> Any:
        """The stream to launch on: the caller's, or the current one for None."""

    def beside(self) -> AbstractContextManager[None]:
        """Inside, the current stream is one of this thread's own: its work runs beside that of other threads."""

    def prepare(self, kernel: Kernel, shared_bytes: int) -> None:
        """Compile and load a kernel."""

    def launch(self, kernel: Kernel, launch: Launch, args: Sequence[Any], stream: Any) -> None:
        """Launch a kernel; ``args`` are numpy scalars."""

    def fill_zero(self, pointer: int, n_bytes: int, stream: Any) -> None:
        """Clear memory."""

    def gemm(
        self,
        dtype: str,
        weights: int,
        x: ArrayView,
        out: int,
        rows: int,
        cols: int,
        out_rows: int,
        stream: Any,
    ) -> None:
        """``out[n, r] = sum_c weights[r, c] * x[n, c]``; out float32 with rows of ``out_rows``."""


def import_cupy() -> ModuleType:
    """CuPy, or a DeviceError that says how to get it."""
    try:
        cupy: ModuleType = importlib.import_module("cupy")
    except ImportError as error:
        raise DeviceError(
            f"the GPU decoder needs CuPy, which cannot be imported ({error}): "
            "pip install 'xorpack[cuda12]' or 'xorpack[cuda13]', by the CUDA version that nvidia-smi shows"
        ) from error
    return cupy


def describe(error: Exception) -> str:
    """An error of CUDA on one line."""
    return " ".join(str(error).split()) or type(error).__name__


class _StreamPointer:
    """A stream's pointer in the CUDA stream protocol."""

    def __init__(self, pointer: int) -> None:
        self._pointer = pointer

    def __cuda_stream__(self) -> tuple[int, int]:
        return 0, self._pointer


class CudaDevice:
    """One GPU. Made by :func:`device`, once for each."""

    def __init__(self, cupy: ModuleType, number: int) -> None:
        self._cupy = cupy
        self.number = number
        attributes = cupy.cuda.runtime.getDeviceProperties(number)
        self.name = attributes["name"].decode()
        self.compute_capability = (attributes["major"], attributes["minor"])
        if self.compute_capability < MIN_COMPUTE_CAPABILITY:
            raise DeviceError(
                f"GPU {number}, {self.name}, has compute capability {attributes['major']}.{attributes['minor']}; "
                "the kernels need 8.0"
            )
        self.n_multiprocessors = int(attributes["multiProcessorCount"])
        self.shared_limit = int(attributes.get("sharedMemPerBlockOptin", attributes["sharedMemPerBlock"]))
        self.counts_bits = self.compute_capability < NO_BINARY_TENSOR_CORES
        self.warpgroups = self.compute_capability == WARPGROUPS
        self._functions: dict[Kernel, Any] = {}
        self._constants: dict[Hashable, Any] = {}
        self._workspaces: dict[tuple[int, str], Any] = {}
        self._kept: list[Any] = []
        self._own = threading.local()

    @contextmanager
    def _here(self, stream: Any = None) -> Iterator[None]:
        try:
            with self._cupy.cuda.Device(self.number):
                if stream is None:
                    yield
                else:
                    with stream:
                        yield
        except self._cupy.cuda.memory.OutOfMemoryError as error:
            raise DeviceError(f"GPU {self.number} is out of memory: {describe(error)}") from error
        except (self._cupy.cuda.runtime.CUDARuntimeError, self._cupy.cuda.driver.CUDADriverError) as error:
            raise DeviceError(f"GPU {self.number}: {describe(error)}") from error
        except self._cupy.cuda.compiler.CompileException as error:
            raise DeviceError(f"a kernel does not compile for GPU {self.number}: {error}") from error

    def upload(self, array: NDArray[Any]) -> Any:
        """See :class:`Device`; returns when the copy is made."""
        with self._here():
            return self._cupy.asarray(array, blocking=True)

    def download(self, array: Any) -> NDArray[Any]:
        """See :class:`Device`: for what is launched on the current stream."""
        with self._here():
            found: NDArray[Any] = self._cupy.asnumpy(array)
            return found

    def constant(self, key: Hashable, make: Callable[[], NDArray[Any]]) -> Any:
        """See :class:`Device`."""
        with _LOCK:
            if key not in self._constants:
                self._constants[key] = self.upload(make())
            return self._constants[key]

    def empty(self, shape: tuple[int, ...], dtype: str) -> Any:
        """See :class:`Device`."""
        kind = DTYPES[dtype]
        with self._here():
            try:
                return self._cupy.empty(shape, kind)
            except (TypeError, ValueError) as error:
                raise DeviceError(
                    f"this CuPy cannot make arrays of {dtype} ({error}): pass out=, a tensor of another library"
                ) from error

    def pointer(self, array: Any) -> int:
        """See :class:`Device`."""
        return int(array.data.ptr)

    def view(self, array: Any, what: str) -> ArrayView:
        """See :class:`Device`.

        Raises:
            DeviceError: the array is on another device.
        """
        if isinstance(array, self._cupy.ndarray) and array.dtype in _NAMES:
            return self._own_view(array, what)
        seen = view(array, what)
        number = seen.device
        if number == -1 and seen.pointer:  # __cuda_array_interface__ does not say
            number = int(self._cupy.cuda.runtime.pointerGetAttributes(seen.pointer).device)
        if number not in (self.number, -1):
            raise DeviceError(f"{what} is on GPU {number}, the weights are on GPU {self.number}")
        return seen

    def _own_view(self, array: Any, what: str) -> ArrayView:
        if array.device.id != self.number:
            raise DeviceError(f"{what} is on GPU {array.device.id}, the weights are on GPU {self.number}")
        return ArrayView(
            pointer=int(array.data.ptr),
            dtype=_NAMES[array.dtype],
            shape=array.shape,
            strides=tuple(step // array.itemsize for step in array.strides),
            device=self.number,
            owner=array,
        )

    def workspace(self, stream: Any, what: str, n_bytes: int) -> int:
        """See :class:`Device`. A buffer that has become too small is kept: a captured graph may use it."""
        key = (int(stream.ptr), what)
        with _LOCK:
            held = self._workspaces.get(key)
            if held is None or held.nbytes < n_bytes:
                if held is not None:
                    self._kept.append(held)
                    n_bytes = max(n_bytes, 2 * held.nbytes)
                with self._here():
                    held = self._cupy.empty(n_bytes, np.uint8)
                self._workspaces[key] = held
        return int(held.data.ptr)

    @property
    def workspace_bytes(self) -> int:
        """Memory of all workspaces, of every tensor and stream together."""
        return sum(held.nbytes for held in (*self._workspaces.values(), *self._kept))

    def stream(self, stream: Any) -> Any:
        """A stream of CuPy, of PyTorch (``cuda_stream``), of ``__cuda_stream__``, or its pointer as an integer.

        Raises:
            ParameterError: something else.
            DeviceError: it belongs to another device.
        """
        cuda = self._cupy.cuda
        if stream is None:
            with self._here():
                stream = cuda.get_current_stream()
        number = getattr(stream, "device_id", getattr(stream, "device_index", -1))
        if number is not None and number not in (self.number, -1):
            raise DeviceError(f"the stream is of GPU {number}, the weights are on GPU {self.number}")
        if hasattr(stream, "ptr") and hasattr(stream, "__enter__"):
            return stream
        if hasattr(stream, "__cuda_stream__"):
            pointer = stream.__cuda_stream__()[1]
        else:
            pointer = getattr(stream, "cuda_stream", stream)
        if not isinstance(pointer, int) or isinstance(pointer, bool):
            raise ParameterError(f"stream is a {type(stream).__name__}, not a stream or its pointer")
        if hasattr(cuda.Stream, "from_external"):
            return cuda.Stream.from_external(_StreamPointer(pointer))
        return cuda.ExternalStream(pointer, self.number)  # before CuPy 14

    @contextmanager
    def beside(self) -> Iterator[None]:
        """See :class:`Device`."""
        with self._here():
            if not hasattr(self._own, "stream"):
                self._own.stream = self._cupy.cuda.Stream(non_blocking=True)
        with self._here(self._own.stream):
            yield

    def _function(self, kernel: Kernel, shared_bytes: int) -> Any:
        found = self._functions.get(kernel)
        if found is None:
            with _LOCK, self._here():
                found = self._functions.get(kernel)
                if found is None:
                    if kernel.architecture:
                        module = self._cupy.RawModule(path=str(machine_code(self._cupy, kernel)))
                    else:
                        module = self._cupy.RawModule(code=kernel.source(), options=OPTIONS)
                    found = module.get_function(kernel.name)
                    if shared_bytes > 48 << 10:
                        found.max_dynamic_shared_size_bytes = self.shared_limit
                    self._functions[kernel] = found
        return found

    def prepare(self, kernel: Kernel, shared_bytes: int) -> None:
        """See :class:`Device`. The compiled code stands in CuPy's cache on disk from then on."""
        self._function(kernel, shared_bytes)

    def launch(self, kernel: Kernel, launch: Launch, args: Sequence[Any], stream: Any) -> None:
        """See :class:`Device`. Does not wait."""
        function = self._function(kernel, launch.shared_bytes)
        with self._here(stream):
            function(launch.grid, (launch.block, 1, 1), tuple(args), shared_mem=launch.shared_bytes)

    def fill_zero(self, pointer: int, n_bytes: int, stream: Any) -> None:
        """See :class:`Device`."""
        if n_bytes:
            with self._here():
                self._cupy.cuda.runtime.memsetAsync(pointer, 0, n_bytes, stream.ptr)

    def gemm(
        self,
        dtype: str,
        weights: int,
        x: ArrayView,
        out: int,
        rows: int,
        cols: int,
        out_rows: int,
        stream: Any,
    ) -> None:
        """See :class:`Device`; cuBLAS with sums in float32."""
        cublas = self._cupy.cuda.cublas
        runtime = self._cupy.cuda.runtime
        kind = {"F32": runtime.CUDA_R_32F, "F16": runtime.CUDA_R_16F, "BF16": runtime.CUDA_R_16BF}[dtype]
        one, zero = np.array(1, np.float32), np.array(0, np.float32)
        with self._here(stream):
            handle = self._cupy.cuda.get_cublas_handle()
            cublas.setPointerMode(handle, cublas.CUBLAS_POINTER_MODE_HOST)
            cublas.gemmEx(
                handle,
                cublas.CUBLAS_OP_T,
                cublas.CUBLAS_OP_N,
                rows,
                x.shape[0],
                cols,
                one.ctypes.data,
                weights,
                kind,
                cols,
                x.pointer,
                kind,
                max(x.strides[0], cols),
                zero.ctypes.data,
                out,
                runtime.CUDA_R_32F,
                out_rows,
                cublas.CUBLAS_COMPUTE_32F,
                cublas.CUBLAS_GEMM_DEFAULT,
            )


_DEVICES: dict[int, CudaDevice] = {}


def device(number: int | None = None) -> CudaDevice:
    """A GPU by its number; None: CuPy's current one.

    Raises:
        DeviceError: no CuPy, no driver, no such GPU, or one that is too old.
    """
    cupy = import_cupy()
    try:
        count = cupy.cuda.runtime.getDeviceCount()
        current = cupy.cuda.runtime.getDevice() if number is None else number
    except cupy.cuda.runtime.CUDARuntimeError as error:
        raise DeviceError(
            f"no CUDA GPU can be used: {describe(error)}; `xorpack doctor` says what is missing"
        ) from error
    if not 0 <= current < count:
        raise DeviceError(f"there is no GPU {current}: this machine has {count}")
    with _LOCK:
        if current not in _DEVICES:
            _DEVICES[current] = CudaDevice(cupy, current)
        return _DEVICES[current]
