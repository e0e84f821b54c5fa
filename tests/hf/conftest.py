"""Models that are made once for each process."""

from __future__ import annotations

from typing import Any

import pytest


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Any:
    from hf_models import Models

    return Models(tmp_path_factory.mktemp("models"))
