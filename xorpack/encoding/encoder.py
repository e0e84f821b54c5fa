"""Weights to an encoded tensor in three acts: options, a plan of every choice, code; then they are put together."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xorpack.code.network import XorNetwork
from xorpack.code.planes import CodedPlanes
from xorpack.elements import Bcq, Lossless
from xorpack.encoded import EncodedTensor, blocks_sha256, planes_sha256
from xorpack.encoding.fields.choice import FieldChoice, encode_field, takes_fields
from xorpack.encoding.fields.octets import coded_matrix
from xorpack.encoding.fields.signs import encode_signs
from xorpack.encoding.masks.choice import Choice, Prefer
from xorpack.encoding.options import Encoder, EncodingOptions, Payload
from xorpack.encoding.plan import TensorPlan
from xorpack.encoding.planes import encode_plan
from xorpack.encoding.rings.elimination import scratch
from xorpack.encoding.rings.gather import ElementSource, PlaneSource
from xorpack.encoding.trellis import encode_trellis
from xorpack.errors import ParameterError
from xorpack.masks.bmf import Factors
from xorpack.tensors import BCQTensor, TrellisTensor, as_matrix, dtype_name


def encode(
    tensor: BCQTensor | TrellisTensor | NDArray[Any],
    *,
    network: XorNetwork | None = None,
    encoder: Encoder = "elimination",
    rate: float | None = None,
    lanes: int | None = None,
    mask_codec: Choice = "auto",
    prefer: Prefer = "size",
    payload: Payload = "auto",
    factors: Factors | None = None,
    field: FieldChoice | None = None,
    jobs: int = 1,
    device: str = "cpu",
) -> EncodedTensor:
    """Encode a quantized tensor, or any array losslessly.

    Args:
        tensor: a :class:`BCQTensor` or a :class:`TrellisTensor`; or an array of a float type of 32, 16 or
            8 bits or an integer type of these, of any shape and strides, kept bit for bit, where an element counts as
            pruned if all its bits are 0. Octets of integers are coded one by one where that saves bytes: a tool packed
            smaller ones into them.
        network: the default is turned, or quasi-cyclic where a tensor keeps few weights; raw planes are kept instead
            where no network helps.
        encoder: ``elimination``, or ``viterbi`` for networks of small windows without rotations.
        rate: stored bits per decoded bit of a turned or quasi-cyclic network; default: the one that makes
            code + corrections smallest.
        lanes: words that are decoded side by side, 1 to 32; default: by the tensor's size.
        mask_codec: ``auto`` or a name from :data:`xorpack.masks.CODECS`.
        prefer: what ``auto`` minimizes: ``size``, or the time to encode and decode on a CPU (``speed``: packed bits,
            bitmaps and no fields).
        payload: how the bits of kept weights are stored: ``xor``, a network's code, which expands at any place without
            the mask, as a GPU needs; ``packed``, one after another, some hundred times as fast to encode and twice as
            fast to decode on a CPU, in the same bytes; ``auto``: packed where ``prefer`` is ``speed``, unless something
            of the XOR code is asked for (a network, a rate, lanes, a mask cascade).
        factors: of the tensor's mask, where it was chosen as a Boolean product
            (:func:`xorpack.encoding.masks.bmf.fit`). With ``mask_codec="bmf"`` and none
            given, they are sought, in tiles of the usual size.
        field: whether neighbouring bits of the elements of an array, the exponent say, or all signs of a
            :class:`BCQTensor`'s weight get a prefix code: ``auto``, where that saves bytes; ``always``, if they differ
            at all; ``none``. Default: ``auto`` for arrays; ``none`` for a BCQTensor, which a field makes 1 to 7 %
            smaller, and slower to encode and to multiply by. See :mod:`xorpack.fields.field` and
            :mod:`xorpack.fields.signs`.
        jobs: threads. The result does not depend on it.
        device: where the XOR code is found, ``"cpu"``, ``"cuda"`` (CuPy's current GPU) or ``"cuda:1"``. The result does
            not depend on it. Networks whose window is 16 words at the most.

    Raises:
        ParameterError: an argument breaks its rule.
        DeviceError: no such GPU, no CuPy, or too little memory.
    """
    if not isinstance(tensor, BCQTensor | TrellisTensor | np.ndarray):
        raise ParameterError(
            f"a {type(tensor).__name__} cannot be encoded: give a BCQTensor, a TrellisTensor or a numpy array"
        )
    options = EncodingOptions(
        network=network,
        encoder=encoder,
        rate=rate,
        lanes=lanes,
        mask_codec=mask_codec,
        prefer=prefer,
        payload=payload,
        factors=factors,
        field=("auto" if isinstance(tensor, np.ndarray) else "none") if field is None else field,
        jobs=jobs,
        device=device,
    )
    if field == "always" and isinstance(tensor, TrellisTensor):
        raise ParameterError("field is of lossless arrays and binary codes; a trellis tensor has none")
    if field == "always" and isinstance(tensor, BCQTensor) and (reason := options.no_signs):
        raise ParameterError(f"a field of binary codes is of the XOR code of any rate, and {reason}")
    with scratch:
        if isinstance(tensor, TrellisTensor):
            return encode_trellis(tensor, options)
        if isinstance(tensor, BCQTensor):
            return _encode_bcq(tensor, options)
        return _encode_array(tensor, options)


def _encode_bcq(tensor: BCQTensor, options: EncodingOptions) -> EncodedTensor:
    digest = _aside(partial(planes_sha256, tensor.mask, tensor.planes, tensor.scales), options.jobs)
    source = PlaneSource(tensor.mask, tensor.planes)
    plan = TensorPlan.of(source, *as_matrix(tensor.shape), options)
    coded, field = encode_plan(plan, options), None
    if plan.signs is not None:
        assert isinstance(coded.planes.coded, CodedPlanes)
        field = encode_signs(*plan.signs, coded.planes.coded, options.jobs)
    scales = np.ascontiguousarray(tensor.scales)
    return EncodedTensor(
        shape=tensor.shape,
        dtype=tensor.dtype,
        planes=coded.planes,
        mask=coded.mask,
        elements=Bcq(scales=scales, group_size=tensor.group_size, method=tensor.method, field=field),
        content_sha256=digest(),
    )


def _encode_array(array: NDArray[Any], options: EncodingOptions) -> EncodedTensor:
    dtype = dtype_name(array.dtype)
    matrix = coded_matrix(array, fields=takes_fields(options.field, options.prefer))
    digest = _aside(partial(blocks_sha256, iter([matrix])), options.jobs)
    source = ElementSource(matrix)
    rows, cols = matrix.shape
    plan = TensorPlan.of(source, rows, cols, options)
    coded = encode_plan(plan, options)
    field = None if plan.field is None else encode_field(plan.field, source.elements, options.jobs)
    return EncodedTensor(
        shape=array.shape,
        dtype=dtype,
        planes=coded.planes,
        mask=coded.mask,
        elements=Lossless(field=field),
        content_sha256=digest(),
    )


def _aside(digest: Callable[[], str], jobs: int) -> Callable[[], str]:
    """``digest``, called meanwhile where there is a thread for it."""
    if jobs == 1:
        found = digest()
        return lambda: found
    pool = ThreadPoolExecutor(1)
    result = pool.submit(digest).result
    pool.shutdown(wait=False)
    return result
