"""Threads that help with calls of a millisecond: kept, and awake for a moment after each call.

To wake a thread takes as long as a small layer's product, and some kernels of operating systems wake it on the core of
the one that waits for it. So those of a team look for the next call themselves for a while (:data:`PATIENCE`), without
the lock of the interpreter, yielding their cores to whoever wants them; then they sleep. Units of a call are claimed by
whoever is there (:mod:`xorpack.vector.team_kernels`): a helper that comes late, or not at all, is not waited for.
"""

from __future__ import annotations

import atexit
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from queue import SimpleQueue

import numpy as np
from numpy.typing import NDArray

from xorpack.vector.aligned import aligned
from xorpack.vector.team_kernels import serve

PATIENCE = 5_000_000
"""Nanoseconds without a call before a helper sleeps: what lies between products of a language model's token."""

MOST = 255
"""Helpers of a call."""

LEAST_UNITS = 4
"""Of a part: what begins at a multiple of them, kernels may treat together."""


class Team:
    """Threads that help whoever takes the team, one call at a time.

    Attributes:
        state: what :mod:`xorpack.vector.team_kernels` is about.
        taken: held during a call.
    """

    def __init__(self) -> None:
        self.renew()

    def renew(self) -> None:
        """Begin without helpers."""
        self.state = aligned(128).view(np.int64)
        self.state[:] = 0
        self.taken = threading.Lock()
        self._helpers: list[_Helper] = []

    def wake(self, n: int) -> int:
        """Wake ``n`` helpers, or as many as there can be; return how many."""
        n = min(n, MOST)
        if not self._helpers:
            serve(self.state, MOST + 1, 0, time.CLOCK_MONOTONIC)  # compiled here, not by each of them
        try:
            while len(self._helpers) < n:
                self._helpers.append(_Helper(self.state, len(self._helpers) + 1))
        except RuntimeError:  # the system has no thread for it, or the interpreter ends
            n = len(self._helpers)
        for helper in self._helpers[:n]:
            if helper.asleep:
                helper.ring()
        return n

    def end(self) -> None:
        """Have all helpers leave."""
        self.state[48] = 1
        for helper in self._helpers:
            helper.ring()
        for helper in self._helpers:
            helper.thread.join(1)


class _Helper:
    """A thread of a team."""

    def __init__(self, state: NDArray[np.int64], member: int) -> None:
        self.asleep = False
        self._bell: SimpleQueue[None] = SimpleQueue()
        name = f"xorpack-helper-{member}"
        self.thread = threading.Thread(target=self._help, args=(state, member), name=name, daemon=True)
        self.thread.start()

    def ring(self) -> None:
        self.asleep = False
        self._bell.put(None)

    def _help(self, state: NDArray[np.int64], member: int) -> None:
        while serve(state, member, PATIENCE, time.CLOCK_MONOTONIC):
            self.asleep = True  # a call that began before goes without
            self._bell.get()


TEAM = Team()
"""The one of this process: a forked one has none of its parent's threads."""

os.register_at_fork(after_in_child=TEAM.renew)
atexit.register(TEAM.end)


@contextmanager
def helped(n: int, team: Team = TEAM) -> Iterator[tuple[int, NDArray[np.int64]]]:
    """How many of a team help with a call, and its state, as kernels take them.

    ``n`` at the most; 0 while another thread has the team: many calls side by side need no helpers.
    """
    if n < 1 or not team.taken.acquire(blocking=False):
        yield 0, team.state
        return
    try:
        yield team.wake(n), team.state
    finally:
        team.taken.release()
