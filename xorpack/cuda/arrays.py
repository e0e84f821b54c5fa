"""Arrays that callers hand in, seen through DLPack or ``__cuda_array_interface__``: nothing is copied.

Of a DLPack capsule only the header is read, and the capsule is not consumed: its producer frees it as soon as it is
dropped. The caller keeps the array alive until the stream has passed the call, as for any launch. No ordering
between streams is asked for: x must be ready on the stream that the product runs on.
"""

from __future__ import annotations

import ctypes
import math
from dataclasses import dataclass
from typing import Any

from xorpack.errors import DeviceError, ParameterError

CPU, CUDA, CUDA_HOST, CUDA_MANAGED = 1, 2, 3, 13
"""DLPack's device types."""

TYPES = ("F32", "F16", "BF16")
"""Element types of activations and products; the index is the kernels' code of the type."""

_TYPESTRS = {
    "<f4": "F32",
    "<f2": "F16",
    "|i1": "I8",
    "|u1": "U8",
    "<i2": "I16",
    "<u2": "U16",
    "<i4": "I32",
    "<u4": "U32",
}
_DLPACK = {
    (2, 32): "F32",
    (2, 16): "F16",
    (4, 16): "BF16",
    (0, 8): "I8",
    (1, 8): "U8",
    (1, 32): "U32",
    (1, 16): "U16",
    (0, 16): "I16",
    (10, 8): "F8_E4M3",
    (12, 8): "F8_E5M2",
    (14, 8): "F8_E8M0",
    (0, 32): "I32",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class ArrayView:
    """Memory of an array: ``strides`` in elements; ``device`` the GPU's number, None for host memory."""

    pointer: int
    dtype: str
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    device: int | None
    readonly: bool = False
    owner: Any = None

    @property
    def size(self) -> int:
        """Elements."""
        return math.prod(self.shape)


class _Tensor(ctypes.Structure):
    _fields_ = (
        ("data", ctypes.c_void_p),
        ("device_type", ctypes.c_int32),
        ("device_id", ctypes.c_int32),
        ("ndim", ctypes.c_int32),
        ("code", ctypes.c_uint8),
        ("bits", ctypes.c_uint8),
        ("lanes", ctypes.c_uint16),
        ("shape", ctypes.POINTER(ctypes.c_int64)),
        ("strides", ctypes.POINTER(ctypes.c_int64)),
        ("byte_offset", ctypes.c_uint64),
    )


_get_pointer = ctypes.pythonapi.PyCapsule_GetPointer
_get_pointer.restype, _get_pointer.argtypes = ctypes.c_void_p, (ctypes.py_object, ctypes.c_char_p)


def view(array: Any, what: str) -> ArrayView:
    """See ``array`` as memory; ``what`` names it in errors.

    Raises:
        ParameterError: it speaks neither protocol, or has a type that is not known here.
        DeviceError: it is in host memory.
    """
    interface = getattr(type(array), "__cuda_array_interface__", None)
    if hasattr(array, "__dlpack__"):
        return _from_dlpack(array, what)
    if interface is not None:
        return _from_interface(array.__cuda_array_interface__, array, what)
    raise ParameterError(
        f"{what} is a {type(array).__name__}, which speaks neither DLPack nor __cuda_array_interface__"
    )


def _from_interface(interface: dict[str, Any], owner: Any, what: str) -> ArrayView:
    typestr, shape = interface["typestr"], tuple(interface["shape"])
    pointer, readonly = interface["data"]
    if typestr not in _TYPESTRS:
        raise ParameterError(f"{what} has elements of type {typestr!r}; known: {', '.join(TYPES)}")
    itemsize = int(typestr[2])
    strides = interface.get("strides")
    if strides is not None and any(stride % itemsize for stride in strides):
        raise ParameterError(f"{what} has strides {strides} that are not whole elements of {itemsize} bytes")
    steps = _dense_strides(shape) if strides is None else tuple(stride // itemsize for stride in strides)
    return ArrayView(
        pointer=int(pointer or 0),
        dtype=_TYPESTRS[typestr],
        shape=shape,
        strides=steps,
        device=-1,
        readonly=bool(readonly),
        owner=owner,
    )


def _from_dlpack(array: Any, what: str) -> ArrayView:
    device_type, device_id = (int(value) for value in array.__dlpack_device__())
    if device_type not in (CUDA, CUDA_MANAGED):
        where = "host memory" if device_type in (CPU, CUDA_HOST) else f"DLPack device type {device_type}"
        raise DeviceError(f"{what} is in {where}, not on a CUDA GPU: move it there first")
    try:
        capsule = array.__dlpack__(stream=-1)
    except Exception as error:
        raise ParameterError(f"{what} cannot be shared by DLPack: {error}") from error
    return read_capsule(capsule, what, device_id, array)


def read_capsule(capsule: Any, what: str, device: int | None, owner: Any) -> ArrayView:
    """The view that an unversioned DLPack capsule describes; ``owner`` and the capsule stay alive with it."""
    address = _get_pointer(capsule, b"dltensor")
    tensor = _Tensor.from_address(address)
    dtype = _DLPACK.get((tensor.code, tensor.bits)) if tensor.lanes == 1 else None
    if dtype is None:
        raise ParameterError(
            f"{what} has elements of DLPack type {tensor.code}, {tensor.bits} bits x {tensor.lanes}; "
            f"known: {', '.join(TYPES)}"
        )
    shape = tuple(tensor.shape[axis] for axis in range(tensor.ndim))
    strides = tuple(tensor.strides[axis] for axis in range(tensor.ndim)) if tensor.strides else None
    return ArrayView(
        pointer=(tensor.data or 0) + tensor.byte_offset,
        dtype=dtype,
        shape=shape,
        strides=_dense_strides(shape) if strides is None else strides,
        device=device,
        owner=(owner, capsule),
    )


def _dense_strides(shape: tuple[int, ...]) -> tuple[int, ...]:
    strides, step = [], 1
    for size in reversed(shape):
        strides.append(step)
        step *= max(size, 1)
    return tuple(reversed(strides))


def is_dense(array: ArrayView) -> bool:
    """Whether elements lie in C order without gaps."""
    wanted = _dense_strides(array.shape)
    pairs = zip(array.shape, array.strides, wanted, strict=True)
    return array.size == 0 or all(size == 1 or step == want for size, step, want in pairs)
