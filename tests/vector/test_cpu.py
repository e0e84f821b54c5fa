"""What kernels are compiled for is asked in one place, and is what numba compiles for, not what the machine has."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from xorpack.vector import cpu, gf2_bytes

ROOT = Path(cpu.__file__).parents[1]


def test_what_numba_is_told_holds() -> None:
    """Code for GFNI cannot be made for a CPU without it, whatever this machine has."""
    asked = "from xorpack.vector import cpu, gf2_bytes; print(cpu.has('sse2'), gf2_bytes.is_fast(), cpu.moves_bits())"
    told = os.environ | {
        "NUMBA_CPU_NAME": "x86-64",
        "NUMBA_CPU_FEATURES": "+sse2",
        "PYTHONPATH": str(ROOT.parent),
    }
    done = subprocess.run([sys.executable, "-c", asked], env=told, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["True", "False", "False"]


def test_bits_move_where_that_is_fast(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, features, fast in (
        ("znver2", {"bmi2"}, False),
        ("znver4", {"bmi2"}, True),
        ("skylake", set(), False),
    ):
        monkeypatch.setattr(cpu, "target", lambda name=name, features=features: (name, frozenset(features)))
        assert cpu.moves_bits() == fast


def test_maps_need_both_of_their_features(monkeypatch: pytest.MonkeyPatch) -> None:
    for features, fast in (({"gfni", "avx2"}, True), ({"gfni"}, False), ({"avx2", "avx512bw"}, False)):
        monkeypatch.setattr(cpu, "target", lambda features=features: ("any", frozenset(features)))
        assert gf2_bytes.is_fast() == fast


def test_no_other_module_asks() -> None:
    asking = [
        path.relative_to(ROOT).as_posix()
        for path in ROOT.rglob("*.py")
        if any(word in path.read_text("utf-8") for word in ("magic_tuple", "get_host_cpu"))
    ]
    assert asking == ["vector/cpu.py"]
