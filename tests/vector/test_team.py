"""Threads that help: every unit is done once, whoever comes late, and nothing is left of them where they should end."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from numba import njit

from xorpack.vector.atomic import load, yield_core
from xorpack.vector.outlined import fail, itself
from xorpack.vector.team import Team, helped
from xorpack.vector.team_kernels import lead, work

SIZES = (1, 3, 4, 5, 31, 64, 1001)


@njit(nogil=True)
def count(begin, end, helpers, team, wrong, meet, begins, out):
    """``out[i] += 3 * i + 1`` for each unit; an error of unit ``wrong``. If they ``meet``, 0 waits for the last one."""
    if helpers:
        fail(lead(team, helpers, end, itself()))
        return
    begins[begin] += 1
    for i in range(begin, end):
        if i == wrong:
            raise ValueError("a wrong unit")
        turns = 0
        while meet and i == 0 and turns < 1_000_000_000 and not load(out, out.size - 1):
            turns += 1
            yield_core()
        out[i] += 3 * i + 1


def counted(n, helpers, state, wrong=-1, meet=False):
    begins, out = np.zeros(n, np.int64), np.zeros(n, np.int64)
    count(0, n, helpers, state, wrong, meet, begins, out)
    assert (out == 3 * np.arange(n) + 1).all()
    starts = np.flatnonzero(begins)
    assert (begins[starts] == 1).all()
    assert not (starts % 4).any()
    return len(starts)


@pytest.fixture
def team():
    team = Team()
    team.wake(0)  # compiles what helpers run
    counted(4, 0, team.state)
    yield team
    team.end()


@pytest.mark.parametrize("helpers", [1, 2, 4])
def test_every_unit_is_done_once(team, helpers):
    for _ in range(200):
        for n in SIZES:
            with helped(helpers, team) as (found, state):
                assert found == helpers
                counted(n, found, state)


def meet(team, n):
    """A call where one thread alone would wait for itself, for minutes."""
    began = time.perf_counter()
    with helped(n, team) as (helpers, state):
        counted(64, helpers, state, meet=True)
    assert time.perf_counter() - began < 30


@pytest.mark.parametrize("n", [1, 2])
def test_helpers_take_parts(team, n):
    for _ in range(20):
        meet(team, n)


def test_those_that_a_call_did_not_ask_for_rest():
    state = Team().state
    state[0] = call = 1 << 48 | 64
    assert work(state, 2) == 0
    assert state[0] == call


def test_helpers_that_never_come_are_not_waited_for():
    assert counted(1001, 3, Team().state) > 4


def test_many_units_go_without_helpers(team):
    with helped(1, team) as (helpers, state):
        n = 1 << 24
        out = np.zeros(n, np.int8)
        count(0, n, helpers, state, -1, False, out, np.zeros(n, np.int8))
        assert out.sum() == 1


@pytest.mark.parametrize("wrong", [0, 500, 1000])
def test_what_a_part_raises_is_raised(team, wrong):
    for _ in range(50):
        with helped(2, team) as (helpers, state):
            with pytest.raises(ValueError, match="a wrong unit"):
                counted(1001, helpers, state, wrong)
            counted(1001, helpers, state)


def test_one_team_one_call(team):
    with helped(2, team) as (first, _), helped(2, team) as (second, state):
        assert (first, second) == (2, 0)
        counted(64, second, state)
    with helped(0, team) as (helpers, _):
        assert helpers == 0
    with helped(2, team) as (helpers, _):
        assert helpers == 2


def test_calls_from_several_threads():
    found = set()

    def several(k):
        for n in 40 * SIZES:
            with helped(1 + k % 3) as (helpers, state):
                counted(n, helpers, state)
                found.add(helpers > 0)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(several, range(4)))
    assert True in found


def test_no_thread_to_be_had(team, monkeypatch):
    def start(self):
        raise RuntimeError("can't start new thread")

    with helped(1, team) as (helpers, _):
        assert helpers == 1
    monkeypatch.setattr(threading.Thread, "start", start)
    with helped(3, team) as (helpers, state):
        assert helpers == 1
        counted(64, helpers, state)


def test_an_idle_team_sleeps_and_wakes(team):
    for _ in range(3):
        meet(team, 3)
        for _ in range(1000):
            if all(helper.asleep for helper in team._helpers):
                break
            time.sleep(0.01)
        began = time.process_time()
        time.sleep(0.3)
        assert time.process_time() - began < 0.03
        assert all(helper.asleep for helper in team._helpers)


def test_a_team_ends(team):
    meet(team, 3)
    threads = [helper.thread for helper in team._helpers]
    assert all(thread.is_alive() for thread in threads)
    team.end()
    assert not any(thread.is_alive() for thread in threads)
    with helped(3, team) as (helpers, state):
        counted(64, helpers, state)


FORKING = """
import os
import numpy as np
import xorpack
from samples import bcq
from xorpack.decoders.products import fused
from xorpack.vector.team import TEAM, helped

encoded = xorpack.encode(bcq((130, 300), 0.7, 2))
x = np.ones(300, np.float32)
product = encoded.product()
wanted = product.matvec(x).tobytes()
fused.LEAST_PRODUCTS = 1

def right():
    return all(product.matvec(x, jobs=3).tobytes() == wanted for _ in range(100))

assert right()
with helped(2) as (_, mine):
    child = os.fork()  # while the team is taken
    if not child:
        with helped(2) as (helpers, other):
            assert helpers == 2 and other is not mine
        os._exit(0 if right() else 1)
assert os.waitpid(child, 0)[1] == 0
assert TEAM.state is mine and right()
"""


def run(script):
    command = [sys.executable, "-c", script]
    path = os.pathsep.join(sys.path)
    return subprocess.run(
        command,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env={**os.environ, "PYTHONPATH": path},
    )


def test_a_forked_process_begins_anew():
    done = run(FORKING)
    assert done.returncode == 0, done.stderr


ENDING = """
import threading, time
from xorpack.vector.team import TEAM, helped

def call():
    with helped(3) as (helpers, _):
        assert helpers == 3

def sleep():
    while not all(helper.asleep for helper in TEAM._helpers):
        time.sleep(0.01)

def late():
    time.sleep(0.2)
    call()

call()
{}
print(time.perf_counter())
"""


@pytest.mark.parametrize(
    "last", ["", "sleep()", "threading.Thread(target=late).start()", "helped(3).__enter__()"]
)
def test_a_process_ends_at_once(last):
    done = run(ENDING.format(last))
    assert (done.returncode, done.stderr) == (0, "")
    assert time.perf_counter() - float(done.stdout) < 2.5  # the clock of all processes
