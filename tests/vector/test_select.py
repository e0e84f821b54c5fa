"""The vector functions of a Viterbi search: compiled code equals their plain numpy bodies."""

from __future__ import annotations

import numpy as np
import pytest
from numba import njit

from xorpack.vector.select import add_compare_select, unshuffle


def step(new, old, run, levels, starts, n, dropped, n_new, targets, weights, weighted, fine, survivors, at):
    return add_compare_select(
        new, old, run, levels, starts, n, dropped, n_new, targets, weights, weighted, fine, survivors, at
    )


compiled_step = njit(step)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("fine", [False, True])
@pytest.mark.parametrize(("dropped", "n"), [(1, 1), (1, 3), (2, 1), (3, 1), (4, 0), (5, 2)])
def test_step(dropped, n, weighted, fine):
    rng = np.random.default_rng([dropped, n, weighted, fine])
    n_new, run = 128, 64
    old = rng.integers(0, 32768, run << dropped).astype(np.int16)
    old[::3] //= 100
    levels = rng.integers(-30000, 30000, (3, n_new << dropped)).astype(np.int16)
    starts = np.array([levels[0].size * j for j in (1, 0, 2)], np.int64)
    targets = rng.integers(-32768, 32768, 3).astype(np.int16)
    weights = rng.integers(0, 32768, 3).astype(np.int16)
    outputs = []
    for function in (step, compiled_step):
        new, survivors = np.zeros(n_new + 3, np.int16), np.zeros(40, np.uint32)
        least = function(
            new,
            old,
            run,
            levels.reshape(-1),
            starts,
            n,
            dropped,
            n_new,
            targets,
            weights,
            weighted,
            fine,
            survivors,
            7,
        )
        assert least == new[:n_new].min()
        outputs.append((least, new, survivors))
    for plain, compiled in zip(*outputs, strict=True):
        np.testing.assert_array_equal(plain, compiled)
    assert not outputs[0][2][:7].any()
    assert not outputs[0][2][7 + n_new // 32 * dropped :].any()


def test_ties_go_to_the_first_branch():
    survivors = np.full(4, 0xFFFFFFFF, np.uint32)
    new = np.empty(32, np.int16)
    zeros = np.zeros(128, np.int16)
    starts, one = np.zeros(1, np.int64), np.zeros(1, np.int16)
    assert compiled_step(new, zeros, 32, zeros, starts, 1, 2, 32, one, one, False, False, survivors, 1) == 0
    assert list(survivors) == [0xFFFFFFFF, 0, 0, 0xFFFFFFFF]


@pytest.mark.parametrize("n", [64, 256])
def test_unshuffle(n):
    source = np.random.default_rng(n).integers(0, 32768, n + 5).astype(np.int16)

    def body(target, source, n, less):
        unshuffle(target, source, n, less)

    plain, compiled = np.zeros(n + 5, np.int16), np.zeros(n + 5, np.int16)
    body(plain, source, n, 77)
    njit(body)(compiled, source, n, 77)
    np.testing.assert_array_equal(plain, compiled)
    np.testing.assert_array_equal(plain[: n // 2], source[:n:2] - 77)
    assert not plain[n:].any()
