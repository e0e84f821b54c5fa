"""How a kernel is launched: plain numbers, no device."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Launch:
    """``grid`` in blocks, ``block`` in threads, dynamic shared memory of a block in bytes."""

    grid: tuple[int, int, int]
    block: int
    shared_bytes: int = 0

    @classmethod
    def of_threads(cls, n: int) -> Launch:
        """The launch of a kernel that gives every item a thread."""
        return cls(grid=(max(1, min(-(-n // 256), 1 << 20)), 1, 1), block=256)

    @classmethod
    def of_warps(cls, n: int) -> Launch:
        """The launch of a kernel that gives every item a warp."""
        return cls(grid=(max(1, min(-(-n // 8), 1 << 20)), 1, 1), block=256)
