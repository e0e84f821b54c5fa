"""Views of callers' arrays: both protocols, what they refuse."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from host_device import bfloat

import xorpack
from xorpack.cuda import arrays
from xorpack.cuda.device import CudaDevice
from xorpack.decoders import gpu
from xorpack.errors import DeviceError, ParameterError


class Interface:
    """Speaks ``__cuda_array_interface__`` alone."""

    def __init__(self, **changes):
        self.__cuda_array_interface = {
            "shape": (3, 4),
            "typestr": "<f2",
            "data": (4096, False),
            "version": 3,
        } | changes

    @property
    def __cuda_array_interface__(self):
        return self.__cuda_array_interface


class OnGpu:
    """A numpy array that says that it lies on GPU 2."""

    def __init__(self, array):
        self.array = array

    def __dlpack__(self, *, stream=None):
        assert stream == -1
        return self.array.__dlpack__()

    def __dlpack_device__(self):
        return 2, 2


def test_dlpack():
    base = np.arange(60, dtype=np.float16).reshape(5, 12)
    part = base[1:, 2:9]
    seen = arrays.view(OnGpu(part), "x")
    assert (seen.pointer, seen.dtype, seen.shape) == (part.ctypes.data, "F16", (4, 7))
    assert (seen.strides, seen.device) == ((12, 1), 2)
    assert not arrays.is_dense(seen)
    assert arrays.is_dense(arrays.view(OnGpu(base), "x"))


def test_dlpack_does_not_keep_or_free_the_array():
    array = np.ones((100, 100), np.float32)
    before = sys.getrefcount(array)
    for _ in range(10):
        arrays.view(OnGpu(array), "x")
    assert sys.getrefcount(array) == before
    assert (array == 1).all()


def test_cuda_array_interface():
    seen = arrays.view(Interface(), "x")
    assert (seen.pointer, seen.dtype, seen.shape, seen.strides) == (4096, "F16", (3, 4), (4, 1))
    assert arrays.view(Interface(strides=(16, 2)), "x").strides == (8, 1)
    assert arrays.view(Interface(data=(0, True)), "x").readonly


@pytest.mark.parametrize(
    ("array", "error", "words"),
    [
        (np.ones(3, np.float32), DeviceError, "x is in host memory, not on a CUDA GPU"),
        ([1.0, 2.0], ParameterError, "x is a list, which speaks neither"),
        (None, ParameterError, "x is a NoneType"),
        (Interface(typestr="<f8"), ParameterError, "type '<f8'"),
        (Interface(strides=(9, 3)), ParameterError, "not whole elements"),
        (OnGpu(np.ones(3)), ParameterError, "DLPack type 2, 64 bits"),
        (OnGpu(bfloat(np.ones(3, np.float32))), ParameterError, "cannot be shared by DLPack"),
    ],
    ids=["host", "list", "none", "float64", "fractions", "DLPack float64", "DLPack bfloat16"],
)
def test_refused(array, error, words):
    with pytest.raises(error, match=words):
        arrays.view(array, "x")


@pytest.mark.parametrize("shape", [(), (0,), (3,), (2, 0, 5), (4, 1, 3)])
def test_dense_strides_are_those_of_numpy(shape):
    array = np.zeros(shape, np.float32)
    seen = arrays.ArrayView(
        pointer=0, dtype="F32", shape=shape, strides=arrays._dense_strides(shape), device=0
    )
    assert arrays.is_dense(seen)
    if array.size:
        assert seen.strides == tuple(step // 4 for step in array.strides)


def test_import_needs_no_cupy():
    code = (
        "import sys; sys.modules['cupy'] = None; import xorpack; from xorpack.decoders import gpu\n"
        "import numpy as np; e = xorpack.encode(np.ones((2, 40), np.float32))\n"
        "try: gpu.load(e)\n"
        "except xorpack.errors.DeviceError as error: assert 'cuda12' in str(error), error\n"
        "else: raise AssertionError\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_no_gpu_is_one_clear_error(monkeypatch):
    cupy = pytest.importorskip("cupy")

    def fail():
        raise cupy.cuda.runtime.CUDARuntimeError(35)

    monkeypatch.setattr(cupy.cuda.runtime, "getDeviceCount", fail)
    with pytest.raises(
        DeviceError, match=r"no CUDA GPU can be used: cudaErrorInsufficientDriver.*xorpack doctor"
    ):
        gpu.load(xorpack.encode(np.ones((2, 40), np.float32)))


def test_streams_of_any_library():
    """By pointer, by the CUDA stream protocol, PyTorch's; CuPy's own as it is."""
    cupy = pytest.importorskip("cupy")
    target = CudaDevice.__new__(CudaDevice)
    target._cupy, target.number = cupy, 0

    class Protocol:
        def __cuda_stream__(self):
            return 0, 77

    class Torch:
        cuda_stream, device_index = 99, 0

    assert target.stream(1234).ptr == 1234
    assert target.stream(Protocol()).ptr == 77
    assert target.stream(Torch()).ptr == 99
    own = target.stream(1)
    assert target.stream(own) is own
    for wrong in ("0", True, 1.5):
        with pytest.raises(ParameterError, match="not a stream or its pointer"):
            target.stream(wrong)
    Torch.device_index = 3
    with pytest.raises(DeviceError, match="the stream is of GPU 3"):
        target.stream(Torch())
