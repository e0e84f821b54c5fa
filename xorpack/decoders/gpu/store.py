"""What lies on a device for one tensor, and the passes that run over it. Masks, fields and products take it."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xorpack.code.layout import Layout
from xorpack.code.network import XorNetwork
from xorpack.cuda.device import Device
from xorpack.cuda.launches import Launch
from xorpack.cuda.sources import Kernel, tap_table
from xorpack.decoders.gpu import launches
from xorpack.decoders.gpu.passes import Pass, Prelude


class Store:
    """Memory of a tensor.

    Attributes:
        device: where it is.
        arrays: the tensor's own, by name.
        shared_bytes: sizes of constants that it shares with other tensors, by key.
    """

    def __init__(self, device: Device, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Upload ``arrays``, empty ones left out."""
        self.device = device
        self.arrays = {name: device.upload(array) for name, array in arrays.items() if array.size}
        self.shared_bytes: dict[Hashable, int] = {}

    def pointer(self, name: str, skip: int = 0) -> np.uint64:
        """Pointer to element ``skip`` of an array of the tensor; 0 where it has none."""
        if name not in self.arrays:
            return np.uint64(0)
        array = self.arrays[name]
        return np.uint64(self.device.pointer(array) + skip * array.itemsize)

    def constant(self, key: Hashable, make: Callable[[], NDArray[Any]]) -> np.uint64:
        """Pointer to a constant that tensors share."""
        array = self.device.constant(key, make)
        self.shared_bytes[key] = int(array.nbytes)
        return np.uint64(self.device.pointer(array))

    def taps(self, network: XorNetwork) -> np.uint64:
        """Pointer to a network's taps."""
        return self.constant(network, lambda: tap_table(network).reshape(-1))

    def decode_launch(self, layout: Layout, n_rows: int, n_planes: int) -> Launch:
        """The launch of a kernel that decodes ``n_rows`` row indices of all panels of ``layout``."""
        limits = self.device.n_multiprocessors, self.device.shared_limit
        return launches.decode_launch(layout, n_rows, n_planes, *limits)

    def flip_passes(self, starts: str, entries: str, words: str) -> list[Pass]:
        """The pass that inverts listed bits of the workspace ``words``; none where nothing is listed."""
        if entries not in self.arrays:
            return []
        n, n_lists = self.arrays[entries].size, self.arrays[starts].size - 1
        args = (self.pointer(starts), np.int64(n_lists), self.pointer(entries), np.int64(n), words)
        return [Pass(kernel=Kernel.of("flip", {}), launch=Launch.of_threads(n), args=args)]

    def run(self, prelude: Prelude, stream: Any) -> None:
        """Launch all passes of ``prelude``."""
        if prelude.clear:
            size = prelude.workspaces[prelude.clear]
            self.device.fill_zero(self.device.workspace(stream, prelude.clear, size), size, stream)
        for each in prelude.passes:
            self.launch(each, prelude.workspaces, stream)

    def launch(self, each: Pass, workspaces: Mapping[str, int], stream: Any) -> None:
        """Launch one pass, whose workspaces are of these sizes."""

        def value(arg: np.generic | str) -> np.generic:
            if isinstance(arg, str):
                return np.uint64(self.device.workspace(stream, arg, workspaces[arg]))
            return arg

        self.device.launch(each.kernel, each.launch, tuple(map(value, each.args)), stream)
