"""Threads over independent parts. Kernels give up the lock of the interpreter, so that they run side by side."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")


def for_each(work: Callable[[Item], object], items: Iterable[Item], jobs: int) -> None:
    """Call ``work`` with every item, on ``jobs`` threads; one after another, on this one, where that is 1."""
    if jobs == 1:
        for item in items:
            work(item)
    else:
        with ThreadPoolExecutor(jobs) as pool:
            list(pool.map(work, items))
