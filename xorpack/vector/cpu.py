"""What the CPU has that kernels are compiled for, by LLVM's names: asked here alone.

That is the CPU of this machine, unless numba is told otherwise (``NUMBA_CPU_NAME``, ``NUMBA_CPU_FEATURES``): code for
more than numba compiles for could not be made.
"""

from __future__ import annotations

from functools import cache

from numba.core.registry import cpu_target

MICROCODED = ("znver1", "znver2")
"""CPUs that take hundreds of cycles for ``pext`` and ``pdep``."""


@cache
def target() -> tuple[str, frozenset[str]]:
    """The CPU's name and its features."""
    _, name, listed = cpu_target.target_context.codegen().magic_tuple()
    return name, frozenset(each[1:] for each in listed.split(",") if each.startswith("+"))


def has(*features: str) -> bool:
    """Whether kernels may use all these ``features``."""
    return target()[1].issuperset(features)


def moves_bits() -> bool:
    """Whether ``pext`` and ``pdep`` are there and fast."""
    return has("bmi2") and target()[0] not in MICROCODED
