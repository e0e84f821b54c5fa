"""How kernels that decode are specialised and launched: plain numbers, no device."""

from __future__ import annotations

from xorpack.code.layout import Layout
from xorpack.code.network import XorNetwork
from xorpack.cuda.launches import Launch
from xorpack.cuda.sources import network_macros
from xorpack.decoders.gpu.order import can_unroll, is_skewed
from xorpack.elements import Bcq
from xorpack.encoded import EncodedTensor

MAX_GROUP = 32 * 4000
"""Columns that share scales up to which the unrolled decoder finds the group of a chunk."""
TILE_ROWS = 16
TILE_STRIDE = 36
DECODE_WARPS = 8


def tile_bytes(n_planes: int) -> int:
    """Shared memory of a warp for the words of 16 row indices."""
    return 4 * max(n_planes, 1) * TILE_ROWS * TILE_STRIDE


def coded_macros(layout: Layout, network: XorNetwork, m_lane: int, n_planes: int) -> dict[str, int | str]:
    """Macros of the decoder of ``n_planes`` coded planes."""
    unrolled = can_unroll(layout, network, m_lane, n_planes)
    return network_macros(network, unrolled=unrolled) | {"PLANES": n_planes, "SKEW": int(is_skewed(layout))}


def tensor_macros(encoded: EncodedTensor, *, mask: bool) -> dict[str, int | str]:
    """Macros of kernels that work on a tensor's weights; ``mask``: it is an array of words."""
    zeros, ones = encoded.planes.constants
    macros = coded_macros(encoded.layout, encoded.network, encoded.m_lane, encoded.code.shape[0])
    if macros["UNROLLED"] and MAX_GROUP <= encoded.group_size < encoded.cols:
        macros = {"SKEW": macros["SKEW"], "PLANES": macros["PLANES"]}
        macros |= network_macros(encoded.network, unrolled=False)
    macros |= {
        "BITS": encoded.bits,
        "ZEROS": f"{zeros:#x}u",
        "ONES": f"{ones:#x}u",
        "MASK": int(mask),
    }
    if isinstance(encoded.elements, Bcq):
        macros["SCALE"] = int(encoded.elements.scales.dtype.itemsize == 2)
    return macros


def decode_warps(n_planes: int, shared_limit: int) -> int:
    """Warps of a block that decodes: 8, fewer where many planes fill its shared memory."""
    return max(1, min(DECODE_WARPS, shared_limit // tile_bytes(n_planes)))


def decode_launch(
    layout: Layout, n_rows: int, n_planes: int, n_multiprocessors: int, shared_limit: int
) -> Launch:
    """The launch of decode_words, decode_dense and the mask's passes, over ``n_rows`` row indices of every panel."""
    warps = decode_warps(n_planes, shared_limit)
    items = -(-n_rows // TILE_ROWS) * layout.n_panels
    blocks = max(1, min(-(-items // warps), 64 * n_multiprocessors))
    return Launch(grid=(blocks, 1, 1), block=32 * warps, shared_bytes=warps * tile_bytes(n_planes))
