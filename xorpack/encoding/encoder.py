"""Weights to an encoded tensor: order of coding, rate, rings, corrections, mask."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from xorpack import dense, masks
from xorpack.corrections import Corrections, pack
from xorpack.encoded import EncodedTensor, blocks_sha256
from xorpack.encoding import elimination, viterbi
from xorpack.encoding.elimination import RingCode
from xorpack.encoding.gather import ElementSource, PlaneSource, Source
from xorpack.encoding.rate import choose_m_lane
from xorpack.errors import ParameterError
from xorpack.layout import Layout
from xorpack.network import XorNetwork
from xorpack.tensors import DTYPES, BCQTensor, as_matrix, dtype_name
from xorpack.words import popcount

Encoder = Literal["elimination", "viterbi"]
RingEncoder = Callable[[XorNetwork, NDArray[np.uint32], NDArray[np.uint32], int], RingCode]

ENCODERS: dict[str, RingEncoder] = {
    "elimination": elimination.encode_ring,
    "viterbi": viterbi.encode_ring,
}

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
    mask_codec: str = "auto",
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
        mask_codec: ``auto`` (the smallest) or a name from :data:`xorpack.masks.CODECS`.
        jobs: threads. The result does not depend on it.

    Raises:
        ParameterError: an argument breaks its rule.
    """
    if encoder not in ENCODERS:
        raise ParameterError(f"encoder {encoder!r} is not one of {', '.join(ENCODERS)}")
    if rate is not None and not 0 < rate <= 1:
        raise ParameterError(f"rate {rate} is outside (0, 1]")
    if encoder == "viterbi" and (network is None or network.family == "quasi-cyclic"):
        raise ParameterError(
            "encoder 'viterbi' needs a network without rotations: XorNetwork.dense or .sparse"
        )
    if jobs < 1:
        raise ParameterError(f"jobs = {jobs} is less than 1")
    source: Source
    if isinstance(tensor, BCQTensor):
        kind, shape, dtype = "bcq", tensor.shape, tensor.dtype
        source = PlaneSource(tensor.mask, tensor.planes)
        content = blocks_sha256(_dequantized(tensor))
    else:
        kind, shape, dtype = "lossless", tensor.shape, dtype_name(tensor.dtype)
        matrix = np.ascontiguousarray(tensor).reshape(as_matrix(shape))
        source = ElementSource(matrix)
        content = blocks_sha256(iter([matrix]))
    rows, cols = as_matrix(shape)
    n_kept = popcount(source.mask)
    codec_name, mask_config, mask_bytes = masks.select(source.mask, cols, mask_codec)
    layout, raw = Layout.choose(rows, cols, n_kept, lanes=lanes), Layout.raw(rows, cols)
    raw_bytes = 4 * source.n_planes * raw.n_segments * raw.ring_words
    if network is None and 8 * raw_bytes <= RAW_OVERHEAD * n_kept * source.n_planes:
        network, layout = XorNetwork.identity(), raw
    chosen = network or default_network(n_kept / max(rows * cols, 1))
    code, corrections = _encode_planes(chosen, source, layout, n_kept, encoder, rate, jobs)
    packed = pack(corrections, rows * cols, source.n_planes)
    if network is None and rate is None and code.nbytes + packed.nbytes >= raw_bytes > 0:
        chosen, layout = XorNetwork.identity(), raw
        code, corrections = _encode_planes(chosen, source, layout, n_kept, encoder, None, jobs)
        packed = pack(corrections, rows * cols, source.n_planes)
    bcq = tensor if isinstance(tensor, BCQTensor) else None
    return EncodedTensor(
        kind=kind,
        shape=tuple(shape),
        dtype=dtype,
        bits=source.n_planes,
        n_kept=n_kept,
        network=chosen,
        layout=layout,
        code=code,
        n_corrections=len(corrections),
        corrections=packed,
        mask_codec=codec_name,
        mask_config=mask_config,
        mask=mask_bytes,
        scales=None if bcq is None else np.ascontiguousarray(bcq.scales),
        group_size=0 if bcq is None else bcq.group_size,
        method="" if bcq is None else bcq.method,
        content_sha256=content,
    )


def default_network(density: float) -> XorNetwork:
    """Quasi-cyclic, with more distinct rows than words that share a window's start.

    Fewer would give two words of one window the same equations. ``density``: share of weights kept.
    """
    n_rows = 16
    while n_rows * density < 1.5 and n_rows < MAX_DISTINCT_ROWS:
        n_rows *= 2
    return XorNetwork.quasi_cyclic(n_rows=n_rows)


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


def _encode_planes(
    network: XorNetwork,
    source: Source,
    layout: Layout,
    n_kept: int,
    encoder: str,
    rate: float | None,
    jobs: int,
) -> tuple[NDArray[np.uint32], Corrections]:
    """``(code, corrections)`` of all rings."""
    q = source.n_planes
    rings: dict[int, RingCode] = {}
    if n_kept == 0:
        m_lane = 0
    elif rate is None and network.family == "quasi-cyclic":
        m_lane, rings = choose_m_lane(network, source, layout, n_kept)
    else:
        m_lane = network.n_code_words(layout.n_steps, 1.0 if rate is None else rate)
    code = np.zeros((q, layout.n_segments, m_lane, layout.lanes), np.uint32)
    found: list[Corrections] = [Corrections(np.zeros(0, np.int64), np.zeros(0, np.uint64))]

    def place(segment: int) -> Corrections:
        if segment in rings:
            ring = rings[segment]
        elif network.family == "identity":
            care, planes = source.ring(layout, segment)
            nothing = np.zeros(0, np.int64)
            ring = RingCode((planes & care).reshape(q, -1), nothing, nothing.astype(np.uint64))
        else:
            ring = ENCODERS[encoder](network, *source.ring(layout, segment), m_lane)
        code[:, segment] = ring.code.reshape(q, layout.lanes, m_lane).transpose(0, 2, 1)
        return _to_elements(ring, layout, segment)

    if m_lane:
        with ThreadPoolExecutor(jobs) as pool:
            found += pool.map(place, range(layout.n_segments))
    positions = np.concatenate([part.positions for part in found])
    values = np.concatenate([part.values for part in found])
    order = np.argsort(positions, kind="stable")
    return code, Corrections(positions[order], values[order])


def _to_elements(ring: RingCode, layout: Layout, segment: int) -> Corrections:
    """Positions in the ring to element indices."""
    word, bit = ring.positions >> 5, ring.positions & 31
    lane, step = word // layout.n_steps, word % layout.n_steps
    flat = layout.word_index(segment * layout.n_steps + step)[np.arange(word.size), lane]
    row, chunk = flat // max(layout.chunks, 1), flat % max(layout.chunks, 1)
    return Corrections(row * layout.cols + 32 * chunk + bit, ring.values)
