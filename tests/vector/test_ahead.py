"""Kernels compiled by several processes: what is kept is left alone, nobody waits for ever, nobody is left over."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from xorpack.vector import ahead
from xorpack.vector.ahead import Specialization, compile_missing

TOY = """
from xorpack.vector.compiled import njit

@njit(cache=True, nogil=True)
def first(x):
    return x + 1

@njit(cache=True, nogil=True)
def second(x):
    return x + 2

@njit(cache=True, nogil=True)
def third(x):
    return x + 3
"""


@pytest.fixture
def kernels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Specialization]:
    """Three that nothing has compiled, in a module of its own."""
    import numba

    monkeypatch.setattr(numba.config, "CACHE_DIR", str(tmp_path / "kernels"))  # of this process
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path / "kernels"))  # of others
    name = f"toy_{tmp_path.name}".replace("-", "_")
    (tmp_path / f"{name}.py").write_text(TOY)
    monkeypatch.syspath_prepend(tmp_path)
    return [Specialization(name, function, "(int64,)") for function in ("first", "second", "third")]


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[subprocess.Popen[bytes]]:
    """Processes, as they are started."""
    found: list[subprocess.Popen[bytes]] = []
    start = ahead._start

    def noted(*arguments: Any) -> subprocess.Popen[bytes]:
        found.append(start(*arguments))
        return found[-1]

    monkeypatch.setattr(ahead, "_start", noted)
    return found


def test_what_others_compile_is_loaded(
    kernels: list[Specialization], started: list[subprocess.Popen[bytes]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ahead, "_compile_from", lambda *_: None)  # this process leaves all to the other
    compile_missing(kernels, 2)
    assert [process.returncode for process in started] == [0]
    for number, kernel in enumerate(kernels):
        assert kernel.find()(1) == 2 + number
        assert not kernel.find().stats.cache_misses
    compile_missing(kernels, 2)
    assert len(started) == 1  # nothing is missing


def test_this_process_shares_the_work_or_does_it_all(
    kernels: list[Specialization], started: list[subprocess.Popen[bytes]], monkeypatch: pytest.MonkeyPatch
) -> None:
    compile_missing(kernels, 1)
    assert all(kernel.is_missing() for kernel in kernels)
    compile_missing(kernels[:1], 4)
    assert kernels[0].is_missing()
    monkeypatch.setattr(sys, "executable", "/nowhere/python")  # no process can be started
    compile_missing(kernels, 4)
    assert not started
    assert not any(kernel.is_missing() for kernel in kernels)


def test_a_process_that_fails_leaves_kernels_to_be_compiled_when_called(
    kernels: list[Specialization], started: list[subprocess.Popen[bytes]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", "/bin/false")
    compile_missing([*kernels, Specialization(kernels[0].module, "first", "(unknown,)")], 9)
    assert len(started) == 3
    assert all(process.returncode == 1 for process in started)
    assert kernels[2].find()(1) == 4


def test_a_process_that_never_ends_is_stopped(
    kernels: list[Specialization], monkeypatch: pytest.MonkeyPatch
) -> None:
    sleeping = subprocess.Popen(["sleep", "60"])
    monkeypatch.setattr(ahead, "_start", lambda *_: sleeping)
    monkeypatch.setattr(ahead, "WAIT_SECONDS", 0.1)
    compile_missing(kernels, 2)
    assert sleeping.returncode == -9
    assert not any(kernel.is_missing() for kernel in kernels)


def test_an_interrupt_ends_all(
    kernels: list[Specialization], started: list[subprocess.Popen[bytes]], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(ahead, "_compile_from", interrupted)
    with pytest.raises(KeyboardInterrupt):
        compile_missing(kernels, 3)
    assert [process.returncode for process in started] == [-9, -9]


def test_a_process_ends_with_the_one_that_started_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "slow.py").write_text("import time\ntime.sleep(60)\n")
    (tmp_path / "queue").write_bytes(b"\0")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), *filter(None, sys.path)]))
    script = f'"$0" -m {ahead.__name__} $$ "$1" <"$2" & exec sleep 2'
    kernels = json.dumps([("slow", "kernel", "()")])
    command = ["sh", "-c", script, sys.executable, kernels, str(tmp_path / "queue")]
    subprocess.run(command, stdout=subprocess.PIPE, check=True, timeout=55)  # as long as any holds its output


def test_without_who_started_it_a_process_takes_nothing(kernels: list[Specialization]) -> None:
    queue, filling = os.pipe()
    os.write(filling, bytes(3))
    os.close(filling)
    command = [sys.executable, "-m", ahead.__name__, str(os.getppid()), json.dumps(kernels)]
    subprocess.run(command, stdin=queue, check=True, timeout=60)
    assert os.read(queue, 9) == bytes(3)
    os.close(queue)
