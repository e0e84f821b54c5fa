"""A :class:`xorpack.cuda.device.Device` that runs the kernels' own text on the CPU, compiled by g++.

Arrays are numpy's; each lies against a page that cannot be touched, so that a read or write behind its end ends the
process, and is poisoned before it is handed out.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import hashlib
import mmap
import os
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Callable, Hashable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

from xorpack.cuda.arrays import ArrayView
from xorpack.cuda.launches import Launch
from xorpack.cuda.sources import ARCHITECTURES, Kernel
from xorpack.decoders.gpu.packed import MaskForm, pack
from xorpack.decoders.gpu.tensor import GpuTensor
from xorpack.encoded import EncodedTensor
from xorpack.tensors import DTYPES

COMPILER = shutil.which(os.environ.get("CXX", "g++")) or shutil.which("clang++")
HEADER = Path(__file__).with_name("cuda_on_cpu.h")
WARPGROUPS = Path(__file__).with_name("warpgroups_on_cpu.h")
OPTIONS = ("-std=c++17", "-O1", "-shared", "-fPIC", "-ffp-contract=off", "-U_FORTIFY_SOURCE", "-w")
WRONG = {
    1: "threads wait for each other",
    2: "a write behind shared memory",
    3: "another number of arguments",
    4: "asynchronous work is not used as it must be",
}
TURNS = {"rising": 0, "falling": 1, "a warp ahead": 2}
ONE_AT_A_TIME = threading.Lock()
"""Kernels run on fibers that a library has once."""
NAMES = {dtype: name for name, dtype in DTYPES.items()}


def load(encoded: EncodedTensor, mask: MaskForm = "stored", **options: Any) -> GpuTensor:
    """As ``xorpack.decoders.gpu.load``, on the CPU."""
    return GpuTensor(encoded, pack(encoded, mask), HostDevice(**options))


@functools.cache
def compiled(kernel: Kernel) -> Any:
    """Entry point of a kernel: ``(dims, arguments, n)`` to 0 or a key of WRONG."""
    text = HEADER.read_text() + _tensor_cores(kernel)
    tail = (
        '\nextern "C" int run(const long long* dims, void** arguments, int n)'
        f" {{ return cpu::launch({kernel.name}, dims, arguments, n); }}\n"
    )
    text += kernel.source() + tail
    digest = hashlib.sha256(repr((OPTIONS, COMPILER, text)).encode()).hexdigest()
    folder = Path(tempfile.gettempdir()) / f"xorpack-kernels-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    library = folder / f"{digest}.so"
    if not library.exists():
        with tempfile.TemporaryDirectory(dir=folder) as scratch:
            source, made = Path(scratch) / "kernel.cpp", Path(scratch) / "kernel.so"
            source.write_text(text)
            command = [str(COMPILER), *OPTIONS, "-o", str(made), str(source)]
            result = subprocess.run(command, capture_output=True, text=True)
            assert result.returncode == 0, result.stderr[:4000]
            made.replace(library)
    entry = ctypes.CDLL(str(library)).run
    entry.argtypes = (ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int)
    return entry


def _tensor_cores(kernel: Kernel) -> str:
    """What a kernel takes besides HEADER: products of elements of its type, and what warpgroups have."""
    if kernel.name not in ("matmul", "trellis_fragments", "trellis_matmul", *ARCHITECTURES):
        return ""
    kernel_type = dict(kernel.macros)["X"]
    bits = "xp_from_half(bits)" if kernel_type == 1 else "__uint_as_float(bits << 16)"
    value = f"[](unsigned bits) {{ return {bits}; }}"
    if kernel.name not in ARCHITECTURES:
        return (
            "inline void xp_mma(float (&c)[4], const unsigned (&a)[4], unsigned b0, unsigned b1) {\n"
            f"    cpu_mma(c, a, b0, b1, {value});\n}}\n"
        )
    return (
        WARPGROUPS.read_text()
        + f"""
