"""On a GPU: the same cases as on the CPU, and what only a device has. ``pytest -m gpu --require-gpu``."""

from __future__ import annotations

import gc

import numpy as np
import pytest
from gpu_cases import BCQ, LOSSLESS, TRELLIS, check_product, coded_words
from samples import bcq, same

import xorpack
from xorpack.cuda.device import device, import_cupy
from xorpack.decoders import gpu, reference
from xorpack.decoders.gpu import products
from xorpack.errors import DeviceError, ParameterError
from xorpack.tensors import DTYPES

pytestmark = pytest.mark.gpu
PLAIN = ("F32", "F16")
"""Types that every CuPy has."""

ALGORITHMS = [
    ("tables", 1),
    ("tables", 8),
    ("tensor_cores", 8),
    ("tensor_cores", 70),
    ("wide", 300),
    ("decode", 33),
]
ROUNDED = ("decode", "trellis_tiles", "wide")
"""Algorithms that round weights to the type of the activations."""


def takes(algorithm, encoded, n, dtype):
    """Whether this GPU multiplies so."""
    if algorithm == "wide" and not device().warpgroups:
        return False
    return not products.why_not(algorithm, encoded, n, dtype, device().shared_limit)


def activations(cupy, n, cols, dtype, seed=0):
    x = np.random.default_rng([seed, n, cols]).standard_normal((n, cols)).astype(DTYPES[dtype])
    return x, cupy.asarray(x)


@pytest.mark.parametrize("name", BCQ | LOSSLESS)
def test_decode(name):
    cupy, encoded = import_cupy(), (BCQ | LOSSLESS)[name]()
    tensor = gpu.load(encoded)
    if encoded.dtype == "BF16":
        bits = cupy.full(encoded.shape, 0xA5A5, np.uint16)
        tensor.decode(out=AsBfloat(bits))
        decoded = bits.get().view(DTYPES["BF16"])
    else:
        decoded = tensor.decode(out=cupy.full(encoded.shape, 77, DTYPES[encoded.dtype])).get()
    assert same(decoded, reference.decode_dense(encoded).reshape(encoded.shape))
    wanted = coded_words(encoded)
    words = tensor.decode_words(out=cupy.full(wanted.shape, 77, np.uint32))
    assert same(words.get(), wanted)


class AsBfloat:
    """16-bit integers of CuPy shown as bfloat16 through DLPack's header, as PyTorch's tensors are."""

    def __init__(self, bits):
        self.bits = bits

    def __dlpack_device__(self):
        return self.bits.__dlpack_device__()

    def __dlpack__(self, *, stream=None):
        import ctypes

        from xorpack.cuda import arrays

        capsule = self.bits.__dlpack__(stream=stream)
        arrays._Tensor.from_address(arrays._get_pointer(ctypes.py_object(capsule), b"dltensor")).code = 4
        return capsule


@pytest.mark.parametrize("name", TRELLIS)
def test_trellis(name):
    cupy, encoded = import_cupy(), TRELLIS[name]()
    tensor = gpu.load(encoded)
    wanted = reference.decode_dense(encoded).reshape(encoded.shape)
    if encoded.dtype != "BF16":
        decoded = tensor.decode(out=cupy.full(encoded.shape, 77, DTYPES[encoded.dtype])).get()
        assert same(decoded, wanted)
    for algorithm, n in (("binary", 1), ("binary", 8), ("trellis_tiles", 33), ("wide", 300), ("decode", 33)):
        if not takes(algorithm, encoded, n, "F16"):
            continue
        x, on_gpu = activations(cupy, n, encoded.cols, "F16")
        out = cupy.full((n, encoded.rows), np.nan, np.float32)
        first = tensor.matmul(on_gpu, out=out, algorithm=algorithm).get()
        rounded = "F16" if algorithm in ROUNDED else None
        check_product(first, encoded, x, "F32", rounded=rounded)
        assert same(tensor.matmul(on_gpu, out=out, algorithm=algorithm).get(), first)


@pytest.mark.parametrize("dtype", PLAIN)
@pytest.mark.parametrize(("algorithm", "n"), ALGORITHMS)
@pytest.mark.parametrize("name", BCQ)
def test_products(name, algorithm, n, dtype):
    cupy, encoded = import_cupy(), BCQ[name]()
    if not takes(algorithm, encoded, n, dtype):
        pytest.skip("this algorithm does not take it")
    if (name, algorithm) == ("wide scales", "decode"):
        pytest.skip("elements of infinity")
    tensor = gpu.load(encoded)
    x, on_gpu = activations(cupy, n, encoded.cols, dtype)
    out = cupy.full((n, encoded.rows), np.nan, np.float32)
    first = tensor.matmul(on_gpu, out=out, algorithm=algorithm).get()
    check_product(first, encoded, x, "F32", rounded=dtype if algorithm in ROUNDED else None)
    for _ in range(3):
        out.fill(np.nan)
        assert same(tensor.matmul(on_gpu, out=out, algorithm=algorithm).get(), first)


