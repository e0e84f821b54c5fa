"""What a URL is."""

from __future__ import annotations

import re
from pathlib import Path

_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://.+")


def is_url(place: str | Path) -> bool:
    """Whether a place is a URL.

    >>> is_url("s3://bucket/model"), is_url("models/a"), is_url(Path("/models"))
    (True, False, False)
    """
    return isinstance(place, str) and _URL.fullmatch(place) is not None
