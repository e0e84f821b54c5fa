"""A device by the name that a user gives it."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from xorpack.errors import ParameterError

if TYPE_CHECKING:
    from xorpack.cuda.device import Device


def find_device(name: str) -> Device | None:
    """The device of a name: None for ``"cpu"``, a GPU for ``"cuda"`` (CuPy's current one) or ``"cuda:1"``.

    Raises:
        ParameterError: another name.
        DeviceError: no CuPy, no driver, no such GPU, or one that is too old.
    """
    if name == "cpu":
        return None
    found = re.fullmatch(r"cuda(?::(\d+))?", str(name))
    if found is None:
        raise ParameterError(f"device {name!r} is not cpu, cuda or cuda:NUMBER")
    from xorpack.cuda.device import device

    return device(None if found[1] is None else int(found[1]))