static const auto elements = [] {{
    std::vector<float> all;
    for (unsigned n = 0; n < 65536; ++n) all.push_back(({value})(n));
    return all;
}}();
inline float xp_element(unsigned bits) {{ return elements[bits & 0xFFFF]; }}
inline unsigned xp_two(unsigned a, unsigned b, unsigned c) {{ return cpu_two<{kernel_type}>(a, b, c, xp_element); }}
template <int Left> void xp_products_wait() {{ cpu_products_wait<Left>(xp_element); }}
"""
    )


def guarded(n_bytes: int) -> NDArray[np.uint8]:
    """Poisoned memory that ends, but for alignment to 16 bytes, at a page that cannot be touched."""
    page = mmap.PAGESIZE
    pages = -(-max(n_bytes, 1) // page)
    region = mmap.mmap(-1, (pages + 1) * page)
    base = ctypes.addressof(ctypes.c_char.from_buffer(region))
    assert ctypes.CDLL(None).mprotect(ctypes.c_void_p(base + pages * page), page, 0) == 0
    start = pages * page - -(-n_bytes // 16) * 16
    memory = np.frombuffer(region, np.uint8, n_bytes, start) if n_bytes else np.empty(0, np.uint8)
    memory[...] = 0xA5
    return memory


class HostDevice:
    """See the module. ``turns``: how the threads of a block take turns, a key of TURNS."""

    def __init__(
        self,
        *,
        n_multiprocessors: int = 3,
        shared_limit: int = 227 << 10,
        turns: str = "rising",
        counts_bits: bool = True,
        warpgroups: bool = True,
    ) -> None:
        self.n_multiprocessors = n_multiprocessors
        self.shared_limit = shared_limit
        self.counts_bits = counts_bits
        self.warpgroups = warpgroups
        self.turns = TURNS[turns]
        self.launched: list[str] = []
        self.allocations = 0
        self._constants: dict[Hashable, NDArray[Any]] = {}
        self._workspaces: dict[str, NDArray[np.uint8]] = {}

    def upload(self, array: NDArray[Any]) -> NDArray[Any]:
        memory = guarded(array.nbytes)
        copy = memory.view(array.dtype).reshape(array.shape)
        copy[...] = array
        return copy

    def download(self, array: NDArray[Any]) -> NDArray[Any]:
        return array.copy()

    def constant(self, key: Hashable, make: Callable[[], NDArray[Any]]) -> NDArray[Any]:
        if key not in self._constants:
            self._constants[key] = self.upload(make())
        return self._constants[key]

    def empty(self, shape: tuple[int, ...], dtype: str) -> NDArray[Any]:
        self.allocations += 1
        kind = DTYPES[dtype]
        n_bytes = int(np.prod(shape, dtype=np.int64)) * kind.itemsize
        return guarded(n_bytes).view(kind).reshape(shape)

    def pointer(self, array: Any) -> int:
        return int(array.ctypes.data)

    def view(self, array: Any, what: str) -> ArrayView:
        return ArrayView(
            pointer=self.pointer(array),
            dtype=NAMES.get(array.dtype, str(array.dtype)),
            shape=array.shape,
            strides=tuple(step // array.itemsize for step in array.strides),
            device=0,
            readonly=not array.flags.writeable,
            owner=array,
        )

    def workspace(self, stream: Any, what: str, n_bytes: int) -> int:
        held = self._workspaces.get(what)
        if held is None or held.nbytes < n_bytes:
            self.allocations += 1
            self._workspaces[what] = held = guarded(n_bytes)
        return self.pointer(held)

    def poison(self) -> None:
        """Fill all workspaces anew."""
        for held in self._workspaces.values():
            held[...] = 0xA5

    def stream(self, stream: Any) -> Any:
        return stream

    def beside(self) -> AbstractContextManager[None]:
        return contextlib.nullcontext()

    def prepare(self, kernel: Kernel, shared_bytes: int) -> None:
        compiled(kernel)

    def launch(self, kernel: Kernel, launch: Launch, args: Sequence[Any], stream: Any) -> None:
        self.launched.append(kernel.name)
        assert launch.shared_bytes <= self.shared_limit
        assert launch.block <= 1024
        assert all(size > 0 for size in launch.grid)
        assert max(launch.grid[1:]) <= 65535
        values = [np.array(value) for value in args]
        assert all(value.dtype in (np.int64, np.uint64) for value in values)
        pointers = (ctypes.c_void_p * len(values))(*(value.ctypes.data for value in values))
        dims = (ctypes.c_longlong * 6)(*launch.grid, launch.block, launch.shared_bytes, self.turns)
        with ONE_AT_A_TIME:
            wrong = compiled(kernel)(dims, pointers, len(values))
        assert not wrong, f"{kernel.name}: {WRONG[wrong]}"

    def fill_zero(self, pointer: int, n_bytes: int, stream: Any) -> None:
        ctypes.memset(pointer, 0, n_bytes)

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
        kind = DTYPES[dtype]

        def read(pointer: int, n: int) -> NDArray[Any]:
            raw = (ctypes.c_uint8 * (n * kind.itemsize)).from_address(pointer)
            return np.frombuffer(raw, kind).astype(np.float64)

        matrix = read(weights, rows * cols).reshape(rows, cols)
        for n in range(x.shape[0]):
            column = read(x.pointer + n * x.strides[0] * kind.itemsize, cols)
            to = (ctypes.c_float * rows).from_address(out + 4 * n * out_rows)
            np.frombuffer(to, np.float32)[...] = matrix @ column


def bfloat(array: NDArray[Any]) -> NDArray[Any]:
    """As bfloat16."""
    return array.astype(ml_dtypes.bfloat16)
