"""Kernels of :mod:`xorpack.vector.team`: units of a call are claimed by whoever is there.

What the threads of a team share is an int64 array, each word of it on lines of its own: ``[0]`` whose call it is,
``helpers << 48 | units claimed << 24 | units``; ``[16]`` units done; ``[32:35]`` the call: code, arguments, and what it
raised; ``[48]`` whether the team is to end.
"""

from __future__ import annotations

from xorpack.vector.atomic import add, load, nanoseconds, pause, store, swap, yield_core
from xorpack.vector.compiled import njit
from xorpack.vector.outlined import call


@njit(cache=True, nogil=True)
def lead(team, helpers, n, outlined):
    """Have units ``0 .. n - 1`` done by this thread and ``helpers`` others, by calls of what
    :func:`xorpack.vector.outlined.itself` gives; what was raised is returned.
    """
    code, block = outlined
    if n >> 24:
        return call(code, block, 0, n)
    team[32], team[33], team[34] = code, block, 0
    store(team, 16, 0)
    store(team, 0, helpers << 48 | n)
    work(team, 0)
    waited = 0
    while load(team, 16) < n:  # by others: a part each, at the most
        waited += 1
        if waited < 4096:
            pause()
        else:
            yield_core()
    return team[34]


@njit(cache=True, nogil=True)
def work(team, member):
    """Do parts of a call, as long as there are any; return how many. Member 0 leads, those above ``helpers`` rest."""
    n_parts = 0
    found = load(team, 0)
    while True:
        helpers, begin, n = found >> 48, found >> 24 & 0xFFFFFF, found & 0xFFFFFF
        if begin >= n or member > helpers:
            return n_parts
        # Large parts first; a thread that comes late, or loses its core, then costs little.
        size = min(n - begin, max(4, (n - begin) // (2 * (helpers + 1)) & ~3))
        wanted, found = found, swap(team, 0, found, found + (size << 24))
        if found == wanted:
            # The call cannot end before this part has: what is read of it now is its own.
            raised = call(team[32], team[33], begin, begin + size)
            if raised:
                store(team, 34, raised)
            add(team, 16, size)
            n_parts += 1
            found = load(team, 0)


@njit(cache=True, nogil=True)
def serve(team, member, patience, clock):
    """Take part in calls until none has come for ``patience`` nanoseconds; return whether the team goes on."""
    until = nanoseconds(clock) + patience
    while not load(team, 48):
        if work(team, member):
            until = nanoseconds(clock) + patience
        elif nanoseconds(clock) > until:
            return True
        yield_core()
    return False
