"""Which kernels a call takes and how they are launched: plain numbers, no device."""

from __future__ import annotations

from dataclasses import dataclass

from xorpack.code.layout import Layout
from xorpack.code.network import XorNetwork
from xorpack.decoders.gpu.order import can_unroll, is_skewed
from xorpack.decoders.gpu.sources import network_macros
from xorpack.encoded import EncodedTensor
from xorpack.errors import ParameterError
from xorpack.tensors import n_groups

ALGORITHMS = ("auto", "tables", "tensor_cores", "decode")
"""``tables``: sums of 8 activations looked up (``matvec.cu``). ``tensor_cores``: fragments decoded in registers
(``matmul.cu``). ``decode``: tiles of rows decoded to elements, then cuBLAS."""

MAX_GROUP = 32 * 4000
"""Columns that share scales up to which the unrolled decoder finds the group of a chunk."""
TILE_ROWS = 16
TILE_STRIDE = 36
DECODE_WARPS = 8
MATMUL_WARPS = 8
FRAGMENT_BYTES = 4 * 9 * 512
"""Shared memory for 8 columns of one part of the activations of a panel."""
MAX_FUSED = 128
"""Columns up to which ``auto`` takes ``tensor_cores``: by counted instructions, not measured."""
DECODE_TILE_BYTES = 32 << 20
"""Decoded weights that the ``decode`` algorithm holds at a time: they fit in an L2 cache."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Launch:
    """``grid`` in blocks, ``block`` in threads, dynamic shared memory of a block in bytes."""

    grid: tuple[int, int, int]
    block: int
    shared_bytes: int = 0


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
    if encoded.scales is not None:
        macros["SCALE"] = int(encoded.scales.dtype.itemsize == 2)
    return macros


def decode_warps(n_planes: int, shared_limit: int) -> int:
    """Warps of a block that decodes: 8, fewer where many planes fill its shared memory."""
    return max(1, min(DECODE_WARPS, shared_limit // tile_bytes(n_planes)))


def decode_launch(
    layout: Layout, n_rows: int, n_planes: int, n_multiprocessors: int, shared_limit: int
) -> Launch:
    """Of decode_words, decode_dense and the passes of the mask, over ``n_rows`` row indices of every panel."""
    warps = decode_warps(n_planes, shared_limit)
    items = -(-n_rows // TILE_ROWS) * layout.n_panels
    blocks = max(1, min(-(-items // warps), 64 * n_multiprocessors))
    return Launch(grid=(blocks, 1, 1), block=32 * warps, shared_bytes=warps * tile_bytes(n_planes))


def flat_launch(n: int) -> Launch:
    """One thread an item."""
    return Launch(grid=(max(1, min(-(-n // 256), 1 << 20)), 1, 1), block=256)


def warp_launch(n: int) -> Launch:
    """One warp an item."""
    return Launch(grid=(max(1, min(-(-n // 8), 1 << 20)), 1, 1), block=256)


def table_fields(shared_limit: int) -> int:
    """Fields that the tables cut a word into: 4 of 8 bits where 128 KiB of shared memory are there, else 5."""
    return 4 if shared_limit >= 128 << 10 else 5


def matvec_warps(n_planes: int) -> int:
    """Warps of a block: as many as leave each thread its registers, 128 or 168, without spills."""
    return 16 if n_planes <= 2 else 12


def matvec_launch(layout: Layout, n: int, n_planes: int, n_multiprocessors: int, fields: int) -> Launch:
    """Of ``matvec``: a block a multiprocessor, at least 64 visits each."""
    visits = layout.n_panels * layout.rows
    blocks = max(1, min(n_multiprocessors, -(-visits // 64)))
    return Launch(
        grid=(blocks, n, 1),
        block=32 * matvec_warps(n_planes),
        shared_bytes=128 * (1024 if fields == 4 else 448),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Matmul:
    """Of ``matmul``: groups of 8 columns a pass, parts of the sum over panels, launch."""

    tiles: int
    splits: int
    launch: Launch


def matmul_shared(n_planes: int, warps: int, tiles: int, parts: int) -> int:
    """Shared memory of a block of ``matmul`` in bytes; ``parts``: 16-bit parts of an activation."""
    return warps * tile_bytes(n_planes) + tiles * parts * FRAGMENT_BYTES


def matmul_plan(
    layout: Layout, n_planes: int, n: int, parts: int, n_multiprocessors: int, shared_limit: int
) -> Matmul:
    """As many warps and columns as fit; at least two blocks a multiprocessor, by cutting the panels."""
    warps, tiles = MATMUL_WARPS, 4
    while tiles > 1 and (8 * tiles >= 2 * n or matmul_shared(n_planes, warps, tiles, parts) > shared_limit):
        tiles //= 2
    while warps > 1 and matmul_shared(n_planes, warps, tiles, parts) > shared_limit:
        warps //= 2
    row_blocks = max(1, -(-layout.rows // (TILE_ROWS * warps)))
    passes = max(1, -(-n // (8 * tiles)))
    wanted = -(-2 * n_multiprocessors // (row_blocks * passes))
    splits = max(1, min(layout.n_panels, wanted))
    shared = matmul_shared(n_planes, warps, tiles, parts)
    launch = Launch(grid=(row_blocks, splits, passes), block=32 * warps, shared_bytes=shared)
    return Matmul(tiles=tiles, splits=splits, launch=launch)


def finish_launch(layout: Layout, n: int) -> Launch:
    """Of ``finish``."""
    return Launch(grid=(-(-layout.rows // 256), n, 1), block=256)


def decode_tile_rows(layout: Layout, itemsize: int) -> int:
    """Row indices that the ``decode`` algorithm expands at a time: a multiple of 16."""
    rows = DECODE_TILE_BYTES // max(layout.cols * itemsize, 1) // TILE_ROWS * TILE_ROWS
    return min(max(rows, 256), -(-layout.rows // TILE_ROWS) * TILE_ROWS)


def why_not(algorithm: str, encoded: EncodedTensor, n: int, x_dtype: str, shared_limit: int) -> str:
    """Why ``algorithm`` cannot multiply ``n`` columns of that type; "" where it can."""
    layout, cols = encoded.layout, encoded.cols
    one_group = n_groups(cols, encoded.group_size) == 1
    if encoded.scales is None:
        fits = encoded.dtype == x_dtype
        reason = f"a lossless tensor of {encoded.dtype} is multiplied by decoding, with activations of its own type"
        return "" if algorithm == "decode" and fits else f"{reason}, not {x_dtype}" if not fits else reason
    if algorithm == "tables":
        if not one_group and encoded.group_size % 32:
            return f"scales change within a word: group_size {encoded.group_size} is no multiple of 32"
        if n > 65535:
            return f"{n} columns are more than 65535"
        if shared_limit < 128 * 448:
            return f"{shared_limit} bytes of shared memory are less than {128 * 448}"
    elif algorithm == "tensor_cores":
        if not one_group and encoded.group_size % 128:
            return f"scales change within 128 columns: group_size {encoded.group_size} is no multiple of 128"
        shared = matmul_shared(encoded.code.shape[0], 1, 1, 3 if x_dtype == "F32" else 1)
        if shared > shared_limit:
            return f"{shared} bytes of shared memory are needed, the device has {shared_limit}"
        if -(-n // 8) > 65535:
            return f"{n} columns are more than {8 * 65535}"
    elif algorithm == "decode" and max(layout.rows, cols, n) >= 1 << 31:
        return "cuBLAS takes sizes below 2^31"
    return ""


def choose(algorithm: str, encoded: EncodedTensor, n: int, x_dtype: str, shared_limit: int) -> str:
    """The algorithm of a product.

    Raises:
        ParameterError: it is unknown, or cannot run, and why.
    """
    if algorithm not in ALGORITHMS:
        raise ParameterError(f"algorithm {algorithm!r} is not one of {', '.join(ALGORITHMS)}")
    if algorithm != "auto":
        reason = why_not(algorithm, encoded, n, x_dtype, shared_limit)
        if reason:
            raise ParameterError(f"algorithm {algorithm!r} cannot run here: {reason}")
        return algorithm
    order = ["tables", "tensor_cores"] if n == 1 else ["tensor_cores", "tables"]
    if n > MAX_FUSED:
        order = []
    elif n > 8:
        order = ["tensor_cores"]
    for name in (*order, "decode"):
        if not why_not(name, encoded, n, x_dtype, shared_limit):
            return name
    raise ParameterError(f"no algorithm can run: {why_not('decode', encoded, n, x_dtype, shared_limit)}")
