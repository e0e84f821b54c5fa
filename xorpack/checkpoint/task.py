"""One tensor of a checkpoint, encoded: what threads and other processes are given to do, and what they give back."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from xorpack.analysis.accounting import Account
from xorpack.analysis.distortion import Distortion
from xorpack.analysis.row_errors import Rows
from xorpack.checkpoint.budget import Quantizer
from xorpack.checkpoint.plan import FLOATS, choose_factors
from xorpack.checkpoint.settings import Settings
from xorpack.code.words import Words
from xorpack.cuda.choice import find_device
from xorpack.decoders.content import content_sha256
from xorpack.encoded import EncodedTensor
from xorpack.encoding.encoder import encode
from xorpack.encoding.fitting.hessian import believed, output_error
from xorpack.encoding.fitting.methods import fit
from xorpack.encoding.quantize.methods import PRUNED_FROM, quantize
from xorpack.encoding.quantize.pruning import GlobalThreshold
from xorpack.errors import ParameterError, SelfCheckError, XorpackError
from xorpack.files import sizes
from xorpack.files.safetensors_file import StoredTensor
from xorpack.masks import Bmf
from xorpack.tensors import DTYPES, BCQTensor, TrellisTensor, as_matrix

AMPLE = 1 << 16
"""Bytes saved from which on those of the header do not matter."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TensorTask:
    """All that the encoding of one tensor depends on; it can be sent to another process.

    Attributes:
        name: of the tensor.
        stored: the tensor as it stands in the source, read when the task runs.
        settings: of the checkpoint.
        quantizer: of this tensor, unless it is kept bit for bit.
        threshold: of this tensor, index 0, where all are pruned together.
        hessian: of its layer's inputs, where its weights are fitted to them.
        n_seen: inputs that the Hessian is of.
        target: what the weights are fitted to be, in the place of those that are stored.
        outputs: what squared errors of each output of its layer count, where that is known.
        jobs: threads.
        device: where a trellis that is not fitted is searched, and the XOR code found.
    """

    name: str
    stored: StoredTensor
    settings: Settings
    quantizer: Quantizer
    threshold: GlobalThreshold | None = None
    hessian: StoredTensor | None = None
    n_seen: int = 0
    target: NDArray[np.float32] | None = None
    outputs: NDArray[np.float32] | None = None
    jobs: int = 1
    device: str = "cpu"


@dataclass(frozen=True, slots=True, kw_only=True)
class TensorResult:
    """What became of one tensor.

    Attributes:
        account: its sizes; None if it would take no fewer bytes encoded than as it is, and is carried.
        seconds: time spent.
        content_sha256: of the encoded tensor.
        distortion: squared error of a quantized tensor.
        output_error: the same of the layer's output, where it was fitted to activations.
        negative_zeros: weights of a lossless tensor that are -0.0, where they are kept.
    """

    account: Account | None
    seconds: float
    content_sha256: str
    distortion: Distortion | None = None
    output_error: float | None = None
    negative_zeros: int | None = None

    def as_dict(self) -> dict[str, Any]:
        """All of it as JSON has it."""
        return asdict(self)

    @classmethod
    def from_dict(cls, found: Mapping[str, Any]) -> TensorResult:
        """Inverse of :meth:`as_dict`."""
        parts = dict(found)
        if parts["account"] is not None:
            parts["account"] = Account(**parts["account"])
        if parts["distortion"] is not None:
            parts["distortion"] = Distortion(**parts["distortion"])
        return cls(**parts)


def encode_tensor(task: TensorTask) -> tuple[EncodedTensor | None, TensorResult]:
    """Encode one tensor, decode it again and compare.

    Returns:
        the encoded tensor, None where it would not become smaller; and what is to be said of it.

    Raises:
        DataError: weights that cannot be encoded as asked.
        SelfCheckError: it does not decode to what was encoded.
        SourceError: the source changed, or cannot be read.
    """
    began = time.perf_counter()
    try:
        made = _encode(task)
        rows = None
        if not task.settings.lossless:
            rows = Rows(made.array.reshape(made.encoded.rows, made.encoded.cols))
        found = content_sha256(made.encoded, None if rows is None else rows.watch)
        if found != made.encoded.content_sha256:
            raise SelfCheckError(
                "it does not decode to what was encoded, a fault of xorpack; please report it"
            )
    except XorpackError as error:
        raise type(error)(f"tensor {task.name!r}: {error}") from error
    smaller = _smaller(task.name, made.encoded, task.stored)
    account = Account.of(made.encoded) if smaller else None
    return made.encoded if smaller else None, TensorResult(
        account=account,
        seconds=time.perf_counter() - began,
        content_sha256=made.encoded.content_sha256,
        distortion=None
        if rows is None or account is None
        else Distortion.of(rows, account.per_weight(account.n_bytes)),
        output_error=made.output_error,
        negative_zeros=made.negative_zeros,
    )


