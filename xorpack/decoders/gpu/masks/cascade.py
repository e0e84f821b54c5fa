"""The mask codec ``cascade``: the filters' code and the last plane's, decoded as the weights' is."""

from __future__ import annotations

from typing import Any

from numpy.typing import NDArray

from xorpack.cuda.sources import Kernel
from xorpack.decoders.gpu import launches
from xorpack.decoders.gpu.lists import visit_lists
from xorpack.decoders.gpu.masks.mask import DeviceMask
from xorpack.decoders.gpu.order import order_values, side_by_side
from xorpack.decoders.gpu.passes import Argument, Pass, Prelude
from xorpack.decoders.gpu.store import Store
from xorpack.masks import Cascade


class DeviceCascade(DeviceMask[Cascade]):
    """Two codes, and the bits at which they are wrong."""

    __slots__ = ()

    def arrays(self) -> dict[str, NDArray[Any]]:
        """See :class:`DeviceMask`."""
        mask = self.mask
        found: dict[str, NDArray[Any]] = {
            "filters": side_by_side(mask.filters.code),
            "last": side_by_side(mask.last.code),
        }
        if mask.n_corrections:
            wrong = mask.load_corrections().positions
            found["flip_starts"], found["flips"] = visit_lists(self.layout, wrong)
        return found

    def prelude(self, store: Store) -> Prelude:
        """See :class:`DeviceMask`."""
        mask, network, layout = self.mask, self.tensor.network, self.layout
        passes = []
        for name, code, m_lane, n_planes in (
            ("cascade_candidates", "filters", mask.m_lane, mask.n_filters),
            ("cascade_last", "last", mask.m_last, 1),
        ):
            macros = launches.coded_macros(layout, network, m_lane, n_planes)
            order = order_values(layout, network, m_lane)
            args: tuple[Argument, ...] = (*order, store.pointer(code), store.taps(network), "mask")
            launch = store.decode_launch(layout, layout.rows, n_planes)
            passes.append(Pass(kernel=Kernel.of(name, macros), launch=launch, args=args))
        passes.extend(store.flip_passes("flip_starts", "flips", "mask"))
        return Prelude(passes=passes, workspaces={"mask": self.n_bytes})
