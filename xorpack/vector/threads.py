"""Threads over independent parts. Kernels give up the lock of the interpreter, so that they run side by side."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
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
