"""A model and a text for all tests of the folder."""

from __future__ import annotations

from pathlib import Path

import pytest
from small_llama import make_model, written


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_model(tmp_path_factory.mktemp("model") / "llama")


@pytest.fixture(scope="session")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return written(tmp_path_factory.mktemp("text") / "text.txt", 2000)
