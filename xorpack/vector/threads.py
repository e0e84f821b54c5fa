"""Threads over independent parts. Kernels give up the lock of the interpreter, so that they run side by side."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
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


def side_by_side(work: Callable[[int], object], n: int) -> None:
    """Call ``work(0)`` to ``work(n - 1)``, each on a thread of its own, which are kept for the next call.

    For work of a few microseconds, of which none calls this function again.
    """
    others = [_pool(n - 1).submit(work, k) for k in range(n - 1)] if n > 1 else []
    try:
        work(n - 1)
    finally:
        for other in others:
            other.result()


@cache
def _pool(n: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(n, "xorpack-product")


# A forked process has none of its parent's threads.
os.register_at_fork(after_in_child=_pool.cache_clear)
