"""Which kernels a first encoding compiles, so that several processes can (:mod:`xorpack.vector.ahead`)."""

from __future__ import annotations

import json
from pathlib import Path

from xorpack.checkpoint.settings import Settings
from xorpack.vector import gf2_bytes
from xorpack.vector.ahead import Specialization

PLACE = Path(__file__).with_suffix(".json")
"""The list, by kind of encoding; ``tools/first_kernels.py`` writes it."""

ELIMINATION = {False: ("eliminate",), True: ("eliminate_maps", "solve_maps")}
"""Kernels of CPUs without instructions for matrices of bits, and with them."""


def first_kernels(settings: Settings) -> list[Specialization]:
    """The kernels that encoding with these settings calls on this CPU, what takes longest to compile first.

    It is what one model needs: others may call some for other types, or not at all. None of packed payloads, which
    need few.
    """
    if settings.packs:
        return []
    kind = "lossless" if settings.lossless else "trellis" if settings.is_trellis else "bcq"
    others = ELIMINATION[not gf2_bytes.is_fast()]
    kernels = [Specialization(*kernel) for kernel in json.loads(PLACE.read_text("utf-8"))[kind]]
    return [kernel for kernel in kernels if kernel.name not in others]
