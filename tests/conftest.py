"""Tests that need a GPU or a browser: skipped without one, failed where the run requires it."""

from __future__ import annotations

import functools
import sys
from pathlib import Path

import pytest

# For benchmarks and studies; last, so that xorpack is still the one that is installed.
sys.path.append(str(Path(__file__).parents[1]))


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--require-gpu", action="store_true", help="Fail the tests that need a GPU without one.")
    parser.addoption(
        "--require-browser", action="store_true", help="Fail the tests that need a browser without one."
    )


@functools.cache
def missing_gpu() -> str:
    """Why no GPU can be used; "" if one can."""
    from xorpack.cuda.device import device
    from xorpack.errors import DeviceError

    try:
        device()
    except DeviceError as error:
        return str(error)
    return ""


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("gpu") is None or not missing_gpu():
        return
    if item.config.getoption("--require-gpu"):
        pytest.fail(f"a GPU is required: {missing_gpu()}", pytrace=False)
    pytest.skip(f"needs a GPU: {missing_gpu()}")