def check_device(device: str, settings: Settings, *, fitted: bool, elsewhere: bool) -> None:
    """Raise unless the device is there (but for workers on other machines) and has something to do."""
    if device == "cpu":
        return
    if fitted and settings.is_trellis:
        raise ParameterError(
            f"device {device} searches all columns at once, and hessian fits one after another: leave it out"
        )
    if settings.packs:
        raise ParameterError(f"device {device} is of trellises and of the XOR code, and bits are packed")
    if not elsewhere:
        find_device(device)


class _Made(NamedTuple):
    """An encoded tensor, and the array that it is of."""

    encoded: EncodedTensor
    array: NDArray[Any]
    output_error: float | None = None
    negative_zeros: int | None = None


def _encode(task: TensorTask) -> _Made:
    settings, array = task.settings, task.stored.array()
    how: dict[str, Any] = {name: getattr(settings, name) for name in ("mask_codec", "prefer", "payload")}
    how["jobs"] = task.jobs
    if not settings.packs_planes:
        how["device"] = task.device
    if settings.lossless:
        array, count = _zeros(array, positive=settings.positive_zeros)
        if settings.mask_codec == Bmf.NAME:
            how["factors"] = choose_factors(settings, array, task.jobs)
        return _Made(encode(array, **how), array, negative_zeros=count)
    mask = None
    if task.threshold is not None:
        mask = task.threshold.mask(0, array.reshape(as_matrix(array.shape)))
    if settings.mask_codec == Bmf.NAME:
        how["factors"] = choose_factors(settings, array, task.jobs)
        mask = how["factors"].mask()
    quantized, error = _quantized(task, array, mask)
    if settings.symbols == "entropy":
        how["field"] = "auto"
    if isinstance(quantized, TrellisTensor):
        how["device"] = "cpu"  # its code is there already
    return _Made(encode(quantized, **how), array, output_error=error)


def _quantized(
    task: TensorTask, array: NDArray[Any], mask: Words | None
) -> tuple[BCQTensor | TrellisTensor, float | None]:
    """The quantized tensor, and the error of its layer's output where that is known."""
    settings, chosen = task.settings, task.quantizer
    how: dict[str, Any] = {
        "sparsity": None if mask is not None else settings.sparsity,
        "mask": mask,
        "group_size": settings.group_size,
        "scale_dtype": settings.scale_dtype,
        "jobs": task.jobs,
    }
    if task.hessian is not None:
        matrix = task.hessian.array()
        how["rows_hessian"] = task.outputs
        if chosen.rate is not None:
            outliers = settings.outliers_at(chosen.rate, fitted=True)
            how |= {"method": "trellis", "rate": chosen.rate, "outliers": outliers}
        else:
            how |= {"method": "bcq", "bits": chosen.bits or settings.bits}
        fitted: BCQTensor | TrellisTensor = fit(_aim(task, array), believed(matrix, task.n_seen), **how)
        return fitted, output_error(array, fitted.dequantize(), matrix)
    if chosen.rate is not None:
        outliers = settings.outliers_at(chosen.rate)
        how["device"] = task.device
        return quantize(array, method="trellis", rate=chosen.rate, outliers=outliers, **how), None
    return quantize(array, bits=chosen.bits or settings.bits, method=settings.method, **how), None


def _aim(task: TensorTask, array: NDArray[Any]) -> NDArray[Any]:
    """What weights are fitted to be, of the type of ``array``; those that are pruned stay so."""
    if task.target is None:
        return array
    zero = array == 0
    if task.quantizer.rate is not None and zero.mean() < PRUNED_FROM:
        zero = np.zeros_like(zero)
    return np.where(zero, 0, task.target.reshape(array.shape)).astype(array.dtype)


def _zeros(array: NDArray[Any], *, positive: bool) -> tuple[NDArray[Any], int | None]:
    """A lossless tensor with its -0.0 counted; or with +0.0 in their place, and None."""
    negative = negative_zeros(array)
    count = int(np.count_nonzero(negative))
    if not positive:
        return array, count
    if count:
        array = array.copy()
        array[negative] = 0
    return array, None


def _smaller(name: str, encoded: EncodedTensor, stored: StoredTensor) -> bool:
    """Whether a tensor takes fewer bytes of a file encoded than carried, its part of the header included."""
    if sum(encoded.section_bytes().values()) + AMPLE < stored.n_bytes:
        return True
    return sizes.encoded_bytes(name, encoded) < sizes.carried_bytes(name, stored)


def negative_zeros(array: NDArray[Any]) -> NDArray[np.bool_]:
    """Find where a floating-point array is -0.0."""
    found: NDArray[np.bool_] = np.zeros(array.shape, np.bool_)
    if array.dtype in (DTYPES[name] for name in (*FLOATS, "F8_E4M3", "F8_E5M2")):
        with np.errstate(invalid="ignore"):  # of NaNs
            found = (array == 0) & np.signbit(array)
    return found
