"""Text of the kernels: macros, files in front of all, one more. Nothing is included, so that caches see every byte."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources

import numpy as np
from numpy.typing import NDArray

from xorpack.code.network import SETS, XorNetwork
from xorpack.code.trellis import TrellisNetwork

FILES: Mapping[str, str] = {
    "decode_words": "decode_words",
    "flip": "flip",
    "cascade_candidates": "mask_cascade",
    "cascade_last": "mask_cascade",
    "block_tables": "mask_block",
    "block_join": "mask_block",
    "block_move": "mask_block",
    "bmf_product": "mask_bmf",
    "decode_dense": "decode_dense",
    "decode_field": "decode_field",
    "correct_dense": "decode_dense",
    "matvec": "matvec",
    "finish": "finish",
    "matmul": "matmul",
    "trellis_decode": "trellis_decode",
    "trellis_outliers": "trellis_decode",
    "trellis_finish": "trellis_finish",
    "trellis_product": "trellis_product",
    "digits": "digits",
    "coded_product": "coded_product",
    "trellis_fragments": "trellis_matmul",
    "trellis_matmul": "trellis_matmul",
    "wide_activations": "wide_activations",
    "trellis_wide": "trellis_wide",
    "coded_wide": "coded_wide",
    "trellis_search": "trellis_search",
    "trellis_words": "trellis_search",
    "ring_equations": "elimination",
    "ring_eliminate": "elimination",
    "ring_solve": "elimination",
}
"""Kernels, and the file of each under ``kernels/``, without ``.cu``."""

FRONT = ("common", "elements", "words", "scales", "depths", "walk")
"""Files in front of every kernel."""

PREFACES: Mapping[str, Sequence[str]] = {
    "matmul": ("mma",),
    "trellis_decode": ("trellis",),
    "trellis_finish": ("trellis",),
    "trellis_matmul": ("mma", "trellis", "levels"),
    "wide_activations": ("mma",),
    "trellis_wide": ("mma", "wide", "trellis", "levels"),
    "coded_wide": ("mma", "wide"),
    "trellis_product": ("binary", "trellis"),
    "coded_product": ("binary",),
    "digits": ("binary",),
}
"""Files that stand between those and a file."""

OPTIONS = ("-std=c++17", "-default-device")
"""Options of the compiler besides the architecture; the second one is for generic lambdas. CuPy adds ``-ftz=true``,
which the kernels allow for."""

ARCHITECTURES: Mapping[str, str] = {"trellis_wide": "sm_90a", "coded_wide": "sm_90a"}
"""The architecture of kernels that are for one alone, whose instructions others lack."""

Macros = Mapping[str, int | str]


@dataclass(frozen=True, slots=True)
class Kernel:
    """A kernel and the macros that specialise it, names without ``XP_``."""

    name: str
    macros: tuple[tuple[str, int | str], ...]

    @classmethod
    def of(cls, name: str, macros: Macros) -> Kernel:
        """Make a kernel of its name and a mapping of macros."""
        return cls(name, tuple(sorted(macros.items())))

    @property
    def architecture(self) -> str:
        """The one that the kernel is compiled for; "": that of the GPU."""
        return ARCHITECTURES.get(self.name, "")

    def source(self) -> str:
        """The text to compile."""
        head = "".join(f"#define XP_{name} {value}\n" for name, value in self.macros)
        file = FILES[self.name]
        files = (*FRONT, *PREFACES.get(file, ()), file)
        return head + "\n".join(map(_text, files))


@cache
def _text(file: str) -> str:
    return resources.files(__package__).joinpath("kernels", f"{file}.cu").read_text(encoding="utf-8")


def network_macros(network: XorNetwork, *, unrolled: bool) -> dict[str, int | str]:
    """Taps as constants where ``unrolled``, else the width of their table."""
    offsets, rotations, _ = network.taps()
    macros: dict[str, int | str] = {"UNROLLED": int(unrolled), "TAPS": offsets.shape[1]}
    if network.hold > 1:
        macros["HOLD"] = network.hold
    if unrolled:
        if network.family == "identity":  # one row, eight times
            offsets, rotations = offsets.repeat(8, axis=0), rotations.repeat(8, axis=0)
        macros["WINDOW"] = network.window
        if network.family == "turned":
            offsets, turns = offsets[:SETS], rotations[::SETS, 0].tolist()
            macros |= {"TURNED": len(turns), "ROTATIONS": _braces([turns])[1:-1]}
        else:
            macros["ROTATIONS"] = _braces(rotations.tolist())
        macros["DISTINCT"] = offsets.shape[0]
        macros["OFFSETS"] = _braces(offsets.tolist())
    return macros


def tap_table(network: XorNetwork) -> NDArray[np.uint32]:
    """uint32 (R, K + 1): number of taps of a row, then ``offset << 5 | rotation`` of each."""
    offsets, rotations, counts = network.taps()
    table = np.zeros((offsets.shape[0], offsets.shape[1] + 1), np.uint32)
    table[:, 0] = counts
    table[:, 1:] = offsets << 5 | rotations
    return table


def trellis_macros(network: TrellisNetwork) -> dict[str, int | str]:
    """A trellis network as constants."""
    return {
        "PLANES": 0,
        "BITS": network.n_planes,
        "N_IN": network.n_in,
        "N_OUT": network.n_out,
        "WINDOW": network.window,
        "NETWORK": _braces(network.taps),
    }


def _braces(table: Sequence[Sequence[int]]) -> str:
    return "{" + ", ".join("{" + ", ".join(map(str, row)) + "}" for row in table) + "}"
