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
import weakref
from collections.abc import Callable, Hashable, Iterator, Sequence
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
HEADER, RACES = (Path(__file__).with_name(name) for name in ("cuda_on_cpu.h", "cuda_races.h"))
WARPGROUPS = Path(__file__).with_name("warpgroups_on_cpu.h")
OPTIONS = ("-std=c++17", "-O1", "-fPIC", "-ffp-contract=off", "-U_FORTIFY_SOURCE", "-w")
WRONG = {
    1: "threads wait for each other",
    2: "a write behind shared memory",
    3: "another number of arguments",
    4: "asynchronous work is not used as it must be",
    5: "a race",
}
TURNS = {"rising": 0, "falling": 1, "a warp ahead": 2}
ONE_AT_A_TIME = threading.Lock()
"""Kernels run on fibers that a library has once."""
NAMES = {dtype: name for name, dtype in DTYPES.items()}


def load(encoded: EncodedTensor, mask: MaskForm = "stored", **options: Any) -> GpuTensor:
    """As ``xorpack.decoders.gpu.load``, on the CPU."""
    return GpuTensor(encoded, pack(encoded, mask), HostDevice(**options))


@functools.cache
def compiled(kernel: Kernel, races: bool = False) -> Any:
    """A library, ``run`` of which is the kernel: ``(dims, arguments, n)`` to 0 or a key of WRONG.

    With ``races`` it looks for them (``cuda_races.h``) in memory that ``watch(pairs, n)`` names; ``race()`` says which.
    """
    head = "#define XP_RACES\n" + HEADER.read_text() + RACES.read_text() if races else HEADER.read_text()
    tail = (
        '\nextern "C" int run(const long long* dims, void** arguments, int n)'
        f" {{ return cpu::launch({kernel.name}, dims, arguments, n); }}\n"
    )
    text = head + _tensor_cores(kernel) + kernel.source() + tail
    digest = hashlib.sha256(repr((OPTIONS, COMPILER, text)).encode()).hexdigest()
    folder = Path(tempfile.gettempdir()) / f"xorpack-kernels-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    library = folder / f"{digest}.so"
    if not library.exists():
        with tempfile.TemporaryDirectory(dir=folder) as scratch:
            source, half, made = (Path(scratch) / f"kernel.{end}" for end in ("cpp", "o", "so"))
            source.write_text(text)
            calls = ["-fsanitize=thread", "--param=tsan-distinguish-volatile=1"] if races else []
            for command in (
                [str(COMPILER), *OPTIONS, *calls, "-c", "-o", str(half), str(source)],
                [str(COMPILER), *OPTIONS, "-shared", "-o", str(made), str(half)],
            ):
                result = subprocess.run(command, capture_output=True, text=True)
                assert result.returncode == 0, result.stderr[:4000]
            made.replace(library)
    found = ctypes.CDLL(str(library))
    found.run.argtypes = (ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int)
    if races:
        found.watch.argtypes = (ctypes.c_void_p, ctypes.c_int)
        found.race.restype = ctypes.c_char_p
    return found


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
    """See the module. ``turns``: how the threads of a block take turns, a key of TURNS.

    ``races``: kernels are looked through for races (``cuda_races.h``) in what lies in this device's memory.
    ``apart`` counts what is done outside of :meth:`beside`, on the stream that threads share.
    """

    def __init__(
        self,
        *,
        n_multiprocessors: int = 3,
        shared_limit: int = 227 << 10,
        turns: str = "rising",
        counts_bits: bool = True,
        races: bool = False,
        warpgroups: bool = True,
    ) -> None:
        self.n_multiprocessors = n_multiprocessors
        self.shared_limit = shared_limit
        self.counts_bits = counts_bits
        self.warpgroups = warpgroups
        self.turns = TURNS[turns]
        self.launched: list[str] = []
        self.allocations = 0
        self.races = races
        self.apart = 0
        self._memory: weakref.WeakValueDictionary[int, NDArray[np.uint8]] = weakref.WeakValueDictionary()
        self._beside = threading.local()
        self._constants: dict[Hashable, NDArray[Any]] = {}
        self._workspaces: dict[str, NDArray[np.uint8]] = {}

    def upload(self, array: NDArray[Any]) -> NDArray[Any]:
        self._count()
        memory = self._guarded(array.nbytes)
        copy = memory.view(array.dtype).reshape(array.shape)
        copy[...] = array
        return copy

    def download(self, array: NDArray[Any]) -> NDArray[Any]:
        self._count()
        return array.copy()

    def constant(self, key: Hashable, make: Callable[[], NDArray[Any]]) -> NDArray[Any]:
        if key not in self._constants:
            self._constants[key] = self.upload(make())
        return self._constants[key]

    def empty(self, shape: tuple[int, ...], dtype: str) -> NDArray[Any]:
        self._count()
        self.allocations += 1
        kind = DTYPES[dtype]
        n_bytes = int(np.prod(shape, dtype=np.int64)) * kind.itemsize
        return self._guarded(n_bytes).view(kind).reshape(shape)

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
            self._workspaces[what] = held = self._guarded(n_bytes)
        return self.pointer(held)

    def _guarded(self, n_bytes: int) -> NDArray[np.uint8]:
        memory = guarded(n_bytes)
        self._memory[self.pointer(memory)] = memory
        return memory

    def poison(self) -> None:
        """Fill all workspaces anew."""
        for held in self._workspaces.values():
            held[...] = 0xA5

    def stream(self, stream: Any) -> Any:
        return stream

    @contextlib.contextmanager
    def beside(self) -> Iterator[None]:
        self._beside.on = True
        try:
            yield
        finally:
            self._beside.on = False

    def _count(self) -> None:
        self.apart += not getattr(self._beside, "on", False)

    def prepare(self, kernel: Kernel, shared_bytes: int) -> None:
        compiled(kernel, self.races)

    def launch(self, kernel: Kernel, launch: Launch, args: Sequence[Any], stream: Any) -> None:
        self._count()
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
            library, said = compiled(kernel, self.races), ""
            if self.races:
                pairs = np.array([(at, memory.nbytes) for at, memory in self._memory.items()], np.int64)
                library.watch(pairs.ctypes.data, len(pairs))
            wrong = library.run(dims, pointers, len(values))
            if self.races:
                said = f": {library.race().decode()}"
        assert not wrong, f"{kernel.name}: {WRONG[wrong]}{said}"

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
