"""All tables there are: a closed set."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from studies import alexnet, blocks, distortion, masks, networks, planes, windows
from studies.table import Table
from xorpack.errors import ParameterError

TABLES: Mapping[str, Table] = {
    module.TABLE.name: module.TABLE
    for module in (networks, masks, blocks, planes, alexnet, windows, distortion)
}
"""All tables there are."""


def select(names: Sequence[str]) -> list[Table]:
    """The tables of these names, all if there are none.

    Raises:
        ParameterError: a name is unknown.
    """
    for name in names:
        if name not in TABLES:
            raise ParameterError(f"table {name!r} is not one of {', '.join(TABLES)}")
    return [table for name, table in TABLES.items() if not names or name in names]
