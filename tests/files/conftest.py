"""The reader that FORMAT.md holds, for all tests of the format."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

SPECIFICATION = Path(__file__).parents[2] / "FORMAT.md"


@pytest.fixture(scope="session")
def specification() -> dict[str, Any]:
    """What the reader in FORMAT.md defines."""
    (source,) = re.findall(r"^```python\n(.*?)^```$", SPECIFICATION.read_text(encoding="utf-8"), re.M | re.S)
    assert len(source.splitlines()) < 520
    assert set(re.findall(r"^import (\w+)$", source, re.M)) == {
        "hashlib",
        "itertools",
        "json",
        "math",
        "struct",
    }
    assert "from " not in re.sub(r'""".*?"""', "", source, flags=re.S)
    names: dict[str, Any] = {}
    exec(compile(source, str(SPECIFICATION), "exec"), names)
    return names
