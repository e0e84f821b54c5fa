"""Options of the test run."""

from __future__ import annotations


def pytest_addoption(parser) -> None:
    parser.addoption(
        "--require-browser",
        action="store_true",
        help="fail, rather than skip, where no browser can be driven",
    )
