"""Launches whose arguments are known but for the workspaces of the stream."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from xorpack.cuda.launches import Launch
from xorpack.cuda.sources import Kernel

Argument = np.generic | str
"""A number, or the name of a workspace: its pointer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pass:
    """A launch of a kernel."""

    kernel: Kernel
    launch: Launch
    args: tuple[Argument, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Prelude:
    """How a mask, or the plane of a field, is decoded into a workspace before every call that needs it.

    Attributes:
        passes: in order; none where nothing is to be decoded.
        workspaces: bytes by name.
        clear: the workspace that must be 0 before the first pass, or "".
    """

    passes: Sequence[Pass] = ()
    workspaces: Mapping[str, int] = field(default_factory=dict)
    clear: str = ""
