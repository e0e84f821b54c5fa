"""Kernels compiled before they are called, by several processes at once, where they are not kept yet.

numba compiles one function at a time in a process, whatever its threads. Other processes compile into the directory
that this one then loads from (:mod:`xorpack.vector.compiled`). All take the number of the next kernel from one pipe,
which is filled and closed before the first of them starts: nobody waits for what another has taken, and a process that
fails, or dies, leaves a kernel to be compiled when it is called.
"""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from numba.core.errors import NumbaError
from numba.core.sigutils import normalize_signature

MOST = 5
"""Processes at the most: the longest kernel takes a quarter as long as all of those that an encoder needs."""

WAIT_SECONDS = 120
"""Time from which on a process that has not ended is stopped."""


class Specialization(NamedTuple):
    """A kernel and the types that it is to be compiled for."""

    module: str
    name: str
    signature: str

    def find(self) -> Any:
        """The function, its module imported."""
        return getattr(importlib.import_module(self.module), self.name)

    def is_missing(self) -> bool:
        """Whether it would be compiled, for whatever types, and then kept."""
        place = self.find().stats.cache_path
        return place is not None and not any(Path(place).glob(f"*.{self.name}-*.nbi"))

    def compile(self) -> None:
        """Compile it; what numba has to say against that, it says when the kernel is called."""
        with suppress(NumbaError, NameError, TypeError):
            types, _ = normalize_signature(self.signature)  # a text would be kept under another name
            self.find().compile(types)


def compile_missing(kernels: Sequence[Specialization], processes: int) -> None:
    """Compile those of ``kernels`` that are not kept yet, in the order given, so that all are when this returns.

    This process compiles too; the others have ended when this returns, or raises. With nobody to share with nothing
    is done: kernels are compiled when they are called.

    Args:
        kernels: what takes longest first.
        processes: how many, at the most, this one included.
    """
    if processes == 1:
        return
    missing = [kernel for kernel in kernels if kernel.is_missing()]
    if len(missing) < 2:
        return
    queue, filling = os.pipe()
    helpers: list[subprocess.Popen[bytes]] = []
    try:
        with open(filling, "wb") as into:
            into.write(bytes(range(len(missing))))
        with suppress(OSError):  # no process can be started: this one does it all
            while len(helpers) < min(processes, MOST, len(missing)) - 1:
                helpers.append(_start(missing, queue))
        _compile_from(queue, missing)
        until = time.monotonic() + WAIT_SECONDS
        with suppress(subprocess.TimeoutExpired):
            for helper in helpers:
                helper.wait(max(0.0, until - time.monotonic()))
    finally:
        os.close(queue)
        for helper in helpers:
            helper.kill()
            helper.wait()


def _start(kernels: Sequence[Specialization], queue: int) -> subprocess.Popen[bytes]:
    """A process like this one that takes kernels from the queue."""
    if not sys.executable or getattr(sys, "frozen", False):
        raise OSError("no interpreter to start")
    command = [sys.executable, "-P", "-m", __name__, str(os.getpid()), json.dumps(kernels)]
    path = os.pathsep.join(place or os.getcwd() for place in sys.path)
    return subprocess.Popen(
        command,
        env={**os.environ, "PYTHONPATH": path},
        stdin=queue,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def _compile_from(queue: int, kernels: Sequence[Specialization]) -> None:
    while number := os.read(queue, 1):
        kernels[number[0]].compile()


def _help() -> None:
    """What another process does, for as long as that which started it lives."""
    parent, kernels = int(sys.argv[1]), [Specialization(*kernel) for kernel in json.loads(sys.argv[2])]
    if os.getppid() == parent:
        threading.Thread(target=_end_after, args=(parent,), daemon=True).start()
        _compile_from(0, kernels)


def _end_after(parent: int) -> None:
    """Wait for the end of the process that started this one, and end it too, whatever it does."""
    while os.getppid() == parent:
        time.sleep(0.2)
    os._exit(1)


if __name__ == "__main__":
    _help()
