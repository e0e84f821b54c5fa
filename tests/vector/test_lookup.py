"""Vector functions of products: compiled code equals the plain numpy bodies, with AVX-512 and without."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from numba import njit

from xorpack.vector import lookup

rng = np.random.default_rng(12)


def both(body, output, *arguments):
    """Run ``body`` plain and compiled; they must agree bit for bit."""
    plain, compiled = output.copy(), output.copy()
    body(plain, *arguments)
    njit(body)(compiled, *arguments)
    assert plain.tobytes() == compiled.tobytes()
    return plain


@pytest.mark.parametrize("n", [0, 1, 5])
def test_xor_rows(n):
    source = rng.integers(0, 1 << 32, 100, dtype=np.uint32)
    offsets = np.array([9, -3, 0, 7, 40, -30, 2])

    def body(target, source, offsets):
        lookup.xor_rows(target, 2, source, 31, offsets, 1, n)

    out = both(body, np.ones(20, np.uint32), source, offsets)
    assert n != 1 or (out[2:18] == source[28:44]).all()
    assert (out[[0, 1, 18, 19]] == 1).all()


@pytest.mark.parametrize("n", [0, 1, 3])
def test_and_rows(n):
    words, mask = (rng.integers(0, 1 << 32, 200, dtype=np.uint32) for _ in range(2))

    def body(words, mask):
        lookup.and_rows(words, 1, n, mask, 5, 3)

    out = both(body, words, mask)
    for word in range(3):
        at, kept = 1 + 16 * (n + 1) * word, mask[5 + 16 * word :][:16]
        assert (out[at + 16 * n :][:16] == kept).all()
        assert n == 0 or (out[at : at + 16] == words[at : at + 16] & kept).all()
    assert (out[1 + 48 * (n + 1) :] == words[1 + 48 * (n + 1) :]).all()


def test_turn_rows():
    source = rng.integers(0, 1 << 32, 500, dtype=np.uint32)
    starts = rng.permutation(30)[:16] * 16

    def body(target, source, starts):
        lookup.turn_rows(target, 3, 20, source, 4, starts)

    out = both(body, np.zeros(330, np.uint32), source, starts)
    for i in range(16):
        assert (out[3 + i :: 20][:16] == source[4 + starts[i] :][:16]).all()


@pytest.mark.parametrize("n", [0, 1, 3])
def test_add_lookups(n):
    words = rng.integers(0, 1 << 32, 120, dtype=np.uint32)
    tables = rng.standard_normal(270).astype(np.float32)

    def body(sums, words, tables):
        lookup.add_lookups(sums, 1, words, 2, tables, 3, n, 2)

    sums = np.ones(60, np.float32)
    out = both(body, sums, words, tables)
    for j, i in np.ndindex(n, 16):
        pair = [int(words[2 + 16 * j + i + 16 * n * k]) for k in range(2)]
        found = [tables[3 + 128 * k + 16 * g + (pair[k] >> 4 * g & 15)] for k in range(2) for g in range(8)]
        assert out[1 + 16 * j + i] == pytest.approx(1 + sum(found), abs=1e-5)
    assert (out[1 + 16 * n :] == 1).all()


@pytest.mark.parametrize("n", [0, 1, 3])
def test_add_lookups_of_integers(n):
    words = rng.integers(0, 1 << 32, 120, dtype=np.uint32)
    tables = rng.integers(-8191, 8192, 270).astype(np.int16)

    def body(sums, words, tables):
        lookup.add_lookups(sums, 1, words, 2, tables, 3, n, 2)

    out = both(body, np.ones(60, np.int32), words, tables)
    for j, i in np.ndindex(n, 16):
        pair = [int(words[2 + 16 * j + i + 16 * n * k]) for k in range(2)]
        found = [
            int(tables[3 + 128 * k + 16 * lookup.place_of_table(g) + (pair[k] >> 4 * g & 15)])
            for k in range(2)
            for g in range(8)
        ]
        assert out[1 + 16 * j + i] == 1 + sum(found)
    assert (out[1 + 16 * n :] == 1).all()


def test_a_cpu_without_avx512_gives_the_same(tmp_path):
    """The tests above once more, compiled for the least CPU of this kind."""
    if os.environ.get("NUMBA_CPU_NAME") == "generic":
        pytest.skip("is that run")
    generic = {"NUMBA_CPU_NAME": "generic", "NUMBA_CPU_FEATURES": "", "NUMBA_CACHE_DIR": str(tmp_path)}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", __file__]
    root = Path(lookup.__file__).parents[2]
    environment = {**os.environ, **generic, "PYTHONPATH": str(root)}
    found = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stdout
    assert "13 passed, 1 skipped" in found.stdout
