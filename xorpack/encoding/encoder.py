"""Weights to an encoded tensor: order of coding, rate, rings, corrections, mask."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from xorpack import checks
from xorpack.code import dense
from xorpack.code.corrections import NO_CORRECTIONS, pack, packed_sizes
from xorpack.code.layout import MAX_LANES, Layout
from xorpack.code.network import XorNetwork
from xorpack.code.words import popcount
from xorpack.encoded import EncodedTensor, blocks_sha256
from xorpack.encoding.constants import choose_constants, coded_planes, merge
from xorpack.encoding.fields.choice import FieldChoice, choose_field, encode_field, takes_fields
from xorpack.encoding.fields.sources import FieldSource
from xorpack.encoding.masks.block import CONFIG_BYTES, encode_block
from xorpack.encoding.masks.choice import (
    Choice,
    Prefer,
    best_filters,
    choose,
    encode_cascade,
    encode_plain,
    split_filters,
)
from xorpack.encoding.rings.elimination import scratch
from xorpack.encoding.rings.gather import ElementSource, FilteredSource, PlaneSource
from xorpack.encoding.rings.tensor import ENCODERS, encode_planes
from xorpack.errors import ParameterError
from xorpack.masks import bmf, cascade
from xorpack.masks.block import codec as block
from xorpack.masks.bmf import Factors
from xorpack.tensors import DTYPES, BCQTensor, as_matrix, dtype_name

Encoder = Literal["elimination", "viterbi"]
_BLOCK_ELEMENTS = 1 << 22

RAW_OVERHEAD = 1.002
"""Overhead up to which raw planes are kept without trying a network: almost nothing is pruned."""

MAX_DISTINCT_ROWS = 4096
"""Distinct rows of the default network at the most."""


def encode(
    tensor: BCQTensor | NDArray[Any],
    *,
    network: XorNetwork | None = None,
    encoder: Encoder = "elimination",
    rate: float | None = None,
    lanes: int | None = None,
    mask_codec: Choice = "auto",
    prefer: Prefer = "size",
    factors: Factors | None = None,
    field: FieldChoice = "auto",
    jobs: int = 1,
) -> EncodedTensor:
    """Encode a quantized tensor, or any array losslessly.

    Args:
        tensor: a :class:`BCQTensor`; or an array of float32, float16, bfloat16, int8 or uint8, of any
            shape and strides, kept bit for bit, where an element counts as pruned if all its bits are 0.
        network: the default is quasi-cyclic; raw planes are kept instead where no network helps.
        encoder: ``elimination``, or ``viterbi`` for networks of small windows without rotations.
        rate: stored bits per decoded bit of a quasi-cyclic network; default: the one that makes
            code + corrections smallest.
        lanes: words that are decoded side by side, 1 to 32; default: by the tensor's size.
        mask_codec: ``auto`` or a name from :data:`xorpack.masks.CODECS`.
        prefer: what ``auto`` minimizes: ``size``, or the time to encode and decode (``speed``: bitmaps and no fields).
        factors: of the tensor's mask, where it was chosen as a Boolean product
            (:func:`xorpack.encoding.masks.bmf.fit`). With ``mask_codec="bmf"`` and none
            given, they are sought, in tiles of the usual size.
        field: whether neighbouring bits of the elements of an array, the exponent say, get a prefix code:
            ``auto``, where that saves bytes; ``always``, if they differ at all; ``none``. See
            :mod:`xorpack.fields.field`.
        jobs: threads. The result does not depend on it.

    Raises:
        ParameterError: an argument breaks its rule.
    """
    if not isinstance(tensor, BCQTensor | np.ndarray):
        raise ParameterError(
            f"a {type(tensor).__name__} cannot be encoded: give a BCQTensor or a numpy array"
        )
    _check(network, encoder, rate, lanes, field, jobs)
    checks.choice("mask codec", mask_codec, get_args(Choice))
    checks.choice("prefer", prefer, get_args(Prefer))
    _check_together(tensor, network, rate, mask_codec, factors, field)
    with scratch:
        return _encode(tensor, network, encoder, rate, lanes, mask_codec, prefer, factors, field, jobs)


def _encode(
    tensor: BCQTensor | NDArray[Any],
    network: XorNetwork | None,
    encoder: Encoder,
    rate: float | None,
    lanes: int | None,
    mask_codec: Choice,
    prefer: Prefer,
    factors: Factors | None,
    field: FieldChoice,
    jobs: int,
) -> EncodedTensor:
    source: PlaneSource | ElementSource
    if isinstance(tensor, BCQTensor):
        kind, shape, dtype = "bcq", tensor.shape, tensor.dtype
        source = PlaneSource(tensor.mask, tensor.planes)
        content = _digest(_dequantized(tensor), jobs)
    else:
        kind, shape, dtype = "lossless", tensor.shape, dtype_name(tensor.dtype)
        matrix = np.ascontiguousarray(tensor).reshape(as_matrix(shape))
        source = ElementSource(matrix)
        content = _digest(iter([matrix]), jobs)
    rows, cols = as_matrix(shape)
    q, n_kept = source.n_planes, popcount(source.mask)
    density = n_kept / max(rows * cols, 1)
    planned = None
    if isinstance(source, ElementSource) and takes_fields(field, prefer):
        elements = source.elements
        planned = choose_field(elements, *source.count_ones(), field)
        if planned is not None:
            source = FieldSource(source, planned.code, planned.table())
    zeros, ones = choose_constants(*source.count_ones())
    if planned is not None:
        zeros |= planned.code.unused
    exceptions = source.exceptions(zeros, ones, cols) if zeros | ones else NO_CORRECTIONS
    source.coded = coded_planes(zeros | ones, q)
    n_coded = source.n_planes
    layout, raw = Layout.choose(rows, cols, n_kept, lanes=lanes), Layout.raw(rows, cols)
    raw_bytes = 4 * n_coded * raw.n_segments * raw.ring_words
    may_be_raw = network is None and n_coded > 0 and mask_codec != cascade.NAME
    if may_be_raw and 8 * raw_bytes <= RAW_OVERHEAD * n_kept * n_coded:
        network, layout = XorNetwork.identity(), raw
    chosen = network or default_network(density)
    gates = encoder == "elimination" and chosen.family == "quasi-cyclic"
    codec, plan, factors = choose(
        source.mask, cols, density, mask_codec, prefer, gates=gates, factors=factors
    )
    filters = None
    if codec == cascade.NAME:
        filters = cascade.targets(best_filters(density), 0, rows, layout.chunks)
    whole = source if filters is None else FilteredSource(source, filters)
    code, found = encode_planes(chosen, whole, layout, n_kept, encoder, rate, jobs)
    own, missing = split_filters(found, n_coded)
    own_bytes = sum(packed_sizes(len(own), rows * cols, n_coded))
    if may_be_raw and network is None and rate is None and code[:n_coded].nbytes + own_bytes >= raw_bytes > 0:
        chosen, layout = XorNetwork.identity(), raw
        code, own = encode_planes(chosen, source, layout, n_kept, encoder, None, jobs)
        codec = "bitmap" if codec == cascade.NAME else codec
    corrections = merge(own, source.coded, exceptions)
    if codec == cascade.NAME:
        mask = encode_cascade(source.mask, chosen, layout, code[n_coded:], missing, jobs)
    elif codec == block.NAME and plan is not None:
        mask = encode_block(source.mask, cols, plan, jobs)
    elif codec == bmf.NAME and factors is not None:
        mask = bmf.NAME, *bmf.encode(factors, cols)
    else:
        mask = encode_plain(codec, source.mask, cols)
    own_config = CONFIG_BYTES if codec == block.NAME else 0
    if mask_codec == "auto" and mask[2].size + own_config > -(-rows * cols // 8):
        mask = encode_plain("bitmap", source.mask, cols)
    bcq = tensor if isinstance(tensor, BCQTensor) else None
    return EncodedTensor(
        kind=kind,
        shape=tuple(shape),
        dtype=dtype,
        bits=q,
        n_kept=n_kept,
        network=chosen,
        layout=layout,
        constants=(zeros, ones),
        code=np.ascontiguousarray(code[:n_coded]),
        n_corrections=len(corrections),
        corrections=pack(corrections, rows * cols, q),
        mask_codec=mask[0],
        mask_config=mask[1],
        mask=mask[2],
        scales=None if bcq is None else np.ascontiguousarray(bcq.scales),
        group_size=0 if bcq is None else bcq.group_size,
        method="" if bcq is None else bcq.method,
        field=None if planned is None else encode_field(planned, elements, jobs),
        content_sha256=content(),
    )


def _check(
    network: XorNetwork | None, encoder: str, rate: float | None, lanes: int | None, field: str, jobs: int
) -> None:
    if network is not None and not isinstance(network, XorNetwork):
        raise ParameterError(f"network {network!r} is not an XorNetwork")
    checks.choice("encoder", encoder, ENCODERS)
    if rate is not None and not 0 < checks.real("rate", rate) <= 1:
        raise ParameterError(f"rate = {rate} is outside (0, 1]")
    if lanes is not None:
        checks.whole("lanes", lanes, 1, MAX_LANES)
    if encoder == "viterbi" and (network is None or network.family == "quasi-cyclic"):
        raise ParameterError(
            "encoder 'viterbi' needs a network without rotations: XorNetwork.dense or .sparse"
        )
    checks.choice("field", field, get_args(FieldChoice))
    checks.whole("jobs", jobs, 1)


def _check_together(
    tensor: BCQTensor | NDArray[Any],
    network: XorNetwork | None,
    rate: float | None,
    mask_codec: str,
    factors: Factors | None,
    field: str,
) -> None:
    """Refuse what cannot apply."""
    if rate is not None and network is not None and network.family != "quasi-cyclic":
        raise ParameterError(f"rate is of quasi-cyclic networks; this one is {network.family}")
    if factors is not None and mask_codec not in ("auto", bmf.NAME):
        raise ParameterError(f"factors are of mask codec bmf, and {mask_codec} is asked for")
    if field == "always" and isinstance(tensor, BCQTensor):
        raise ParameterError("field is of lossless arrays; a quantized tensor has none")


def default_network(density: float) -> XorNetwork:
    """Quasi-cyclic, with more distinct rows than words that share a window's start.

    Fewer would give two words of one window the same equations. ``density``: share of weights kept.
    """
    n_rows = 16
    while n_rows * density < 1.5 and n_rows < MAX_DISTINCT_ROWS:
        n_rows *= 2
    return XorNetwork.quasi_cyclic(n_rows=n_rows)


def _digest(blocks: Iterator[NDArray[Any]], jobs: int) -> Callable[[], str]:
    """The digest of ``blocks``, worked out meanwhile where there is a thread for it."""
    if jobs == 1:
        digest = blocks_sha256(blocks)
        return lambda: digest
    pool = ThreadPoolExecutor(1)
    result = pool.submit(blocks_sha256, blocks).result
    pool.shutdown(wait=False)
    return result


def _dequantized(tensor: BCQTensor) -> Iterator[NDArray[Any]]:
    rows, cols = as_matrix(tensor.shape)
    step = max(1, _BLOCK_ELEMENTS // max(cols, 1))
    for r in range(0, rows, step):
        out = np.empty((min(step, rows - r), cols), DTYPES[tensor.dtype])
        dense.expand_bcq(
            tensor.mask[r : r + step],
            tensor.planes[:, r : r + step],
            tensor.scales[r : r + step],
            tensor.group_size,
            out,
        )
        yield out
