"""One class per way to be wrong. Messages name what, where and why."""

from __future__ import annotations


class XorpackError(Exception):
    """Base of every error that xorpack raises on purpose."""


class ParameterError(XorpackError, ValueError):
    """An argument breaks its rule, or two arguments contradict each other."""


class DataError(XorpackError, ValueError):
    """The weights cannot be encoded as asked: wrong dtype, NaN, infinity."""


class FormatError(XorpackError, ValueError):
    """The bytes are not a file that this version reads: malformed, truncated, unknown version."""


class CorruptError(FormatError):
    """A checksum does not match: the bytes changed after they were written."""


class MismatchError(XorpackError):
    """Two checkpoints that should be equal differ."""


class SelfCheckError(XorpackError, RuntimeError):
    """What was made does not give back what it was made from: a fault of xorpack; nothing was written."""


class DestinationError(XorpackError, OSError):
    """The destination exists, or cannot be written."""


class SourceError(XorpackError, OSError):
    """A source cannot be read to its end, or changed while it was read."""


class DeviceError(XorpackError, RuntimeError):
    """The GPU cannot do it: none is there, CuPy is missing or does not fit, memory is short."""


class WorkerError(XorpackError, RuntimeError):
    """Workers on other machines or in other processes are not there, of another version, or died."""
