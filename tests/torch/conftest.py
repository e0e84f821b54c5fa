"""Random numbers from a fixed seed."""

from __future__ import annotations

import pytest


@pytest.fixture(autouse=True)
def _seed() -> None:
    pytest.importorskip("torch").manual_seed(0)
