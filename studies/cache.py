"""Measured cells on disk: one JSON file each, written whole, checked when read.

A cell's file is named by the SHA-256 of what it depends on: the table, its parameters, the library's version
and the text of the modules that decide the result, so that a change of an encoder does not go unnoticed.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import platformdirs

import xorpack
from studies.table import Params, Result, Table
from xorpack.errors import DestinationError
from xorpack.files.atomic import atomic_file

DECISIVE = (
    "*.py",
    *(f"{folder}/**/*.py" for folder in ("vector", "code", "fields", "masks", "encoding")),
    "analysis/bounds.py",
)
"""Modules that decide what an encoding is, as patterns below the package."""

SHARED = ("sample.py", "patterns.py", "weights.py", "orders.py", "work.py")
"""Modules of the study that several tables measure with."""


def default_directory() -> Path:
    """Where cells are kept unless told otherwise: the user's cache directory."""
    return platformdirs.user_cache_path("xorpack") / "study"


class Cache:
    """A directory of cells; ``None`` keeps nothing."""

    def __init__(self, directory: Path | None) -> None:
        """Creates the directory.

        Raises:
            DestinationError: it cannot be written.
        """
        self.directory = directory
        if directory is None:
            return
        try:
            directory.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise DestinationError(f"cache {directory} cannot be made: {error.strerror}") from None
        if not os.access(directory, os.W_OK | os.X_OK):
            raise DestinationError(f"cache {directory}: no permission to write")

    def load(self, table: Table, params: Params) -> Result | None:
        """The cell's result; None where there is none, or its file is damaged."""
        if self.directory is None:
            return None
        key = describe(table, params)
        try:
            found = json.loads(self._path(key).read_bytes())
            intact = found["key"] == key and found["sha256"] == _digest(found["result"])
            result: Result = found["result"]
        except (OSError, ValueError, RecursionError, KeyError, TypeError):
            return None
        return result if intact and isinstance(result, dict) else None

    def store(self, table: Table, params: Params, result: Result, seconds: float) -> None:
        """Keep a cell. A damaged file at its place is replaced.

        Raises:
            DestinationError: it cannot be written.
        """
        if self.directory is None:
            return
        key = describe(table, params)
        path = self._path(key)
        path.parent.mkdir(exist_ok=True)
        document = {"key": key, "sha256": _digest(result), "seconds": round(seconds, 3), "result": result}
        with atomic_file(path, overwrite=True) as temporary:
            temporary.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")

    def _path(self, key: Mapping[str, Any]) -> Path:
        assert self.directory is not None
        return self.directory / str(key["table"]) / f"{_digest(key)}.json"


def describe(table: Table, params: Params) -> dict[str, Any]:
    """What a cell depends on."""
    return {
        "table": table.name,
        "version": xorpack.__version__,
        "sources": _sources(table.module),
        "params": dict(params),
    }


def _digest(value: Any) -> str:
    text = json.dumps(value, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


@lru_cache
def _sources(module: str) -> str:
    """SHA-256 of the modules that decide what a cell of the table in ``module`` gives."""
    root = Path(xorpack.__file__).parent
    files = [path for pattern in DECISIVE for path in sorted(root.glob(pattern))]
    files += [Path(__file__).parent / name for name in SHARED]
    spec = importlib.util.find_spec(module)
    if spec is not None and spec.origin is not None:
        files.append(Path(spec.origin))
    digest = hashlib.sha256()
    for path in files:
        digest.update(path.name.encode() + b"\0")
        digest.update(path.read_bytes() + b"\0")
    return digest.hexdigest()
