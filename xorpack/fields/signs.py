"""The field of binary codes: all signs of a weight under a prefix code, in the tensor's own order of coding.

The *symbol* of a kept weight is its bits of all q planes. The planes of codes that were fitted to weights depend on
each other, so some symbols are frequent and have short codewords. As in :mod:`xorpack.fields.field` the first ``n_raw``
bits of a codeword take the place of the symbol in the planes, the other planes are constantly 0, and the code is
canonical and complete.

Each further bit, a *depth*, is a plane of its own: a ring of every segment of the tensor's layout, by the tensor's own
network, of fewer stored words, for fewer weights care for it: those whose codewords are so long. So bit d of a weight's
codeword stands in the same word and bit as the weight itself, whatever d is, and symbols are looked up word by word,
with ANDs and ORs of 32 weights at a time; products expand depths as they do planes. (Lossless elements, whose codewords
have up to 16 bits, have one plane for all depths.)

The section holds the symbols, the code of every depth and the corrections of all depths, one after another. See
FORMAT.md.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xorpack.code.corrections import Corrections, pack_fields, packed_sizes, unpack
from xorpack.code.layout import Layout
from xorpack.code.network import XorNetwork
from xorpack.code.planes import CodedPlanes, StoredPlanes, TrellisPlanes
from xorpack.errors import FormatError
from xorpack.fields.field import MAX_LENGTH, FieldCode

_CONFIG = ("n_raw", "counts", "m_lanes", "n_corrections")
"""Members of a config."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SignField:
    """A field of binary codes as it is stored.

    Attributes:
        code: its code; symbols are of all planes.
        network, layout: those of the tensor's code.
        m_lanes: stored words per lane of a segment, of every depth.
        n_corrections: weights of which a depth is wrong.
        data: uint8, the section.
    """

    code: FieldCode
    network: XorNetwork
    layout: Layout
    m_lanes: tuple[int, ...]
    n_corrections: int
    data: NDArray[np.uint8]

    def __post_init__(self) -> None:
        if not self.network.any_rate:
            raise FormatError(f"field of binary codes beside a network of family {self.network.family!r}")
        if len(self.m_lanes) != self.code.n_depths:
            raise FormatError(f"field: m_lanes of {len(self.m_lanes)} depths, not {self.code.n_depths}")
        most = 2 * self.layout.n_steps + self.network.window
        if not all(0 < m_lane <= most for m_lane in self.m_lanes):
            raise FormatError(f"field: m_lanes {list(self.m_lanes)} for {self.layout.n_steps} steps")
        if not 0 <= self.n_corrections <= (self.n_weights if self.m_lanes else 0):
            raise FormatError(f"field: {self.n_corrections} corrections of {len(self.m_lanes)} depths")
        if self.data.size != sum(self.sizes()):
            raise FormatError(f"field: section of {self.data.size} bytes, not {sum(self.sizes())}")

    def check(self, planes: StoredPlanes | TrellisPlanes) -> None:
        """Raise FormatError unless it is of a tensor of these planes."""
        coded = planes.coded if isinstance(planes, StoredPlanes) else None
        if not isinstance(coded, CodedPlanes) or (coded.network, coded.layout) != (self.network, self.layout):
            raise FormatError("field of binary codes that is not in the order of their code")
        if self.n_corrections > planes.n_kept or (self.code.width != planes.bits):
            raise FormatError(
                f"field of {self.code.width} planes with {self.n_corrections} corrections of {planes.bits} planes "
                f"with {planes.n_kept} kept weights"
            )

    @property
    def n_weights(self) -> int:
        """Weights of the tensor: positions of corrections."""
        return self.layout.rows * self.layout.cols

    def sizes(self) -> tuple[int, int, int]:
        """Bytes of the parts: symbols, code, corrections."""
        return (
            self.code.symbol_bytes,
            4 * self.layout.n_segments * self.layout.lanes * sum(self.m_lanes),
            sum(packed_sizes(self.n_corrections, self.n_weights, self.code.n_depths)),
        )

    def load_symbols(self) -> NDArray[np.uint32]:
        """See :meth:`FieldCode.load_symbols`."""
        return self.code.load_symbols(self.data)

    def load_depths(self) -> list[CodedPlanes]:
        """The code of every depth."""
        begin, found = self.sizes()[0], []
        for m_lane in self.m_lanes:
            end = begin + 4 * self.layout.n_segments * self.layout.lanes * m_lane
            found.append(CodedPlanes.of_bytes(self.network, self.layout, self.data[begin:end], m_lane))
            begin = end
        return found

    def load_corrections(self) -> Corrections:
        """The corrections, unpacked and checked: bit e of a value is depth e."""
        begin, size, _ = self.sizes()
        return unpack(self.data[begin + size :], self.n_corrections, self.n_weights, self.code.n_depths)

    @classmethod
    def pack(
        cls,
        code: FieldCode,
        symbols: NDArray[np.uint32],
        network: XorNetwork,
        layout: Layout,
        words: Sequence[NDArray[np.uint32]],
        wrong: NDArray[np.uint8],
        n_wrong: int,
    ) -> SignField:
        """Pack a section.

        ``words``: uint32 (1, n_segments, m_lane, lanes) of every depth; ``wrong``: packed corrections.
        """
        parts = [
            pack_fields(symbols.astype(np.uint64), code.width),
            *(np.ascontiguousarray(each, "<u4").reshape(-1).view(np.uint8) for each in words),
            wrong,
        ]
        return cls(
            code=code,
            network=network,
            layout=layout,
            m_lanes=tuple(each.shape[2] for each in words),
            n_corrections=n_wrong,
            data=np.concatenate(parts),
        )

    def get_config(self) -> dict[str, Any]:
        """What stands in the record."""
        return {
            "n_raw": self.code.n_raw,
            "counts": list(self.code.counts),
            "m_lanes": list(self.m_lanes),
            "n_corrections": self.n_corrections,
        }

    @classmethod
    def from_config(
        cls, config: Mapping[str, Any], data: NDArray[np.uint8], bits: int, coded: CodedPlanes
    ) -> SignField:
        """The field of a tensor of ``bits`` planes and that code.

        Raises:
            FormatError: the config or the size of the section breaks a rule.
        """
        if set(config) != set(_CONFIG):
            raise FormatError(f"field of kind bcq needs {sorted(_CONFIG)}, has {sorted(config)}")
        for name in _CONFIG:
            values = config[name] if name in ("counts", "m_lanes") else [config[name]]
            if not isinstance(values, list) or not all(type(x) is int and 0 <= x < 1 << 48 for x in values):
                raise FormatError(
                    f"field: {name} = {config[name]!r} is not of integers that are not negative"
                )
            if len(values) > MAX_LENGTH + 1:
                raise FormatError(f"field: {name} of {len(values)} lengths")
        if not 1 <= config["n_raw"] <= bits:
            raise FormatError(f"field: n_raw = {config['n_raw']} of {bits} planes")
        return cls(
            code=FieldCode(low=0, width=bits, n_raw=config["n_raw"], counts=tuple(config["counts"])),
            network=coded.network,
            layout=coded.layout,
            m_lanes=tuple(config["m_lanes"]),
            n_corrections=config["n_corrections"],
            data=data,
        )
