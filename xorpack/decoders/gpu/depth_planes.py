"""Planes of depths on the device (:mod:`xorpack.code.depths`), and the prefix codes that their bits belong to."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xorpack.code import depths
from xorpack.code.layout import Layout
from xorpack.cuda.sources import Kernel
from xorpack.decoders.gpu import launches
from xorpack.decoders.gpu.lists import bit_lists
from xorpack.decoders.gpu.order import order_values
from xorpack.decoders.gpu.passes import Argument, Pass
from xorpack.decoders.gpu.store import Store


def arrays(
    name: str, words: NDArray[np.uint32], wrong: NDArray[np.int64], layout: Layout
) -> dict[str, NDArray[Any]]:
    """``name``: the plane's code; ``name_wrong`` and ``name_starts``: bits of the plane to invert."""
    found: dict[str, NDArray[Any]] = {name: words.reshape(-1)}
    if wrong.size:
        found[f"{name}_starts"], found[f"{name}_wrong"] = bit_lists(wrong, layout.rows * layout.cols)
    return found


def passes(store: Store, name: str, layout: Layout, m_lane: int, to: str) -> list[Pass]:
    """The plane, row-major and corrected, into the workspace ``to`` of :func:`n_bytes`."""
    if not layout.total_steps:
        return []
    macros = launches.coded_macros(layout, depths.NETWORK, m_lane, 1) | {"MASK": 0}
    order = order_values(layout, depths.NETWORK, m_lane)
    args: tuple[Argument, ...]
    args = (*order, store.pointer(name), store.taps(depths.NETWORK), np.uint64(0), to)
    launch = store.decode_launch(layout, layout.rows, 1)
    decode = Pass(kernel=Kernel.of("decode_words", macros), launch=launch, args=args)
    return [decode, *store.flip_passes(f"{name}_starts", f"{name}_wrong", to)]


def n_bytes(layout: Layout) -> int:
    """Bytes of a plane."""
    return 4 * layout.rows * layout.chunks


def stride(n_depths: int) -> int:
    """Step from the depth of a place in a group to that of the next, modulo ``n_depths``."""
    return int(depths.order(n_depths)[1]) if n_depths > 1 else 0


def code_tables(codes: Sequence[Sequence[tuple[int, int, int]]], max_length: int) -> NDArray[np.uint32]:
    """uint32 (codes, runs, 2), a power of two of runs, as ``xp_symbol`` of ``kernels/depths.cu`` reads them.

    A run is ``(first codeword, free bits, rank of the first symbol)``, codewords followed by zeros to ``max_length``.
    """
    n_runs = 1 << (max(map(len, codes)) - 1).bit_length()
    table = np.zeros((len(codes), n_runs, 2), np.uint32)
    table[:, :, 0] = 1 << max_length + 5  # behind every codeword
    for n, runs in enumerate(codes):
        table[n, : len(runs)] = [(start << 5 | free, rank) for start, free, rank in runs]
    return table
