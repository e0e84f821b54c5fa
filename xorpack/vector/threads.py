"""Threads over independent parts. Kernels give up the lock of the interpreter, so that they run side by side."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def for_each(work: Callable[[Item], Result], items: Iterable[Item], jobs: int) -> list[Result]:
    """What ``work`` gives for every item, on ``jobs`` threads; one after another, on this one, where that is 1.

    A thread takes as long to begin as a small ring to be encoded.
    """
    if jobs == 1:
        return [work(item) for item in items]
    with ThreadPoolExecutor(jobs) as pool:
        return list(pool.map(work, items))
