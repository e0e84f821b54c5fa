"""The phases of a long run: how long each took, and the most memory that the process held meanwhile."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path

from xorpack.checkpoint.settings import Progress

Show = Callable[[str], AbstractContextManager[Progress]]
"""Opens what shows the progress of a phase, by the phase's name."""


@dataclass(frozen=True, slots=True)
class Phase:
    """A phase that is done: ``seconds`` it took, ``n_bytes`` of memory at the most, None where that is not known."""

    name: str
    seconds: float
    n_bytes: int | None


class Phases:
    """What has been done so far.

    Attributes:
        done: the phases, in their order; one that is entered twice is one, of both times.
    """

    def __init__(self, show: Show | None = None) -> None:
        """``show``: what shows progress; none by default."""
        self.show = show or _nothing
        self.done: list[Phase] = []

    @contextmanager
    def phase(self, name: str) -> Iterator[Progress]:
        """Time what is done within; yields what to tell of progress."""
        _forget_peak()
        began = time.perf_counter()
        with self.show(name) as progress:
            yield progress
        found = Phase(name, time.perf_counter() - began, _peak())
        for i, other in enumerate(self.done):
            if other.name == name:
                most = (
                    None
                    if other.n_bytes is None or found.n_bytes is None
                    else max(other.n_bytes, found.n_bytes)
                )
                self.done[i] = Phase(name, other.seconds + found.seconds, most)
                return
        self.done.append(found)


@contextmanager
def _nothing(name: str) -> Iterator[Progress]:
    yield lambda name, size, total: None


def _forget_peak() -> None:
    """Begin to count the peak anew, where the system can: Linux does."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return


def _peak() -> int | None:
    """The most bytes of memory that the process has held since :func:`_forget_peak`; None where Linux does not say."""
    try:
        status = Path("/proc/self/status").read_text()
        return 1024 * int(status.partition("VmHWM:")[2].split()[0])
    except (OSError, IndexError, ValueError):
        return None
