"""The GPU decoder: CUDA kernels through CuPy. See :mod:`xorpack.decoders.gpu.tensor`."""

from xorpack.decoders.gpu.tensor import GpuTensor, load

__all__ = ["GpuTensor", "load"]