def test_a_large_tensor():
    """Many blocks, segments and panels; against float64 on the CPU."""
    cupy = import_cupy()
    encoded = xorpack.encode(bcq((2048, 4096), 0.9, 2, group_size=128, dtype="F16"), mask_codec="bitmap")
    tensor = gpu.load(encoded)
    assert same(tensor.decode().get(), reference.decode_dense(encoded))
    for algorithm in ("tables", "tensor_cores", "wide", "decode"):
        if not takes(algorithm, encoded, 8, "F16"):
            continue
        x, on_gpu = activations(cupy, 8, encoded.cols, "F16")
        out = cupy.empty((8, encoded.rows), np.float32)
        tensor.matmul(on_gpu, out=out, algorithm=algorithm)
        check_product(out.get(), encoded, x, "F32", rounded="F16" if algorithm in ROUNDED else None)


@pytest.mark.parametrize("algorithm", ["tables", "tensor_cores"])
def test_cuda_graph(algorithm):
    cupy, encoded = import_cupy(), BCQ["cascade, unrolled"]()
    tensor = gpu.load(encoded)
    stream = cupy.cuda.Stream(non_blocking=True)
    x, on_gpu = activations(cupy, 2, encoded.cols, "F16")
    out = cupy.zeros((2, encoded.rows), np.float32)
    cupy.cuda.Device().synchronize()
    tensor.prepare(2, "F16", stream=stream, algorithm=algorithm)
    with stream:
        stream.begin_capture()
        tensor.matmul(on_gpu, out=out, stream=stream, algorithm=algorithm)
        graph = stream.end_capture()
    for _ in range(2):
        out.fill(np.nan)
        cupy.cuda.Device().synchronize()
        graph.launch(stream)
        stream.synchronize()
        check_product(out.get(), encoded, x, "F32")


SPIN = """
extern "C" __global__ void spin(long long cycles) {
    const long long begin = clock64();
    while (clock64() - begin < cycles) {}
}
"""


def test_no_allocation_and_no_wait_when_out_is_given():
    """The call returns while the stream is still busy with what came before it."""
    cupy, encoded = import_cupy(), BCQ["unrolled"]()
    tensor = gpu.load(encoded)
    x, on_gpu = activations(cupy, 1, encoded.cols, "F16")
    out = cupy.empty((1, encoded.rows), np.float16)
    stream = cupy.cuda.Stream(non_blocking=True)
    tensor.prepare(1, "F16", stream=stream)
    spin = cupy.RawKernel(SPIN, "spin")
    with stream:
        spin((1,), (1,), (np.int64(1),))  # compiled
    cupy.cuda.Device().synchronize()
    allocated = []

    def allocate(size):
        allocated.append(size)
        return cupy.get_default_memory_pool().malloc(size)

    with stream, cupy.cuda.using_allocator(allocate):
        tensor.matvec(on_gpu, out=out, stream=stream)  # loads what is compiled, which may wait
        spin((1,), (1,), (np.int64(1 << 30),))  # half a second at 2 GHz
        tensor.matvec(on_gpu, out=out, stream=stream)
        assert not stream.done
    assert not allocated
    stream.synchronize()
    check_product(out.get(), encoded, x, "F16")


def test_pytorch():
    torch = pytest.importorskip("torch")
    encoded = BCQ["unrolled"]()
    tensor = gpu.load(encoded)
    x = torch.randn(3, encoded.cols, device="cuda").to(torch.bfloat16)
    out = torch.empty(3, encoded.rows, device="cuda", dtype=torch.bfloat16)
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    tensor.matmul(x, out=out, stream=side)
    side.synchronize()
    wide = x.float().cpu().numpy()
    check_product(out.float().cpu().numpy(), encoded, wide, "BF16")


def test_errors():
    cupy, encoded = import_cupy(), BCQ["unrolled"]()
    tensor = gpu.load(encoded)
    with pytest.raises(DeviceError, match="x is in host memory"):
        tensor.matvec(np.zeros(encoded.cols, np.float16))
    with pytest.raises(ParameterError, match="x of shape"):
        tensor.matvec(cupy.zeros(3, np.float16))
    with pytest.raises(DeviceError, match="there is no GPU 99"):
        gpu.load(encoded, device_number=99)
    with pytest.raises(ParameterError, match="stream is a str"):
        tensor.matvec(cupy.zeros(encoded.cols, np.float16), stream="0")


def test_memory_is_given_back():
    cupy = import_cupy()
    pool = cupy.get_default_memory_pool()
    encoded = BCQ["unrolled"]()
    gpu.load(encoded)  # tables that tensors share stay
    gc.collect()
    before = pool.used_bytes()
    tensor = gpu.load(encoded)
    assert pool.used_bytes() > before
    del tensor
    gc.collect()
    assert pool.used_bytes() == before
